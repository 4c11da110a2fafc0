/* MaxPool, AveragePool, LpPool and the global pools: one walk over the taps of each window, for any
 * number of spatial dims. */
#include "ops/window.h"

enum { MAX, AVERAGE, LP };

static mrt_status *pool_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK];
  mrt_window w;
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_window_read(c->node, rank - 2, NULL, &w));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_infer_dim(c, 0, 1);
  for (int i = 0; i < w.n; ++i) dims[i + 2] = mrt_window_out(c, &w, i, mrt_infer_dim(c, 0, i + 2));
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims));
  return mrt_infer_out(c, 1, MRT_INT64, rank, dims);
}
static mrt_status *global_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 2)
    return rank < 0 ? NULL : MRT_ERR(MRT_FAIL, "Input tensor must have at least two dimensions");
  for (int i = 0; i < rank; ++i)
    dims[i] = i < 2 ? mrt_infer_dim(c, 0, i) : mrt_expr_const(c->sym, 1);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

typedef struct pool_job {
  const mrt_tensor *x;
  mrt_tensor *y, *index;
  mrt_window w;
  int kind;
  double p;
  bool count_pad, column_major;
  int64_t in_size, out_size, taps;
} pool_job;
/* Taps of a window that lie inside the padded input: what a mean with padding divides by. */
static int64_t padded_taps(const pool_job *j, const int64_t *start) {
  int64_t n = 1;
  for (int d = 0; d < j->w.n; ++d) {
    int64_t in = 0, end = j->x->dims[d + 2] + j->w.end[d];
    for (int64_t k = 0; k < j->w.kernel[d]; ++k) in += start[d] + k * j->w.dilation[d] < end;
    n *= in;
  }
  return n;
}
static int64_t column_major(const pool_job *j, int64_t at) {
  int64_t pos[MRT_MAX_SPATIAL], out = 0, step = 1;
  const int64_t *xd = j->x->dims + 2;
  for (int d = j->w.n - 1; d >= 0; --d) pos[d] = at % xd[d], at /= xd[d];
  for (int d = 0; d < j->w.n; ++d) out += pos[d] * step, step *= xd[d];
  return out;
}
/* Sums or picks over the taps of output element o of a plane. */
static void pool_one(const pool_job *j, int64_t plane, int64_t o) {
  const mrt_window *w = &j->w;
  const int64_t *xd = j->x->dims + 2, *yd = j->y->dims + 2;
  int64_t start[MRT_MAX_SPATIAL], rest = o, best = -1, n = 0;
  double acc = 0;
  mrt_dtype t = (mrt_dtype)j->x->dtype;
  for (int d = w->n - 1; d >= 0; --d) {
    start[d] = rest % yd[d] * w->stride[d] - w->begin[d];
    rest /= yd[d];
  }
  for (int64_t tap = 0; tap < j->taps; ++tap) {
    int64_t q = tap, at = 0, step = 1;
    bool ok = true;
    for (int d = w->n - 1; d >= 0; --d) {
      int64_t pos = start[d] + q % w->kernel[d] * w->dilation[d];
      q /= w->kernel[d];
      ok = ok && pos >= 0 && pos < xd[d];
      at += pos * step;
      step *= xd[d];
    }
    if (!ok) continue;
    double v = t == MRT_FLOAT ? ((const float *)j->x->data)[plane * j->in_size + at]
                              : mrt_elem_get_f64(t, j->x->data, plane * j->in_size + at);
    ++n;
    if (j->kind == AVERAGE)
      acc += v;
    else if (j->kind == LP)
      acc += j->p == 1 ? fabs(v) : j->p == 2 ? v * v : pow(fabs(v), j->p);
    else if (best < 0 || v > acc || (isnan(v) && !isnan(acc)))
      acc = v, best = at;
  }
  if (j->kind == AVERAGE)
    acc /= (double)(j->count_pad ? padded_taps(j, start) : n ? n : 1);
  else if (j->kind == LP)
    acc = j->p == 1 ? acc : j->p == 2 ? sqrt(acc) : pow(acc, 1 / j->p);
  else if (!n)
    acc = t == MRT_INT8 ? INT8_MIN : t == MRT_UINT8 ? 0 : -INFINITY;
  mrt_elem_set_f64(t, j->y->data, plane * j->out_size + o, acc);
  if (!j->index) return;
  if (j->column_major && best >= 0) best = column_major(j, best);
  ((int64_t *)j->index->data)[plane * j->out_size + o] = plane * j->in_size + best;
}
static void pool_planes(void *arg, int64_t begin, int64_t end) {
  const pool_job *j = arg;
  for (int64_t p = begin; p < end; ++p)
    for (int64_t o = 0; o < j->out_size; ++o) pool_one(j, p, o);
}
static mrt_status *pool_run(mrt_kctx *c, int kind, bool global) {
  pool_job j = {.x = mrt_in(c, 0),
                .y = mrt_out(c, 0),
                .index = kind == MAX ? mrt_out(c, 1) : NULL,
                .kind = kind,
                .p = (double)mrt_node_int(c->node, "p"),
                .count_pad = mrt_node_int(c->node, "count_include_pad") != 0,
                .column_major = mrt_node_int(c->node, "storage_order") != 0};
  mrt_tensor plain; /* the values, when only the indices are wanted */
  if (!j.y && j.index) {
    void *data;
    size_t bytes;
    MRT_TRY(mrt_shape_bytes((mrt_dtype)j.x->dtype, j.index->rank, j.index->dims, &bytes));
    MRT_TRY(mrt_scratch(c, bytes, &data));
    mrt_tensor_init_view(&plain, (mrt_dtype)j.x->dtype, j.index->rank, j.index->dims, data, bytes,
                         MRT_HOST);
    j.y = &plain;
  }
  if (!j.y) return NULL;
  if (kind == LP && j.p < 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute 'p' is below 1");
  if (global && j.x->rank == 2) { /* nothing to reduce over */
    memcpy(j.y->data, j.x->data, j.x->bytes);
    return NULL;
  }
  MRT_TRY(mrt_window_read(c->node, j.x->rank - 2, global ? j.x->dims + 2 : NULL, &j.w));
  mrt_window_resolve_same(&j.w, j.x->dims + 2, j.y->dims + 2);
  j.in_size = mrt_dims_product(j.x->dims, 2, j.x->rank);
  j.out_size = mrt_dims_product(j.y->dims, 2, j.y->rank);
  j.taps = 1;
  for (int i = 0; i < j.w.n; ++i)
    if (!mrt_i64_mul(j.taps, j.w.kernel[i], &j.taps))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "the kernel has too many elements");
  mrt_par_range(&c->par, j.x->dims[0] * j.x->dims[1], (double)j.out_size * (double)j.taps * 3,
                pool_planes, &j);
  return NULL;
}
static mrt_status *max_run(mrt_kctx *c) { return pool_run(c, MAX, false); }
static mrt_status *average_run(mrt_kctx *c) { return pool_run(c, AVERAGE, false); }
static mrt_status *lp_run(mrt_kctx *c) { return pool_run(c, LP, false); }
static mrt_status *global_max_run(mrt_kctx *c) { return pool_run(c, MAX, true); }
static mrt_status *global_average_run(mrt_kctx *c) { return pool_run(c, AVERAGE, true); }
static mrt_status *global_lp_run(mrt_kctx *c) { return pool_run(c, LP, true); }

