/* com.microsoft.NhwcMaxPool: MaxPool of bytes, channels last. */
#include "ops/window.h"

static mrt_status *infer(mrt_infer *c) {
  const int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK];
  mrt_window w;
  if (rank < 0) return mrt_infer_out_like(c, 0, 0, MRT_UNDEFINED);
  if (rank < 3) return MRT_ERR(MRT_FAIL, "NhwcMaxPool: rank %d", rank);
  MRT_TRY(mrt_window_read(c->node, rank - 2, NULL, &w));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[rank - 1] = mrt_infer_dim(c, 0, rank - 1);
  for (int i = 0; i < w.n; ++i) dims[i + 1] = mrt_window_out(c, &w, i, mrt_infer_dim(c, 0, i + 1));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_window w;
  if (!y) return NULL;
  const int s = x->rank - 2;
  MRT_TRY(mrt_window_read(c->node, s, NULL, &w));
  mrt_window_resolve_same(&w, x->dims + 1, y->dims + 1);
  const int64_t channels = x->dims[s + 1], taps = mrt_dims_product(w.kernel, 0, s),
                area = mrt_dims_product(y->dims, 1, s + 1),
                in_area = mrt_dims_product(x->dims, 1, s + 1), n = y->dims[0] * area * channels;
  const mrt_dtype t = (mrt_dtype)x->dtype;
  for (int64_t i = 0; i < n; ++i) {
    int64_t pos[MRT_MAX_SPATIAL], off[MRT_MAX_SPATIAL], rest = i / channels % area;
    int64_t best = t == MRT_INT8 ? -128 : 0;
    for (int d = s - 1; d >= 0; --d) {
      pos[d] = rest % y->dims[d + 1] * w.stride[d];
      rest /= y->dims[d + 1];
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
      int64_t at = 0;
      bool inside = true;
      mrt_window_tap(&w, tap, off);
      for (int d = 0; d < s; ++d) {
        const int64_t q = pos[d] + off[d];
        inside = inside && q >= 0 && q < x->dims[d + 1];
        at = at * x->dims[d + 1] + q;
      }
      if (!inside) continue;
      const int64_t v = mrt_elem_get_i64(
          t, x->data, (i / channels / area * in_area + at) * channels + i % channels);
      if (v > best) best = v;
    }
    mrt_elem_set_i64(t, y->data, i, best);
  }
  return NULL;
}

static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP_IN(ms, NhwcMaxPool) = {
    .domain = "com.microsoft",
    .name = "NhwcMaxPool",
    .doc = "MaxPool of bytes, channels last",
    .in = "x:T",
    .out = "y:T",
    .types = "T=int8,uint8",
    .attrs =
        "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints kernel_shape:ints! pads:ints "
        "strides:ints",
    .versions = v1,
    .infer = infer,
    .run = run};
