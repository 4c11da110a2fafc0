/* Element-wise functions of two tensors with numpy broadcasting: arithmetic, comparison, logic, and
 * the variadic Min, Max, Sum, Mean made of them. Half types go through float rows. */
#include "ops/binary.h"

#define MRT_TEMPLATE "ops/binary.inl"
#include "tensor/each_number.h"

typedef mrt_row2 row_fn;
#define TABLE(f)                                                                                  \
  {                                                                                               \
    [MRT_FLOAT] = (row_fn)f##_f32, [MRT_DOUBLE] = (row_fn)f##_f64, [MRT_INT8] = (row_fn)f##_i8,   \
    [MRT_INT16] = (row_fn)f##_i16, [MRT_INT32] = (row_fn)f##_i32, [MRT_INT64] = (row_fn)f##_i64,  \
    [MRT_UINT8] = (row_fn)f##_u8, [MRT_UINT16] = (row_fn)f##_u16, [MRT_UINT32] = (row_fn)f##_u32, \
    [MRT_UINT64] = (row_fn)f##_u64                                                                \
  }
static const row_fn add_table[MRT_DTYPE_COUNT] = TABLE(add);
static const row_fn sub_table[MRT_DTYPE_COUNT] = TABLE(sub);
static const row_fn mul_table[MRT_DTYPE_COUNT] = TABLE(mul);
static const row_fn div_table[MRT_DTYPE_COUNT] = TABLE(divide);
static const row_fn min_table[MRT_DTYPE_COUNT] = TABLE(minimum);
static const row_fn max_table[MRT_DTYPE_COUNT] = TABLE(maximum);
static const row_fn gt_table[MRT_DTYPE_COUNT] = TABLE(greater);
static const row_fn ge_table[MRT_DTYPE_COUNT] = TABLE(greaterequal);
static const row_fn lt_table[MRT_DTYPE_COUNT] = TABLE(less);
static const row_fn le_table[MRT_DTYPE_COUNT] = TABLE(lessequal);

static void eq_bool(const void *a, int64_t sa, const void *b, int64_t sb, void *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    ((uint8_t *)out)[i] = !((const uint8_t *)a)[i * sa] == !((const uint8_t *)b)[i * sb];
}
static void eq_string(const void *a, int64_t sa, const void *b, int64_t sb, void *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const mrt_string *x = ((mrt_string *const *)a)[i * sa], *y = ((mrt_string *const *)b)[i * sb];
    size_t len = mrt_string_len(x);
    ((uint8_t *)out)[i] =
        len == mrt_string_len(y) && !memcmp(mrt_string_bytes(x), mrt_string_bytes(y), len);
  }
}
static const row_fn eq_table[MRT_DTYPE_COUNT] = {[MRT_FLOAT] = (row_fn)equal_f32,
                                                 [MRT_DOUBLE] = (row_fn)equal_f64,
                                                 [MRT_INT8] = (row_fn)equal_i8,
                                                 [MRT_INT16] = (row_fn)equal_i16,
                                                 [MRT_INT32] = (row_fn)equal_i32,
                                                 [MRT_INT64] = (row_fn)equal_i64,
                                                 [MRT_UINT8] = (row_fn)equal_u8,
                                                 [MRT_UINT16] = (row_fn)equal_u16,
                                                 [MRT_UINT32] = (row_fn)equal_u32,
                                                 [MRT_UINT64] = (row_fn)equal_u64,
                                                 [MRT_BOOL] = eq_bool,
                                                 [MRT_STRING] = eq_string};
#define LOGIC(name, expr)                                                                 \
  static void name##_row(const void *a, int64_t sa, const void *b, int64_t sb, void *out, \
                         int64_t n) {                                                     \
    for (int64_t i = 0; i < n; ++i) {                                                     \
      bool x = ((const uint8_t *)a)[i * sa] != 0, y = ((const uint8_t *)b)[i * sb] != 0;  \
      ((uint8_t *)out)[i] = (expr);                                                       \
    }                                                                                     \
  }                                                                                       \
  static const row_fn name##_table[MRT_DTYPE_COUNT] = {[MRT_BOOL] = name##_row};
