/* com.microsoft.RotaryEmbedding: pairs of features turned by the angle of their position. */
#include "ops/common.h"

typedef struct job {
  const mrt_tensor *x, *ids;
  mrt_tensor *y;
  const float *cos, *sin; /* [positions, half] */
  int64_t batch, heads, len, size, half, s_batch, s_head, s_row;
  bool interleaved;
} job;

static int64_t position(const job *j, int64_t b, int64_t s) {
  const int64_t *v = j->ids->data;
  return mrt_tensor_count(j->ids) == 1 ? v[0] + s : v[b * j->len + s];
}

static void rows(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  const float *x = j->x->data;
  float *y = j->y->data;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t s = r % j->len, h = r / j->len % j->heads, b = r / j->len / j->heads;
    const int64_t at = b * j->s_batch + h * j->s_head + s * j->s_row;
    const float *c = j->cos + position(j, b, s) * j->half,
                *n = j->sin + position(j, b, s) * j->half;
    for (int64_t i = 0; i < j->half; ++i) {
      const int64_t p = at + (j->interleaved ? 2 * i : i), q = p + (j->interleaved ? 1 : j->half);
      const float u = x[p], v = x[q];
      y[p] = u * c[i] - v * n[i];
      y[q] = u * n[i] + v * c[i];
    }
    for (int64_t i = 2 * j->half; i < j->size; ++i) y[at + i] = x[at + i];
  }
}

static mrt_status *read_shapes(const mrt_kctx *c, job *j, const mrt_tensor *cos) {
  const int64_t heads = mrt_node_int(c->node, "num_heads"),
                dim = mrt_node_int(c->node, "rotary_embedding_dim");
  const mrt_tensor *x = j->x;
  if ((x->rank != 3 && x->rank != 4) || cos->rank != 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: input of rank %d", x->rank);
  j->half = cos->dims[1];
  j->batch = x->dims[0];
  j->len = x->dims[x->rank == 4 ? 2 : 1];
  if (x->rank == 4) {
    j->heads = x->dims[1];
    j->size = x->dims[3];
    j->s_row = j->size;
    j->s_head = j->len * j->size;
  } else {
    const int64_t size = dim > 0 && heads > 0 ? x->dims[2] / heads : 2 * j->half;
    j->heads = size ? x->dims[2] / size : 0;
    j->size = size;
    j->s_head = size;
    j->s_row = x->dims[2];
    if (!size || j->heads * size != x->dims[2] || (heads > 0 && heads != j->heads))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: heads do not fit the hidden size");
  }
  j->s_batch = j->heads * j->len * j->size;
  if (2 * j->half > j->size || (dim > 0 && dim != 2 * j->half))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: caches do not fit the head size");
  return NULL;
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *cos = mrt_in(c, 2), *sin = mrt_in(c, 3);
  job j = {.x = mrt_in(c, 0),
           .ids = mrt_in(c, 1),
           .y = mrt_out(c, 0),
           .interleaved = mrt_node_int(c->node, "interleaved") != 0};
  if (!j.y) return NULL;
  if (j.x->dtype != MRT_FLOAT) return mrt_no_type("RotaryEmbedding", j.x->dtype);
  MRT_TRY(read_shapes(c, &j, cos));
  if (!mrt_shape_equal(cos->rank, cos->dims, sin->rank, sin->dims))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: caches of different shapes");
  j.cos = cos->data;
  j.sin = sin->data;
  const int64_t ids = mrt_tensor_count(j.ids);
  if (ids != 1 && ids != j.batch * j.len)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: %lld position ids", (long long)ids);
  for (int64_t b = 0; b < j.batch; ++b)
    for (int64_t s = 0; s < j.len; ++s)
      if (position(&j, b, s) < 0 || position(&j, b, s) >= cos->dims[0])
        return MRT_ERR(MRT_INVALID_ARGUMENT, "RotaryEmbedding: position %lld, the caches have %lld",
                       (long long)position(&j, b, s), (long long)cos->dims[0]);
  mrt_par_range(&c->par, j.batch * j.heads * j.len, (double)j.size, rows, &j);
  return NULL;
}

static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP_IN(ms, RotaryEmbedding) = {.domain = "com.microsoft",
                                  .name = "RotaryEmbedding",
                                  .doc = "rotation of pairs by the angle of the position",
                                  .in = "input:T, position_ids:I, cos_cache:T, sin_cache:T",
                                  .out = "output:T",
                                  .types = "T=float,float16,bfloat16;I=int64",
                                  .attrs =
                                      "interleaved:int=0 is_packed_batching:int=0 num_heads:int=0 "
                                      "rotary_embedding_dim:int=0 scale:float=1.0",
                                  .versions = v1,
                                  .infer = mrt_infer_same_shape,
                                  .run = run};
