/* com.microsoft: FusedMatMul (and its older name TransposeMatMul), MatMulNBits. */
#include "ops/matmul.h"

/* ---- FusedMatMul: alpha * A' * B', where the last two dims may be swapped (transA) and the first
 * dim may stand behind the batch dims (transBatchA: [m, batch.., k]). ---- */
typedef struct side {
  bool trans, batch;
} side;
static side read_side(const mrt_node *n, int i) {
  return (side){mrt_node_int(n, i ? "transB" : "transA") != 0,
                mrt_node_int(n, i ? "transBatchB" : "transBatchA") != 0};
}
/* Where logical dim d of an operand of that rank stands. */
static int place(side s, int rank, int d) {
  if (rank < 2) return d;
  if (s.trans && d >= rank - 2) d = d == rank - 1 ? rank - 2 : rank - 1;
  if (!s.batch) return d;
  return d == rank - 1 ? d : d == rank - 2 ? 0 : d + 1;
}

static mrt_status *fused_infer(mrt_infer *c) {
  const mrt_type *types[2];
  for (int i = 0; i < 2; ++i) {
    const int rank = mrt_infer_rank(c, i);
    const mrt_expr *dims[MRT_MAX_RANK];
    if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
    for (int d = 0; d < rank; ++d)
      dims[d] = mrt_infer_dim(c, i, place(read_side(c->node, i), rank, d));
    types[i] = mrt_type_tensor(c->model, mrt_infer_dtype(c, i), rank, dims);
    if (!types[i]) return mrt_status_oom();
  }
  mrt_infer logical = *c; /* a MatMul of the rearranged types */
  logical.in_types = types;
  return mrt_infer_matmul(&logical, 0, 1, mrt_infer_dtype(c, 0));
}

typedef struct fused_job {
  const mrt_tensor *a, *b;
  mrt_tensor *y;
  int64_t m, n, k, a_row, a_col, b_row, b_col; /* strides in elements */
  const int64_t *a_off, *b_off;
  double alpha;
} fused_job;

static void fused_rows(void *arg, int64_t begin, int64_t end) {
  const fused_job *j = arg;
  const mrt_dtype t = (mrt_dtype)j->y->dtype;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t batch = r / j->m, a0 = j->a_off[batch] + r % j->m * j->a_row;
    for (int64_t q = 0; q < j->n; ++q) {
      const int64_t b0 = j->b_off[batch] + q * j->b_col;
      double sum = 0;
      for (int64_t k = 0; k < j->k; ++k)
        sum += mrt_elem_get_f64(t, j->a->data, a0 + k * j->a_col) *
               mrt_elem_get_f64(t, j->b->data, b0 + k * j->b_row);
      mrt_elem_set_f64(t, j->y->data, r * j->n + q, sum * j->alpha);
    }
  }
}

/* Logical dims and strides of an operand. */
static void logical(const mrt_tensor *t, side s, int64_t *dims, int64_t *strides) {
  for (int d = 0; d < t->rank; ++d) {
    const int at = place(s, t->rank, d);
    dims[d] = t->dims[at];
    strides[d] = mrt_dims_product(t->dims, at + 1, t->rank);
  }
}

static mrt_status *fused_run(mrt_kctx *c) {
  fused_job j = {.a = mrt_in(c, 0), .b = mrt_in(c, 1), .y = mrt_out(c, 0)};
  int64_t ad[MRT_MAX_RANK], as[MRT_MAX_RANK], bd[MRT_MAX_RANK], bs[MRT_MAX_RANK], *off;
  if (!j.y) return NULL;
  const int ra = j.a->rank, rb = j.b->rank;
  if (ra < 2 || rb < 2) return MRT_ERR(MRT_NOT_IMPLEMENTED, "FusedMatMul of vectors");
  logical(j.a, read_side(c->node, 0), ad, as);
  logical(j.b, read_side(c->node, 1), bd, bs);
  j.alpha = mrt_node_float(c->node, "alpha");
  j.m = ad[ra - 2], j.k = ad[ra - 1], j.n = bd[rb - 1];
  j.a_row = as[ra - 2], j.a_col = as[ra - 1], j.b_row = bs[rb - 2], j.b_col = bs[rb - 1];
  if (bd[rb - 2] != j.k) return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul dimension mismatch");
  const int nb = j.y->rank - 2;
  const int64_t batches = mrt_dims_product(j.y->dims, 0, nb);
  MRT_TRY(mrt_scratch(c, (size_t)batches * 16 + 16, (void **)&off));
  for (int64_t i = 0; i < batches; ++i) {
    int64_t rest = i;
    off[i] = off[batches + i] = 0;
    for (int d = nb - 1; d >= 0; --d) {
      const int64_t at = rest % j.y->dims[d];
      const int da = d - (nb - (ra - 2)), db = d - (nb - (rb - 2));
      rest /= j.y->dims[d];
      if (da >= 0 && ad[da] != 1) off[i] += at * as[da];
      if (db >= 0 && bd[db] != 1) off[batches + i] += at * bs[db];
    }
  }
  j.a_off = off;
  j.b_off = off + batches;
  mrt_par_range(&c->par, batches * j.m, (double)j.n * (double)j.k * 3, fused_rows, &j);
  return NULL;
}

