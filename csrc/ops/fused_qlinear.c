/* macart's forms of QLinearConv, QLinearMatMul, QGemm, QLinearAdd and QLinearMul: attributes lo and
 * hi narrow the range of the result. That is what Relu or Clip between an operator and its
 * quantisation amount to, exactly, because rounding keeps order. */
#include "ops/conv_integer.h"
#include "ops/matmul_integer.h"

/* The operator without bounds, then Clip of the bytes. */
static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  static const char *const standard[] = {"QLinearMatMul"};
  const bool channels_last = mrt_node_int(node, "channels_last") != 0;
  const bool plain = strcmp(node->op_type, standard[0]) == 0 ||
                     (strcmp(node->op_type, "QLinearConv") == 0 && !channels_last);
  const mrt_attr *ends[2] = {mrt_node_attr(node, "lo"), mrt_node_attr(node, "hi")};
  mrt_graph *g = node->graph;
  const mrt_type *type = node->out[0]->type;
  mrt_var *in[3] = {NULL, NULL, NULL}, *clipped;
  if (!type || type->kind != MRT_KIND_TENSOR)
    return MRT_ERR(MRT_FAIL, "%s of unknown type", node->op_type);
  for (int i = 0; i < 2; ++i) {
    mrt_tensor *t;
    if (!ends[i]) continue;
    MRT_TRY(mrt_tensor_create(g->model->alloc, type->dtype, 0, NULL, &t));
    mrt_elem_set_i64(type->dtype, t->data, 0, ends[i]->i);
    mrt_status *st =
        mrt_graph_add_var(g, NULL, mrt_type_tensor(g->model, type->dtype, 0, NULL), &in[i + 1]);
    if (st) {
      mrt_tensor_release(t);
      return st;
    }
    MRT_TRY(mrt_var_set_constant(in[i + 1], t));
  }
  mrt_var *old = node->out[0];
  MRT_TRY(mrt_graph_add_var(g, NULL, type, &in[0]));
  MRT_TRY(mrt_node_set_output(node, 0, in[0]));
  MRT_TRY(mrt_graph_insert(g, node->next, ops, "", "Clip", 3, in, type, NULL, &clipped));
  MRT_TRY(mrt_var_replace(old, clipped));
  mrt_node_del_attr(node, "lo");
  mrt_node_del_attr(node, "hi");
  if (plain) mrt_node_del_attr(node, "channels_last");
  MRT_TRY(mrt_node_set_op(node, plain ? "" : "com.microsoft", node->op_type));
  return mrt_node_resolve(node, ops);
}

/* QLinearConvAdd: the convolution, then QLinearAdd. */
static mrt_status *apart(mrt_node *node, const mrt_op_table *ops) {
  mrt_graph *g = node->graph;
  const mrt_attr *ends[2] = {mrt_node_attr(node, "add_lo"), mrt_node_attr(node, "add_hi")};
  mrt_var *old = node->out[0], *sum;
  mrt_var *in[8] = {NULL,
                    node->in[6].var,
                    node->in[7].var,
                    node->in[9].var,
                    node->in[10].var,
                    node->in[11].var,
                    node->in[12].var,
                    node->in[13].var};
  mrt_node *add;
  MRT_TRY(mrt_graph_add_var(g, NULL, old->type, &in[0]));
  MRT_TRY(mrt_node_set_output(node, 0, in[0]));
  MRT_TRY(mrt_graph_insert(g, node->next, ops, ends[0] && ends[1] ? "macart" : "com.microsoft",
                           "QLinearAdd", 8, in, old->type, &add, &sum));
  if (ends[0] && ends[1]) {
    MRT_TRY(mrt_node_set_int(add, "lo", ends[0]->i));
    MRT_TRY(mrt_node_set_int(add, "hi", ends[1]->i));
  }
  MRT_TRY(mrt_var_replace(old, sum));
  mrt_node_del_attr(node, "add_lo");
  mrt_node_del_attr(node, "add_hi");
  MRT_TRY(mrt_node_set_n_inputs(node, 9));
  MRT_TRY(mrt_node_set_op(node, "macart", "QLinearConv"));
  return mrt_node_resolve(node, ops);
}

static const mrt_op_version v1[] = {{1}, {0}};
#define MT                                                                  \
  .domain = "macart", .versions = v1, .decompose = decompose, .out = "Y:Y", \
  .types = "A=int8,uint8;B=int8,uint8;Y=int8,uint8;S=float,float16,bfloat16;C=int32"
#define WINDOW \
  "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints "
#define ENDS "lo:int hi:int "
MRT_OP_IN(mt, QLinearConv) = {
    MT,
    .name = "QLinearConv",
    .doc = "QLinearConv with bounds",
    .in =
        "x:A, x_scale:S, x_zero_point:A, w:B, w_scale:S, w_zero_point:B, y_scale:S, "
        "y_zero_point:Y, B:C?",
    .attrs = ENDS WINDOW "channels_last:int=0",
    .infer = mrt_iconv_infer,
    .run = mrt_iconv_run};
/* No reference kernel: `apart` says what it means. */
MRT_OP_IN(mt, QLinearConvAdd) = {
    .domain = "macart",
    .name = "QLinearConvAdd",
    .doc = "QLinearConv with bounds, then QLinearAdd of its result and another with bounds add_*",
    .in =
        "x:A, x_scale:S, x_zero_point:A, w:B, w_scale:S, w_zero_point:B, y_scale:S, "
        "y_zero_point:Y, B:C?, other:Y, other_scale:S, other_zero_point:Y, sum_scale:S, "
        "sum_zero_point:Y",
    .out = "Y:Y",
    .types = "A=int8,uint8;B=int8,uint8;Y=int8,uint8;S=float;C=int32",
    .attrs = ENDS "add_lo:int add_hi:int " WINDOW "channels_last:int=0",
    .versions = v1,
    .infer = mrt_iconv_infer,
    .decompose = apart};
MRT_OP_IN(mt, QLinearMatMul) = {
    MT,
    .name = "QLinearMatMul",
    .doc = "QLinearMatMul with bounds",
    .in =
        "a:A, a_scale:S, a_zero_point:A, b:B, b_scale:S, b_zero_point:B, y_scale:S, "
        "y_zero_point:Y",
    .attrs = ENDS,
    .infer = mrt_iproduct_infer,
    .run = mrt_iproduct_run};
MRT_OP_IN(mt, QGemm) = {
    MT,
    .name = "QGemm",
    .doc = "QGemm with bounds",
    .in =
        "A:A, a_scale:S, a_zero_point:A, B:B, b_scale:S, b_zero_point:B, C:C?, y_scale:S?, "
        "y_zero_point:Y?",
    .attrs = ENDS "alpha:float=1.0 transA:int=0 transB:int=0",
    .infer = mrt_iproduct_gemm_infer,
    .run = mrt_iproduct_run};
#define BINARY                                                                            \
  MT,                                                                                     \
      .in =                                                                               \
          "A:A, A_scale:S, A_zero_point:A?, B:A, B_scale:S, B_zero_point:A?, C_scale:S, " \
          "C_zero_point:A?",                                                              \
      .attrs = ENDS, .infer = mrt_qbinary_infer, .run = mrt_qbinary_run
MRT_OP_IN(mt, QLinearAdd) = {BINARY, .name = "QLinearAdd", .doc = "QLinearAdd with bounds"};
MRT_OP_IN(mt, QLinearMul) = {BINARY, .name = "QLinearMul", .doc = "QLinearMul with bounds"};
