/* MatMul, Gemm, Pow, Clip. The float product walks rows of B, so that the inner loop is contiguous
 * and vectorises; every row of the result is made by one thread in one order. */
#include "ops/binary.h"
#include "ops/matmul.h"

mrt_status *mrt_infer_matmul(mrt_infer *c, int ia, int ib, mrt_dtype dtype) {
  int ra = mrt_infer_rank(c, ia), rb = mrt_infer_rank(c, ib), k = 0;
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  if (ra < 0 || rb < 0) return mrt_infer_out(c, 0, dtype, -1, NULL);
  if (!ra || !rb) return MRT_ERR(MRT_FAIL, "Input tensors of wrong rank (0).");
  mrt_status *st = mrt_infer_same_dim(c, mrt_infer_dim(c, ia, ra - 1),
                                      mrt_infer_dim(c, ib, rb > 1 ? rb - 2 : 0), "k", &unused);
  if (st) return mrt_status_wrap(st, "Incompatible dimensions for matrix multiplication");
  int ba = ra > 2 ? ra - 2 : 0, bb = rb > 2 ? rb - 2 : 0, n = ba > bb ? ba : bb;
  for (int i = 0; i < n; ++i) {
    const mrt_expr *x = i < n - ba ? NULL : mrt_infer_dim(c, ia, i - (n - ba)),
                   *y = i < n - bb ? NULL : mrt_infer_dim(c, ib, i - (n - bb));
    dims[k] = i < n - ba ? y : x;
    if (i >= n - ba && i >= n - bb)
      MRT_TRY_CTX(mrt_infer_broadcast_dim(c, x, y, &dims[k]), "batch dims of MatMul");
    ++k;
  }
  if (ra > 1) dims[k++] = mrt_infer_dim(c, ia, ra - 2);
  if (rb > 1) dims[k++] = mrt_infer_dim(c, ib, rb - 1);
  return mrt_infer_out(c, 0, dtype, k, dims);
}

static mrt_status *matmul_infer(mrt_infer *c) {
  return mrt_infer_matmul(c, 0, 1, mrt_infer_dtype(c, 0));
}

