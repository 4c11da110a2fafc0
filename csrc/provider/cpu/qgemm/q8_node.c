/* macart.MatMulQ8: weights stay int8 in the panels of the float32 GEMM ([n / 32][k][32]);
 * half/narrow multiplies. The product is that of the weights that Cast and Mul make.
 *
 * The fusion here makes it of MatMul, or Gemm with its bias, with int8 weights behind Cast and Mul,
 * or behind DequantizeLinear with zero points of 0; gemm/matmul_fuse.c adds what follows it. */
#include <string.h>

#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/half/narrow.h"
#include "provider/cpu/qgemm/qdq.h"
#include "provider/cpu/weights/packed.h"

enum { PANEL = MRT_GEMM_PANEL, SMALL = 4096 };

typedef struct q8_kernel {
  mrt_kernel k;
  mrt_packed *packed; /* [panels][rows][32] */
  float *scale;       /* [panels * 32] */
  int64_t rows, cols, panels;
  mrt_act act;
} q8_kernel;

static void destroy(mrt_kernel *k) {
  q8_kernel *q = (q8_kernel *)k;
  mrt_packed_release(q->packed);
  mrt_mem_free(k->alloc, q->scale);
  mrt_kernel_free(k);
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_tensor *b = mrt_node_in_const(node, 1), *s = mrt_node_in_const(node, 2);
  mrt_act act;
  if (!mrt_conv_node_act(node, &act) || !b || !s || b->strided || s->strided || b->rank != 2 ||
      !b->dims[0] || !b->dims[1])
    return false;
  const int64_t n = mrt_tensor_count(s);
  return mrt_node_in_rank(node, 0) >= 1 && (n == 1 || n == b->dims[1]);
}

static mrt_status *pack(const void *arg, const mrt_tensor *b, void *dst) {
  const q8_kernel *q = arg;
  int8_t *to = dst;
  for (int64_t p = 0; p < q->panels; ++p)
    for (int64_t k = 0; k < q->rows; ++k, to += PANEL) {
      const int64_t left = q->cols - p * PANEL, n = left < PANEL ? left : PANEL;
      memset(to, 0, PANEL);
      memcpy(to, (const int8_t *)b->data + k * q->cols + p * PANEL, (size_t)n);
    }
  return NULL;
}

static mrt_status *get_weights(const mrt_alloc *alloc, q8_kernel *q, const mrt_tensor *b,
                               const mrt_tensor *s) {
  q->rows = b->dims[0];
  q->cols = b->dims[1];
  q->panels = (q->cols + PANEL - 1) / PANEL;
  mrt_packer packer = {
      .format = "gemm.s8.panel32.1", .params = {q->rows, q->cols}, .pack = pack, .arg = q};
  if (!mrt_size_mul((size_t)q->panels * PANEL, (size_t)q->rows, &packer.bytes))
    return mrt_status_oom();
  MRT_TRY(mrt_packed_get(b, &packer, &q->packed));
  MRT_TRY(mrt_mem_new_zero(alloc, (size_t)q->panels * PANEL * 4, (void **)&q->scale));
  const float *scale = s->data;
  const bool one = mrt_tensor_count(s) == 1;
  for (int64_t n = 0; n < q->cols; ++n) q->scale[n] = scale[one ? 0 : n];
  return NULL;
}

enum { BIAS = 3, RESIDUAL };

static mrt_status *read_epilogue(const q8_kernel *q, mrt_kctx *c, const mrt_tensor *y,
                                 mrt_gemm_epilogue *e) {
  const mrt_tensor *bias = mrt_in(c, BIAS), *residual = mrt_in(c, RESIDUAL);
  *e = MRT_GEMM_EPILOGUE_NONE;
  e->act = q->act;
  if (bias && mrt_tensor_count(bias) != q->cols)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "MatMulQ8: bias has %lld elements, the product %lld columns",
                   (long long)mrt_tensor_count(bias), (long long)q->cols);
  if (residual && mrt_tensor_count(residual) != mrt_tensor_count(y))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulQ8: the residual's shape is not the product's");
  e->bias = bias ? bias->data : NULL;
  if (!residual) return NULL;
  e->residual = residual->data;
  e->residual_ld = q->cols;
  e->beta = 1;
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const q8_kernel *q = (const q8_kernel *)k;
  const mrt_tensor *a = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  if (a->dims[a->rank - 1] != q->rows)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul dimension mismatch");
  const int64_t m = mrt_tensor_count(a) / q->rows;
  mrt_gemm_epilogue e;
  MRT_TRY(read_epilogue(q, c, y, &e));
  const mrt_narrow w = {.kind = MRT_NARROW_S8, .b = mrt_packed_data(q->packed), .scale = q->scale};
  const mrt_gemm g = {.m = m,
                      .n = q->cols,
                      .k = q->rows,
                      .a = a->data,
                      .lda = q->rows,
                      .c = y->data,
                      .ldc = q->cols,
                      .epi = &e};
  const size_t bytes = mrt_narrow_scratch_size(&c->par, m, g.n, g.k, false);
  void *scratch = NULL;
  if (bytes == SIZE_MAX) return mrt_status_oom();
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_narrow_run(&c->par, &g, &w, scratch);
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  q8_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "gemm_q8", run, destroy, &q));
  mrt_status *st =
      get_weights(p->env->alloc, q, mrt_node_in_const(node, 1), mrt_node_in_const(node, 2));
  if (st) {
    destroy(&q->k);
    return st;
  }
  q->k.any_align = 1 << 1;
  mrt_conv_node_act(node, &q->act); /* match has seen that it is known */
  *out = &q->k;
  return NULL;
}
MRT_CPU_KERNEL(matmul_q8) = {
    .domain = "macart", .op = "MatMulQ8", .match = match, .create = create};

