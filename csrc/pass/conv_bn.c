/* Folds what follows or precedes a convolution with constant weights into them: BatchNormalization,
 * multiplication and addition by one value a channel, and zero Pad of the spatial dims into pads.
 * Weights and bias are computed in double and rounded once. */
#include <math.h>
#include <string.h>

#include "pass/pass.h"

static bool is_op(const mrt_node *n, const char *op) {
  return n && !*n->domain && strcmp(n->op_type, op) == 0;
}
static mrt_node *only_user(const mrt_var *v) {
  return v->n_uses == 1 && v->n_graph_outputs == 0 && v->uses[0].node->graph == v->graph
             ? v->uses[0].node
             : NULL;
}
static const mrt_tensor *const_in(const mrt_node *n, int i) {
  const mrt_tensor *t = i < n->n_in && n->in[i].var ? n->in[i].var->constant : NULL;
  return t && !t->strided ? t : NULL;
}
static double at(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}
static bool has_reals(const mrt_tensor *t) {
  return t && (t->dtype == MRT_FLOAT || t->dtype == MRT_DOUBLE);
}
static bool is_real(const mrt_tensor *t) { return has_reals(t) && !mrt_tensor_is_forgotten(t); }

/* y = scale[c] * conv + shift[c]; scale or shift may be one value, or NULL (1, 0). */
typedef struct affine {
  const mrt_tensor *scale, *shift;
  const mrt_tensor *mean, *var; /* of BatchNormalization, or NULL */
  double eps;
} affine;

static double pick(const mrt_tensor *t, int64_t c) {
  return at(t, mrt_tensor_count(t) == 1 ? 0 : c);
}
static void coefficients(const affine *f, int64_t c, double *scale, double *shift) {
  *scale = f->scale ? pick(f->scale, c) : 1;
  *shift = f->shift ? pick(f->shift, c) : 0;
  if (!f->mean) return;
  *scale /= sqrt(at(f->var, c) + f->eps);
  *shift -= at(f->mean, c) * *scale;
}

/* A constant that is one value a channel against an output of that rank (or one value at all). */
static bool per_channel(const mrt_tensor *t, int rank, int64_t channels) {
  if (!is_real(t) || t->rank > rank) return false;
  if (mrt_tensor_count(t) == 1) return true;
  const int axis = 1 - (rank - t->rank);
  return axis >= 0 && t->dims[axis] == channels && mrt_tensor_count(t) == channels;
}

static bool read_follower(const mrt_node *conv, const mrt_node *n, affine *f) {
  const mrt_tensor *w = const_in(conv, 1);
  const int64_t channels = w->dims[0];
  *f = (affine){0};
  if (is_op(n, "BatchNormalization")) {
    if (n->n_in != 5 || mrt_node_int(n, "training_mode")) return false;
    for (int i = 1; i < 5; ++i)
      if (!is_real(const_in(n, i)) || mrt_tensor_count(const_in(n, i)) != channels) return false;
    *f = (affine){const_in(n, 1), const_in(n, 2), const_in(n, 3), const_in(n, 4),
                  mrt_node_float(n, "epsilon")};
    return n->in[0].var == conv->out[0];
  }
  const bool add = is_op(n, "Add"), mul = is_op(n, "Mul");
  if (!add && !mul) return false;
  const mrt_tensor *t = const_in(n, n->in[0].var == conv->out[0] ? 1 : 0);
  if (!t || !per_channel(t, w->rank, channels)) return false;
  *(add ? &f->shift : &f->scale) = t;
  return true;
}

/* Scaled weights, made now and, when they were given up after packing, again. */
typedef struct scaling {
  mrt_recipe base;
  const mrt_tensor *w;
  double *scale; /* [w->dims[0]] */
} scaling;

static mrt_status *make_scaled(const mrt_recipe *r, const mrt_alloc *alloc, mrt_tensor **out) {
  const scaling *s = (const scaling *)r;
  const mrt_tensor *w = s->w;
  mrt_tensor *again = NULL;
  if (mrt_tensor_is_forgotten(w)) MRT_TRY(mrt_tensor_again(alloc, w, &again));
  if (again) w = again;
  mrt_status *st = mrt_tensor_create(alloc, (mrt_dtype)w->dtype, w->rank, w->dims, out);
  const int64_t each = w->dims[0] ? mrt_tensor_count(w) / w->dims[0] : 0;
  for (int64_t c = 0; c < w->dims[0] && !st; ++c)
    for (int64_t i = c * each; i < (c + 1) * each; ++i)
      mrt_elem_set_f64((mrt_dtype)w->dtype, (*out)->data, i, at(w, i) * s->scale[c]);
  mrt_tensor_release(again);
  return st;
}
static bool can_scale(const mrt_recipe *r) { return mrt_tensor_is_intact(((const scaling *)r)->w); }
static bool scale_origin(const mrt_recipe *r, mrt_str *out) {
  const scaling *s = (const scaling *)r;
  mrt_str_add(out, "channels.1");
  mrt_str_addn(out, (const char *)s->scale, (size_t)s->w->dims[0] * sizeof *s->scale);
  return mrt_tensor_origin(s->w, out);
}