mrt_status *mrt_matmul_read(mrt_kctx *c, const mrt_tensor *a, const mrt_tensor *b,
                            const mrt_tensor *y, mrt_matmul_dims *d) {
  if (!a->rank || !b->rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul of a scalar");
  d->m = a->rank > 1 ? a->dims[a->rank - 2] : 1;
  d->k = a->dims[a->rank - 1];
  d->n = b->rank > 1 ? b->dims[b->rank - 1] : 1;
  if (d->k != (b->rank > 1 ? b->dims[b->rank - 2] : b->dims[0]))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul dimension mismatch");
  int ba = a->rank > 2 ? a->rank - 2 : 0, bb = b->rank > 2 ? b->rank - 2 : 0,
      nb = ba > bb ? ba : bb;
  int64_t *off;
  d->batches = mrt_dims_product(y->dims, 0, nb);
  MRT_TRY(mrt_scratch(c, (size_t)d->batches * 16 + 16, (void **)&off));
  for (int64_t i = 0; i < d->batches; ++i) { /* broadcast batch dims */
    int64_t ia = 0, ib = 0, rest = i, sa = d->m * d->k, sb = d->k * d->n;
    for (int q = nb - 1; q >= 0; --q) {
      int64_t at = rest % y->dims[q], da = q < nb - ba ? 1 : a->dims[q - (nb - ba)],
              db = q < nb - bb ? 1 : b->dims[q - (nb - bb)];
      rest /= y->dims[q];
      if ((da != 1 && da != y->dims[q]) || (db != 1 && db != y->dims[q]))
        return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul: batch dims do not broadcast");
      ia += da == 1 ? 0 : at * sa;
      ib += db == 1 ? 0 : at * sb;
      sa *= da;
      sb *= db;
    }
    off[i] = ia;
    off[d->batches + i] = ib;
  }
  d->a_off = off;
  d->b_off = off + d->batches;
  return NULL;
}

typedef struct product {
  const void *a, *b;
  void *y;
  mrt_dtype t;
  int64_t m, n, k, sa_row, sa_col, sb_row, sb_col; /* strides in elements */
  const int64_t *a_off, *b_off;                    /* per batch, in matrices */
  const mrt_tensor *bias;                          /* Gemm: added after alpha */
  double alpha, beta;
} product;

static void rows_f32(const product *p, int64_t batch, int64_t i) {
  const float *a = (const float *)p->a + p->a_off[batch] + i * p->sa_row;
  const float *b = (const float *)p->b + p->b_off[batch];
  float *y = (float *)p->y + (batch * p->m + i) * p->n;
  for (int64_t j = 0; j < p->n; ++j) y[j] = 0;
  if (p->sb_col == 1) {
    for (int64_t k = 0; k < p->k; ++k) {
      float v = a[k * p->sa_col];
      const float *r = b + k * p->sb_row;
      for (int64_t j = 0; j < p->n; ++j) y[j] += v * r[j];
    }
  } else {
    for (int64_t j = 0; j < p->n; ++j)
      for (int64_t k = 0; k < p->k; ++k)
        y[j] += a[k * p->sa_col] * b[k * p->sb_row + j * p->sb_col];
  }
  if (p->alpha != 1)
    for (int64_t j = 0; j < p->n; ++j) y[j] *= (float)p->alpha;
}
static void rows_any(const product *p, int64_t batch, int64_t i) {
  for (int64_t j = 0; j < p->n; ++j) {
    int64_t out = (batch * p->m + i) * p->n + j, a0 = p->a_off[batch] + i * p->sa_row,
            b0 = p->b_off[batch] + j * p->sb_col;
    if (mrt_dtype_is_int(p->t)) {
      uint64_t sum = 0;
      for (int64_t k = 0; k < p->k; ++k)
        sum += (uint64_t)mrt_elem_get_i64(p->t, p->a, a0 + k * p->sa_col) *
               (uint64_t)mrt_elem_get_i64(p->t, p->b, b0 + k * p->sb_row);
      mrt_elem_set_i64(p->t, p->y, out, (int64_t)sum * (int64_t)p->alpha);
    } else {
      double sum = 0;
      for (int64_t k = 0; k < p->k; ++k)
        sum += mrt_elem_get_f64(p->t, p->a, a0 + k * p->sa_col) *
               mrt_elem_get_f64(p->t, p->b, b0 + k * p->sb_row);
      mrt_elem_set_f64(p->t, p->y, out, sum * p->alpha);
    }
  }
}
static void some_rows(void *arg, int64_t begin, int64_t end) {
  const product *p = arg;
  for (int64_t r = begin; r < end; ++r)
    (p->t == MRT_FLOAT ? rows_f32 : rows_any)(p, r / p->m, r % p->m);
}

static mrt_status *matmul_run(mrt_kctx *c) {
  const mrt_tensor *a = mrt_in(c, 0), *b = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_matmul_dims d;
  if (!y) return NULL;
  MRT_TRY(mrt_matmul_read(c, a, b, y, &d));
  product p = {.a = a->data,
               .b = b->data,
               .y = y->data,
               .t = (mrt_dtype)a->dtype,
               .m = d.m,
               .n = d.n,
               .k = d.k,
               .sa_row = d.k,
               .sa_col = 1,
               .sb_row = d.n,
               .sb_col = 1,
               .a_off = d.a_off,
               .b_off = d.b_off,
               .alpha = 1};
  mrt_par_range(&c->par, d.batches * d.m, (double)d.n * (double)d.k * 0.15, some_rows, &p);
  return NULL;
}

static mrt_status *gemm_infer(mrt_infer *c) {
  bool ta = mrt_node_int(c->node, "transA") != 0, tb = mrt_node_int(c->node, "transB") != 0;
  if (mrt_infer_rank(c, 0) < 0 || mrt_infer_rank(c, 1) < 0)
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (mrt_infer_rank(c, 0) != 2 || mrt_infer_rank(c, 1) != 2)
    return MRT_ERR(MRT_FAIL, "Gemm needs matrices");
  const mrt_expr *dims[2] = {mrt_infer_dim(c, 0, ta), mrt_infer_dim(c, 1, !tb)}, *unused;
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, !ta), mrt_infer_dim(c, 1, tb),
                             "GEMM: Dimension mismatch", &unused));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 2, dims);
}
static mrt_status *gemm_run(mrt_kctx *c) {
  const mrt_tensor *a = mrt_in(c, 0), *b = mrt_in(c, 1), *bias = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  static const int64_t zero = 0;
  if (!y) return NULL;
  bool ta = mrt_node_int(c->node, "transA") != 0, tb = mrt_node_int(c->node, "transB") != 0;
  product p = {.a = a->data,
               .b = b->data,
               .y = y->data,
               .t = (mrt_dtype)a->dtype,
               .alpha = mrt_node_float(c->node, "alpha"),
               .a_off = &zero,
               .b_off = &zero};
  p.m = y->dims[0];
  p.n = y->dims[1];
  p.k = a->dims[!ta];
  p.sa_row = ta ? 1 : p.k;
  p.sa_col = ta ? p.m : 1;
  p.sb_row = tb ? 1 : p.n;
  p.sb_col = tb ? p.k : 1;
  if (p.k != b->dims[tb]) return MRT_ERR(MRT_INVALID_ARGUMENT, "GEMM: Dimension mismatch");
  mrt_par_range(&c->par, p.m, (double)p.n * (double)p.k * 0.2, some_rows, &p);
  double beta = mrt_node_float(c->node, "beta");
  mrt_bcast bc;
  if (!bias || beta == 0) return NULL;
  MRT_TRY(mrt_bcast_init(&bc, 1, &bias, 2, y->dims)); /* checks that it fits */
  int64_t rs = bias->rank == 2 && bias->dims[0] != 1 ? bias->dims[1] : 0,
          cs = bias->rank && bias->dims[bias->rank - 1] != 1;
  for (int64_t i = 0; i < p.m * p.n; ++i) {
    int64_t at = i / p.n * rs + i % p.n * cs;
    if (mrt_dtype_is_int(p.t))
      mrt_elem_set_i64(p.t, y->data, i,
                       mrt_elem_get_i64(p.t, y->data, i) +
                           (int64_t)beta * mrt_elem_get_i64(p.t, bias->data, at));
    else
      mrt_elem_set_f64(
          p.t, y->data, i,
          mrt_elem_get_f64(p.t, y->data, i) + beta * mrt_elem_get_f64(p.t, bias->data, at));
  }
  return NULL;
}
static mrt_status *gemm_up(mrt_node *node) {
  mrt_node_del_attr(node, "broadcast");
  return NULL;
}

