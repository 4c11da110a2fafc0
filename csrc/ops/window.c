/* Window geometry: see window.h. */
#include "ops/window.h"

mrt_status *mrt_window_read(const mrt_node *node, int n, const int64_t *kernel, mrt_window *w) {
  int k;
  const int64_t *v;
  if (n < 1 || n > MRT_MAX_SPATIAL) return MRT_ERR(MRT_NOT_IMPLEMENTED, "%d spatial dims", n);
  *w = (mrt_window){.n = n};
  const char *pad = mrt_node_str(node, "auto_pad");
  w->same_lower = strcmp(pad, "SAME_LOWER") == 0;
  w->same = w->same_lower || strcmp(pad, "SAME_UPPER") == 0;
  w->ceil_mode = mrt_node_int(node, "ceil_mode") != 0;
  for (int i = 0; i < n; ++i)
    w->kernel[i] = kernel ? kernel[i] : 1, w->stride[i] = w->dilation[i] = 1;
  if ((v = mrt_node_ints(node, "kernel_shape", &k)) && k == n)
    memcpy(w->kernel, v, (size_t)n * 8);
  else if (v)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel_shape has %d entries for %d spatial dims", k, n);
  if ((v = mrt_node_ints(node, "strides", &k)) && k == n) memcpy(w->stride, v, (size_t)n * 8);
  if ((v = mrt_node_ints(node, "dilations", &k)) && k == n) memcpy(w->dilation, v, (size_t)n * 8);
  if ((v = mrt_node_ints(node, "pads", &k)) && k == 2 * n &&
      (!*pad || strcmp(pad, "NOTSET") == 0)) {
    memcpy(w->begin, v, (size_t)n * 8);
    memcpy(w->end, v + n, (size_t)n * 8);
  }
  for (int i = 0; i < n; ++i) {
    if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel, stride or dilation below 1");
    if (w->kernel[i] > INT32_MAX || w->stride[i] > INT32_MAX || w->dilation[i] > INT32_MAX ||
        w->begin[i] > INT32_MAX || w->end[i] > INT32_MAX || w->begin[i] < -INT32_MAX ||
        w->end[i] < -INT32_MAX)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel, stride, dilation or padding above 2^31");
  }
  return NULL;
}

const mrt_expr *mrt_window_out(mrt_infer *c, const mrt_window *w, int i, const mrt_expr *in) {
  mrt_symtab *t = c->sym;
  const mrt_expr *stride = mrt_expr_const(t, w->stride[i]);
  int64_t span = (w->kernel[i] - 1) * w->dilation[i] + 1;
  if (w->same) return mrt_expr_ceildiv(t, in, stride);
  const mrt_expr *room = mrt_expr_add(t, in, mrt_expr_const(t, w->begin[i] + w->end[i] - span));
  const mrt_expr *one = mrt_expr_const(t, 1);
  if (!w->ceil_mode) return mrt_expr_add(t, mrt_expr_floordiv(t, room, stride), one);
  const mrt_expr *n = mrt_expr_add(t, mrt_expr_ceildiv(t, room, stride), one);
  /* A window that starts in the end padding is left out: n <= ceil((in + begin) / stride). */
  return mrt_expr_min(
      t, n, mrt_expr_ceildiv(t, mrt_expr_add(t, in, mrt_expr_const(t, w->begin[i])), stride));
}

void mrt_window_resolve_same(mrt_window *w, const int64_t *in, const int64_t *out) {
  for (int i = 0; i < w->n && w->same; ++i) {
    int64_t total = (out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - in[i];
    if (total < 0) total = 0;
    w->begin[i] = w->same_lower ? total - total / 2 : total / 2;
    w->end[i] = total - w->begin[i];
  }
}

void mrt_window_inside(int64_t at, int64_t stride, int64_t in, int64_t out, int64_t *lo,
                       int64_t *hi) {
  *lo = at >= 0 ? 0 : (-at + stride - 1) / stride;
  *hi = at >= in ? 0 : (in - 1 - at) / stride + 1;
  if (*hi > out) *hi = out;
  if (*lo > *hi) *lo = *hi;
}

void mrt_window_tap(const mrt_window *w, int64_t tap, int64_t *offset) {
  for (int d = w->n - 1; d >= 0; --d) {
    offset[d] = tap % w->kernel[d] * w->dilation[d] - w->begin[d];
    tap /= w->kernel[d];
  }
}
