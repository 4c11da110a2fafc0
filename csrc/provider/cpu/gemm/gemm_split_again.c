/* Blocks of a split product whose sums tiles cannot make (infinities, NaN, denormal sums), again in
 * float32 arithmetic, row by row. */
#include <math.h>
#include <string.h>

#include "provider/cpu/gemm/gemm_split_job.h"

static float from_bf16(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* From bf16 tiles of B; slow, but hardly ever needed. */
static void recompute16(const split_job *j, int64_t item, int64_t strip, int64_t panel, int cols,
                        float *acc) {
  const mrt_gemm *g = &j->g;
  const int64_t group = (int64_t)j->parts * MRT_SPLIT_GROUP_PART;
  const uint16_t *b = split_parts(j, (split_piece){.p = panel});
  for (int64_t r = 0; r < strip_rows(j, strip); ++r) {
    const int64_t row = strip * MRT_STRIP + r;
    const float *a = g->a + item * j->batch.a + row * (g->a_trans ? 1 : g->lda);
    for (int c = 0; c < cols; ++c) {
      float sum = 0;
      for (int64_t k = 0; k < g->k; ++k) {
        const int kk = (int)(k % 32);
        const uint16_t *at =
            b + k / 32 * group + c / 16 * 512 + kk % 16 * 32 + c % 16 * 2 + kk / 16;
        float x = from_bf16(at[0]);
        /* The rest of an infinite number is not one. */
        if (j->parts > 1 && isfinite(x)) x += from_bf16(at[MRT_SPLIT_GROUP_PART]);
        sum = fmaf(a[k * (g->a_trans ? g->lda : 1)], x, sum);
      }
      acc[r * MRT_STRIP + c] = sum;
    }
  }
}

void mrt_split_again(const split_job *j, float *tmp, int64_t item, int64_t strip, int64_t panel,
                     int cols, float *acc) {
  const mrt_gemm *g = &j->g;
  const float *a = g->a + item * j->batch.a;
  if (j->b16) {
    recompute16(j, item, strip, panel, cols, acc);
    return;
  }
  const mrt_kblock whole = {0, (int32_t)g->k};
  const float *b = split_floats(j, item, (split_piece){.p = panel});
  mrt_tile t = {
      .a_row = g->lda, .blocks = &whole, .n_blocks = 1, .c_row = MRT_STRIP, .c_col16 = 16};
  for (int64_t r = 0; r < strip_rows(j, strip); ++r) {
    const int64_t row = strip * MRT_STRIP + r;
    t.a = a + row * g->lda;
    if (g->a_trans) {
      for (int64_t k = 0; k < g->k; ++k) tmp[k] = a[k * g->lda + row];
      t.a = tmp;
    }
    t.a_hi = t.a;
    for (int n = 0; n < cols; n += j->fma->nr) {
      t.b = b + n;
      t.c = acc + r * MRT_STRIP + n;
      t.cols = (int)split_min(j->fma->nr, cols - n);
      (t.cols <= 16 && j->fma->nr > 16 ? j->fma->narrow : j->fma->wide)[1](&t);
    }
  }
}
