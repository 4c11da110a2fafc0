/* The integer tile on AMX; results are stored with AVX-512. */
#include "provider/cpu/qgemm/qgemm_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#include "provider/cpu/qgemm/qgemm_store512.inl"

#define FINISH(t, sums) finish512(t, sums)
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
                                         .macs_per_ns = 1200,
                                         .shifts = true,
                                         .max_rows = 32,
                                         .nr = 32,
                                         .split = 16,
                                         .reads_s8 = true,
                                         .by_sixteen = true,
                                         .wide = WIDE,
                                         .narrow = NARROW,
                                         .begin = begin,
                                         .end = end,
                                         .quantize = quantize,
                                         .dequantize = dequantize,
                                         .range = range};