/* ---- Pow ---- */
typedef struct power_job {
  const mrt_tensor *a, *b;
  mrt_tensor *y;
  const mrt_bcast *bc;
} power_job;
static void pow_row(void *arg, const int64_t *off, int64_t out, int64_t n) {
  const power_job *j = arg;
  int last = j->bc->rank - 1;
  mrt_dtype ta = (mrt_dtype)j->a->dtype, tb = (mrt_dtype)j->b->dtype;
  for (int64_t i = 0; i < n; ++i) {
    int64_t ia = off[0] + i * j->bc->strides[0][last], ib = off[1] + i * j->bc->strides[1][last];
    double e = mrt_elem_get_f64(tb, j->b->data, ib);
    if (mrt_dtype_is_int(ta) && e >= 0 && e == floor(e) && e < 64) { /* exact */
      uint64_t v = 1, base = (uint64_t)mrt_elem_get_i64(ta, j->a->data, ia);
      for (int k = 0; k < (int)e; ++k) v *= base;
      mrt_elem_set_i64(ta, j->y->data, out + i, (int64_t)v);
    } else {
      double x = mrt_elem_get_f64(ta, j->a->data, ia);
      mrt_elem_set_f64(ta, j->y->data, out + i, e == 2 ? x * x : pow(x, e));
    }
  }
}
static mrt_status *pow_run(mrt_kctx *c) {
  const mrt_tensor *in[2] = {mrt_in(c, 0), mrt_in(c, 1)};
  mrt_tensor *y = mrt_out(c, 0);
  mrt_bcast bc;
  if (!y) return NULL;
  MRT_TRY(mrt_bcast_init(&bc, 2, in, y->rank, y->dims));
  power_job j = {in[0], in[1], y, &bc};
  mrt_bcast_each_row(&bc, pow_row, &j);
  return NULL;
}

