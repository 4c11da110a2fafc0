/* The walk over batch entries, heads and blocks of query rows. A unit of work packs the keys and
 * values of one head, then goes through its query rows block by block: scores, softmax and the
 * product with v stay in L2. One to four query rows (a decoder's step) are done without packing;
 * where bf16 tiles pay, both products run on them (attention_split.h). */
#include "provider/cpu/attention/attention.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/attention/attention_cache.h"
#include "provider/cpu/attention/attention_split.h"
#include "provider/cpu/rows/rows.h"

enum { FEW = 4, BLOCK = 96, ROWS = 12, UNITS = 8 };

static const mrt_attn_kernels *kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/attention/attention.def"
#undef MRT_KERNEL
}

typedef struct job {
  const mrt_attn *a;
  const mrt_attn_kernels *kern;
  const mrt_row_kernels *rows;
  int64_t block, splits; /* query rows at a time; units of one kv head */
  int64_t skp, dvp;      /* rounded up to panels */
  int64_t chunks, units;
  int parts;
  size_t at_v, at_s, at_o, at_m, at_k16, at_v16, at_t, floats; /* of a worker's scratch */
  float *scratch;
} job;

static int64_t round_up(int64_t n) { return (n + 31) / 32 * 32; }

int mrt_attn_parts(const mrt_attn *a) {
  static const int first[] = {3, 2, 1};
  const mrt_split_kernels *kern = mrt_split_kernels_get();
  if (a->sq < 8 || a->sk < 16 || a->d < 16 || a->dv < 16 || a->sk > INT32_MAX || a->d > INT32_MAX ||
      !kern)
    return 0;
  int best = 0;
  double cost = mrt_attn_tiles_cost(0, a->sq, a->sk, a->d, a->dv);
  for (int parts = first[a->precision]; parts <= kern->most_parts; ++parts) {
    const double c = mrt_attn_tiles_cost(parts, a->sq, a->sk, a->d, a->dv);
    if (c < cost) {
      cost = c;
      best = parts;
    }
  }
  return best;
}

static void plan(job *j, const mrt_attn *a) {
  *j = (job){.a = a, .skp = round_up(a->sk), .dvp = round_up(a->dv), .parts = mrt_attn_parts(a)};
  const int64_t step = j->parts ? MRT_STRIP : ROWS;
  j->block = BLOCK;
  while (j->block > step && j->block * j->skp > 1 << 17) j->block -= step;
  const int64_t pairs = a->batch * a->kv_heads, blocks = (a->sq + j->block - 1) / j->block;
  j->splits = pairs >= UNITS || pairs == 0 ? 1 : (UNITS + pairs - 1) / pairs;
  if (j->splits > blocks) j->splits = blocks ? blocks : 1;
  j->units = pairs * j->splits;
}

/* The parts of a worker's scratch; false on overflow. */
static bool lay_out(job *j) {
  const mrt_attn *a = j->a;
  const bool few = a->sq <= FEW;
  size_t k16 = 0, v16 = 0, tiles = 0;
  if (j->parts && (!mrt_attn_side_size(j->parts, a->d, j->skp, &k16) ||
                   !mrt_attn_side_size(j->parts, a->sk, j->dvp, &v16) ||
                   !mrt_attn_tiles_size(j->parts, a->sk > a->d ? a->sk : a->d, &tiles)))
    return false;
  const size_t parts[][2] = {
      {few ? 0 : (size_t)j->skp, (size_t)a->d},
      {few ? 0 : (size_t)j->dvp, (size_t)a->sk},
      {few ? 1 : (size_t)j->block, (size_t)j->skp},
      {few ? 1 : (size_t)j->block, (size_t)j->dvp},
      {1, (size_t)j->skp},
      {1, k16 / sizeof(float)},
      {1, v16 / sizeof(float)},
      {1, tiles / sizeof(float)},
  };
  enum { N = sizeof parts / sizeof *parts };
  size_t *const at[N] = {NULL,     &j->at_v,   &j->at_s,   &j->at_o,
                         &j->at_m, &j->at_k16, &j->at_v16, &j->at_t};
  size_t n = 0, one;
  for (int i = 0; i < N; ++i) {
    if (at[i]) *at[i] = n;
    if (!mrt_size_mul(parts[i][0], parts[i][1], &one) || one > SIZE_MAX / 64 ||
        !mrt_size_add(n, (one + 15) & ~(size_t)15, &n))
      return false;
  }
  if (n >= SIZE_MAX / 64) return false;
  j->floats = mrt_worker_pitch(n * sizeof(float)) / sizeof(float);
  return true;
}

size_t mrt_attn_scratch_size(const mrt_par *par, const mrt_attn *a) {
  job j;
  size_t bytes;
  plan(&j, a);
  if (!lay_out(&j) ||
      !mrt_size_mul(j.floats * sizeof(float), (size_t)mrt_par_workers(par), &bytes) ||
      !mrt_size_add(bytes, MRT_WORKER_PAGE, &bytes))
    return SIZE_MAX;
  return bytes;
}