LOGIC(and, x &&y)
LOGIC(or, x || y)
LOGIC(xor, x != y)

typedef struct job {
  const char *a, *b;
  char *out;
  size_t in_size, out_size;
  row_fn fn;
  const mrt_bcast *bc;
} job;
static void each(void *arg, const int64_t *offsets, int64_t out, int64_t n) {
  const job *j = arg;
  int last = j->bc->rank - 1;
  j->fn(j->a + offsets[0] * (int64_t)j->in_size, j->bc->strides[0][last],
        j->b + offsets[1] * (int64_t)j->in_size, j->bc->strides[1][last],
        j->out + out * (int64_t)j->out_size, n);
}
static void flat(void *arg, int64_t begin, int64_t end) { /* one merged row, cut for threads */
  const job *j = arg;
  int64_t sa = j->bc->strides[0][0], sb = j->bc->strides[1][0];
  j->fn(j->a + begin * sa * (int64_t)j->in_size, sa, j->b + begin * sb * (int64_t)j->in_size, sb,
        j->out + begin * (int64_t)j->out_size, end - begin);
}

static mrt_status *apply(mrt_kctx *c, const row_fn *table, const mrt_tensor *a, const mrt_tensor *b,
                         mrt_tensor *out) {
  mrt_bcast bc;
  const mrt_tensor *both[2] = {a, b};
  if (!table[a->dtype]) return mrt_no_type(c->node->op_type, a->dtype);
  MRT_TRY(mrt_bcast_init(&bc, 2, both, out->rank, out->dims));
  job j = {a->data,
           b->data,
           out->data,
           (size_t)mrt_dtype_bits((mrt_dtype)a->dtype) / 8,
           (size_t)mrt_dtype_bits((mrt_dtype)out->dtype) / 8,
           table[a->dtype],
           &bc};
  if (!mrt_tensor_count(out)) return NULL;
  if (bc.rank == 1)
    mrt_par_range(&c->par, bc.dims[0], 0.4, flat, &j);
  else
    mrt_bcast_each_row(&bc, each, &j);
  return NULL;
}

/* Half inputs as float copies in scratch. */
static mrt_status *widen(mrt_kctx *c, const mrt_tensor *t, mrt_tensor *view) {
  int64_t n = mrt_tensor_count(t);
  void *data;
  MRT_TRY(mrt_scratch(c, (size_t)n * 4, &data));
  mrt_convert_to_f32((mrt_dtype)t->dtype, t->data, 0, n, data);
  mrt_tensor_init_view(view, MRT_FLOAT, t->rank, t->dims, data, (size_t)n * 4, MRT_HOST);
  return NULL;
}

static mrt_status *run2(mrt_kctx *c, const row_fn *table, const mrt_tensor *a, const mrt_tensor *b,
                        mrt_tensor *out) {
  if (a->dtype != MRT_FLOAT16 && a->dtype != MRT_BFLOAT16) return apply(c, table, a, b, out);
  mrt_tensor fa, fb, fo;
  MRT_TRY(widen(c, a, &fa));
  MRT_TRY(widen(c, b, &fb));
  if (out->dtype == MRT_BOOL) return apply(c, table, &fa, &fb, out);
  int64_t n = mrt_tensor_count(out);
  void *data;
  MRT_TRY(mrt_scratch(c, (size_t)n * 4, &data));
  mrt_tensor_init_view(&fo, MRT_FLOAT, out->rank, out->dims, data, (size_t)n * 4, MRT_HOST);
  MRT_TRY(apply(c, table, &fa, &fb, &fo));
  mrt_convert_from_f32((mrt_dtype)out->dtype, out->data, 0, n, data);
  return NULL;
}
mrt_status *mrt_run_pair(mrt_kctx *c, const mrt_row2 *table) {
  mrt_tensor *out = mrt_out(c, 0);
  return out ? run2(c, table, mrt_in(c, 0), mrt_in(c, 1), out) : NULL;
}

/* Variadic: the first input is spread over the output, then one input after the other is folded in.
 */
