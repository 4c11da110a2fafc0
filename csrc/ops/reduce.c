/* Reductions over axes, ArgMax, ArgMin, Softmax, LogSoftmax, LayerNormalization. Sums are kept in
 * double: the reference says what the operator means. */
#include "ops/common.h"

enum { SUM, MEAN, MAXIMUM, MINIMUM, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP };

static mrt_status *axes_up(mrt_node *node) { return mrt_node_attr_to_input(node, "axes", 1); }
static mrt_status *which_axes(const mrt_node *n, const int64_t *axes, int k, int rank, bool *red) {
  for (int i = 0; i < rank; ++i) red[i] = k == 0 && !mrt_node_int(n, "noop_with_empty_axes");
  for (int i = 0; i < k; ++i) {
    int a;
    MRT_TRY(mrt_fix_axis(axes[i], rank, &a));
    red[a] = true;
  }
  return NULL;
}
static mrt_status *reduce_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), n = 0, k = 0;
  int64_t axes[MRT_MAX_RANK];
  bool red[MRT_MAX_RANK], keep = mrt_node_int(c->node, "keepdims") != 0;
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL};
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (mrt_infer_has(c, 1) && !mrt_infer_const_ints(c, 1, MRT_MAX_RANK, axes, &n))
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), keep ? rank : -1, dims);
  MRT_TRY(which_axes(c->node, axes, n, rank, red));
  for (int i = 0; i < rank; ++i)
    if (!red[i] || keep) dims[k++] = red[i] ? mrt_expr_const(c->sym, 1) : mrt_infer_dim(c, 0, i);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), k, dims);
}

/* One value per step of the walk over the reduced dims. */
typedef struct walk {
  int n;
  int64_t dims[MRT_MAX_RANK], strides[MRT_MAX_RANK];
} walk;
static int64_t walk_at(const walk *w, int64_t i) {
  int64_t at = 0;
  for (int d = w->n - 1; d >= 0; --d) {
    at += i % w->dims[d] * w->strides[d];
    i /= w->dims[d];
  }
  return at;
}
static double finish(int op, double acc, double top, int64_t n) {
  switch (op) {
    case MEAN: return acc / (double)n;
    case L2: return sqrt(acc);
    case LOG_SUM: return log(acc);
    case LOG_SUM_EXP: return n ? log(acc) + top : -INFINITY;
    default: return acc;
  }
}
static double fold(const mrt_tensor *x, int op, const walk *in, int64_t count, int64_t base) {
  mrt_dtype t = (mrt_dtype)x->dtype;
  double acc = op == PROD      ? 1
               : op == MAXIMUM ? -INFINITY
               : op == MINIMUM ? INFINITY
                               : 0,
         top = -INFINITY;
  const float *f = t == MRT_FLOAT ? x->data : NULL;
  bool line = in->n == 1;
  int64_t step = line ? in->strides[0] : 0;
  if (op == LOG_SUM_EXP)
    for (int64_t i = 0; i < count; ++i)
      top = fmax(top, mrt_elem_get_f64(t, x->data, base + walk_at(in, i)));
  if (isinf(top)) top = 0; /* inf - inf is no number; exp(inf) says it as well */
  for (int64_t i = 0; i < count; ++i) {
    int64_t at = base + (line ? i * step : walk_at(in, i));
    double v = f ? f[at] : mrt_elem_get_f64(t, x->data, at);
    switch (op) {
      case MAXIMUM: acc = isnan(v) || v > acc ? v : acc; break;
      case MINIMUM: acc = isnan(v) || v < acc ? v : acc; break;
      case PROD: acc *= v; break;
      case L1: acc += fabs(v); break;
      case L2:
      case SUM_SQUARE: acc += v * v; break;
      case LOG_SUM_EXP: acc += exp(v - top); break;
      default: acc += v;
    }
  }
  return finish(op, acc, top, count);
}
/* Integers are exact: 64-bit arithmetic that wraps. */
static int64_t fold_int(const mrt_tensor *x, int op, const walk *in, int64_t count, int64_t base) {
  mrt_dtype t = (mrt_dtype)x->dtype;
  uint64_t acc = op == PROD ? 1 : 0;
  for (int64_t i = 0; i < count; ++i) {
    int64_t v = mrt_elem_get_i64(t, x->data, base + walk_at(in, i));
    uint64_t u = (uint64_t)v;
    bool less = t == MRT_UINT64 ? u < acc : v < (int64_t)acc;
    switch (op) {
      case MAXIMUM: acc = i == 0 || (!less && u != acc) ? u : acc; break;
      case MINIMUM: acc = i == 0 || less ? u : acc; break;
      case PROD: acc *= u; break;
      case L1: acc += v < 0 ? 0 - u : u; break;
      case SUM_SQUARE: acc += u * u; break;
      default: acc += u;
    }
  }
  return op == MEAN ? (count ? (int64_t)acc / count : 0) : (int64_t)acc;
}
static mrt_status *reduce_run(mrt_kctx *c, int op) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t axes[MRT_MAX_RANK], step = 1, count = 1;
  int n;
  bool red[MRT_MAX_RANK];
  walk in = {0}, out = {0};
  if (!y) return NULL;
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), MRT_MAX_RANK, axes, &n, "axes"));
  MRT_TRY(which_axes(c->node, axes, n, x->rank, red));
  int64_t strides[MRT_MAX_RANK];
  for (int i = x->rank - 1; i >= 0; --i) {
    strides[i] = step;
    step *= x->dims[i];
  }
  for (int i = 0; i < x->rank; ++i) {
    walk *w = red[i] ? &in : &out;
    if (red[i] && in.n && in.strides[in.n - 1] == strides[i] * x->dims[i]) { /* merge neighbours */
      in.dims[in.n - 1] *= x->dims[i];
      in.strides[in.n - 1] = strides[i];
    } else {
      w->dims[w->n] = x->dims[i];
      w->strides[w->n++] = strides[i];
    }
    if (red[i]) count *= x->dims[i];
  }
  int64_t total = mrt_tensor_count(y);
  mrt_dtype t = (mrt_dtype)x->dtype;
  bool exact = mrt_dtype_is_int(t) && op != L2 && op != LOG_SUM && op != LOG_SUM_EXP;
  for (int64_t o = 0; o < total; ++o) {
    int64_t base = walk_at(&out, o);
    if ((exact || t == MRT_BOOL) && count)
      mrt_elem_set_i64(t, y->data, o, fold_int(x, op, &in, count, base));
    else
      mrt_elem_set_f64(t, y->data, o, fold(x, op, &in, count, base));
  }
  return NULL;
}
#define REDUCE(name, op, text) \
  static mrt_status *name##_run(mrt_kctx *c) { return reduce_run(c, op); }