/* ---- MatMulNBits: A * dequantised(B)', B of 2, 4 or 8 bits in blocks along k ---- */
static mrt_status *nbits_infer(mrt_infer *c) {
  const int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  if (rank < 1) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  for (int i = 0; i < rank - 1; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, rank - 1),
                             mrt_expr_const(c->sym, mrt_node_int(c->node, "K")),
                             "the last dim of A and K", &unused));
  dims[rank - 1] = mrt_expr_const(c->sym, mrt_node_int(c->node, "N"));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

typedef struct nbits_job {
  const float *a; /* [m, k] */
  const mrt_tensor *b, *scales, *zeros, *bias;
  float *y, *rows; /* rows: one dequantised row of B per part */
  int64_t m, n, k, block, blocks, parts;
  int bits;
} nbits_job;

static float nbits_zero(const nbits_job *j, int64_t row, int64_t block) {
  if (!j->zeros) return (float)(1 << (j->bits - 1));
  if (j->zeros->dtype != MRT_UINT8)
    return (float)mrt_elem_get_f64((mrt_dtype)j->zeros->dtype, j->zeros->data,
                                   row * j->blocks + block);
  const int64_t row_bytes = (j->blocks * j->bits + 7) / 8, bit = block * j->bits;
  const uint8_t v = ((const uint8_t *)j->zeros->data)[row * row_bytes + bit / 8];
  return (float)(v >> bit % 8 & ((1 << j->bits) - 1));
}

static void nbits_dequantize(const nbits_job *j, int64_t row, float *out) {
  const int per = 8 / j->bits, mask = (1 << j->bits) - 1;
  const int64_t block_bytes = j->block / per;
  for (int64_t q = 0; q < j->blocks; ++q) {
    const uint8_t *b = (const uint8_t *)j->b->data + (row * j->blocks + q) * block_bytes;
    const float z = nbits_zero(j, row, q),
                s = (float)mrt_elem_get_f64((mrt_dtype)j->scales->dtype, j->scales->data,
                                            row * j->blocks + q);
    const int64_t first = q * j->block, len = j->k - first < j->block ? j->k - first : j->block;
    for (int64_t i = 0; i < len; ++i)
      out[first + i] = ((float)(b[i / per] >> i % per * j->bits & mask) - z) * s;
  }
}

/* Sixteen sums side by side, so that the loop vectorises and its order is fixed. */
static float dot(const float *x, const float *y, int64_t n) {
  float s[16] = {0}, total = 0;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) s[k] += x[i + k] * y[i + k];
  for (; i < n; ++i) total += x[i] * y[i];
  for (int k = 0; k < 16; ++k) total += s[k];
  return total;
}

static void nbits_part(void *arg, int64_t chunk, int worker) {
  const nbits_job *j = arg;
  float *row = j->rows + (int64_t)worker * j->k;
  const int64_t end = mrt_par_begin(j->n, j->parts, chunk + 1);
  for (int64_t n = mrt_par_begin(j->n, j->parts, chunk); n < end; ++n) {
    const float bias =
        j->bias ? (float)mrt_elem_get_f64((mrt_dtype)j->bias->dtype, j->bias->data, n) : 0;
    nbits_dequantize(j, n, row);
    for (int64_t m = 0; m < j->m; ++m) j->y[m * j->n + n] = dot(j->a + m * j->k, row, j->k) + bias;
  }
}

