/* The integer tile on AMX; results are stored with AVX-512. */
#include "provider/cpu/qgemm/qgemm_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#include "provider/cpu/qgemm/qgemm_store512.inl"

static __attribute__((noinline)) void finish(const mrt_qtile *t, int rows, const int32_t *sums) {
  const int halves = t->cols > 16 ? 2 : 1;
  for (int h = 0; h < halves; ++h) {
    const int left = t->cols - 16 * h;
    const __mmask16 m = (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
    const __m512i col = _mm512_loadu_si512(t->col + 16 * h);
    const __m512i zero = t->b_zero ? _mm512_loadu_si512(t->b_zero + 16 * h) : col;
    for (int i = 0; i < rows; ++i) {
      __m512i x = _mm512_add_epi32(_mm512_load_si512(sums + 32 * i + 16 * h), col);
      if (t->b_zero)
        x = _mm512_sub_epi32(x, _mm512_mullo_epi32(zero, _mm512_set1_epi32(t->a_sum[i])));
      store16(t, x, i, h, m);
    }
  }
}
#define FINISH(t, rows, sums) finish(t, rows, sums)
#include "provider/cpu/qgemm/qgemm_amx.inl"

/* Arrays are the business of the vector unit. */
static void quantize(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                     uint8_t *y) {
  mrt_qgemm_avx512vnni.quantize(x, n, scale, zero, is_signed, y);
}
static void dequantize(const uint8_t *x, int64_t n, float scale, int32_t zero, bool is_signed,
                       float *y) {
  mrt_qgemm_avx512vnni.dequantize(x, n, scale, zero, is_signed, y);
}
static void range(const float *x, int64_t n, float *io_min, float *io_max) {
  mrt_qgemm_avx512vnni.range(x, n, io_min, io_max);
}

const mrt_qgemm_kernels mrt_qgemm_amx = {.name = "amx",
                                         .max_rows = 32,
                                         .nr = 32,
                                         .split = 16,
                                         .wide = {EACH(WIDE)},
                                         .narrow = {EACH(NARROW)},
                                         .begin = begin,
                                         .end = end,
                                         .quantize = quantize,
                                         .dequantize = dequantize,
                                         .range = range};
