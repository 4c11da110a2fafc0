/* RotaryEmbedding: pairs (x1, x2) of the first rotary_embedding_dim elements of each head become
 * (cos x1 - sin x2, sin x1 + cos x2), the angles being those of the token's position. */
#include "ops/work.h"

typedef struct rotary {
  const mrt_tensor *x, *cos, *sin, *ids;
  mrt_tensor *y;
  int64_t batch, heads, len, head, half; /* half: rotary_embedding_dim / 2 */
  int64_t s_b, s_h, s_l;                 /* strides of x and y */
  bool interleaved;
} rotary;

static void rows(void *arg, int64_t begin, int64_t end) {
  const rotary *r = arg;
  for (int64_t u = begin; u < end; ++u) { /* u: (batch, head, position) */
    int64_t l = u % r->len, h = u / r->len % r->heads, b = u / r->len / r->heads;
    int64_t at = b * r->s_b + h * r->s_h + l * r->s_l, token = b * r->len + l;
    int64_t angle = (r->ids ? ((const int64_t *)r->ids->data)[token] : token) * r->half;
    const float *x = (const float *)r->x->data + at, *cos = (const float *)r->cos->data + angle,
                *sin = (const float *)r->sin->data + angle;
    float *y = (float *)r->y->data + at;
    int64_t step = r->interleaved ? 2 : 1, other = r->interleaved ? 1 : r->half;
    for (int64_t i = 0; i < r->half; ++i) {
      float x1 = x[i * step], x2 = x[i * step + other];
      y[i * step] = cos[i] * x1 - sin[i] * x2;
      y[i * step + other] = sin[i] * x1 + cos[i] * x2;
    }
    for (int64_t i = 2 * r->half; i < r->head; ++i) y[i] = x[i];
  }
}
static mrt_status *read_layout(mrt_kctx *c, rotary *r) {
  const mrt_tensor *x = mrt_in(c, 0);
  int64_t heads = mrt_node_int(c->node, "num_heads"),
          dim = mrt_node_int(c->node, "rotary_embedding_dim");
  if (x->rank == 4) {
    r->batch = x->dims[0], r->heads = x->dims[1], r->len = x->dims[2], r->head = x->dims[3];
    r->s_l = r->head, r->s_h = r->len * r->head;
  } else if (x->rank == 3 && heads > 0 && x->dims[2] % heads == 0) {
    r->batch = x->dims[0], r->heads = heads, r->len = x->dims[1], r->head = x->dims[2] / heads;
    r->s_l = x->dims[2], r->s_h = r->head;
  } else {
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: input of rank %d and %lld heads",
                   x->rank, (long long)heads);
  }
  r->s_b = r->heads * r->len * r->head;
  if (dim == 0) dim = r->head;
  if (dim < 0 || dim > r->head || dim % 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: rotary_embedding_dim %lld of %lld",
                   (long long)dim, (long long)r->head);
  r->half = dim / 2;
  r->interleaved = mrt_node_int(c->node, "interleaved") != 0;
  return NULL;
}
/* Caches: [positions, half] with ids, [batch, len, half] without. */
static mrt_status *check_caches(const rotary *r) {
  const mrt_tensor *const caches[] = {r->cos, r->sin};
  for (int i = 0; i < 2; ++i) {
    const mrt_tensor *t = caches[i];
    bool ok = r->ids ? t->rank == 2 && t->dims[1] == r->half
                     : t->rank == 3 && t->dims[0] == r->batch && t->dims[1] == r->len &&
                           t->dims[2] == r->half;
    if (!ok)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: the %s cache has another shape",
                     i ? "sine" : "cosine");
  }
  if (!r->ids) return NULL;
  int64_t n = mrt_tensor_count(r->ids),
          limit = r->cos->dims[0] < r->sin->dims[0] ? r->cos->dims[0] : r->sin->dims[0];
  if (n != r->batch * r->len)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: %lld position ids for %lld tokens",
                   (long long)n, (long long)(r->batch * r->len));
  for (int64_t i = 0; i < n; ++i) {
    int64_t id = ((const int64_t *)r->ids->data)[i];
    if (id < 0 || id >= limit)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: position %lld, the caches have %lld",
                     (long long)id, (long long)limit);
  }
  return NULL;
}
static mrt_status *rotary_run(mrt_kctx *c) {
  rotary r = {.ids = mrt_in(c, 3)};
  mrt_tensor fx, fc, fs, fy;
  if (!mrt_out(c, 0)) return NULL;
  MRT_TRY(read_layout(c, &r));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 0), MRT_FLOAT, &fx, &r.x));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 1), MRT_FLOAT, &fc, &r.cos));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 2), MRT_FLOAT, &fs, &r.sin));
  MRT_TRY(mrt_work_out(c, mrt_out(c, 0), MRT_FLOAT, &fy, &r.y));
  MRT_TRY(check_caches(&r));
  mrt_par_range(&c->par, r.batch * r.heads * r.len, (double)r.head, rows, &r);
  mrt_work_done(r.y, mrt_out(c, 0));
  return NULL;
}
static const mrt_op_version rotary_v[] = {{23}, {0}};
MRT_OP(RotaryEmbedding) = {.domain = "",
                           .name = "RotaryEmbedding",
                           .doc = "rotation of pairs by the angle of the position",
                           .in = "X:T, cos_cache:T, sin_cache:T, position_ids:int64?",
                           .out = "Y:T",
                           .types = "T=float,float16,bfloat16",
                           .attrs = "interleaved:int=0 num_heads:int rotary_embedding_dim:int=0",
                           .versions = rotary_v,
                           .infer = mrt_infer_same_shape,
                           .run = rotary_run};
