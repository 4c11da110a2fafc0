/* Hardmax: 1 at the first maximum along an axis, 0 elsewhere. Before opset 13 the maximum was taken
 * over all dims from `axis` on: a private attribute `_flatten`. */
#include "ops/common.h"

#define MRT_TEMPLATE "ops/hardmax.inl"
#include "tensor/each_float.h"

static mrt_status *infer(mrt_infer *c) {
  int axis, rank = mrt_infer_rank(c, 0);
  if (rank > 0) MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  return mrt_infer_same_shape(c);
}
static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  if (!y) return NULL;
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank ? x->rank : 1, &axis));
  bool flat = mrt_node_attr(c->node, "_flatten") != NULL;
  int to = x->rank ? (flat ? x->rank : axis + 1) : 0, from = x->rank ? axis : 0;
  int64_t outer = mrt_dims_product(x->dims, 0, from), n = mrt_dims_product(x->dims, from, to),
          inner = mrt_dims_product(x->dims, to, x->rank);
  mrt_dtype d = (mrt_dtype)x->dtype;
  void *wide = NULL;
  int64_t total = mrt_tensor_count(x);
  if (!total) return NULL;
  if (d == MRT_FLOAT16 || d == MRT_BFLOAT16) {
    MRT_TRY(mrt_scratch(c, (size_t)total * 4, &wide));
    mrt_convert_to_f32(d, x->data, 0, total, wide);
  } else if (d != MRT_FLOAT && d != MRT_DOUBLE) {
    return mrt_no_type("Hardmax", d);
  }
  memset(y->data, 0, y->bytes);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t k = 0; k < inner; ++k) {
      int64_t base = o * n * inner + k, at;
      if (d == MRT_DOUBLE)
        at = first_max_f64((const double *)x->data + base, n, inner);
      else
        at = first_max_f32((const float *)(wide ? wide : x->data) + base, n, inner);
      mrt_elem_set_f64(d, y->data, base + at * inner, 1);
    }
  return NULL;
}
static mrt_status *up(mrt_node *node) {
  if (!mrt_node_attr(node, "axis")) MRT_TRY(mrt_node_set_int(node, "axis", 1));
  return mrt_node_set_int(node, "_flatten", 1);
}
static const mrt_op_version versions[] = {{1, up}, {11, up}, {13}, {0}};
MRT_OP(Hardmax) = {.domain = "",
                   .name = "Hardmax",
                   .doc = "1 at the first maximum along an axis",
                   .in = "input:T",
                   .out = "output:T",
                   .types = "T=" MRT_T_FLOATS,
                   .attrs = "axis:int=-1",
                   .versions = versions,
                   .infer = infer,
                   .run = run};