static mrt_status *run_variadic(mrt_kctx *c, const row_fn *table, bool mean) {
  mrt_tensor *out = mrt_out(c, 0);
  const mrt_tensor *first = mrt_in(c, 0);
  mrt_bcast bc;
  if (!out) return NULL;
  MRT_TRY(mrt_bcast_init(&bc, 1, &first, out->rank, out->dims));
  mrt_tensor spread; /* the first input, seen with the output's shape and strides 0 */
  int64_t step = 1;
  mrt_tensor_look(&spread, first);
  for (int i = out->rank - 1; i >= 0; --i) {
    int k = i - (out->rank - first->rank);
    int64_t d = k < 0 ? 1 : first->dims[k];
    spread.strides[i] = d == 1 ? 0 : step;
    spread.dims[i] = out->dims[i];
    step *= d;
  }
  spread.rank = out->rank;
  spread.strided = true;
  MRT_TRY(mrt_tensor_copy_into(out, &spread));
  for (int i = 1; i < c->n_in; ++i) MRT_TRY(run2(c, table, out, mrt_in(c, i), out));
  if (!mean) return NULL;
  int64_t n = mrt_tensor_count(out);
  for (int64_t i = 0; i < n; ++i)
    mrt_elem_set_f64((mrt_dtype)out->dtype, out->data, i,
                     mrt_elem_get_f64((mrt_dtype)out->dtype, out->data, i) / c->n_in);
  return NULL;
}

/* Symbolic contents of shape arithmetic. */
static const mrt_expr *fold_div(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  int64_t lo, hi, l2, h2; /* ONNX truncates: the same as floor for operands >= 0 */
  mrt_expr_bounds(a, &lo, &hi);
  mrt_expr_bounds(b, &l2, &h2);
  return a && b && lo >= 0 && l2 >= 0 ? mrt_expr_floordiv(t, a, b) : NULL;
}
static mrt_status *fold_pairs(mrt_infer *c, mrt_fold2 fold, const mrt_expr *const *a, int na,
                              const mrt_expr *const *b, int nb) {
  const mrt_expr *out[64];
  int n = na > nb ? na : nb;
  if (n > 64 || (na != nb && na != 1 && nb != 1) || !na || !nb) return NULL;
  for (int i = 0; i < n; ++i) out[i] = fold(c->sym, a[na == 1 ? 0 : i], b[nb == 1 ? 0 : i]);
  return mrt_infer_out_elems(c, 0, n, out);
}
mrt_status *mrt_infer_pair(mrt_infer *c, mrt_fold2 fold) {
  int na, nb;
  MRT_TRY(mrt_infer_elementwise(c));
  if (mrt_infer_dtype(c, 0) != MRT_INT64 && mrt_infer_dtype(c, 0) != MRT_INT32) return NULL;
  if (mrt_infer_rank(c, 0) > 1 || mrt_infer_rank(c, 1) > 1) return NULL;
  const mrt_expr *const *a = mrt_infer_ints(c, 0, &na), *const *b = mrt_infer_ints(c, 1, &nb);
  return a && b ? fold_pairs(c, fold, a, na, b, nb) : NULL;
}
static mrt_status *infer_add(mrt_infer *c) { return mrt_infer_pair(c, mrt_expr_add); }
static mrt_status *infer_sub(mrt_infer *c) { return mrt_infer_pair(c, mrt_expr_sub); }
static mrt_status *infer_mul(mrt_infer *c) { return mrt_infer_pair(c, mrt_expr_mul); }
static mrt_status *infer_div(mrt_infer *c) { return mrt_infer_pair(c, fold_div); }