REDUCE(sum, SUM, "")
REDUCE(mean, MEAN, "")
REDUCE(max, MAXIMUM, "")
REDUCE(min, MINIMUM, "")
REDUCE(prod, PROD, "")
REDUCE(l1, L1, "")
REDUCE(l2, L2, "")
REDUCE(sumsquare, SUM_SQUARE, "")
REDUCE(logsum, LOG_SUM, "")
REDUCE(logsumexp, LOG_SUM_EXP, "")
static const mrt_op_version sum_v[] = {{1, axes_up}, {11, axes_up}, {13}, {0}};
static const mrt_op_version reduce_v[] = {{1, axes_up}, {11, axes_up}, {13, axes_up}, {18}, {0}};
static const mrt_op_version max_v[] = {
    {1, axes_up}, {11, axes_up}, {12, axes_up}, {13, axes_up}, {18}, {20}, {0}};
#define ROW                                                      \
  .domain = "", .in = "data:T, axes:int64?", .out = "reduced:T", \
  .attrs = "keepdims:int=1 noop_with_empty_axes:int=0", .infer = reduce_infer
#define WIDE .types = "T=int32,int64,uint32,uint64," MRT_T_FLOATS
MRT_OP(ReduceSum) = {
    ROW, WIDE, .name = "ReduceSum", .doc = "sum over axes", .versions = sum_v, .run = sum_run};
MRT_OP(ReduceMean) = {ROW,
                      WIDE,
                      .name = "ReduceMean",
                      .doc = "mean over axes",
                      .versions = reduce_v,
                      .run = mean_run};
MRT_OP(ReduceMax) = {ROW,
                     .types = "T=bool,int8,uint8,int32,int64,uint32,uint64," MRT_T_FLOATS,
                     .name = "ReduceMax",
                     .doc = "maximum over axes",
                     .versions = max_v,
                     .run = max_run};
