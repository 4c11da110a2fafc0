/* com.microsoft.MultiHeadAttention, and Attention, which is a MatMul, a Split and the former. */
#include "ops/ms_attention.h"
#include "ops/compose.h"

enum { Q, K, V, BIAS, PADDING, ADDED, PAST_K, PAST_V, PAST_LEN, INDIRECT };

/* ---- inference ---- */
static mrt_status *mha_infer(mrt_infer *c) {
  const int rq = mrt_infer_rank(c, Q), rk = mrt_infer_rank(c, K);
  const mrt_expr *n = mrt_expr_const(c->sym, mrt_node_int(c->node, "num_heads")), *len, *hv;
  const bool packed = !mrt_infer_has(c, K), packed_kv = !packed && !mrt_infer_has(c, V);
  const mrt_dtype t = mrt_infer_dtype(c, Q);
  if (rq < 0 || (!packed && (rk < 0 || (!packed_kv && mrt_infer_rank(c, V) < 0))))
    return mrt_infer_out(c, 0, t, -1, NULL);
  if (packed ? rq != 5 : rq != 3 || (packed_kv ? rk != 5 : rk != 3 && rk != 4))
    return MRT_ERR(MRT_FAIL, "query of rank %d, key of rank %d", rq, rk);
  const mrt_expr *b = mrt_infer_dim(c, Q, 0), *s = mrt_infer_dim(c, Q, 1);
  len = packed ? s : mrt_infer_dim(c, K, rk == 4 ? 2 : 1);
  if (packed || packed_kv)
    hv = mrt_expr_mul(c->sym, n, mrt_infer_dim(c, packed ? Q : K, 4));
  else if (rk == 4)
    hv = mrt_expr_mul(c->sym, n, mrt_infer_dim(c, V, 3));
  else
    hv = mrt_infer_dim(c, V, 2);
  const mrt_expr *y[3] = {b, s, hv};
  MRT_TRY(mrt_infer_out(c, 0, t, 3, y));
  const mrt_expr *hq = packed ? hv : mrt_infer_dim(c, Q, 2);
  const mrt_expr *total =
      mrt_infer_has(c, PAST_K) ? mrt_expr_add(c->sym, len, mrt_infer_dim(c, PAST_K, 2)) : len;
  const mrt_expr *pk[4] = {b, n, total, mrt_expr_floordiv(c->sym, hq, n)},
                 *pv[4] = {b, n, total, mrt_expr_floordiv(c->sym, hv, n)};
  MRT_TRY(mrt_infer_out(c, 1, t, 4, pk));
  return mrt_infer_out(c, 2, t, 4, pv);
}

/* ---- reading a call ---- */
typedef struct call {
  const mrt_tensor *in[10];
  int64_t len; /* new keys */
} call;

static mrt_status *bad(const char *what) {
  return MRT_ERR(MRT_INVALID_ARGUMENT, "MultiHeadAttention: %s", what);
}

