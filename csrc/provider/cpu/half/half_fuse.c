/* float16 and bfloat16 networks compute in float32: an operator that has a float32 kernel reads
 * float32 twins of its narrow operands, and its result is narrow again only where somebody else
 * reads it so. A result that goes from one such operator to the next is never rounded, as in
 * ONNX Runtime, which removes such pairs of casts too. Runs first, so that every other fusion sees
 * a float32 network. */
#include <string.h>

#include "provider/cpu/cpu.h"

typedef struct halves {
  const mrt_provider *p;
  mrt_graph *g;
  int index;
  mrt_var **twins; /* by id of the vars that were there at the start; NULL: none */
  int n;
} halves;

static bool narrow(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  return t && t->kind == MRT_KIND_TENSOR && t->rank >= 0 &&
         (t->dtype == MRT_FLOAT16 || t->dtype == MRT_BFLOAT16);
}

static mrt_var *twin_of(const halves *h, const mrt_var *v) {
  return v->graph == h->g && v->id < h->n ? h->twins[v->id] : NULL;
}
static void set_twin(halves *h, const mrt_var *v, mrt_var *twin) {
  if (v->graph == h->g && v->id < h->n) h->twins[v->id] = twin;
}

static bool same_variable(const mrt_param *a, const mrt_param *b) {
  return a->type_len == b->type_len && memcmp(a->type, b->type, a->type_len) == 0;
}

/* Operand k of the signature is of the variable that output 0 has. */
static bool follows(const mrt_node *n, const char *sig, int k) {
  mrt_param out, p;
  return mrt_sig_param(n->def->out, 0, &out) && mrt_sig_param(sig, k, &p) &&
         same_variable(&p, &out) && mrt_sig_allows(n->def, p.type, p.type_len, MRT_FLOAT);
}

/* Should the node compute in float32? One with a float32 kernel, or one that only moves what is
 * float32 already. */
static bool wanted(const halves *h, const mrt_node *n) {
  if (n->graph != h->g || n->provider != h->index || !n->def || n->n_in < 1 || n->n_out < 1 ||
      (n->def->flags & MRT_OP_CONTROL) || !n->out[0] || !narrow(n->out[0]))
    return false;
  bool any = false, twin = false;
  for (int i = 0; i < n->n_in; ++i) {
    const mrt_var *v = n->in[i].var;
    if (!v || !narrow(v)) continue;
    if (!follows(n, n->def->in, i)) return false;
    any = true;
    twin = twin || twin_of(h, v);
  }
  return any && (twin || mrt_cpu_has_row(n->domain, n->op_type));
}

static const mrt_type *wide_type(const mrt_var *v) {
  return mrt_type_tensor(v->graph->model, MRT_FLOAT, v->type->rank, v->type->dims);
}

static mrt_status *cast(halves *h, mrt_node *before, mrt_var *in, mrt_dtype to, mrt_var *out) {
  mrt_node *n;
  MRT_TRY(mrt_graph_add_node(h->g, before, "", "Cast", NULL, 1, &in, 1, &out, &n));
  n->provider = h->index;
  MRT_TRY(mrt_node_set_int(n, "to", to));
  return mrt_node_resolve(n, h->p->env->ops);
}

typedef struct widening {
  mrt_recipe base;
  const mrt_tensor *from;
} widening;

static mrt_status *make_wide(const mrt_recipe *r, const mrt_alloc *alloc, mrt_tensor **out) {
  const mrt_tensor *c = ((const widening *)r)->from;
  mrt_tensor *again = NULL;
  if (!mrt_tensor_is_aligned(c) || !mrt_tensor_is_intact(c))
    MRT_TRY(mrt_tensor_again(alloc, c, &again));
  mrt_status *st = mrt_tensor_create(alloc, MRT_FLOAT, c->rank, c->dims, out);
  if (!st) {
    mrt_convert_to_f32((mrt_dtype)c->dtype, (again ? again : c)->data, 0, mrt_tensor_count(c),
                       (*out)->data);
    (*out)->narrow = c->dtype;
  }
  mrt_tensor_release(again);
  mrt_tensor_drop_pages(c);
  return st;
}
static bool can_widen(const mrt_recipe *r) {
  return mrt_tensor_is_intact(((const widening *)r)->from);
}
static bool widen_origin(const mrt_recipe *r, mrt_str *out) {
  mrt_str_add(out, "widen.1");
  return mrt_tensor_origin(((const widening *)r)->from, out);
}

