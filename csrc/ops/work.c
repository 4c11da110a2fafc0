/* Working copies: see work.h. */
#include "ops/work.h"

mrt_dtype mrt_work_type(mrt_dtype t) {
  switch (t) {
    case MRT_DOUBLE:
    case MRT_INT32:
    case MRT_INT64:
    case MRT_UINT32:
    case MRT_UINT64: return MRT_DOUBLE;
    default: return MRT_FLOAT;
  }
}

mrt_status *mrt_scratch_array(mrt_kctx *c, int64_t n, size_t size, void *out) {
  size_t bytes;
  if (n < 0 || !mrt_size_mul((size_t)n, size, &bytes))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%lld elements are too many", (long long)n);
  return mrt_scratch(c, bytes, (void **)out);
}

static mrt_status *blank(mrt_kctx *c, const mrt_tensor *t, mrt_dtype work, mrt_tensor *view) {
  size_t bytes;
  void *data;
  MRT_TRY(mrt_shape_bytes(work, t->rank, t->dims, &bytes));
  MRT_TRY(mrt_scratch(c, bytes, &data));
  mrt_tensor_init_view(view, work, t->rank, t->dims, data, bytes, MRT_HOST);
  return NULL;
}

mrt_status *mrt_work_in(mrt_kctx *c, const mrt_tensor *t, mrt_dtype work, mrt_tensor *view,
                        const mrt_tensor **out) {
  *out = t;
  if (!t || t->dtype == work) return NULL;
  MRT_TRY(blank(c, t, work, view));
  int64_t n = mrt_tensor_count(t);
  if (work == MRT_FLOAT)
    mrt_convert_to_f32((mrt_dtype)t->dtype, t->data, 0, n, view->data);
  else
    for (int64_t i = 0; i < n; ++i)
      ((double *)view->data)[i] = mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
  *out = view;
  return NULL;
}

mrt_status *mrt_work_out(mrt_kctx *c, mrt_tensor *t, mrt_dtype work, mrt_tensor *view,
                         mrt_tensor **out) {
  *out = t;
  if (!t || t->dtype == work) return NULL;
  MRT_TRY(blank(c, t, work, view));
  *out = view;
  return NULL;
}

void mrt_work_done(const mrt_tensor *done, mrt_tensor *t) {
  if (!t || done == t) return;
  int64_t n = mrt_tensor_count(t);
  if (done->dtype == MRT_FLOAT)
    mrt_convert_from_f32((mrt_dtype)t->dtype, t->data, 0, n, done->data);
  else
    for (int64_t i = 0; i < n; ++i)
      mrt_elem_set_f64((mrt_dtype)t->dtype, t->data, i, ((const double *)done->data)[i]);
}
