/* BatchNormalization in channel blocks, with an activation behind it and the Concat in front of it
 * read in place: a densely connected layer reads all values before it once, and none is copied to
 * stand beside the others (macart.JoinNorm). Made after the layout pass: all operands are blocked,
 * and all joined ones but the last fill their blocks. */
#include <math.h>
#include <string.h>

#include "provider/cpu/c16/c16.h"

enum { TILE = 512, TILE_PIXELS = TILE / 16, PIECE_PIXELS = 512, MAX_PARTS = 56 };

typedef struct join_kernel {
  mrt_kernel k;
  int first_x; /* 0: BatchNormalization; 4: JoinNorm */
  mrt_ew_fn fma, act;
  mrt_act spec;
  float *scale, *shift; /* whole blocks */
} join_kernel;

typedef struct join_job {
  const join_kernel *q;
  int n;
  const float *x[MAX_PARTS];
  int64_t first[MAX_PARTS + 1]; /* block where part i begins */
  float *y;
  int64_t area, pieces, units, chunks;
} join_job;

static const float no_params[2];

static void spread(const float *v, float *tile) {
  for (int i = 0; i < TILE; i += 16) memcpy(tile + i, v, 64);
}

/* Units: (image, block, piece of pixels). */
static void join_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const join_job *j = arg;
  const join_kernel *q = j->q;
  float scale[TILE] __attribute__((aligned(64))), shift[TILE] __attribute__((aligned(64)));
  const int64_t blocks = j->first[j->n], end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  int64_t last = -1;
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    const int64_t plane = u / j->pieces, image = plane / blocks, block = plane % blocks;
    const int64_t p0 = u % j->pieces * PIECE_PIXELS, left = j->area - p0;
    const int64_t p1 = p0 + (left < PIECE_PIXELS ? left : PIECE_PIXELS);
    int i = 0;
    while (block >= j->first[i + 1]) ++i;
    if (last != block) {
      spread(q->scale + block * 16, scale);
      spread(q->shift + block * 16, shift);
      last = block;
    }
    const int64_t width = j->first[i + 1] - j->first[i];
    const float *x = j->x[i] + (image * width + block - j->first[i]) * j->area * 16;
    float *y = j->y + plane * j->area * 16;
    for (int64_t p = p0; p < p1; p += TILE_PIXELS) {
      const int64_t n = (p1 - p < TILE_PIXELS ? p1 - p : TILE_PIXELS) * 16;
      q->fma(y + p * 16, x + p * 16, scale, shift, no_params, n);
      if (q->act) q->act(y + p * 16, y + p * 16, NULL, NULL, q->spec.p, n);
    }
  }
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const join_kernel *q = (const join_kernel *)k;
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const mrt_planes s = mrt_planes_of(y);
  join_job j = {
      .q = q, .n = q->first_x ? c->n_in - q->first_x : 1, .y = y->data, .area = s.h * s.w};
  for (int i = 0; i < j.n; ++i) {
    const mrt_tensor *x = mrt_in(c, q->first_x + i);
    const mrt_planes t = mrt_planes_of(x);
    if (t.n != s.n || t.h != s.h || t.w != s.w)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "JoinNorm: input %d does not fit", i);
    j.x[i] = x->data;
    j.first[i + 1] = j.first[i] + mrt_c16_blocks(t.c);
  }
  if (j.first[j.n] != mrt_c16_blocks(s.c))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "JoinNorm: the inputs are not the output's channels");
  j.pieces = (j.area + PIECE_PIXELS - 1) / PIECE_PIXELS;
  j.units = s.n * j.first[j.n] * j.pieces;
  j.chunks = mrt_par_chunks(j.units, (double)(y->bytes / 4) * 0.2);
  mrt_par_run(&c->par, j.chunks, join_chunk, &j);
  return NULL;
}

static void destroy(mrt_kernel *k) {
  join_kernel *q = (join_kernel *)k;
  mrt_mem_free(k->alloc, q->scale);
  mrt_mem_free(k->alloc, q->shift);
  mrt_kernel_free(k);
}

/* First of scale, B, mean, var among the inputs. */
static int params_at(const join_kernel *q) { return q->first_x ? 0 : 1; }

static mrt_status *fill(join_kernel *q, const mrt_node *node) {
  int64_t channels = 0;
  (void)mrt_expr_is_const(node->out[0]->type->dims[1], &channels);
  const size_t bytes = (size_t)mrt_c16_blocks(channels) * 64;
  const float *t[4];
  for (int i = 0; i < 4; ++i) t[i] = mrt_node_in_const(node, params_at(q) + i)->data;
  const double eps = mrt_node_float(node, "epsilon");
  q->fma = mrt_ew_find(MRT_EW_FMA);
  if (q->first_x && !mrt_conv_node_act(node, &q->spec))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "JoinNorm: activation '%s'",
                   mrt_node_str(node, "activation"));
  if (q->spec.op != MRT_EW_COPY) q->act = mrt_ew_find(q->spec.op);
  MRT_TRY(mrt_mem_new_aligned(q->k.alloc, bytes, MRT_ALIGN, (void **)&q->scale));
  MRT_TRY(mrt_mem_new_aligned(q->k.alloc, bytes, MRT_ALIGN, (void **)&q->shift));
  memset(q->scale, 0, bytes);
  memset(q->shift, 0, bytes);
  for (int64_t i = 0; i < channels; ++i) {
    const double s = t[0][i] / sqrt(t[3][i] + eps);
    q->scale[i] = (float)s;
    q->shift[i] = (float)(t[1][i] - t[2][i] * s);
  }
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  join_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "c16_affine", run, destroy, &q));
  q->first_x = *node->domain ? 4 : 0;
  mrt_status *st = fill(q, node);
  if (st)
    destroy(&q->k);
  else
    *out = &q->k;
  return st;
}