static mrt_status *nbits_check(const mrt_kctx *c, const nbits_job *j) {
  if ((j->bits != 2 && j->bits != 4 && j->bits != 8) || j->block < 16 || j->k < 1 || j->n < 0)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "MatMulNBits: %d bits, block_size %lld, K %lld", j->bits,
                   (long long)j->block, (long long)j->k);
  const int64_t all = j->n * j->blocks, row = (j->blocks * j->bits + 7) / 8;
  const mrt_tensor *a = mrt_in(c, 0);
  if (mrt_in(c, 4)) return MRT_ERR(MRT_NOT_IMPLEMENTED, "MatMulNBits: g_idx");
  if (a->rank < 1 || a->dims[a->rank - 1] != j->k)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulNBits: the last dim of A is not K");
  if (mrt_tensor_count(j->b) != all * (j->block * j->bits / 8) ||
      mrt_tensor_count(j->scales) != all || (j->bias && mrt_tensor_count(j->bias) != j->n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulNBits: B, scales or bias do not fit N and K");
  if (j->zeros && mrt_tensor_count(j->zeros) != (j->zeros->dtype == MRT_UINT8 ? j->n * row : all))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulNBits: zero_points do not fit N and K");
  return NULL;
}

static mrt_status *nbits_run(mrt_kctx *c) {
  const mrt_tensor *a = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  nbits_job j = {.b = mrt_in(c, 1),
                 .scales = mrt_in(c, 2),
                 .zeros = mrt_in(c, 3),
                 .bias = mrt_in(c, 5),
                 .n = mrt_node_int(c->node, "N"),
                 .k = mrt_node_int(c->node, "K"),
                 .block = mrt_node_int(c->node, "block_size"),
                 .bits = (int)mrt_node_int(c->node, "bits")};
  if (!y) return NULL;
  if (j.block < 1 || j.k < 1 || j.k > INT32_MAX || j.n > INT32_MAX || j.block > INT32_MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulNBits: N, K or block_size out of range");
  j.blocks = (j.k + j.block - 1) / j.block;
  MRT_TRY(nbits_check(c, &j));
  const int64_t count = mrt_tensor_count(a), total = mrt_tensor_count(y);
  j.m = count / j.k;
  j.a = a->data;
  j.y = y->data;
  float *work;
  if (a->dtype != MRT_FLOAT) {
    MRT_TRY(mrt_scratch(c, (size_t)(count + total) * 4 + 4, (void **)&work));
    mrt_convert_to_f32((mrt_dtype)a->dtype, a->data, 0, count, work);
    j.a = work;
    j.y = work + count;
  }
  MRT_TRY(mrt_scratch(c, (size_t)j.k * 4 * (size_t)mrt_par_workers(&c->par), (void **)&j.rows));
  j.parts = mrt_par_chunks(j.n, (double)j.n * (double)j.k * (1 + 0.1 * (double)j.m));
  mrt_par_run(&c->par, j.parts, nbits_part, &j);
  if (j.y != y->data) mrt_convert_from_f32((mrt_dtype)y->dtype, y->data, 0, total, j.y);
  return NULL;
}

static const mrt_op_version v1[] = {{1}, {0}};
#define FUSED                                                                               \
  .domain = "com.microsoft", .doc = "alpha * A' * B'", .in = "A:T, B:T", .out = "Y:T",      \
  .types = "T=" MRT_T_FLOATS,                                                               \
  .attrs = "alpha:float=1.0 transA:int=0 transB:int=0 transBatchA:int=0 transBatchB:int=0", \
  .versions = v1, .infer = fused_infer, .run = fused_run
MRT_OP_IN(ms, FusedMatMul) = {FUSED, .name = "FusedMatMul"};
MRT_OP_IN(ms, TransposeMatMul) = {FUSED, .name = "TransposeMatMul"};
MRT_OP_IN(ms, MatMulNBits) = {
    .domain = "com.microsoft",
    .name = "MatMulNBits",
    .doc = "A * B', B of 2, 4 or 8 bits in blocks along K, each with a scale and a zero point",
    .in = "A:T, B:B, scales:T, zero_points:Z?, g_idx:I?, bias:T?",
    .out = "Y:T",
    .types = "T=float,float16,bfloat16;B=uint8;Z=uint8,float,float16,bfloat16;I=int32",
    .attrs = "K:int! N:int! bits:int=4 block_size:int! accuracy_level:int=0 weight_prepacked:int=0",
    .versions = v1,
    .infer = nbits_infer,
    .run = nbits_run};