static mrt_status *scaled_weights(mrt_graph *g, mrt_tensor *w, const affine *f, mrt_var **out) {
  scaling *s = mrt_model_lasting(g->model, sizeof *s);
  mrt_tensor *t = NULL;
  double shift;
  if (!s) return mrt_status_oom();
  *s = (scaling){.base = {make_scaled, can_scale, 1 + mrt_tensor_steps(w), scale_origin}, .w = w};
  s->scale = mrt_model_lasting(g->model, (size_t)w->dims[0] * sizeof *s->scale);
  if (!s->scale) return mrt_status_oom();
  for (int64_t c = 0; c < w->dims[0]; ++c) coefficients(f, c, &s->scale[c], &shift);
  const bool keeps = s->base.steps <= MRT_RECIPE_STEPS;
  MRT_TRY(keeps && mrt_tensor_is_forgotten(w)
              ? mrt_tensor_create_later(g->model->alloc, (mrt_dtype)w->dtype, w->rank, w->dims,
                                        &s->base, &t)
              : make_scaled(&s->base, g->model->alloc, &t));
  mrt_tensor_drop_pages(w);
  if (keeps) {
    mrt_tensor_is_ingredient(w);
    t->recipe = &s->base;
  }
  return mrt_graph_add_constant(g, NULL, t, out);
}

static mrt_status *shifted_bias(mrt_graph *g, const mrt_tensor *w, const mrt_tensor *b,
                                const affine *f, mrt_var **out) {
  mrt_tensor *t = NULL;
  MRT_TRY(mrt_tensor_create(g->model->alloc, (mrt_dtype)w->dtype, 1, w->dims, &t));
  for (int64_t c = 0; c < w->dims[0]; ++c) {
    double scale, shift;
    coefficients(f, c, &scale, &shift);
    mrt_elem_set_f64((mrt_dtype)t->dtype, t->data, c, (b ? at(b, c) : 0) * scale + shift);
  }
  return mrt_graph_add_constant(g, NULL, t, out);
}

static mrt_status *fold_follower(mrt_node *conv, int *fired) {
  mrt_node *n = only_user(conv->out[0]);
  const mrt_tensor *w = const_in(conv, 1), *b = const_in(conv, 2);
  affine f;
  mrt_var *weights = conv->in[1].var, *bias;
  if (!n || !has_reals(w) || w->rank < 3 || !read_follower(conv, n, &f)) return NULL;
  if (conv->n_in > 2 && conv->in[2].var && (!is_real(b) || mrt_tensor_count(b) != w->dims[0]))
    return NULL;
  if (f.scale) MRT_TRY(scaled_weights(conv->graph, conv->in[1].var->constant, &f, &weights));
  MRT_TRY(shifted_bias(conv->graph, w, b, &f, &bias));
  MRT_TRY(mrt_node_set_input(conv, 1, weights));
  MRT_TRY(mrt_node_set_input(conv, 2, bias));
  MRT_TRY(mrt_var_replace(n->out[0], conv->out[0]));
  mrt_node_remove(n);
  ++*fired;
  return NULL;
}

/* ---- Pad ---- */

/* Pads of a constant zero Pad over all dims of a rank; false if it is another. */
static bool read_pad(const mrt_node *pad, int rank, int64_t *pads) {
  const mrt_tensor *p = const_in(pad, 1), *v = const_in(pad, 2);
  if (strcmp(mrt_node_str(pad, "mode"), "constant") != 0 || !p || p->dtype != MRT_INT64 ||
      mrt_tensor_count(p) != 2 * rank || (pad->n_in > 3 && pad->in[3].var))
    return false;
  if (pad->n_in > 2 && pad->in[2].var && (!is_real(v) || mrt_tensor_count(v) != 1 || at(v, 0) != 0))
    return false;
  for (int i = 0; i < 2 * rank; ++i) {
    pads[i] = ((const int64_t *)p->data)[i];
    if (pads[i] < 0 || pads[i] > INT32_MAX || (i % rank < 2 && pads[i])) return false;
  }
  return true;
}

static mrt_status *fold_pad(mrt_node *conv, int *fired) {
  mrt_node *pad = conv->in[0].var->producer;
  int64_t pads[2 * MRT_MAX_RANK], sum[2 * MRT_MAX_RANK];
  int n;
  const mrt_type *t = conv->out[0]->type;
  const int rank = t ? t->rank : -1;
  const char *mode = mrt_node_str(conv, "auto_pad");
  if (!is_op(pad, "Pad") || rank < 3 || pad->graph != conv->graph || !pad->in[0].var) return NULL;
  if (*mode && strcmp(mode, "NOTSET") != 0 && strcmp(mode, "VALID") != 0) return NULL;
  if (!only_user(pad->out[0]) || !read_pad(pad, rank, pads)) return NULL;
  const int64_t *old = mrt_node_ints(conv, "pads", &n);
  if (old && n != 2 * (rank - 2)) return NULL;
  if (strcmp(mode, "VALID") == 0) old = NULL;
  for (int i = 0; i < rank - 2; ++i) {
    sum[i] = pads[i + 2] + (old ? old[i] : 0);
    sum[rank - 2 + i] = pads[rank + i + 2] + (old ? old[rank - 2 + i] : 0);
    if (old && (old[i] < 0 || old[rank - 2 + i] < 0)) return NULL;
  }
  MRT_TRY(mrt_node_set_str(conv, "auto_pad", "NOTSET"));
  MRT_TRY(mrt_node_set_ints(conv, "pads", 2 * (rank - 2), sum));
  MRT_TRY(mrt_node_set_input(conv, 0, pad->in[0].var));
  mrt_node_remove(pad);
  ++*fired;
  return NULL;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  (void)ctx;
  for (mrt_node *n = g->first; n; n = n->next) {
    if (!is_op(n, "Conv") || n->n_in < 2 || !n->in[0].var || !n->out[0] || !const_in(n, 1))
      continue;
    MRT_TRY(fold_pad(n, fired));
    for (int before = -1; before != *fired;) { /* BatchNormalization and a sum, say */
      before = *fired;
      MRT_TRY(fold_follower(n, fired));
    }
  }
  return NULL;
}

MRT_PASS(conv_fold) = {.name = "conv_fold",
                       .doc = "Conv with BatchNormalization, Mul, Add, Pad",
                       .level = 1,
                       .run = run};
