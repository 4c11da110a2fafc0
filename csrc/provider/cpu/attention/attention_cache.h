/* Keys and values of earlier calls (mrt_attn_cache): past and new rows side by side in `present`,
 * which is written while they are read. */
#ifndef MRT_PROVIDER_CPU_ATTENTION_CACHE_H
#define MRT_PROVIDER_CPU_ATTENTION_CACHE_H

#include "provider/cpu/attention/attention.h"
#include "provider/cpu/rows/rows.h"

/* One head's rows: those of past, then those of the call. */
typedef struct mrt_attn_rows {
  const float *past, *now;
  int64_t n_past, n, step, size; /* n: of both; step: between rows of `now`; floats in a row */
  float *present;                /* NULL: they are only read */
  bool around;                   /* present is written around the caches */
  const float *next;             /* what is read next, as much as past; NULL: nobody knows */
} mrt_attn_rows;

/* Keys (or values) of one head; stored in present when `store`. */
mrt_attn_rows mrt_attn_rows_of(const mrt_attn *a, bool values, int64_t b, int64_t hk, bool store);

/* s[i] = q . row i, for all rows. */
void mrt_attn_rows_dot(const mrt_row_kernels *k, const mrt_attn_rows *r, const float *q, float *s);
/* o += sum of s[i] row i over the first n rows; all are stored. */
void mrt_attn_rows_add(const mrt_row_kernels *k, const mrt_attn_rows *r, const float *s, int64_t n,
                       float *o);
/* When all of a thread's rows are stored: other threads may read them from here on. */
void mrt_attn_rows_stored(void);

/* Fills both presents; *out: the same attention that reads everything from there. */
void mrt_attn_join(const mrt_par *par, const mrt_attn *a, mrt_attn *out);

#endif