/* Where q, k and v lie and how large they are. */
static mrt_status *read_forms(const call *a, mrt_sdpa *p) {
  const mrt_tensor *q = a->in[Q], *k = a->in[K], *v = a->in[V];
  const int64_t n = p->heads, b = q->dims[0];
  p->batch = b;
  p->sq = q->dims[1];
  if (!k) { /* [B, S, N, 3, d] */
    if (q->rank != 5 || q->dims[2] != n || q->dims[3] != 3) return bad("packed query");
    const int64_t d = q->dims[4];
    p->d = p->dv = d;
    p->q = (mrt_heads){q->data, p->sq * n * 3 * d, 3 * d, n * 3 * d};
    p->k = p->v = p->q;
    p->k.data += d;
    p->v.data += 2 * d;
    p->sk = p->sq;
    return NULL;
  }
  if (q->rank != 3 || q->dims[2] % n || k->dims[0] != b) return bad("query or key");
  p->d = q->dims[2] / n;
  p->q = (mrt_heads){q->data, p->sq * n * p->d, p->d, n * p->d};
  if (!v) { /* [B, L, N, 2, d] */
    if (k->rank != 5 || k->dims[2] != n || k->dims[3] != 2 || k->dims[4] != p->d)
      return bad("packed key");
    p->sk = k->dims[1];
    p->dv = p->d;
    p->k = p->v = (mrt_heads){k->data, p->sk * n * 2 * p->d, 2 * p->d, n * 2 * p->d};
    p->v.data += p->d;
    return NULL;
  }
  if (k->rank == 4) { /* [B, N, L, d] */
    p->sk = k->dims[2];
    if (v->rank != 4 || k->dims[1] != n || v->dims[1] != n || k->dims[3] != p->d ||
        v->dims[0] != b || v->dims[2] != p->sk)
      return bad("key or value");
    p->dv = v->dims[3];
    p->k = (mrt_heads){k->data, n * p->sk * p->d, p->sk * p->d, p->d};
    p->v = (mrt_heads){v->data, n * p->sk * p->dv, p->sk * p->dv, p->dv};
    return NULL;
  }
  p->sk = k->dims[1];
  if (k->rank != 3 || v->rank != 3 || k->dims[2] != n * p->d || v->dims[0] != b ||
      v->dims[1] != p->sk || v->dims[2] % n)
    return bad("key or value");
  p->dv = v->dims[2] / n;
  p->k = (mrt_heads){k->data, p->sk * n * p->d, p->d, n * p->d};
  p->v = (mrt_heads){v->data, p->sk * n * p->dv, p->dv, n * p->dv};
  return NULL;
}

/* past [B, N, past, size] and x + bias become [B, N, past + len, size] at dst. */
typedef struct join_job {
  const mrt_heads *x;
  int64_t heads, len, size, past_len;
  const float *past, *bias;
  float *dst;
} join_job;

static void join_heads(void *arg, int64_t begin, int64_t end) {
  const join_job *j = arg;
  const int64_t old = j->past_len * j->size, all = old + j->len * j->size;
  for (int64_t u = begin; u < end; ++u) {
    const int64_t b = u / j->heads, h = u % j->heads;
    float *dst = j->dst + u * all;
    if (old) memcpy(dst, j->past + u * old, (size_t)old * 4);
    dst += old;
    for (int64_t s = 0; s < j->len; ++s, dst += j->size) {
      const float *from = j->x->data + b * j->x->batch + h * j->x->head + s * j->x->row;
      for (int64_t i = 0; i < j->size; ++i)
        dst[i] = from[i] + (j->bias ? j->bias[h * j->size + i] : 0);
    }
  }
}

/* One operand brought into [B, N, total, size] where it needs a bias, a past or is an output. */
static mrt_status *bring(mrt_kctx *c, mrt_sdpa *p, mrt_heads *x, int64_t len, int64_t size,
                         const mrt_tensor *past, const float *bias, mrt_tensor *present) {
  const int64_t past_len = past ? past->dims[2] : 0, total = past_len + len;
  size_t bytes;
  float *dst;
  if (!past && !bias && !present) return NULL;
  if (past && (past->rank != 4 || past->dims[0] != p->batch || past->dims[1] != p->heads ||
               past->dims[3] != size))
    return bad("past");
  if (!mrt_size_mul((size_t)(p->batch * p->heads), (size_t)(total * size) * 4, &bytes))
    return mrt_status_oom();
  if (present)
    dst = present->data;
  else
    MRT_TRY(mrt_scratch(c, bytes + 4, (void **)&dst));
  join_job j = {x, p->heads, len, size, past_len, past ? past->data : NULL, bias, dst};
  mrt_par_range(&c->par, p->batch * p->heads, (double)(total * size) * 0.3, join_heads, &j);
  *x = (mrt_heads){dst, p->heads * total * size, total * size, size};
  return NULL;
}

/* Is key t of batch entry b, seen by query s, real? */
static bool is_real(const mrt_tensor *m, int64_t b, int64_t s, int64_t t, int64_t sq, int64_t sk) {
  const int32_t *v = m->data;
  if (m->rank == 1) return t < v[b];
  return v[m->rank == 2 ? b * sk + t : (b * sq + s) * sk + t] != 0;
}