MRT_OP(ReduceMin) = {ROW,
                     .types = "T=bool,int8,uint8,int32,int64,uint32,uint64," MRT_T_FLOATS,
                     .name = "ReduceMin",
                     .doc = "minimum over axes",
                     .versions = max_v,
                     .run = min_run};
MRT_OP(ReduceProd) = {ROW,
                      WIDE,
                      .name = "ReduceProd",
                      .doc = "product over axes",
                      .versions = reduce_v,
                      .run = prod_run};
MRT_OP(ReduceL1) = {
    ROW,          WIDE, .name = "ReduceL1", .doc = "sum of |x| over axes", .versions = reduce_v,
    .run = l1_run};
MRT_OP(ReduceL2) = {
    ROW,          WIDE, .name = "ReduceL2", .doc = "Euclidean norm over axes", .versions = reduce_v,
    .run = l2_run};
MRT_OP(ReduceSumSquare) = {ROW,
                           WIDE,
                           .name = "ReduceSumSquare",
                           .doc = "sum of squares over axes",
                           .versions = reduce_v,
                           .run = sumsquare_run};
MRT_OP(ReduceLogSum) = {ROW,
                        WIDE,
                        .name = "ReduceLogSum",
                        .doc = "log of the sum over axes",
                        .versions = reduce_v,
                        .run = logsum_run};
MRT_OP(ReduceLogSumExp) = {ROW,
                           WIDE,
                           .name = "ReduceLogSumExp",
                           .doc = "log of the sum of exponentials over axes",
                           .versions = reduce_v,
                           .run = logsumexp_run};

/* ---- ArgMax, ArgMin ---- */
static mrt_status *arg_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis, k = 0;
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 0) return mrt_infer_out(c, 0, MRT_INT64, -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int i = 0; i < rank; ++i)
    if (i != axis || mrt_node_int(c->node, "keepdims"))
      dims[k++] = i == axis ? mrt_expr_const(c->sym, 1) : mrt_infer_dim(c, 0, i);
  return mrt_infer_out(c, 0, MRT_INT64, k, dims);
}
static mrt_status *arg_run(mrt_kctx *c, bool max) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  if (!y) return NULL;
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  bool last = mrt_node_int(c->node, "select_last_index") != 0;
  int64_t outer = mrt_dims_product(x->dims, 0, axis), d = x->dims[axis],
          inner = mrt_dims_product(x->dims, axis + 1, x->rank);
  if (!d) return MRT_ERR(MRT_INVALID_ARGUMENT, "%s of an empty axis", c->node->op_type);
  for (int64_t o = 0; o < outer * inner; ++o) {
    int64_t base = o / inner * d * inner + o % inner, best = 0;
    double top = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, base);
    for (int64_t i = 1; i < d; ++i) {
      double v = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, base + i * inner);
      if ((max ? v > top : v < top) || (last && v == top)) best = i, top = v;
    }
    ((int64_t *)y->data)[o] = best;
  }
  return NULL;
}
static mrt_status *argmax_run(mrt_kctx *c) { return arg_run(c, true); }
static mrt_status *argmin_run(mrt_kctx *c) { return arg_run(c, false); }
static const mrt_op_version arg_v[] = {{1}, {11}, {12}, {13}, {0}};
#define ARG                                                                          \
  .domain = "", .in = "data:T", .out = "reduced:int64", .types = "T=" MRT_T_NUMERIC, \
  .attrs = "axis:int=0 keepdims:int=1 select_last_index:int=0", .versions = arg_v,   \
  .infer = arg_infer
MRT_OP(ArgMax) = {ARG, .name = "ArgMax", .doc = "index of the largest", .run = argmax_run};
MRT_OP(ArgMin) = {ARG, .name = "ArgMin", .doc = "index of the smallest", .run = argmin_run};