/* Shape tensors compared: exporters ask which entries of a target shape are -1. */
static const mrt_expr *fold_equal(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  int64_t lo, hi;
  const mrt_expr *d = mrt_expr_sub(t, a, b);
  if (!d) return NULL;
  mrt_expr_bounds(d, &lo, &hi);
  return lo == 0 && hi == 0 ? mrt_expr_const(t, 1) : lo > 0 || hi < 0 ? mrt_expr_const(t, 0) : NULL;
}
static mrt_status *infer_equal(mrt_infer *c) {
  int na, nb;
  MRT_TRY(mrt_infer_compare(c));
  if (mrt_infer_rank(c, 0) > 1 || mrt_infer_rank(c, 1) > 1) return NULL;
  const mrt_expr *const *a = mrt_infer_ints(c, 0, &na), *const *b = mrt_infer_ints(c, 1, &nb);
  return a && b ? fold_pairs(c, fold_equal, a, na, b, nb) : NULL;
}

/* Before opset 7: `broadcast` with `axis`, where the second shape is a slice of the first one. The
 * second operand is given trailing dims of 1 to say the same. */
mrt_status *mrt_legacy_broadcast(mrt_node *node) {
  mrt_attr axis, unused;
  mrt_node_take_attr(node, "consumed_inputs", &unused);
  mrt_node_take_attr(node, "broadcast", &unused);
  if (!mrt_node_take_attr(node, "axis", &axis)) return NULL;
  mrt_var *a = node->in[0].var, *b = node->in[1].var, *shape, *v;
  const mrt_type *ta = a ? a->type : NULL, *tb = b ? b->type : NULL;
  if (!ta || !tb || ta->rank < 0 || tb->rank < 0)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s with axis on operands of unknown rank", node->op_type);
  int64_t at = axis.i < 0 ? axis.i + ta->rank : axis.i, axes[MRT_MAX_RANK];
  int n = 0;
  if (at < 0 || at > ta->rank - tb->rank)
    return MRT_ERR(MRT_INVALID_GRAPH, "axis %lld for operands of rank %d and %d", (long long)axis.i,
                   ta->rank, tb->rank);
  for (int64_t i = at + tb->rank; i < ta->rank; ++i) axes[n++] = i - at;
  if (!n) return NULL;
  MRT_TRY(mrt_graph_const_i64(node->graph, n, axes, &shape));
  MRT_TRY(mrt_graph_add_var(node->graph, NULL, NULL, &v));
  mrt_var *in[2] = {b, shape};
  mrt_node *u;
  MRT_TRY(mrt_graph_add_node(node->graph, node, "", "Unsqueeze", NULL, 2, in, 1, &v, &u));
  u->version = 25;
  MRT_TRY(mrt_node_resolve(u, mrt_ops_builtin()));
  return mrt_node_set_input(node, 1, v);
}
static mrt_status *drop_legacy(mrt_node *node) {
  mrt_node_del_attr(node, "consumed_inputs");
  return NULL;
}

#define RUN(name, table) \
  static mrt_status *name##_run(mrt_kctx *c) { return mrt_run_pair(c, table); }
RUN(add, add_table)
RUN(sub, sub_table)
RUN(mul, mul_table)
RUN(div, div_table)
RUN(equal, eq_table)
RUN(greater, gt_table)
RUN(greater_equal, ge_table)
RUN(less, lt_table)
RUN(less_equal, le_table)
RUN(and, and_table)
RUN(or, or_table)
RUN(xor, xor_table)
static mrt_status *min_run(mrt_kctx *c) { return run_variadic(c, min_table, false); }
static mrt_status *max_run(mrt_kctx *c) { return run_variadic(c, max_table, false); }
static mrt_status *sum_run(mrt_kctx *c) { return run_variadic(c, add_table, false); }
static mrt_status *mean_run(mrt_kctx *c) { return run_variadic(c, add_table, true); }

static const mrt_op_version arith[] = {
    {1, mrt_legacy_broadcast}, {6, mrt_legacy_broadcast}, {7}, {13}, {14}, {0}};
static const mrt_op_version compare[] = {
    {1, mrt_legacy_broadcast}, {7}, {9}, {11}, {13}, {19}, {0}};
