/* GatherElements: y[i][j][k] = x[i][index[i][j][k]][k] along an axis. */
#include "ops/common.h"

#define MRT_TEMPLATE "ops/gather_elements.inl"
#include "tensor/each_size.h"

typedef void (*row_fn)(const void *src, void *dst, const mrt_tensor *idx, int64_t first, int64_t n,
                       int64_t dim, int64_t stride, bool along);
static const row_fn by_size[17] = {
    [1] = gather_1, [2] = gather_2, [4] = gather_4, [8] = gather_8, [16] = gather_16};

static mrt_status *infer(mrt_infer *c) {
  const mrt_type *t = c->in_types[1];
  int axis, rank = mrt_infer_rank(c, 0);
  if (rank >= 0) MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  if (!t || t->kind != MRT_KIND_TENSOR || t->rank < 0)
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank >= 0 && t->rank != rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "GatherElements op: Rank of input 'data' needs to be equal to rank of input "
                   "'indices'");
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), t->rank, t->dims);
}

typedef struct job {
  const mrt_tensor *x, *idx;
  mrt_tensor *y;
  int axis;
  size_t size;
  int64_t strides[MRT_MAX_RANK];
} job;

static void rows(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  int last = j->x->rank - 1;
  int64_t n = j->idx->dims[last], index[MRT_MAX_RANK];
  mrt_unravel(begin, last, j->idx->dims, index);
  for (int64_t r = begin; r < end; ++r) {
    int64_t base = 0;
    for (int d = 0; d < last; ++d)
      if (d != j->axis) base += index[d] * j->strides[d];
    by_size[j->size]((const char *)j->x->data + (size_t)base * j->size,
                     (char *)j->y->data + (size_t)(r * n) * j->size, j->idx, r * n, n,
                     j->x->dims[j->axis], j->strides[j->axis], j->axis == last);
    mrt_next_index(last, j->idx->dims, index);
  }
}

static mrt_status *run(mrt_kctx *c) {
  job j = {.x = mrt_in(c, 0), .idx = mrt_in(c, 1), .y = mrt_out(c, 0)};
  int64_t step = 1;
  if (!j.y) return NULL;
  MRT_TRY(mrt_elem_size(c, j.x, &j.size));
  if (j.x->rank < 1 || j.x->rank != j.idx->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "GatherElements op: Rank of input 'data' needs to be equal to rank of input "
                   "'indices'");
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), j.x->rank, &j.axis));
  for (int d = j.x->rank - 1; d >= 0; --d) {
    if (d != j.axis && j.idx->dims[d] > j.x->dims[d])
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "GatherElements op: 'indices' shape should have values within bounds of "
                     "'data' shape: dim %d is %lld, at most %lld",
                     d, (long long)j.idx->dims[d], (long long)j.x->dims[d]);
    j.strides[d] = step;
    step *= j.x->dims[d];
  }
  MRT_TRY(mrt_check_indices(j.idx, j.x->dims[j.axis]));
  int64_t n = mrt_tensor_count(j.idx), row = j.idx->dims[j.x->rank - 1];
  if (n) mrt_par_range(&c->par, n / row, (double)row * 1.5, rows, &j);
  mrt_tensor_retain_strings(j.y);
  return NULL;
}

static const mrt_op_version versions[] = {{11}, {13}, {0}};
MRT_OP(GatherElements) = {
    .domain = "",
    .name = "GatherElements",
    .doc = "elements at indices along an axis",
    .in = "data:T, indices:I",
    .out = "output:T",
    .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128;I=int32,int64",
    .attrs = "axis:int=0",
    .versions = versions,
    .infer = infer,
    .run = run};