static mrt_status *read_mask(mrt_kctx *c, const call *a, mrt_sdpa *p) {
  const mrt_tensor *pad = a->in[PADDING], *add = a->in[ADDED];
  const int64_t s = p->sq, t = p->sk, n = add ? add->dims[1] : 1;
  const mrt_attr *filter = mrt_node_attr(c->node, "mask_filter_value");
  const float hidden = filter ? filter->f : -10000.0f;
  if (add && (add->rank != 4 || (add->dims[0] != 1 && add->dims[0] != p->batch) ||
              (n != 1 && n != p->heads) || add->dims[2] != s || add->dims[3] != t))
    return bad("attention_bias");
  if (pad && !(pad->rank == 1 && pad->dims[0] == p->batch) &&
      !(pad->rank == 2 && pad->dims[0] == p->batch && pad->dims[1] == t) &&
      !(pad->rank == 3 && pad->dims[0] == p->batch && pad->dims[1] == s && pad->dims[2] == t))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "MultiHeadAttention: this form of key_padding_mask");
  const int64_t ab = add && add->dims[0] != 1 ? n * s * t : 0;
  p->mask_row = t;
  p->mask_head = n == 1 ? 0 : s * t;
  if (!pad) {
    p->mask = add ? add->data : NULL;
    p->mask_batch = ab;
    return NULL;
  }
  float *m;
  size_t bytes;
  if (!mrt_size_mul((size_t)(p->batch * n * s), (size_t)t * 4, &bytes)) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes + 4, (void **)&m));
  for (int64_t b = 0; b < p->batch; ++b)
    for (int64_t h = 0; h < n; ++h)
      for (int64_t i = 0; i < s; ++i)
        for (int64_t k = 0; k < t; ++k)
          m[((b * n + h) * s + i) * t + k] =
              (is_real(pad, b, i, k, s, t) ? 0 : hidden) +
              (add ? ((const float *)add->data)[b * ab + (h * s + i) * t + k] : 0);
  p->mask = m;
  p->mask_batch = n * s * t;
  return NULL;
}

mrt_status *mrt_mha_read(mrt_kctx *c, mrt_sdpa *p) {
  call a;
  mrt_tensor *y = mrt_out(c, 0);
  for (int i = 0; i < 10; ++i) a.in[i] = mrt_in(c, i);
  *p = (mrt_sdpa){.heads = mrt_node_int(c->node, "num_heads"),
                  .causal = mrt_node_int(c->node, "unidirectional") != 0};
  if (p->heads < 1) return bad("num_heads");
  if (a.in[PAST_LEN] || a.in[INDIRECT] || mrt_out(c, 3))
    return MRT_ERR(MRT_NOT_IMPLEMENTED,
                   "MultiHeadAttention: past_sequence_length, cache_indirection or output qk");
  MRT_TRY(read_forms(&a, p));
  const int64_t hq = p->heads * p->d, hv = p->heads * p->dv, len = p->sk;
  const float *bias = a.in[BIAS] ? a.in[BIAS]->data : NULL;
  const bool given = a.in[K] && a.in[K]->rank == 4; /* keys and values as they are */
  if (bias && mrt_tensor_count(a.in[BIAS]) != 2 * hq + hv) return bad("bias");
  if ((a.in[PAST_K] != NULL) != (a.in[PAST_V] != NULL) ||
      (a.in[PAST_K] && (a.in[PAST_K]->rank != 4 || a.in[PAST_V]->rank != 4 ||
                        a.in[PAST_K]->dims[2] != a.in[PAST_V]->dims[2])))
    return bad("past");
  MRT_TRY(bring(c, p, &p->q, p->sq, p->d, NULL, bias, NULL));
  MRT_TRY(bring(c, p, &p->k, len, p->d, a.in[PAST_K], bias && !given ? bias + hq : NULL,
                mrt_out(c, 1)));
  MRT_TRY(bring(c, p, &p->v, len, p->dv, a.in[PAST_V], bias && !given ? bias + 2 * hq : NULL,
                mrt_out(c, 2)));
  p->past = a.in[PAST_K] ? a.in[PAST_K]->dims[2] : 0;
  p->sk = len + p->past;
  const mrt_attr *scale = mrt_node_attr(c->node, "scale");
  p->scale = scale && scale->f != 0 ? scale->f : 1 / sqrtf((float)p->d);
  p->out = (mrt_heads){y ? y->data : NULL, p->sq * hv, p->dv, hv};
  return read_mask(c, &a, p);
}

