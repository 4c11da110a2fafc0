/* Attention (opset 23 and 24): softmax(Q K' * scale, capped and masked) V for 3-D and 4-D inputs,
 * grouped heads, caches of past keys and values. Keys and values are brought into one form first
 * ([batch, heads, past + new, size]); then every query row stands alone. */
#include "ops/work.h"

typedef struct mrt_attn {
  int64_t batch, q_heads, kv_heads, q_len, past, total, head, v_head;
  const void *q, *k, *v, *mask;             /* working type; k, v: [batch, kv_heads, total, size] */
  void *y, *qk, *scores;                    /* scores: [chunks, total] */
  int64_t q_b, q_h, q_l, y_b, y_h, y_l;     /* strides */
  int64_t mask_b, mask_h, mask_l, mask_len; /* strides (0: broadcast), length of a row */
  const int64_t *valid;                     /* nonpad_kv_seqlen */
  bool causal;
  double scale, softcap;
  int64_t qk_mode, units, chunks;
} mrt_attn;
static float exponential_f32(float v) { return expf(v); }
static double exponential_f64(double v) { return exp(v); }
static float hyperbolic_f32(float v) { return tanhf(v); }
static double hyperbolic_f64(double v) { return tanh(v); }
#define MRT_TEMPLATE "ops/attention.inl"
#include "tensor/each_float.h"

enum { Q, K, V, MASK, PAST_K, PAST_V, VALID };

/* ---- inference ---- */
/* [batch, heads, len, size] of Q, K or V; NULL dims: not known. */
static mrt_status *split(mrt_infer *c, int i, const char *heads_attr, const mrt_expr **dims) {
  int rank = mrt_infer_rank(c, i);
  int64_t heads = mrt_node_int(c->node, heads_attr);
  for (int k = 0; k < 4; ++k) dims[k] = rank == 4 ? mrt_infer_dim(c, i, k) : NULL;
  if (rank == 4 || rank < 0) return NULL;
  if (rank != 3)
    return MRT_ERR(MRT_FAIL, "Inputs 0, 1 and 2 must have rank 3 or 4, input %d has rank %d", i,
                   rank);
  if (heads < 1) return MRT_ERR(MRT_FAIL, "3-D inputs need the attribute '%s'", heads_attr);
  dims[0] = mrt_infer_dim(c, i, 0);
  dims[1] = mrt_expr_const(c->sym, heads);
  dims[2] = mrt_infer_dim(c, i, 1);
  dims[3] = mrt_expr_floordiv(c->sym, mrt_infer_dim(c, i, 2), dims[1]);
  return NULL;
}
static mrt_status *attention_infer(mrt_infer *c) {
  const mrt_expr *q[4], *k[4], *v[4], *total;
  mrt_dtype tk = mrt_infer_dtype(c, K), tv = mrt_infer_dtype(c, V), t = mrt_infer_dtype(c, Q);
  int rank = mrt_infer_rank(c, Q);
  MRT_TRY(split(c, Q, "q_num_heads", q));
  MRT_TRY(split(c, K, "kv_num_heads", k));
  MRT_TRY(split(c, V, "kv_num_heads", v));
  total = k[2];
  if (mrt_infer_has(c, PAST_K)) total = mrt_expr_add(c->sym, total, mrt_infer_dim(c, PAST_K, 2));
  if (rank == 4) {
    const mrt_expr *y[4] = {q[0], q[1], q[2], v[3]};
    MRT_TRY(mrt_infer_out(c, 0, t, 4, y));
  } else if (rank == 3) {
    const mrt_expr *y[3] = {q[0], q[2], mrt_expr_mul(c->sym, q[1], v[3])};
    MRT_TRY(mrt_infer_out(c, 0, t, 3, y));
  } else {
    MRT_TRY(mrt_infer_out(c, 0, t, -1, NULL));
  }
  const mrt_expr *pk[4] = {k[0], k[1], total, k[3]}, *pv[4] = {v[0], v[1], total, v[3]},
                 *qk[4] = {q[0], q[1], q[2], total};
  MRT_TRY(mrt_infer_out(c, 1, tk, 4, pk));
  MRT_TRY(mrt_infer_out(c, 2, tv, 4, pv));
  return mrt_infer_out(c, 3, t, 4, qk);
}