/* A constant's float32 copy: a large one when a kernel packs it, and never all of them at once. */
static mrt_status *widen_constant(halves *h, const mrt_var *v, mrt_var **out) {
  mrt_tensor *c = v->constant, *t = NULL;
  const mrt_alloc *alloc = h->g->model->alloc;
  widening *w = mrt_model_lasting(h->g->model, sizeof *w);
  if (!w) return mrt_status_oom();
  *w = (widening){{make_wide, can_widen, 1 + mrt_tensor_steps(c), widen_origin}, c};
  const bool later =
      w->base.steps <= MRT_RECIPE_STEPS && mrt_tensor_may_be_later(MRT_FLOAT, c->rank, c->dims);
  MRT_TRY(later ? mrt_tensor_create_later(alloc, MRT_FLOAT, c->rank, c->dims, &w->base, &t)
                : make_wide(&w->base, alloc, &t));
  t->narrow = c->dtype;
  if (later) mrt_tensor_is_ingredient(c);
  MRT_TRY(mrt_graph_add_constant(h->g, NULL, t, out));
  (*out)->type = wide_type(v);
  return (*out)->type ? NULL : mrt_status_oom();
}

static mrt_status *widen(halves *h, mrt_node *n, mrt_var *v, mrt_var **out) {
  *out = twin_of(h, v);
  if (*out) return NULL;
  if (v->constant && mrt_device_is_host(v->constant->device) && !v->constant->strided) {
    MRT_TRY(widen_constant(h, v, out));
  } else {
    MRT_TRY(mrt_graph_add_var(h->g, NULL, wide_type(v), out));
    MRT_TRY(cast(h, n, v, MRT_FLOAT, *out));
  }
  set_twin(h, v, *out);
  return NULL;
}

/* The node on float32; narrow casts of its results stand behind it, dead where nobody reads them.
 */
static mrt_status *convert(halves *h, mrt_node *n) {
  for (int i = 0; i < n->n_in; ++i) {
    mrt_var *v = n->in[i].var, *wide;
    if (!v || !narrow(v)) continue;
    MRT_TRY(widen(h, n, v, &wide));
    MRT_TRY(mrt_node_set_input(n, i, wide));
  }
  for (int i = 0; i < n->n_out; ++i) {
    mrt_var *v = n->out[i], *wide;
    if (!v || !narrow(v) || !follows(n, n->def->out, i)) continue;
    mrt_dtype back = v->type->dtype;
    MRT_TRY(mrt_graph_add_var(h->g, NULL, wide_type(v), &wide));
    MRT_TRY(mrt_node_set_output(n, i, wide));
    MRT_TRY(cast(h, n->next, wide, back, v));
    set_twin(h, v, wide);
  }
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  halves h = {.p = p, .g = g, .index = index, .n = (int)g->n_vars};
  bool any = false;
  for (int i = 0; i < h.n; ++i) {
    g->vars[i]->id = i;
    any = any || narrow(g->vars[i]);
  }
  if (!any) return NULL;
  h.twins = mrt_arena_alloc(g->model->arena, ((size_t)h.n + 1) * sizeof *h.twins);
  if (!h.twins) return mrt_status_oom();
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next; /* casts that are put behind n are not visited */
    if (!wanted(&h, n)) continue;
    MRT_TRY(convert(&h, n));
    ++*fired;
  }
  for (mrt_node *n = g->last, *prev; n; n = prev) {
    prev = n->prev;
    if (strcmp(n->op_type, "Cast") == 0 && !*n->domain && n->out[0] && !n->out[0]->n_uses &&
        !n->out[0]->n_graph_outputs)
      mrt_node_remove(n);
  }
  return mrt_model_check(g->model);
}

MRT_FUSION(half) = {.name = "half",
                    .doc = "float16 and bfloat16 operators compute in float32",
                    .order = 0,
                    .level = 2,
                    .run = run};