/* ---- Softmax, LogSoftmax: before 13 the input was seen as a matrix cut at `axis` ---- */
static mrt_status *softmax_up(mrt_node *node) {
  if (!mrt_node_attr(node, "axis")) MRT_TRY(mrt_node_set_int(node, "axis", 1));
  return mrt_node_set_int(node, "_flatten", 1);
}
static mrt_status *soft_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis;
  if (rank > 0 && !mrt_node_int(c->node, "_flatten"))
    MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  return mrt_infer_same_shape(c);
}
typedef struct soft {
  const mrt_tensor *x;
  mrt_tensor *y;
  int64_t d, inner;
  bool log;
} soft;
static void soft_rows(void *arg, int64_t begin, int64_t end) {
  const soft *s = arg;
  mrt_dtype t = (mrt_dtype)s->x->dtype;
  for (int64_t o = begin; o < end; ++o) {
    int64_t base = o / s->inner * s->d * s->inner + o % s->inner;
    if (t == MRT_FLOAT && s->inner == 1 && !s->log) {
      const float *x = (const float *)s->x->data + base;
      float *y = (float *)s->y->data + base, top = -INFINITY, sum = 0;
      for (int64_t i = 0; i < s->d; ++i) top = x[i] > top ? x[i] : top;
      for (int64_t i = 0; i < s->d; ++i) sum += y[i] = expf(x[i] - top);
      for (int64_t i = 0; i < s->d; ++i) y[i] /= sum;
      continue;
    }
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < s->d; ++i)
      top = fmax(top, mrt_elem_get_f64(t, s->x->data, base + i * s->inner));
    for (int64_t i = 0; i < s->d; ++i)
      sum += exp(mrt_elem_get_f64(t, s->x->data, base + i * s->inner) - top);
    for (int64_t i = 0; i < s->d; ++i) {
      double v = mrt_elem_get_f64(t, s->x->data, base + i * s->inner) - top;
      mrt_elem_set_f64(t, s->y->data, base + i * s->inner, s->log ? v - log(sum) : exp(v) / sum);
    }
  }
}
static mrt_status *soft_run(mrt_kctx *c, bool log) {
  const mrt_tensor *x = mrt_in(c, 0);
  soft s = {x, mrt_out(c, 0), 1, 1, log};
  int axis;
  if (!s.y) return NULL;
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  bool flat = mrt_node_int(c->node, "_flatten") != 0;
  s.d = x->rank ? flat ? mrt_dims_product(x->dims, axis, x->rank) : x->dims[axis] : 1;
  s.inner = flat ? 1 : mrt_dims_product(x->dims, axis + 1, x->rank);
  if (s.inner < 1) s.inner = 1;
  int64_t n = mrt_tensor_count(x);
  if (n) mrt_par_range(&c->par, n / s.d, (double)s.d * 6, soft_rows, &s);
  return NULL;
}
static mrt_status *softmax_run(mrt_kctx *c) { return soft_run(c, false); }
static mrt_status *logsoftmax_run(mrt_kctx *c) { return soft_run(c, true); }
/* ONNX has no flattening form any more: a matrix, and back. */
static mrt_status *soft_decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_var *x = node->in[0].var, *flat, *rows, *shape, *y;
  mrt_graph *g = node->graph;
  mrt_node *n;
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "Flatten", 1, &x, NULL, &n, &flat));
  MRT_TRY(mrt_node_set_int(n, "axis", mrt_node_int(node, "axis")));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", node->op_type, 1, &flat, NULL, NULL, &rows));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "Shape", 1, &x, NULL, NULL, &shape));
  mrt_var *both[2] = {rows, shape};
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "Reshape", 2, both, node->out[0]->type, NULL, &y));
  MRT_TRY(mrt_var_replace(node->out[0], y));
  mrt_node_remove(node);
  return NULL;
}
static const mrt_op_version soft_v[] = {{1, softmax_up}, {11, softmax_up}, {13}, {0}};
#define SOFT                                                                            \
  .domain = "", .in = "input:T", .out = "output:T", .types = "T=" MRT_T_FLOATS,         \
  .attrs = "axis:int=-1", .versions = soft_v, .inplace = {{1, 0}}, .infer = soft_infer, \
  .decompose = soft_decompose
MRT_OP(Softmax) = {SOFT, .name = "Softmax", .doc = "exp(x) / sum exp(x) along an axis",
                   .run = softmax_run};
MRT_OP(LogSoftmax) = {SOFT, .name = "LogSoftmax", .doc = "log of Softmax", .run = logsoftmax_run};

