/* Helpers of reference kernels. */
#include "ops/common.h"

#define BLOCK 256

mrt_status *mrt_no_type(const char *op, int dtype) {
  return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: no kernel for %s", op, mrt_dtype_name((mrt_dtype)dtype));
}

/* In pieces of about a millisecond, so that a run can be stopped in the middle. */
static void range_pieces(const mrt_range_job *j, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; at += j->piece) {
    if (at > begin && mrt_par_stop()) return;
    j->fn(j->arg, at, end - at < j->piece ? end : at + j->piece);
  }
}

static void range_chunk(void *arg, int64_t chunk, int worker) {
  const mrt_range_job *j = arg;
  (void)worker;
  range_pieces(j, mrt_par_begin(j->total, j->parts, chunk),
               mrt_par_begin(j->total, j->parts, chunk + 1));
}

void mrt_par_range(const mrt_par *par, int64_t total, double ns,
                   void (*fn)(void *arg, int64_t begin, int64_t end), void *arg) {
  mrt_range_job j = {total, mrt_par_chunks(total, (double)total * ns), total, fn, arg};
  if (ns * (double)total > 1e6) j.piece = ns < 1e6 ? (int64_t)(1e6 / ns) : 1;
  if (total <= 0)
    fn(arg, 0, total);
  else if (j.parts <= 1)
    range_pieces(&j, 0, total);
  else
    mrt_par_run(par, j.parts, range_chunk, &j);
}

typedef struct map_job {
  const mrt_tensor *x;
  mrt_tensor *y;
  mrt_map_f32 f;
  mrt_map_f64 d;
  const double *p;
} map_job;

static void map_part(void *arg, int64_t begin, int64_t end) {
  const map_job *j = arg;
  float a[BLOCK], b[BLOCK];
  if (j->x->dtype == MRT_FLOAT) {
    j->f((const float *)j->x->data + begin, (float *)j->y->data + begin, end - begin, j->p);
    return;
  }
  if (j->x->dtype == MRT_DOUBLE) {
    j->d((const double *)j->x->data + begin, (double *)j->y->data + begin, end - begin, j->p);
    return;
  }
  for (int64_t i = begin; i < end; i += BLOCK) {
    int64_t n = end - i < BLOCK ? end - i : BLOCK;
    mrt_convert_to_f32((mrt_dtype)j->x->dtype, j->x->data, i, n, a);
    j->f(a, b, n, j->p);
    mrt_convert_from_f32((mrt_dtype)j->y->dtype, j->y->data, i, n, b);
  }
}

mrt_status *mrt_run_map(mrt_kctx *c, mrt_map_f32 f, mrt_map_f64 d, const double *p) {
  map_job j = {mrt_in(c, 0), mrt_out(c, 0), f, d, p};
  if (!j.y) return NULL;
  mrt_dtype t = (mrt_dtype)j.x->dtype;
  if (t != MRT_FLOAT && t != MRT_DOUBLE && t != MRT_FLOAT16 && t != MRT_BFLOAT16)
    return mrt_no_type(c->node->op_type, t);
  mrt_par_range(&c->par, mrt_tensor_count(j.x), 2, map_part, &j);
  return NULL;
}

mrt_status *mrt_read_ints(const mrt_tensor *t, int cap, int64_t *out, int *n, const char *what) {
  int64_t count = t ? mrt_tensor_count(t) : 0;
  *n = 0;
  if (count > cap)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %lld elements", what, (long long)count);
  for (int64_t i = 0; i < count; ++i) out[i] = mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, i);
  *n = (int)count;
  return NULL;
}

mrt_status *mrt_fix_axis(int64_t axis, int rank, int *out) {
  if (axis < -(int64_t)rank || axis >= (rank ? rank : 1))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "axis %lld is out of range for rank %d", (long long)axis,
                   rank);
  *out = (int)(axis < 0 ? axis + rank : axis);
  return NULL;
}

int64_t mrt_dims_product(const int64_t *dims, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; ++i) n *= dims[i];
  return n;
}

mrt_status *mrt_elem_size(const mrt_kctx *c, const mrt_tensor *t, size_t *out) {
  *out = (size_t)mrt_dtype_bits((mrt_dtype)t->dtype) / 8;
  return *out ? NULL : mrt_no_type(c->node->op_type, t->dtype);
}

mrt_status *mrt_check_indices(const mrt_tensor *t, int64_t dim) {
  int64_t n = mrt_tensor_count(t);
  if (t->dtype != MRT_INT32 && t->dtype != MRT_INT64)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "indices of type %s", mrt_dtype_name((mrt_dtype)t->dtype));
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = mrt_index_at(t, i);
    if (v < -dim || v >= dim)
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "indices element out of data bounds, idx=%lld must be within the inclusive "
                     "range [%lld,%lld]",
                     (long long)v, (long long)-dim, (long long)dim - 1);
  }
  return NULL;
}

mrt_status *mrt_read_int(const mrt_tensor *t, const char *what, int64_t *out) {
  *out = 0;
  if (!t || mrt_tensor_count(t) != 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s must have one element", what);
  *out = mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, 0);
  return NULL;
}
