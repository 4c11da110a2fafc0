/* PRelu: x below zero times a slope that broadcasts to x. */
#include "ops/binary.h"

#define MRT_TEMPLATE "ops/prelu.inl"
#include "tensor/each_float.h"
#define T       int32_t
#define NAME(x) x##_i32
#include "ops/prelu.inl"
#undef T
#undef NAME
#define T       int64_t
#define NAME(x) x##_i64
#include "ops/prelu.inl"
#undef T
#undef NAME

/* Unsigned values are never below zero. */
static void copy_u32(const uint32_t *a, int64_t sa, const uint32_t *b, int64_t sb, uint32_t *out,
                     int64_t n) {
  (void)b;
  (void)sb;
  for (int64_t i = 0; i < n; ++i) out[i] = a[i * sa];
}
static void copy_u64(const uint64_t *a, int64_t sa, const uint64_t *b, int64_t sb, uint64_t *out,
                     int64_t n) {
  (void)b;
  (void)sb;
  for (int64_t i = 0; i < n; ++i) out[i] = a[i * sa];
}
static const mrt_row2 table[MRT_DTYPE_COUNT] = {
    [MRT_FLOAT] = (mrt_row2)prelu_f32, [MRT_DOUBLE] = (mrt_row2)prelu_f64,
    [MRT_INT32] = (mrt_row2)prelu_i32, [MRT_INT64] = (mrt_row2)prelu_i64,
    [MRT_UINT32] = (mrt_row2)copy_u32, [MRT_UINT64] = (mrt_row2)copy_u64};

static mrt_status *run(mrt_kctx *c) { return mrt_run_pair(c, table); }

/* Before opset 7 a 1-D slope of more than one element belongs to the channels (dim 1). */
static mrt_status *up1(mrt_node *node) {
  mrt_var *x = node->in[0].var, *slope = node->n_in > 1 ? node->in[1].var : NULL, *axes, *v;
  const mrt_type *tx = x ? x->type : NULL, *ts = slope ? slope->type : NULL;
  int64_t one, list[MRT_MAX_RANK];
  mrt_node_del_attr(node, "consumed_inputs");
  if (!ts || ts->rank < 0)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "PRelu-%d with a slope of unknown rank", node->version);
  if (ts->rank != 1 || (mrt_expr_is_const(ts->dims[0], &one) && one == 1)) return NULL;
  if (!tx || tx->rank < 0)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "PRelu-%d of an input of unknown rank", node->version);
  int n = tx->rank - 2;
  if (n <= 0) return NULL;
  for (int i = 0; i < n; ++i) list[i] = 1 + i;
  MRT_TRY(mrt_graph_const_i64(node->graph, n, list, &axes));
  MRT_TRY(mrt_graph_add_var(node->graph, NULL, NULL, &v));
  mrt_var *in[2] = {slope, axes};
  mrt_node *u;
  MRT_TRY(mrt_graph_add_node(node->graph, node, "", "Unsqueeze", NULL, 2, in, 1, &v, &u));
  u->version = 25;
  MRT_TRY(mrt_node_resolve(u, mrt_ops_builtin()));
  return mrt_node_set_input(node, 1, v);
}

static const mrt_op_version versions[] = {{1, up1}, {6, up1}, {7}, {9}, {16}, {0}};
MRT_OP(PRelu) = {.domain = "",
                 .name = "PRelu",
                 .doc = "x < 0 ? slope * x : x",
                 .in = "X:T, slope:T",
                 .out = "Y:T",
                 .types = "T=" MRT_T_FLOATS ",int32,int64,uint32,uint64",
                 .versions = versions,
                 .flags = MRT_OP_ELEMENTWISE,
                 .inplace = {{1, 0}},
                 .infer = mrt_infer_elementwise,
                 .run = run};