/* ---- the reference kernel ---- */
typedef struct rows_job {
  const mrt_sdpa *p;
  float *scores; /* one row per worker */
  int64_t rows, chunks;
} rows_job;

static void one_row(const mrt_sdpa *p, int64_t b, int64_t h, int64_t s, float *score) {
  const float *q = p->q.data + b * p->q.batch + h * p->q.head + s * p->q.row;
  float *y = (float *)p->out.data + b * p->out.batch + h * p->out.head + s * p->out.row;
  const float *m =
      p->mask ? p->mask + b * p->mask_batch + h * p->mask_head + s * p->mask_row : NULL;
  const bool part = p->causal && s + 1 < p->sq && s + p->past + 1 < p->sk;
  const int64_t n = part ? s + p->past + 1 : p->sk;
  float top = -INFINITY;
  double sum = 0;
  for (int64_t t = 0; t < n; ++t) {
    const float *k = p->k.data + b * p->k.batch + h * p->k.head + t * p->k.row;
    double dot = 0;
    for (int64_t i = 0; i < p->d; ++i) dot += (double)q[i] * k[i];
    score[t] = (float)dot * p->scale + (m ? m[t] : 0);
    top = score[t] > top ? score[t] : top;
  }
  for (int64_t t = 0; t < n; ++t) sum += score[t] = expf(score[t] - top);
  for (int64_t i = 0; i < p->dv; ++i) y[i] = 0;
  for (int64_t t = 0; t < n; ++t) {
    const float *v = p->v.data + b * p->v.batch + h * p->v.head + t * p->v.row;
    const float w = (float)(score[t] / sum);
    for (int64_t i = 0; i < p->dv; ++i) y[i] += w * v[i];
  }
}
static void some_rows(void *arg, int64_t chunk, int worker) {
  const rows_job *j = arg;
  const mrt_sdpa *p = j->p;
  const int64_t end = mrt_par_begin(j->rows, j->chunks, chunk + 1);
  for (int64_t r = mrt_par_begin(j->rows, j->chunks, chunk); r < end; ++r)
    one_row(p, r / p->sq / p->heads, r / p->sq % p->heads, r % p->sq, j->scores + worker * p->sk);
}
static mrt_status *mha_run(mrt_kctx *c) {
  mrt_sdpa p;
  MRT_TRY(mrt_mha_read(c, &p));
  rows_job j = {.p = &p, .rows = p.batch * p.heads * p.sq};
  if (!p.out.data || !j.rows) return NULL;
  MRT_TRY(mrt_scratch(c, (size_t)(p.sk + 1) * 4 * (size_t)mrt_par_workers(&c->par),
                      (void **)&j.scores));
  j.chunks = mrt_par_chunks(j.rows, (double)(j.rows * p.sk * (p.d + p.dv)));
  mrt_par_run(&c->par, j.chunks, some_rows, &j);
  return NULL;
}