static const float *at(const mrt_attn_view *v, int64_t b, int64_t h, int64_t i) {
  return v->data + b * v->batch + h * v->head + i * v->row;
}

/* The mask of one query row, spread out if it is one number. */
static const float *mask_row(const job *j, int64_t b, int64_t h, int64_t i, float *own) {
  const mrt_attn *a = j->a;
  if (!a->mask) return NULL;
  const float *m = a->mask + b * a->mask_batch + h * a->mask_head + i * a->mask_row;
  if (a->mask_col == 1 || a->sk <= 1) return m;
  for (int64_t k = 0; k < a->sk; ++k) own[k] = *m;
  return own;
}

/* How many keys query i sees. */
static int64_t visible(const mrt_attn *a, int64_t i) {
  if (i >= a->causal_rows) return a->sk;
  const int64_t n = i + a->causal_offset + 1;
  return n < 0 ? 0 : n > a->sk ? a->sk : n;
}

/* What a row of exponentials is multiplied with. */
static float weight(const job *j, const float *mask, int64_t keys, float sum) {
  if (!keys) return 0.0f;
  const bool dark = j->a->masked_is_zero && mask && sum != sum;
  return dark && j->rows->max(mask, keys) == -INFINITY ? 0.0f : 1.0f / sum;
}

static float *out_row(const mrt_attn *a, int64_t b, int64_t h, int64_t i) {
  return a->out + b * a->out_batch + h * a->out_head + i * a->out_row;
}

/* ---- few query rows: dot products where k lies ---- */

static void few_scores(const job *j, const float *q, int64_t b, int64_t hk, int64_t n, bool first,
                       float *s) {
  const mrt_attn *a = j->a;
  const float *k = at(&a->k, b, hk, 0);
  if (a->k_cache.present) {
    const mrt_attn_rows r = mrt_attn_rows_of(a, false, b, hk, first);
    mrt_attn_rows_dot(j->rows, &r, q, s);
    return;
  }
  if (a->k.col == 1) {
    for (int64_t t = 0; t < n; ++t) s[t] = j->rows->dot(q, k + t * a->k.row, a->d);
    return;
  }
  memset(s, 0, (size_t)n * sizeof *s);
  for (int64_t p = 0; p < a->d; ++p) j->rows->axpy(s, q[p], k + p * a->k.col, n);
}

/* o = s v over the first n keys. */
static void few_values(const job *j, const float *s, int64_t b, int64_t hk, int64_t n, bool first,
                       float *o) {
  const mrt_attn *a = j->a;
  const float *v = at(&a->v, b, hk, 0);
  memset(o, 0, (size_t)a->dv * sizeof *o);
  if (a->v_cache.present) {
    const mrt_attn_rows r = mrt_attn_rows_of(a, true, b, hk, first);
    mrt_attn_rows_add(j->rows, &r, s, n, o);
  } else if (a->v.col == 1) {
    for (int64_t t = 0; t < n; ++t) j->rows->axpy(o, s[t], v + t * a->v.row, a->dv);
  } else {
    for (int64_t p = 0; p < a->dv; ++p) o[p] = j->rows->dot(s, v + p * a->v.col, n);
  }
}

/* The first head of a group stores the group's cache. */
static void few_rows(const job *j, int64_t b, int64_t h, int64_t hk, bool store, float *own) {
  const mrt_attn *a = j->a;
  float *s = own + j->at_s, *o = own + j->at_o, *m = own + j->at_m;
  for (int64_t i = 0; i < a->sq; ++i) {
    const int64_t n = visible(a, i);
    const bool first = store && i == 0;
    few_scores(j, at(&a->q, b, h, i), b, hk, n, first, s);
    const float *mask = mask_row(j, b, h, i, m);
    const float w = weight(j, mask, n, j->rows->exp_sum(s, s, mask, a->scale, n));
    if (w == 0.0f) memset(s, 0, (size_t)n * sizeof *s); /* it may hold NaN */
    few_values(j, s, b, hk, n, first, o);
    j->rows->scale(out_row(a, b, h, i), o, w, a->dv);
  }
}

/* ---- blocks of query rows ---- */

static void pack(const job *j, int64_t b, int64_t hk, float *own) {
  const mrt_attn *a = j->a;
  const mrt_par alone = {.threads = 1};
  const bool trans = a->k.col == 1; /* k is [positions, features]: k^T is wanted */
  mrt_gemm_pack_b(&alone, at(&a->k, b, hk, 0), trans ? a->k.row : a->k.col, trans, a->d, a->sk,
                  own);
  const bool plain = a->v.col == 1;
  mrt_gemm_pack_b(&alone, at(&a->v, b, hk, 0), plain ? a->v.row : a->v.col, !plain, a->sk, a->dv,
                  own + j->at_v);
}