/* ---- LayerNormalization ---- */
/* Type of the mean and of the inverse deviation; the sums behind them are of doubles. */
static mrt_dtype stash_type(const mrt_node *node) {
  return mrt_node_int(node, "stash_type") == MRT_BFLOAT16 ? MRT_BFLOAT16 : MRT_FLOAT;
}
static mrt_status *ln_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis;
  const mrt_expr *dims[MRT_MAX_RANK];
  MRT_TRY(mrt_infer_same_shape(c));
  if (rank < 0) return NULL;
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int i = 0; i < rank; ++i)
    dims[i] = i < axis ? mrt_infer_dim(c, 0, i) : mrt_expr_const(c->sym, 1);
  mrt_dtype stash = stash_type(c->node);
  MRT_TRY(mrt_infer_out(c, 1, stash, rank, dims));
  return mrt_infer_out(c, 2, stash, rank, dims);
}
typedef struct norm {
  const mrt_tensor *x, *g, *b;
  mrt_tensor *y, *mean, *inv;
  int64_t d;
  double eps;
} norm;
static void ln_rows(void *arg, int64_t begin, int64_t end) {
  const norm *s = arg;
  mrt_dtype t = (mrt_dtype)s->x->dtype;
  int64_t ng = mrt_tensor_count(s->g), nb = s->b ? mrt_tensor_count(s->b) : 1;
  for (int64_t o = begin; o < end; ++o) {
    double sum = 0, var = 0;
    const float *f = t == MRT_FLOAT ? (const float *)s->x->data + o * s->d : NULL;
    for (int64_t i = 0; i < s->d; ++i)
      sum += f ? f[i] : mrt_elem_get_f64(t, s->x->data, o * s->d + i);
    double mean = sum / (double)s->d;
    for (int64_t i = 0; i < s->d; ++i) {
      double v = (f ? f[i] : mrt_elem_get_f64(t, s->x->data, o * s->d + i)) - mean;
      var += v * v;
    }
    double inv = 1 / sqrt(var / (double)s->d + s->eps);
    if (f && ng == s->d && (!s->b || nb == s->d)) {
      const float *g = s->g->data, *b = s->b ? s->b->data : NULL;
      float *y = (float *)s->y->data + o * s->d;
      for (int64_t i = 0; i < s->d; ++i)
        y[i] = (float)((f[i] - mean) * inv) * g[i] + (b ? b[i] : 0);
    } else {
      for (int64_t i = 0; i < s->d; ++i) {
        double v = (mrt_elem_get_f64(t, s->x->data, o * s->d + i) - mean) * inv *
                   mrt_elem_get_f64((mrt_dtype)s->g->dtype, s->g->data, i % ng);
        if (s->b) v += mrt_elem_get_f64((mrt_dtype)s->b->dtype, s->b->data, i % nb);
        mrt_elem_set_f64(t, s->y->data, o * s->d + i, v);
      }
    }
    if (s->mean) mrt_elem_set_f64((mrt_dtype)s->mean->dtype, s->mean->data, o, mean);
    if (s->inv) mrt_elem_set_f64((mrt_dtype)s->inv->dtype, s->inv->data, o, inv);
  }
}
static mrt_status *ln_run(mrt_kctx *c) {
  norm s = {mrt_in(c, 0),
            mrt_in(c, 1),
            mrt_in(c, 2),
            mrt_out(c, 0),
            mrt_out(c, 1),
            mrt_out(c, 2),
            1,
            mrt_node_float(c->node, "epsilon")};
  int axis;
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), s.x->rank, &axis));
  s.d = mrt_dims_product(s.x->dims, axis, s.x->rank);
  if (!s.d || (s.g && mrt_tensor_count(s.g) == 0) || s.d % mrt_tensor_count(s.g) ||
      (s.b && s.d % mrt_tensor_count(s.b)))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "scale or bias do not fit the normalized dims");
  mrt_par_range(&c->par, mrt_dims_product(s.x->dims, 0, axis), (double)s.d * 2, ln_rows, &s);
  return NULL;
}
static const mrt_op_version ln_v[] = {{1}, {17}, {0}}; /* 1: as ONNX Runtime also registers it */
MRT_OP(LayerNormalization) = {.domain = "",
                              .name = "LayerNormalization",
                              .doc = "(x - mean) / sqrt(var + epsilon) * scale + bias",
                              .in = "X:T, Scale:T, B:T?",
                              .out = "Y:T, Mean:U?, InvStdDev:U?",
                              .types = "T=" MRT_T_FLOATS ";U=float,bfloat16",
                              .attrs = "axis:int=-1 epsilon:float=0.00001 stash_type:int=1",
                              .versions = ln_v,
                              .infer = ln_infer,
                              .run = ln_run};