/* ---- Attention: projections first ---- */
enum { INPUT, WEIGHTS, A_BIAS, MASK, PAST, A_ADDED, A_PAST_LEN };
static mrt_status *attention_expand(mrt_node *node, const mrt_op_table *ops) {
  static const char *const copied[] = {"num_heads", "unidirectional", "scale", "mask_filter_value"};
  mrt_compose b = mrt_compose_begin(node, ops);
  const int64_t zero = 0, one = 1;
  int n_sizes;
  const int64_t *sizes = mrt_node_ints(node, "qkv_hidden_sizes", &n_sizes);
  if (mrt_node_int(node, "do_rotary")) mrt_compose_fail(&b, "do_rotary");
  if (mrt_node_int(node, "past_present_share_buffer") || mrt_compose_in(&b, A_PAST_LEN))
    mrt_compose_fail(&b, "a shared past buffer");
  mrt_var *x = mrt_compose_2(&b, "MatMul", mrt_compose_in(&b, INPUT), mrt_compose_in(&b, WEIGHTS));
  if (mrt_compose_in(&b, A_BIAS)) x = mrt_compose_2(&b, "Add", x, mrt_compose_in(&b, A_BIAS));
  mrt_var *cut[2] = {x, n_sizes == 3 ? mrt_compose_ints(&b, 3, sizes) : NULL};
  mrt_var *in[8] = {mrt_compose_op(&b, "Split", 2, cut)};
  mrt_compose_int(&b, "axis", 2);
  if (n_sizes != 3) mrt_compose_int(&b, "num_outputs", 3);
  in[K] = mrt_compose_out(&b, 1);
  in[V] = mrt_compose_out(&b, 2);
  in[PADDING] = mrt_compose_in(&b, MASK);
  in[ADDED] = mrt_compose_in(&b, A_ADDED);
  mrt_var *past = mrt_compose_in(&b, PAST), *index[2] = {NULL, NULL};
  if (past) {
    for (int i = 0; i < 2; ++i) {
      index[i] = mrt_compose_ints(&b, 1, i ? &one : &zero);
      mrt_var *half = mrt_compose_2(&b, "Gather", past, index[i]); /* [1, B, N, P, d] */
      in[PAST_K + i] = mrt_compose_2(&b, "Squeeze", half, mrt_compose_ints(&b, 1, &zero));
    }
  }
  mrt_var *y = mrt_compose_op_of(&b, "com.microsoft", "MultiHeadAttention", 8, in);
  for (size_t i = 0; i < sizeof copied / sizeof *copied; ++i) mrt_compose_copy_attr(&b, copied[i]);
  mrt_var *present[2] = {NULL, NULL};
  if (mrt_compose_wants(&b, 1)) {
    for (int i = 0; i < 2; ++i) present[i] = mrt_compose_out(&b, 1 + i);
    for (int i = 0; i < 2; ++i)
      present[i] = mrt_compose_2(&b, "Unsqueeze", present[i], mrt_compose_ints(&b, 1, &zero));
    mrt_var *both = mrt_compose_op(&b, "Concat", 2, present);
    mrt_compose_int(&b, "axis", 0);
    mrt_compose_set(&b, 1, both);
  }
  mrt_compose_set(&b, 0, y);
  return mrt_compose_end(&b);
}

static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP_IN(ms, MultiHeadAttention) = {
    .domain = "com.microsoft",
    .name = "MultiHeadAttention",
    .doc = "softmax(Q K' * scale + masks) V of heads side by side",
    .in =
        "query:T, key:T?, value:T?, bias:T?, key_padding_mask:I?, attention_bias:T?, "
        "past_key:T?, past_value:T?, past_sequence_length:I?, cache_indirection:I?",
    .out = "output:T, present_key:T?, present_value:T?, qk:T?",
    .types = "T=float;I=int32",
    .attrs = "num_heads:int! mask_filter_value:float scale:float unidirectional:int=0",
    .versions = v1,
    .infer = mha_infer,
    .run = mha_run};
MRT_OP_IN(ms, Attention) = {
    .domain = "com.microsoft",
    .name = "Attention",
    .doc = "projections, then MultiHeadAttention",
    .in =
        "input:T, weights:T, bias:T?, mask_index:I?, past:T?, attention_bias:T?, "
        "past_sequence_length:I?",
    .out = "output:T, present:T?",
    .types = "T=float;I=int32",
    .attrs =
        "num_heads:int! do_rotary:int=0 mask_filter_value:float "
        "past_present_share_buffer:int=0 qkv_hidden_sizes:ints rotary_embedding_dim:int=0 "
        "scale:float unidirectional:int=0",
    .versions = v1,
    .expand = attention_expand};