/* ---- kernel ---- */
typedef struct form { /* a tensor seen as [batch, heads, len, size] */
  int64_t batch, heads, len, size, s_b, s_h, s_l;
} form;
static mrt_status *form_of(const mrt_tensor *t, int64_t heads, const char *name, form *f) {
  if (t->rank == 4) {
    *f = (form){t->dims[0], t->dims[1], t->dims[2], t->dims[3], 0, 0, t->dims[3]};
    f->s_h = f->len * f->size;
    f->s_b = f->heads * f->s_h;
    return NULL;
  }
  if (t->rank != 3 || heads < 1 || t->dims[2] % heads)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: %s of rank %d does not split into %lld heads",
                   name, t->rank, (long long)heads);
  *f = (form){t->dims[0], heads, t->dims[1], t->dims[2] / heads, 0, t->dims[2] / heads, t->dims[2]};
  f->s_b = f->len * f->s_l;
  return NULL;
}
/* Past and new rows side by side: [batch, heads, past + new, size] of elements of `size` bytes. */
static void join(const form *f, int64_t past_len, const char *past, const char *in, char *out,
                 size_t elem) {
  size_t row = (size_t)f->size * elem;
  for (int64_t b = 0; b < f->batch; ++b)
    for (int64_t h = 0; h < f->heads; ++h) {
      int64_t plane = b * f->heads + h;
      if (past_len) memcpy(out, past + (size_t)(plane * past_len) * row, (size_t)past_len * row);
      out += (size_t)past_len * row;
      for (int64_t l = 0; l < f->len; ++l, out += row)
        memcpy(out, in + (size_t)(b * f->s_b + h * f->s_h + l * f->s_l) * elem, row);
    }
}
/* Keys (or values) of all positions in the working type; fills the present output. */
static mrt_status *gather(mrt_kctx *c, int in, int past, int out, const form *f, int64_t past_len,
                          mrt_dtype work, const void **data) {
  const mrt_tensor *x = mrt_in(c, in), *p = mrt_in(c, past), *t;
  mrt_tensor *present = mrt_out(c, out), joined, *view;
  const int64_t dims[4] = {f->batch, f->heads, past_len + f->len, f->size};
  size_t elem = (size_t)mrt_dtype_bits((mrt_dtype)x->dtype) / 8, bytes;
  if (p && (p->rank != 4 || p->dims[0] != f->batch || p->dims[1] != f->heads ||
            p->dims[3] != f->size || p->dims[2] != past_len || p->dtype != x->dtype))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: past %s does not fit",
                   in == K ? "keys" : "values");
  MRT_TRY(mrt_scratch(c, sizeof *view, (void **)&view));
  if (x->rank == 4 && !p && !present) {
    MRT_TRY(mrt_work_in(c, x, work, view, &t));
    *data = t->data;
    return NULL;
  }
  if (!present) {
    void *memory;
    MRT_TRY(mrt_shape_bytes((mrt_dtype)x->dtype, 4, dims, &bytes));
    MRT_TRY(mrt_scratch(c, bytes, &memory));
    mrt_tensor_init_view(&joined, (mrt_dtype)x->dtype, 4, dims, memory, bytes, MRT_HOST);
    present = &joined;
  }
  if (!mrt_shape_equal(present->rank, present->dims, 4, dims))
    return MRT_ERR(MRT_FAIL, "Attention: the present output has another shape");
  join(f, past_len, p ? p->data : NULL, x->data, present->data, elem);
  MRT_TRY(mrt_work_in(c, present, work, view, &t));
  *data = t->data;
  return NULL;
}
/* The mask as numbers of the working type that are added to scores. */
static mrt_status *read_mask(mrt_kctx *c, mrt_attn *a, mrt_dtype work) {
  const mrt_tensor *m = mrt_in(c, MASK), *t;
  mrt_tensor *view;
  if (!m) return NULL;
  if (m->rank < 1 || m->rank > 4)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: attn_mask of rank %d", m->rank);
  MRT_TRY(mrt_scratch(c, sizeof *view, (void **)&view));
  MRT_TRY(mrt_work_in(c, m, work, view, &t));
  if (m->dtype == MRT_BOOL) {
    int64_t n = mrt_tensor_count(m);
    for (int64_t i = 0; i < n; ++i)
      mrt_elem_set_f64(work, view->data, i, ((const uint8_t *)m->data)[i] ? 0 : -INFINITY);
  }
  a->mask = t->data;
  a->mask_len = m->dims[m->rank - 1];
  if (a->mask_len > a->total)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: attn_mask has %lld columns for %lld keys",
                   (long long)a->mask_len, (long long)a->total);
  int64_t step = a->mask_len, *strides[3] = {&a->mask_l, &a->mask_h, &a->mask_b},
          want[3] = {a->q_len, a->q_heads, a->batch};
  for (int k = 0; k < m->rank - 1; ++k) {
    int64_t d = m->dims[m->rank - 2 - k];
    if (d != 1 && d != want[k])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: attn_mask does not broadcast to the scores");
    *strides[k] = d == 1 ? 0 : step;
    step *= d;
  }
  return NULL;
}
static mrt_status *read_shapes(mrt_kctx *c, mrt_attn *a, form *q, form *k, form *v) {
  const mrt_node *node = c->node;
  const mrt_tensor *past = mrt_in(c, PAST_K), *valid = mrt_in(c, VALID);
  MRT_TRY(form_of(mrt_in(c, Q), mrt_node_int(node, "q_num_heads"), "Q", q));
  MRT_TRY(form_of(mrt_in(c, K), mrt_node_int(node, "kv_num_heads"), "K", k));
  MRT_TRY(form_of(mrt_in(c, V), mrt_node_int(node, "kv_num_heads"), "V", v));
  if (q->batch != k->batch || k->batch != v->batch || k->heads != v->heads || k->len != v->len ||
      q->size != k->size || k->heads < 1 || q->heads % k->heads)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: the shapes of Q, K and V do not fit");
  if (!past != !mrt_in(c, PAST_V))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: past_key and past_value come together");
  if (past && past->rank != 4)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: past_key of rank %d", past->rank);
  if (valid && (mrt_tensor_count(valid) != q->batch || past))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Attention: nonpad_kv_seqlen needs one element per batch entry and no past");
  *a = (mrt_attn){.batch = q->batch,
                  .q_heads = q->heads,
                  .kv_heads = k->heads,
                  .q_len = q->len,
                  .past = past ? past->dims[2] : 0,
                  .head = q->size,
                  .v_head = v->size,
                  .q_b = q->s_b,
                  .q_h = q->s_h,
                  .q_l = q->s_l,
                  .valid = valid ? valid->data : NULL,
                  .causal = mrt_node_int(node, "is_causal") != 0,
                  .softcap = mrt_node_float(node, "softcap"),
                  .qk_mode = mrt_node_int(node, "qk_matmul_output_mode")};
  a->total = a->past + k->len;
  a->scale = mrt_node_attr(node, "scale") ? (double)mrt_node_float(node, "scale")
                                          : 1 / sqrt((double)q->size);
  bool flat = mrt_in(c, Q)->rank == 3;
  a->y_l = flat ? q->heads * v->size : v->size;
  a->y_h = flat ? v->size : q->len * v->size;
  a->y_b = q->heads * q->len * v->size;
  return NULL;
}
static mrt_status *attention_run(mrt_kctx *c) {
  mrt_attn a;
  form q, k, v;
  mrt_tensor fq, fy, fqk, *y, *qk;
  const mrt_tensor *tq;
  MRT_TRY(read_shapes(c, &a, &q, &k, &v));
  mrt_dtype work = mrt_work_type((mrt_dtype)mrt_in(c, Q)->dtype);
  MRT_TRY(mrt_work_in(c, mrt_in(c, Q), work, &fq, &tq));
  a.q = tq->data;
  MRT_TRY(gather(c, K, PAST_K, 1, &k, a.past, work, &a.k));
  MRT_TRY(gather(c, V, PAST_V, 2, &v, a.past, work, &a.v));
  MRT_TRY(read_mask(c, &a, work));
  MRT_TRY(mrt_work_out(c, mrt_out(c, 0), work, &fy, &y));
  MRT_TRY(mrt_work_out(c, mrt_out(c, 3), work, &fqk, &qk));
  if (!y && !qk) return NULL;
  a.y = y ? y->data : NULL;
  a.qk = qk ? qk->data : NULL;
  a.units = a.batch * a.q_heads * a.q_len;
  a.chunks = mrt_par_chunks(a.units,
                            (double)a.units * (double)a.total * (double)(a.head + a.v_head) * 0.3);
  MRT_TRY(mrt_scratch_array(c, a.chunks * a.total, 8, &a.scores));
  mrt_par_run(&c->par, a.chunks, work == MRT_FLOAT ? attend_f32 : attend_f64, &a);
  if (y) mrt_work_done(y, mrt_out(c, 0));
  if (qk) mrt_work_done(qk, mrt_out(c, 3));
  return NULL;
}

static const mrt_op_version attention_v[] = {{23}, {24}, {0}};
MRT_OP(Attention) = {
    .domain = "",
    .name = "Attention",
    .doc = "softmax(Q K' * scale + mask) V",
    .in = "Q:T1, K:T1, V:T2, attn_mask:U?, past_key:T1?, past_value:T2?, nonpad_kv_seqlen:int64?",
    .out = "Y:T1, present_key:T1?, present_value:T2?, qk_matmul_output:T1?",
    .types = "T1=" MRT_T_FLOATS ";T2=" MRT_T_FLOATS ";U=bool," MRT_T_NUMERIC,
    .attrs =
        "is_causal:int=0 kv_num_heads:int q_num_heads:int qk_matmul_output_mode:int=0 "
        "scale:float softcap:float=0.0 softmax_precision:int",
    .versions = attention_v,
    .infer = attention_infer,
    .run = attention_run};