/* ---- Clip ---- */
static mrt_status *clip_up(mrt_node *node) { /* min and max were attributes */
  static const char *const names[] = {"min", "max"};
  mrt_node_del_attr(node, "consumed_inputs");
  for (int i = 0; i < 2; ++i) {
    mrt_attr a;
    mrt_var *v;
    mrt_tensor *t = NULL;
    const mrt_type *x = node->n_in && node->in[0].var ? node->in[0].var->type : NULL;
    if (!mrt_node_take_attr(node, names[i], &a)) continue;
    mrt_dtype dtype = x && mrt_dtype_is_float(x->dtype) ? x->dtype : MRT_FLOAT;
    MRT_TRY(mrt_tensor_create(node->graph->model->alloc, dtype, 0, NULL, &t));
    mrt_elem_set_f64(dtype, t->data, 0, a.f);
    MRT_TRY(mrt_graph_add_constant(node->graph, NULL, t, &v));
    MRT_TRY(mrt_node_set_input(node, i + 1, v));
  }
  return NULL;
}
static mrt_status *clip_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *lo = mrt_in(c, 1), *hi = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  mrt_dtype t = (mrt_dtype)x->dtype;
  int64_t n = mrt_tensor_count(x);
  if (t == MRT_FLOAT) {
    float a = lo ? *(const float *)lo->data : -INFINITY,
          b = hi ? *(const float *)hi->data : INFINITY;
    const float *p = x->data;
    float *q = y->data;
    for (int64_t i = 0; i < n; ++i) {
      float v = p[i] < a ? a : p[i];
      q[i] = v > b ? b : v;
    }
  } else if (mrt_dtype_is_int(t) && t != MRT_UINT64) {
    int64_t a = lo ? mrt_elem_get_i64(t, lo->data, 0) : INT64_MIN,
            b = hi ? mrt_elem_get_i64(t, hi->data, 0) : INT64_MAX;
    for (int64_t i = 0; i < n; ++i) {
      int64_t v = mrt_elem_get_i64(t, x->data, i);
      v = v < a ? a : v;
      mrt_elem_set_i64(t, y->data, i, v > b ? b : v);
    }
  } else {
    double a = lo ? mrt_elem_get_f64((mrt_dtype)lo->dtype, lo->data, 0) : -INFINITY,
           b = hi ? mrt_elem_get_f64((mrt_dtype)hi->dtype, hi->data, 0) : INFINITY;
    for (int64_t i = 0; i < n; ++i) {
      double v = mrt_elem_get_f64(t, x->data, i);
      v = v < a ? a : v;
      mrt_elem_set_f64(t, y->data, i, v > b ? b : v);
    }
  }
  return NULL;
}

static const mrt_op_version matmul_v[] = {{1}, {9}, {13}, {0}};
static const mrt_op_version gemm_v[] = {{1, gemm_up}, {6, gemm_up}, {7}, {9}, {11}, {13}, {0}};
static const mrt_op_version pow_v[] = {{1, mrt_legacy_broadcast}, {7}, {12}, {13}, {15}, {0}};
static const mrt_op_version clip_v[] = {{1, clip_up}, {6, clip_up}, {11}, {12}, {13}, {0}};
#define WIDE "T=int32,int64,uint32,uint64," MRT_T_FLOATS
MRT_OP(MatMul) = {.domain = "",
                  .name = "MatMul",
                  .doc = "matrix product as numpy.matmul",
                  .in = "A:T, B:T",
                  .out = "Y:T",
                  .types = WIDE,
                  .versions = matmul_v,
                  .infer = matmul_infer,
                  .run = matmul_run};
MRT_OP(Gemm) = {.domain = "",
                .name = "Gemm",
                .doc = "alpha * A' * B' + beta * C",
                .in = "A:T, B:T, C:T?",
                .out = "Y:T",
                .types = WIDE,
                .attrs = "alpha:float=1.0 beta:float=1.0 transA:int=0 transB:int=0",
                .versions = gemm_v,
                .infer = gemm_infer,
                .run = gemm_run};
MRT_OP(Pow) = {.domain = "",
               .name = "Pow",
               .doc = "x ^ y",
               .in = "X:T, Y:U",
               .out = "Z:T",
               .types = "T=int32,int64," MRT_T_FLOATS ";U=" MRT_T_NUMERIC,
               .versions = pow_v,
               .flags = MRT_OP_ELEMENTWISE,
               .infer = mrt_infer_elementwise,
               .run = pow_run};
MRT_OP(Clip) = {.domain = "",
                .name = "Clip",
                .doc = "min(max(x, lo), hi)",
                .in = "input:T, min:T?, max:T?",
                .out = "output:T",
                .types = "T=" MRT_T_NUMERIC,
                .versions = clip_v,
                .flags = MRT_OP_ELEMENTWISE,
                .inplace = {{1, 0}},
                .infer = mrt_infer_same_shape,
                .run = clip_run};
