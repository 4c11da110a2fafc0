/* A step of a decoder spends its time on the memory of past keys and values: they are read once,
 * and each block of rows is stored while it is in L1, around the caches where it would only push
 * weights out of them. */
#include "provider/cpu/attention/attention_cache.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { ROWS = 8, AROUND = 64 << 10 };

mrt_attn_rows mrt_attn_rows_of(const mrt_attn *a, bool values, int64_t b, int64_t hk, bool store) {
  const mrt_attn_cache *c = values ? &a->v_cache : &a->k_cache;
  const mrt_attn_view *v = values ? &a->v : &a->k;
  const int64_t size = values ? a->dv : a->d, head = b * a->kv_heads + hk;
  const float *next = NULL; /* values behind keys, keys of the next head behind values */
  if (store && a->d == a->dv && c->past) {
    const int64_t then = values ? head + 1 : head;
    if (then < a->batch * a->kv_heads)
      next = (values ? a->k_cache.past : a->v_cache.past) + then * a->past * size;
  }
  const double bytes = (double)a->batch * (double)a->kv_heads * (double)a->sk * (double)size * 4;
  return (mrt_attn_rows){.past = c->past ? c->past + head * a->past * size : NULL,
                         .now = v->data + b * v->batch + hk * v->head,
                         .n_past = a->past,
                         .n = a->sk,
                         .step = v->row,
                         .size = size,
                         .present = store ? c->present + head * a->sk * size : NULL,
                         .around = bytes > AROUND,
                         .next = next};
}

static void store(const mrt_row_kernels *k, const mrt_attn_rows *r, int64_t row, const float *from,
                  int64_t rows) {
  float *to = r->present + row * r->size;
  const int64_t n = rows * r->size;
  if (r->around)
    k->copy_around(to, from, n);
  else
    memcpy(to, from, (size_t)n * sizeof(float));
}

void mrt_attn_rows_stored(void) {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

/* Rows [at, end) of at most ROWS that lie one behind the other: the first, and how far apart. */
static const float *block(const mrt_attn_rows *r, int64_t at, int64_t *end, int64_t *step) {
  const bool old = at < r->n_past;
  const int64_t last = old ? r->n_past : r->n;
  *end = last - at < ROWS ? last : at + ROWS;
  *step = old ? r->size : r->step;
  return old ? r->past + at * r->size : r->now + (at - r->n_past) * r->step;
}

static void fetch(const mrt_attn_rows *r, int64_t at, int64_t end) {
  if (!r->next || at >= r->n_past) return;
  const float *last = r->next + end * r->size;
  for (const float *x = r->next + at * r->size; x < last; x += 16) __builtin_prefetch(x);
}

static void store_block(const mrt_row_kernels *k, const mrt_attn_rows *r, int64_t at, int64_t end,
                        const float *x, int64_t step) {
  if (!r->present) return;
  if (step == r->size) {
    store(k, r, at, x, end - at);
    return;
  }
  for (; at < end; ++at, x += step) store(k, r, at, x, 1);
}

void mrt_attn_rows_dot(const mrt_row_kernels *k, const mrt_attn_rows *r, const float *q, float *s) {
  for (int64_t at = 0, end, step; at < r->n; at = end) {
    const float *x = block(r, at, &end, &step);
    fetch(r, at, end);
    for (int64_t i = at; i < end; ++i) s[i] = k->dot(q, x + (i - at) * step, r->size);
    store_block(k, r, at, end, x, step);
  }
}

void mrt_attn_rows_add(const mrt_row_kernels *k, const mrt_attn_rows *r, const float *s, int64_t n,
                       float *o) {
  for (int64_t at = 0, end, step; at < (r->present ? r->n : n); at = end) {
    const float *x = block(r, at, &end, &step);
    fetch(r, at, end);
    for (int64_t i = at; i < end && i < n; ++i) k->axpy(o, s[i], x + (i - at) * step, r->size);
    store_block(k, r, at, end, x, step);
  }
}

/* ---- past and new rows side by side first, for many query rows ---- */
typedef struct join_job {
  const mrt_attn *a;
  int64_t units, chunks;
} join_job;

static void join_chunk(void *arg, int64_t chunk, int worker) {
  const join_job *j = arg;
  (void)worker;
  const int64_t last = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < last; ++u) {
    const int64_t head = u / 2;
    mrt_attn_rows r =
        mrt_attn_rows_of(j->a, u % 2, head / j->a->kv_heads, head % j->a->kv_heads, true);
    r.around = false; /* it is read next */
    for (int64_t at = 0, end, step; at < r.n; at = end) {
      const float *x = block(&r, at, &end, &step);
      store_block(NULL, &r, at, end, x, step);
    }
  }
}

void mrt_attn_join(const mrt_par *par, const mrt_attn *a, mrt_attn *out) {
  join_job j = {.a = a, .units = 2 * a->batch * a->kv_heads};
  j.chunks =
      mrt_par_chunks(j.units, (double)j.units * (double)a->sk * (double)(a->d + a->dv) * 0.2);
  mrt_par_run(par, j.chunks, join_chunk, &j);
  *out = *a;
  const int64_t n = a->sk * a->d, nv = a->sk * a->dv;
  out->k = (mrt_attn_view){a->k_cache.present, a->kv_heads * n, n, a->d, 1};
  out->v = (mrt_attn_view){a->v_cache.present, a->kv_heads * nv, nv, a->dv, 1};
  out->k_cache = out->v_cache = (mrt_attn_cache){NULL, NULL};
  out->past = 0;
}