static const mrt_op_version logic[] = {{1, mrt_legacy_broadcast}, {7}, {0}};
static const mrt_op_version or_equal[] = {{12}, {16}, {0}};
static const mrt_op_version many[] = {{1, drop_legacy}, {6}, {8}, {12}, {13}, {0}};
#define PAIR .domain = "", .in = "A:T, B:T", .out = "C:T", .inplace = {{1, 0}, {2, 0}}
#define TEST .domain = "", .in = "A:T, B:T", .out = "C:bool"
#define MANY                                                                  \
  .domain = "", .in = "data:T*", .out = "out:T", .flags = MRT_OP_ELEMENTWISE, \
  .infer = mrt_infer_elementwise, .versions = many
#define NUM       .types = "T=" MRT_T_NUMERIC, .flags = MRT_OP_ELEMENTWISE
#define SYMMETRIC .flags = MRT_OP_ELEMENTWISE | MRT_OP_COMMUTATIVE
MRT_OP(Add) = {PAIR,           .types = "T=" MRT_T_NUMERIC, SYMMETRIC,          .name = "Add",
               .doc = "a + b", .versions = arith,           .infer = infer_add, .run = add_run};
MRT_OP(Sub) = {
    PAIR,          NUM, .name = "Sub", .doc = "a - b", .versions = arith, .infer = infer_sub,
    .run = sub_run};
MRT_OP(Mul) = {PAIR,           .types = "T=" MRT_T_NUMERIC, SYMMETRIC,          .name = "Mul",
               .doc = "a * b", .versions = arith,           .infer = infer_mul, .run = mul_run};
MRT_OP(Div) = {PAIR,
               NUM,
               .name = "Div",
               .doc = "a / b; integers truncate",
               .versions = arith,
               .infer = infer_div,
               .run = div_run};
MRT_OP(Equal) = {TEST,
                 .types = "T=" MRT_T_NUMERIC ",bool,string",
                 SYMMETRIC,
                 .name = "Equal",
                 .doc = "a == b",
                 .versions = compare,
                 .infer = infer_equal,
                 .run = equal_run};
MRT_OP(Greater) = {TEST,
                   NUM,
                   .name = "Greater",
                   .doc = "a > b",
                   .versions = compare,
                   .infer = mrt_infer_compare,
                   .run = greater_run};
MRT_OP(Less) = {TEST,
                NUM,
                .name = "Less",
                .doc = "a < b",
                .versions = compare,
                .infer = mrt_infer_compare,
                .run = less_run};
MRT_OP(GreaterOrEqual) = {TEST,
                          NUM,
                          .name = "GreaterOrEqual",
                          .doc = "a >= b",
                          .versions = or_equal,
                          .infer = mrt_infer_compare,
                          .run = greater_equal_run};
MRT_OP(LessOrEqual) = {TEST,
                       NUM,
                       .name = "LessOrEqual",
                       .doc = "a <= b",
                       .versions = or_equal,
                       .infer = mrt_infer_compare,
                       .run = less_equal_run};
MRT_OP(And) = {TEST,
               .types = "T=bool",
               SYMMETRIC,
               .name = "And",
               .doc = "logical and",
               .versions = logic,
               .infer = mrt_infer_compare,
               .run = and_run};
MRT_OP(Or) = {TEST,
              .types = "T=bool",
              SYMMETRIC,
              .name = "Or",
              .doc = "logical or",
              .versions = logic,
              .infer = mrt_infer_compare,
              .run = or_run};
MRT_OP(Xor) = {TEST,
               .types = "T=bool",
               SYMMETRIC,
               .name = "Xor",
               .doc = "logical exclusive or",
               .versions = logic,
               .infer = mrt_infer_compare,
               .run = xor_run};
MRT_OP(Min) = {MANY, .types = "T=" MRT_T_NUMERIC, .name = "Min", .doc = "element-wise minimum",
               .run = min_run};
MRT_OP(Max) = {MANY, .types = "T=" MRT_T_NUMERIC, .name = "Max", .doc = "element-wise maximum",
               .run = max_run};
MRT_OP(Sum) = {MANY, .types = "T=" MRT_T_FLOATS, .name = "Sum", .doc = "element-wise sum",
               .run = sum_run};
MRT_OP(Mean) = {MANY, .types = "T=" MRT_T_FLOATS, .name = "Mean", .doc = "element-wise mean",
                .run = mean_run};