/* ---- the fusion ---- */

/* int8 weights and their scale (one, or one for each column) behind v; column_axis: of the columns
 * of the product. false: something else. */
static bool read_weights(const mrt_var *v, int index, int column_axis, mrt_var **w,
                         mrt_var **scale) {
  const mrt_node *mul = v ? v->producer : NULL;
  mrt_qval q;
  if (!mul || mul->provider != index) return false;
  if (mrt_qval_weight(v, index, &q)) {
    const mrt_tensor *z = q.zero ? q.zero->constant : NULL;
    for (int64_t i = 0; z && i < mrt_tensor_count(z); ++i)
      if (mrt_elem_get_i64((mrt_dtype)z->dtype, z->data, i)) return false;
    *w = q.q;
    *scale = q.scale;
    return q.dtype == MRT_INT8 && q.q->constant->rank == 2 &&
           (q.scales == 1 ||
            (q.axis == column_axis && q.scales == q.q->constant->dims[column_axis]));
  }
  for (int i = 0; i < 2 && mrt_is_op(mul, "Mul") && column_axis == 1; ++i) {
    const mrt_node *cast = mul->in[i].var ? mul->in[i].var->producer : NULL;
    *scale = mul->in[1 - i].var;
    const mrt_tensor *b = cast ? mrt_node_in_const(cast, 0) : NULL,
                     *s = *scale ? (*scale)->constant : NULL;
    if (!mrt_is_op(cast, "Cast") || mrt_node_int(cast, "to") != MRT_FLOAT || !b || !s) continue;
    const int64_t n = mrt_tensor_count(s);
    *w = cast->in[0].var;
    if (b->dtype == MRT_INT8 && b->rank == 2 && s->dtype == MRT_FLOAT && s->rank <= 2 &&
        (n == 1 || (n == b->dims[1] && s->dims[s->rank - 1] == n)))
      return true;
  }
  return false;
}

/* A Gemm that is a MatMul and perhaps an Add. */
static bool plain_gemm(const mrt_node *n) {
  const mrt_var *c = n->n_in > 2 ? n->in[2].var : NULL;
  return mrt_is_op(n, "Gemm") && !mrt_node_int(n, "transA") && mrt_node_float(n, "alpha") == 1 &&
         (!c || mrt_node_float(n, "beta") == 1);
}

/* [n, k] to [k, n] */
static mrt_status *transposed(mrt_graph *g, const mrt_tensor *w, mrt_var **out) {
  const int64_t n = w->dims[0], k = w->dims[1], dims[2] = {k, n};
  mrt_tensor *t;
  MRT_TRY(mrt_tensor_create(g->model->alloc, MRT_INT8, 2, dims, &t));
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < n; ++j)
      ((int8_t *)t->data)[i * n + j] = ((const int8_t *)w->data)[j * k + i];
  return mrt_graph_constant(g, t, out);
}

/* Gemm's C becomes an Add behind the product. */
static mrt_status *split_bias(const mrt_provider *p, mrt_graph *g, mrt_node *n) {
  mrt_var *in[2] = {NULL, n->in[2].var}, *sum = n->out[0];
  mrt_node *add;
  MRT_TRY(mrt_graph_add_var(g, NULL, sum->type, &in[0]));
  MRT_TRY(mrt_node_set_output(n, 0, in[0]));
  MRT_TRY(mrt_graph_add_node(g, n->next, "", "Add", n->name, 2, in, 1, &sum, &add));
  add->provider = n->provider;
  return mrt_node_resolve(add, p->env->ops);
}

static mrt_status *make_q8(const mrt_provider *p, mrt_graph *g, mrt_node *n, mrt_var *w,
                           mrt_var *scale) {
  static const char *const attrs[] = {"alpha", "beta", "transA", "transB"};
  if (mrt_is_op(n, "Gemm")) {
    if (mrt_node_int(n, "transB")) MRT_TRY(transposed(g, w->constant, &w));
    if (n->n_in > 2 && n->in[2].var) MRT_TRY(split_bias(p, g, n));
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; ++i) mrt_node_del_attr(n, attrs[i]);
    MRT_TRY(mrt_node_set_n_inputs(n, 2));
  }
  MRT_TRY(mrt_node_set_op(n, "macart", "MatMulQ8"));
  MRT_TRY(mrt_node_set_input(n, 1, w));
  MRT_TRY(mrt_node_set_input(n, 2, scale));
  return mrt_node_resolve(n, p->env->ops);
}

static mrt_status *fuse(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_var *w, *scale;
    const bool gemm = plain_gemm(n);
    if (n->provider != index || (!gemm && !mrt_is_op(n, "MatMul")) ||
        mrt_node_in_dtype(n, 0) != MRT_FLOAT || mrt_node_in_rank(n, 0) < 1)
      continue;
    const int column_axis = gemm && mrt_node_int(n, "transB") ? 0 : 1;
    if (!read_weights(n->in[1].var, index, column_axis, &w, &scale) ||
        mrt_tensor_count(w->constant) < SMALL)
      continue;
    MRT_TRY(make_q8(p, g, n, w, scale));
    ++*fired;
  }
  return NULL;
}
MRT_FUSION(matmul_q8) = {.name = "matmul_q8",
                         .doc = "int8 weights behind Cast and Mul stay int8",
                         .order = 4,
                         .level = 2,
                         .run = fuse};
