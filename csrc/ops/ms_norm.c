/* com.microsoft: SkipLayerNormalization, SkipSimplifiedLayerNormalization, EmbedLayerNormalization,
 * and SimplifiedLayerNormalization, which ONNX Runtime keeps in ai.onnx: sums before a
 * normalization. */
#include "ops/compose.h"
#include <string.h>

static mrt_var *add(mrt_compose *b, mrt_var *x, mrt_var *y) {
  return y ? x ? mrt_compose_2(b, "Add", x, y) : y : x;
}

/* LayerNormalization or RMSNormalization of x along the last axis into output 0 of the node. */
static void normalize(mrt_compose *b, mrt_var *x, bool simple, mrt_var *gamma, mrt_var *beta) {
  mrt_var *in[3] = {x, gamma, beta};
  mrt_var *y =
      mrt_compose_op(b, simple ? "RMSNormalization" : "LayerNormalization", simple ? 2 : 3, in);
  mrt_compose_copy_attr(b, "epsilon");
  mrt_compose_copy_attr(b, "axis");
  mrt_compose_copy_attr(b, "stash_type");
  mrt_compose_set(b, 0, y);
}

static mrt_status *skip_expand(mrt_node *node, const mrt_op_table *ops) {
  const bool simple = strcmp(node->op_type, "SkipSimplifiedLayerNormalization") == 0;
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *sum = add(&b, mrt_compose_in(&b, 0), mrt_compose_in(&b, 1));
  sum = add(&b, sum, mrt_compose_in(&b, simple ? 3 : 4));
  normalize(&b, sum, simple, mrt_compose_in(&b, 2), simple ? NULL : mrt_compose_in(&b, 3));
  for (int i = 1; i < 3; ++i)
    if (mrt_compose_wants(&b, i)) {
      if (simple)
        mrt_compose_fail(&b, "outputs mean and inv_std_var");
      else
        mrt_compose_set(&b, i, mrt_compose_out(&b, i));
    }
  mrt_compose_set(&b, 3, sum);
  return mrt_compose_end(&b);
}

static mrt_status *simple_expand(mrt_node *node, const mrt_op_table *ops) {
  mrt_compose b = mrt_compose_begin(node, ops);
  if (mrt_compose_wants(&b, 1)) mrt_compose_fail(&b, "output inv_std_var");
  normalize(&b, mrt_compose_in(&b, 0), true, mrt_compose_in(&b, 1), NULL);
  return mrt_compose_end(&b);
}

/* Rows 0 .. length of the sentence of the position table, or those that position_ids names. */
static mrt_var *positions(mrt_compose *b, mrt_var *ids, mrt_var *table, mrt_var *position_ids) {
  if (position_ids) return mrt_compose_2(b, "Gather", table, position_ids);
  const int64_t zero = 0;
  mrt_var *length = mrt_compose_1(b, "Shape", ids);
  mrt_compose_int(b, "start", 1);
  mrt_compose_int(b, "end", 2);
  mrt_var *first = mrt_compose_ints(b, 1, &zero);
  return mrt_compose_op(b, "Slice", 4, (mrt_var *[]){table, first, length, first});
}

static mrt_status *embed_expand(mrt_node *node, const mrt_op_table *ops) {
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *ids = mrt_compose_in(&b, 0), *segments = mrt_compose_in(&b, 1),
          *mask = mrt_compose_in(&b, 7);
  mrt_var *sum = mrt_compose_2(&b, "Gather", mrt_compose_in(&b, 2), ids);
  sum = add(&b, sum, positions(&b, ids, mrt_compose_in(&b, 3), mrt_compose_in(&b, 8)));
  if (segments && mrt_compose_in(&b, 4))
    sum = add(&b, sum, mrt_compose_2(&b, "Gather", mrt_compose_in(&b, 4), segments));
  if (mrt_compose_wants(&b, 1)) { /* the length of each sentence; 0 without a mask */
    const int64_t one = 1;
    mrt_var *counted = mask ? mask : mrt_compose_2(&b, "Sub", ids, ids);
    mrt_var *axis = mrt_compose_ints(&b, 1, &one);
    mrt_var *lengths = mrt_compose_2(&b, "ReduceSum", counted, axis);
    mrt_compose_int(&b, "keepdims", 0);
    mrt_compose_set(&b, 1, lengths);
  }
  normalize(&b, sum, false, mrt_compose_in(&b, 5), mrt_compose_in(&b, 6));
  mrt_compose_set(&b, 2, sum);
  return mrt_compose_end(&b);
}

static const mrt_op_version v1[] = {{1}, {0}};
#define FLOATS \
  .types = "T=" MRT_T_FLOATS ";V=" MRT_T_FLOATS ";U=float,double;I=int32", .versions = v1
MRT_OP_IN(ms, SkipLayerNormalization) = {
    .domain = "com.microsoft",
    .name = "SkipLayerNormalization",
    .doc = "LayerNormalization(input + skip + bias)",
    .in = "input:T, skip:T, gamma:T, beta:T?, bias:T?",
    .out = "output:T, mean:U?, inv_std_var:U?, input_skip_bias_sum:T?",
    FLOATS,
    .attrs = "epsilon:float=1e-12",
    .expand = skip_expand};
MRT_OP_IN(ms, SkipSimplifiedLayerNormalization) = {
    .domain = "com.microsoft",
    .name = "SkipSimplifiedLayerNormalization",
    .doc = "RMSNormalization(input + skip + bias)",
    .in = "input:T, skip:T, gamma:T, bias:T?",
    .out = "output:T, mean:U?, inv_std_var:U?, input_skip_bias_sum:T?",
    FLOATS,
    .attrs = "epsilon:float=1e-12",
    .expand = skip_expand};
MRT_OP(SimplifiedLayerNormalization) = {.domain = "",
                                        .name = "SimplifiedLayerNormalization",
                                        .doc = "RMSNormalization under its older name",
                                        .in = "X:T, scale:V",
                                        .out = "Y:V, inv_std_var:U?",
                                        FLOATS,
                                        .attrs = "axis:int=-1 epsilon:float=1e-05 stash_type:int=1",
                                        .expand = simple_expand};
MRT_OP_IN(ms, EmbedLayerNormalization) = {
    .domain = "com.microsoft",
    .name = "EmbedLayerNormalization",
    .doc = "LayerNormalization of the sum of word, position and segment embeddings",
    .in =
        "input_ids:I, segment_ids:I?, word_embedding:T, position_embedding:T, "
        "segment_embedding:T?, gamma:T, beta:T, mask:I?, position_ids:I?",
    .out = "output:T, mask_index:I?, embedding_sum:T?",
    FLOATS,
    .attrs = "epsilon:float=1e-12 mask_index_type:int=0",
    .expand = embed_expand};
