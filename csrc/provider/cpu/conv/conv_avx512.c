/* Row kernels on 512-bit vectors: a pixel is one register. */
#include "provider/cpu/conv/conv_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { VW = 16, PIXELS = 14 };
typedef __m512 vf;
INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
typedef __mmask16 v_mask;
INLINE v_mask v_mask_of(bool yes) { return (__mmask16) - (int)yes; }
INLINE vf v_load_if(v_mask m, const float *p) { return _mm512_maskz_loadu_ps(m, p); }
#define KEEP(x) __asm__("" : "+v"(x))
INLINE bool v_any_nan(vf x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0; }

#include "provider/cpu/conv/conv_simd.inl"
#include "provider/cpu/conv/winograd_simd.inl"

/* 16x16 transpose in registers: pairs, fours, then 128-bit quarters. */
INLINE void transpose16(__m512 r[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512d x = _mm512_castps_pd(t[i + h]), y = _mm512_castps_pd(t[i + h + 2]);
      r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
      r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
    }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 p = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
    const __m512 q = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
    const __m512 u = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const __m512 v = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    t[c] = _mm512_shuffle_f32x4(p, u, 0x88);
    t[8 + c] = _mm512_shuffle_f32x4(p, u, 0xdd);
    t[4 + c] = _mm512_shuffle_f32x4(q, v, 0x88);
    t[12 + c] = _mm512_shuffle_f32x4(q, v, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

static void to_c16(const float *src, int64_t plane, int channels, int64_t pixels, float *dst) {
  for (int64_t i = 0; i < pixels; i += 16) {
    const int64_t n = pixels - i < 16 ? pixels - i : 16;
    const __mmask16 m = (__mmask16)((1u << n) - 1);
    __m512 r[16];
#pragma GCC unroll 16
    for (int l = 0; l < 16; ++l)
      r[l] = l < channels ? _mm512_maskz_loadu_ps(m, src + l * plane + i) : _mm512_setzero_ps();
    transpose16(r);
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k)
      if (k < n) _mm512_storeu_ps(dst + (i + k) * 16, r[k]);
  }
}

static void from_c16(const float *src, int64_t plane, int channels, int64_t pixels, float *dst) {
  for (int64_t i = 0; i < pixels; i += 16) {
    const int64_t n = pixels - i < 16 ? pixels - i : 16;
    const __mmask16 m = (__mmask16)((1u << n) - 1);
    __m512 r[16];
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k)
      r[k] = k < n ? _mm512_loadu_ps(src + (i + k) * 16) : _mm512_setzero_ps();
    transpose16(r);
#pragma GCC unroll 16
    for (int l = 0; l < 16; ++l)
      if (l < channels) _mm512_mask_storeu_ps(dst + l * plane + i, m, r[l]);
  }
}

const mrt_conv_kernels mrt_conv_f32_avx512 = {.name = "avx512",
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
                                              .wino4_output = wino4_output,
                                              .pixel_tile = mrt_pixel_tile_avx512};