static bool match_norm(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  uint64_t data;
  return mrt_is_c16(node->out[0]) && mrt_is_c16(node->in[0].var) &&
         mrt_c16_node(node, &data) == MRT_C16_FLOW;
}

static bool match_join(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  if (node->n_in - 4 > MAX_PARTS || !mrt_is_c16(node->out[0])) return false;
  for (int i = 0; i < 4; ++i)
    if (!mrt_node_in_const(node, i)) return false;
  for (int i = 4; i < node->n_in; ++i)
    if (!mrt_is_c16(node->in[i].var)) return false;
  return true;
}

/* ---- the fusion ---- */

typedef struct joined {
  mrt_graph *g;
  int index, n;
  mrt_var *in[4 + MAX_PARTS];
} joined;

/* The Concat in blocks that makes v; NULL. */
static mrt_node *concat_of(const joined *f, const mrt_var *v) {
  uint64_t data;
  mrt_node *n = v->producer;
  return n && n->graph == f->g && n->provider == f->index && mrt_is_c16(v) && !*n->domain &&
                 strcmp(n->op_type, "Concat") == 0 && mrt_c16_node(n, &data) == MRT_C16_FLOW
             ? n
             : NULL;
}

/* More than MAX_PARTS: too many. */
static int count_parts(const joined *f, const mrt_var *v, int depth) {
  const mrt_node *n = depth < MAX_PARTS ? concat_of(f, v) : NULL;
  int sum = n ? 0 : 1;
  for (int i = 0; n && i < n->n_in && sum <= MAX_PARTS; ++i)
    sum += count_parts(f, n->in[i].var, depth + 1);
  return sum;
}
static void take_parts(joined *f, mrt_var *v, int depth) {
  const mrt_node *n = depth < MAX_PARTS ? concat_of(f, v) : NULL;
  if (!n) f->in[f->n++] = v;
  for (int i = 0; n && i < n->n_in; ++i) take_parts(f, n->in[i].var, depth + 1);
}

/* Removes what makes v, if nobody reads it any more, and what only that read. */
static void drop(const joined *f, mrt_var *v) {
  mrt_node *n = concat_of(f, v);
  mrt_var *in[64];
  if (!n || v->n_uses || v->n_graph_outputs || n->n_in > 64) return;
  const int count = n->n_in;
  for (int i = 0; i < count; ++i) in[i] = n->in[i].var;
  mrt_node_remove(n);
  for (int i = 0; i < count; ++i)
    if (concat_of(f, in[i])) drop(f, in[i]);
}

static mrt_status *join(joined *f, mrt_node *norm, const mrt_op_table *ops, int *fired) {
  mrt_var *x = norm->in[0].var, *y = norm->out[0], *out;
  mrt_act act = {0};
  mrt_node *n, *last = norm;
  mrt_node *user = y->n_uses == 1 && !y->n_graph_outputs ? y->uses[0].node : NULL;
  if (user && user->graph == f->g && user->provider == f->index && mrt_is_c16(user->out[0]) &&
      mrt_unary_node_act(user, &act) && user->in[0].var == y && mrt_act_name(&act))
    last = user;
  else
    act = (mrt_act){0};
  const bool parts = count_parts(f, x, 0) <= MAX_PARTS;
  if (last == norm && (!parts || !concat_of(f, x))) return NULL;
  for (int i = 0; i < 4; ++i) f->in[i] = norm->in[1 + i].var;
  f->n = 4;
  if (parts)
    take_parts(f, x, 0);
  else
    f->in[f->n++] = x;
  MRT_TRY(mrt_graph_insert(f->g, last, ops, "macart", "JoinNorm", f->n, f->in, y->type, &n, &out));
  n->name = norm->name;
  n->orig_op = norm->orig_op;
  n->orig_version = norm->orig_version;
  n->provider = f->index;
  out->layout = MRT_LAYOUT_C16;
  MRT_TRY(mrt_node_set_float(n, "epsilon", mrt_node_float(norm, "epsilon")));
  if (last != norm) {
    const mrt_attr params = {.name = "activation_params",
                             .kind = MRT_ATTR_FLOATS,
                             .n = (size_t)mrt_ew_op_params(act.op),
                             .floats = act.p};
    MRT_TRY(mrt_node_set_str(n, "activation", mrt_act_name(&act)));
    MRT_TRY(mrt_node_set_attr(n, &params));
  }
  MRT_TRY(mrt_var_replace(last->out[0], out));
  if (last != norm) mrt_node_remove(last);
  mrt_node_remove(norm);
  drop(f, x);
  ++*fired;
  return NULL;
}

static mrt_status *fuse(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    joined f = {.g = g, .index = index};
    next = n->next;
    if (n->provider != index || *n->domain || strcmp(n->op_type, "BatchNormalization") != 0 ||
        !n->n_in || !n->out[0] || !match_norm(p, n))
      continue;
    if (next && n->out[0]->n_uses == 1 && n->out[0]->uses[0].node == next) next = next->next;
    MRT_TRY(join(&f, n, p->env->ops, fired));
  }
  return NULL;
}

MRT_CPU_KERNEL(c16_batch_norm) = {.domain = "",
                                  .op = "BatchNormalization",
                                  .match = match_norm,
                                  .create = create,
                                  .layouts = true};
MRT_CPU_KERNEL(c16_join_norm) = {
    .domain = "macart", .op = "JoinNorm", .match = match_join, .create = create, .layouts = true};
MRT_FUSION(join_norm) = {.name = "join_norm",
                         .doc = "Concat + BatchNormalization + activation, in channel blocks",
                         .order = 85,
                         .level = 2,
                         .run = fuse};
