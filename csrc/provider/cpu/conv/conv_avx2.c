/* Row kernels on 256-bit vectors: a pixel is two registers. */
#include "provider/cpu/conv/conv_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { VW = 8, PIXELS = 8 };
typedef __m256 vf;
INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
typedef __m256i v_mask;
INLINE v_mask v_mask_of(bool yes) { return _mm256_set1_epi32(-(int)yes); }
INLINE vf v_load_if(v_mask m, const float *p) { return _mm256_maskload_ps(p, m); }
#define KEEP(x) __asm__("" : "+x"(x))
INLINE bool v_any_nan(vf x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0; }

#include "provider/cpu/conv/conv_simd.inl"
#include "provider/cpu/conv/winograd_simd.inl"

INLINE void transpose8(__m256 r[8]) {
  __m256 t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      r[i + 2 * h] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0x44);
      r[i + 2 * h + 1] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0xee);
    }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m256 lo = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
    const __m256 hi = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    t[c] = lo;
    t[4 + c] = hi;
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

static void to_c16(const float *src, int64_t plane, int channels, int64_t pixels, float *dst) {
  int64_t i = 0;
  for (; channels == 16 && i + 8 <= pixels; i += 8)
    for (int part = 0; part < 16; part += 8) {
      __m256 r[8];
      for (int l = 0; l < 8; ++l) r[l] = _mm256_loadu_ps(src + (part + l) * plane + i);
      transpose8(r);
      for (int k = 0; k < 8; ++k) _mm256_storeu_ps(dst + (i + k) * 16 + part, r[k]);
    }
  for (; i < pixels; ++i)
    for (int l = 0; l < 16; ++l) dst[i * 16 + l] = l < channels ? src[l * plane + i] : 0.0f;
}

static void from_c16(const float *src, int64_t plane, int channels, int64_t pixels, float *dst) {
  int64_t i = 0;
  for (; channels == 16 && i + 8 <= pixels; i += 8)
    for (int part = 0; part < 16; part += 8) {
      __m256 r[8];
      for (int k = 0; k < 8; ++k) r[k] = _mm256_loadu_ps(src + (i + k) * 16 + part);
      transpose8(r);
      for (int l = 0; l < 8; ++l) _mm256_storeu_ps(dst + (part + l) * plane + i, r[l]);
    }
  for (; i < pixels; ++i)
    for (int l = 0; l < channels; ++l) dst[l * plane + i] = src[i * 16 + l];
}

const mrt_conv_kernels mrt_conv_f32_avx2 = {.name = "avx2",
                                            .depthwise = depthwise,
                                            .depthwise_row = depthwise_row,
                                            .max = max,
                                            .mean = mean,
                                            .reduce_max = reduce_max,
                                            .reduce_sum = reduce_sum,
                                            .to_c16 = to_c16,
                                            .from_c16 = from_c16,
                                            .wino_input = wino_input,
                                            .wino_output = wino_output,
                                            .wino4_input = wino4_input,
                                            .wino4_output = wino4_output};
