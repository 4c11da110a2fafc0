/* Gather and GatherND: runs of elements at indices. All indices are checked before anything moves.
 */
#include "ops/common.h"

#define MRT_TEMPLATE "ops/gather.inl"
#include "tensor/each_size.h"

/* to[i] = from[at[i]] for runs of `run` bytes; at: run numbers, negative ones count from `dim`. */
typedef void (*pick_fn)(const char *from, char *to, const mrt_tensor *idx, int64_t begin,
                        int64_t end, int64_t dim);
static const pick_fn pick_by_size[17] = {
    [1] = pick_1, [2] = pick_2, [4] = pick_4, [8] = pick_8, [16] = pick_16};

/* ---- Gather ---- */
static mrt_status *gather_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), ri = mrt_infer_rank(c, 1), axis, k = 0;
  const mrt_expr *dims[2 * MRT_MAX_RANK];
  if (rank < 0 || ri < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int i = 0; i < axis; ++i) dims[k++] = mrt_infer_dim(c, 0, i);
  for (int i = 0; i < ri; ++i) dims[k++] = mrt_infer_dim(c, 1, i);
  for (int i = axis + 1; i < rank; ++i) dims[k++] = mrt_infer_dim(c, 0, i);
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), k, dims));
  int n, ni;
  const mrt_expr *const *e = mrt_infer_ints(c, 0, &n);
  const mrt_expr *const *at = mrt_infer_ints(c, 1, &ni);
  const mrt_expr *out[64];
  if (rank != 1 || !e || !at || ni > 64) return NULL;
  for (int i = 0; i < ni; ++i) {
    int64_t v;
    if (!mrt_expr_is_const(at[i], &v) || v < -n || v >= n) return NULL;
    out[i] = e[v < 0 ? v + n : v];
  }
  return mrt_infer_out_elems(c, 0, ni, out);
}
typedef struct gather {
  const mrt_tensor *idx;
  const char *x;
  char *y;
  int64_t n, dim;
  size_t run; /* bytes of one slice */
} gather;
/* Slices [begin, end) of all (outer, index) pairs. */
static void gather_part(void *arg, int64_t begin, int64_t end) {
  const gather *g = arg;
  pick_fn pick = g->run <= 16 ? pick_by_size[g->run] : NULL;
  while (begin < end) {
    int64_t o = begin / g->n, i = begin % g->n, stop = end - o * g->n;
    const char *x = g->x + (size_t)(o * g->dim) * g->run;
    char *y = g->y + (size_t)(o * g->n) * g->run;
    if (stop > g->n) stop = g->n;
    if (pick) {
      pick(x, y, g->idx, i, stop, g->dim);
    } else {
      for (; i < stop; ++i) {
        int64_t v = mrt_index_at(g->idx, i);
        memcpy(y + (size_t)i * g->run, x + (size_t)(v < 0 ? v + g->dim : v) * g->run, g->run);
      }
    }
    begin = o * g->n + stop;
  }
}
static mrt_status *gather_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  size_t size;
  gather g = {.idx = mrt_in(c, 1), .x = x->data};
  if (!y) return NULL;
  if (!x->rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "Gather from a scalar");
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  MRT_TRY(mrt_elem_size(c, x, &size));
  g.y = y->data;
  g.n = mrt_tensor_count(g.idx);
  g.dim = x->dims[axis];
  g.run = (size_t)mrt_dims_product(x->dims, axis + 1, x->rank) * size;
  MRT_TRY(mrt_check_indices(g.idx, g.dim));
  if (y->bytes)
    mrt_par_range(&c->par, mrt_dims_product(x->dims, 0, axis) * g.n, 1.5 + (double)g.run * 0.06,
                  gather_part, &g);
  mrt_tensor_retain_strings(y);
  return NULL;
}