/* Keys and values, packed and split, in a worker's memory. */
typedef struct sides {
  mrt_attn_tiles tiles;
  mrt_attn_side k, v;
} sides;
static sides sides_of(const job *j, float *own) {
  const mrt_attn *a = j->a;
  return (sides){{mrt_split_kernels_get(), j->kern, j->parts, own + j->at_t},
                 {own, (uint16_t *)(own + j->at_k16), a->d, j->skp},
                 {own + j->at_v, (uint16_t *)(own + j->at_v16), a->sk, j->dvp}};
}

/* c[m, cols] = a[m, k] b, whole panels of columns. */
static void product(const job *j, const mrt_attn_tiles *t, float *c, int64_t ldc, const float *a,
                    int64_t lda, const mrt_attn_side *b, int64_t m, int64_t k, int64_t cols) {
  if (j->parts) {
    mrt_attn_tiles_run(t, c, ldc, a, lda, b, m, k, cols);
    return;
  }
  for (int64_t n = 0; n < cols; n += 32)
    j->kern->panel(c + n, ldc, a, lda, b->panels + n * b->k, m, k);
}

static void query_block(const job *j, int64_t b, int64_t h, int64_t i0, int64_t n, float *own) {
  const mrt_attn *a = j->a;
  float *s = own + j->at_s, *o = own + j->at_o, *m = own + j->at_m, weights[BLOCK];
  const float *q = at(&a->q, b, h, i0);
  const int64_t seen = visible(a, i0 + n - 1); /* by the last row, hence by the block */
  const sides t = sides_of(j, own);
  product(j, &t.tiles, s, j->skp, q, a->q.row, &t.k, n, a->d, round_up(seen));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t keys = visible(a, i0 + i);
    float *row = s + i * j->skp;
    const float *mask = mask_row(j, b, h, i0 + i, m);
    weights[i] = weight(j, mask, keys, j->rows->exp_sum(row, row, mask, a->scale, keys));
    if (weights[i] == 0.0f) memset(row, 0, (size_t)keys * sizeof *row); /* it may hold NaN */
    if (keys < seen) memset(row + keys, 0, (size_t)(seen - keys) * sizeof *row);
  }
  product(j, &t.tiles, o, j->dvp, s, j->skp, &t.v, n, seen, j->dvp);
  for (int64_t i = 0; i < n; ++i)
    j->rows->scale(out_row(a, b, h, i0 + i), o + i * j->dvp, weights[i], a->dv);
}

static void unit(const job *j, int64_t u, float *own) {
  const mrt_attn *a = j->a;
  const int64_t pair = u / j->splits, part = u % j->splits, group = a->heads / a->kv_heads;
  const int64_t b = pair / a->kv_heads, hk = pair % a->kv_heads;
  if (a->sq > FEW) pack(j, b, hk, own);
  const sides s = sides_of(j, own);
  if (j->parts) {
    mrt_attn_side_split(&s.tiles, &s.k);
    mrt_attn_side_split(&s.tiles, &s.v);
    s.tiles.kern->begin();
  }
  const int64_t blocks = (a->sq + j->block - 1) / j->block;
  const int64_t first = mrt_par_begin(blocks, j->splits, part) * j->block;
  const int64_t last = mrt_par_begin(blocks, j->splits, part + 1) * j->block;
  for (int64_t h = hk * group; h < (hk + 1) * group; ++h) {
    if (a->sq <= FEW) {
      few_rows(j, b, h, hk, h == hk * group, own);
      continue;
    }
    for (int64_t i = first; i < last && i < a->sq; i += j->block)
      query_block(j, b, h, i, a->sq - i < j->block ? a->sq - i : j->block, own);
  }
  if (j->parts) s.tiles.kern->end();
  if (a->k_cache.present) mrt_attn_rows_stored();
}

static void run_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  float *own = j->scratch + (size_t)worker * j->floats;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) unit(j, u, own);
}

void mrt_attn_run(const mrt_par *par, const mrt_attn *a, void *scratch) {
  job j;
  mrt_attn joined;
  if (a->k_cache.present && (a->sq > FEW || a->sq == 0)) {
    mrt_attn_join(par, a, &joined);
    a = &joined;
  }
  plan(&j, a);
  if (!j.units || !a->sq || !lay_out(&j)) return;
  j.kern = kernels_get();
  j.rows = mrt_row_kernels_get();
  j.scratch = mrt_worker_first(scratch);
  double ns = (double)a->batch * (double)a->heads * (double)a->sq * (double)a->sk *
              ((double)(a->d + a->dv) * 0.02 + 1);
  if (a->k_cache.present) /* memory, most of it far away */
    ns += (double)a->batch * (double)a->kv_heads * (double)a->sk * (double)(a->d + a->dv) * 0.6;
  j.chunks = mrt_par_chunks(j.units, ns);
  mrt_par_run(par, j.chunks, run_chunk, &j);
}