static mrt_status *lp_up(mrt_node *node) { /* p was a float */
  mrt_attr p;
  if (!mrt_node_take_attr(node, "p", &p)) return NULL;
  return mrt_node_set_int(node, "p", p.kind == MRT_ATTR_FLOAT ? (int64_t)p.f : p.i);
}
static const mrt_op_version max_v[] = {{1}, {8}, {10}, {11}, {12}, {22}, {0}};
static const mrt_op_version average_v[] = {{1}, {7}, {10}, {11}, {19}, {22}, {0}};
static const mrt_op_version lp_v[] = {{1, lp_up}, {2}, {11}, {18}, {22}, {0}};
static const mrt_op_version global_v[] = {{1}, {22}, {0}};
static const mrt_op_version global_lp_v[] = {{1, lp_up}, {2}, {22}, {0}};
#define POOL   .domain = "", .in = "X:T", .infer = pool_infer
#define FLOATS .out = "Y:T", .types = "T=" MRT_T_FLOATS
#define GLOBAL .domain = "", .in = "X:T", FLOATS, .infer = global_infer
#define WINDOW                                                                                  \
  "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints kernel_shape:ints! pads:ints strides:" \
  "ints "
MRT_OP(MaxPool) = {POOL,
                   .name = "MaxPool",
                   .doc = "maximum in a window",
                   .out = "Y:T, Indices:int64?",
                   .types = "T=int8,uint8," MRT_T_FLOATS,
                   .attrs = WINDOW "storage_order:int=0",
                   .versions = max_v,
                   .run = max_run};
MRT_OP(AveragePool) = {POOL,
                       FLOATS,
                       .name = "AveragePool",
                       .doc = "mean of a window",
                       .attrs = WINDOW "count_include_pad:int=0",
                       .versions = average_v,
                       .run = average_run};
MRT_OP(LpPool) = {POOL,
                  FLOATS,
                  .name = "LpPool",
                  .doc = "p-norm of a window",
                  .attrs = WINDOW "p:int=2",
                  .versions = lp_v,
                  .run = lp_run};
MRT_OP(GlobalMaxPool) = {GLOBAL, .name = "GlobalMaxPool", .doc = "maximum of each channel",
                         .versions = global_v, .run = global_max_run};
MRT_OP(GlobalAveragePool) = {GLOBAL, .name = "GlobalAveragePool", .doc = "mean of each channel",
                             .versions = global_v, .run = global_average_run};
MRT_OP(GlobalLpPool) = {GLOBAL,
                        .name = "GlobalLpPool",
                        .doc = "p-norm of each channel",
                        .attrs = "p:int=2",
                        .versions = global_lp_v,
                        .run = global_lp_run};