/* ---- GatherND ---- */
static mrt_status *gathernd_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), ri = mrt_infer_rank(c, 1), k = 0;
  int64_t last, b = mrt_node_int(c->node, "batch_dims");
  const mrt_expr *dims[2 * MRT_MAX_RANK];
  if (rank < 0 || ri < 1 || !mrt_expr_is_const(mrt_infer_dim(c, 1, ri - 1), &last))
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (last < 1 || last + b > rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "last dimension of indices must not be larger than rank of input tensor");
  for (int i = 0; i < ri - 1; ++i) dims[k++] = mrt_infer_dim(c, 1, i);
  for (int i = (int)(last + b); i < rank; ++i) dims[k++] = mrt_infer_dim(c, 0, i);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), k, dims);
}

typedef struct gather_nd {
  const mrt_tensor *x, *idx;
  char *y;
  size_t size;
  int b, k; /* batch dims, length of an index tuple */
  int64_t rows, per, inner;
} gather_nd;
static void nd_part(void *arg, int64_t begin, int64_t end) {
  const gather_nd *g = arg;
  size_t run = (size_t)g->inner * g->size;
  for (int64_t i = begin; i < end; ++i) {
    int64_t at = 0;
    for (int j = 0; j < g->k; ++j) {
      int64_t v = mrt_index_at(g->idx, i * g->k + j), d = g->x->dims[g->b + j];
      at = at * d + (v < 0 ? v + d : v);
    }
    memcpy(g->y + (size_t)i * run,
           (const char *)g->x->data + (size_t)(i / g->rows * g->per + at * g->inner) * g->size,
           run);
  }
}
static mrt_status *gathernd_run(mrt_kctx *c) {
  gather_nd g = {.x = mrt_in(c, 0), .idx = mrt_in(c, 1)};
  const mrt_tensor *x = g.x, *idx = g.idx;
  mrt_tensor *y = mrt_out(c, 0);
  int64_t batch = mrt_node_int(c->node, "batch_dims"), n = mrt_tensor_count(idx);
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &g.size));
  if (idx->rank < 1 || batch < 0 || batch >= idx->rank ||
      batch + idx->dims[idx->rank - 1] > x->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "last dimension of indices must not be larger than rank of input tensor");
  g.b = (int)batch;
  g.k = (int)idx->dims[idx->rank - 1];
  for (int d = 0; d < g.b; ++d)
    if (x->dims[d] != idx->dims[d])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "batch dim %d of data and indices differ", d);
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = mrt_index_at(idx, i), d = x->dims[g.b + i % g.k];
    if (v < -d || v >= d)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "invalid index found, index = %lld", (long long)v);
  }
  g.y = y->data;
  g.rows = mrt_dims_product(idx->dims, g.b, idx->rank - 1);
  g.per = mrt_dims_product(x->dims, g.b, x->rank);
  g.inner = mrt_dims_product(x->dims, g.b + g.k, x->rank);
  if (y->bytes)
    mrt_par_range(&c->par, mrt_dims_product(x->dims, 0, g.b) * g.rows,
                  3.0 * g.k + (double)((size_t)g.inner * g.size) * 0.06, nd_part, &g);
  mrt_tensor_retain_strings(y);
  return NULL;
}

static const mrt_op_version gather_v[] = {{1}, {11}, {13}, {0}};
static const mrt_op_version gathernd_v[] = {{11}, {12}, {13}, {0}};
#define ANY .domain = "", .types = "T=" MRT_T_ANY ";I=int32,int64"
MRT_OP(Gather) = {ANY,
                  .name = "Gather",
                  .doc = "slices at indices",
                  .in = "data:T, indices:I",
                  .out = "output:T",
                  .attrs = "axis:int=0",
                  .versions = gather_v,
                  .flags = MRT_OP_BYTES,
                  .infer = gather_infer,
                  .run = gather_run};
MRT_OP(GatherND) = {ANY,
                    .name = "GatherND",
                    .doc = "slices at index tuples",
                    .in = "data:T, indices:int64",
                    .out = "output:T",
                    .attrs = "batch_dims:int=0",
                    .versions = gathernd_v,
                    .flags = MRT_OP_BYTES,
                    .infer = gathernd_infer,
                    .run = gathernd_run};
