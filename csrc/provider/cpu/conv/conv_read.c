/* What a Conv node says: its constants as mrt_conv, what its weights are, how large its image is.
 * Kernels, fusions and the layout pass ask here, so that they agree on what a convolution is. */
#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/half/narrow.h"

/* Dims of the weights, from the constant or its type; false if not known. */
static bool weight_dims(const mrt_node *node, int rank, int64_t *dims) {
  const mrt_type *t = node->in[1].var->type;
  if (!t || t->rank != rank) return false;
  for (int i = 0; i < rank; ++i)
    if (!mrt_expr_is_const(t->dims[i], &dims[i])) return false;
  return true;
}

void mrt_conv_node_window(mrt_conv *p, const mrt_window *w) {
  const int x = w->n - 1;
  p->kw = w->kernel[x], p->stride_w = w->stride[x], p->dil_w = w->dilation[x];
  p->pad_left = w->begin[x], p->pad_right = w->end[x];
  p->kh = p->stride_h = p->dil_h = 1;
  p->pad_top = p->pad_bottom = 0;
  if (w->n == 1) return;
  p->kh = w->kernel[0], p->stride_h = w->stride[0], p->dil_h = w->dilation[0];
  p->pad_top = w->begin[0], p->pad_bottom = w->end[0];
}

bool mrt_conv_node_read_window(const mrt_node *node, mrt_conv *p, int64_t *loop, mrt_window *w) {
  int64_t dims[4];
  const int rank = mrt_node_in_rank(node, 0);
  if (node->n_in < 2 || (rank != 3 && rank != 4) || mrt_node_in_dtype(node, 0) != MRT_FLOAT ||
      mrt_node_in_dtype(node, 1) != MRT_FLOAT || !weight_dims(node, rank, dims))
    return false;
  mrt_status *st = mrt_window_read(node, rank - 2, dims + 2, w);
  const int64_t groups = mrt_node_int(node, "group");
  bool ok = !st && groups >= 1 && dims[0] > 0 && dims[1] > 0 && dims[0] % groups == 0;
  mrt_status_free(st);
  for (int i = 0; i < rank - 2 && ok; ++i) /* padding that cuts off is for the reference kernel */
    ok = w->kernel[i] == dims[i + 2] && w->begin[i] >= 0 && w->end[i] >= 0;
  if (!ok || dims[1] > INT32_MAX / groups) return false;
  *p = (mrt_conv){.cin = dims[1] * groups, .cout = dims[0], .groups = groups};
  mrt_conv_node_window(p, w);
  if (p->kh * p->kw > MRT_POOL_MAX_TAPS || p->cin / groups > INT32_MAX / (p->kh * p->kw))
    return false;
  *loop = 1;
  st = mrt_conv_check(p);
  if (st) { /* groups that do not fill blocks */
    mrt_status_free(st);
    *loop = groups;
    p->cin /= groups, p->cout /= groups, p->groups = 1;
  }
  return true;
}

bool mrt_conv_node_read(const mrt_node *node, mrt_conv *p, int64_t *loop) {
  mrt_window w;
  return mrt_conv_node_read_window(node, p, loop, &w);
}

mrt_conv_narrow mrt_conv_node_narrow(const mrt_conv *p, const mrt_tensor *w, bool known) {
  enum { LEAST = 1 << 13 };
  const int64_t count = mrt_tensor_count(w);
  mrt_narrow_kind kind;
  if (count < LEAST || (p->groups > 1 && p->groups == p->cin)) return MRT_CONV_WIDE;
  if (w->narrow) return w->narrow == MRT_FLOAT16 ? MRT_CONV_F16 : MRT_CONV_BF16;
  if (known || !mrt_narrow_kind_of(w->data, count, &kind)) return MRT_CONV_WIDE;
  return kind == MRT_NARROW_F16 ? MRT_CONV_F16 : MRT_CONV_BF16;
}

void mrt_conv_node_image(const mrt_node *node, int64_t size[2]) {
  const mrt_type *t = node->in[0].var->type;
  size[0] = 1;
  for (int i = t->rank > 3 ? 0 : 1; i < 2; ++i)
    if (!t->dims[t->rank - 2 + i] || !mrt_expr_is_const(t->dims[t->rank - 2 + i], &size[i]))
      size[i] = 64;
}
