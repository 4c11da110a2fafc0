/* The vector primitives of simd_math.inl on 256-bit vectors. For files of this instruction set. */
#ifndef MRT_PROVIDER_CPU_SIMD_AVX2_H
#define MRT_PROVIDER_CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
enum { VW = 8 };
typedef __m256 vf;
typedef int vi __attribute__((vector_size(32)));
typedef __m256 vm;

INLINE vf v_set(float x) { return _mm256_set1_ps(x); }
INLINE vi v_seti(int x) { return (vi)_mm256_set1_epi32(x); }
INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
/* Around the caches; p: at a whole vector. */
INLINE void v_stream(float *p, vf x) { _mm256_stream_ps(p, x); }
INLINE __m256i lanes_below(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf v_load_n(const float *p, int n) { return _mm256_maskload_ps(p, lanes_below(n)); }
INLINE void v_store_n(float *p, vf x, int n) { _mm256_maskstore_ps(p, lanes_below(n), x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
INLINE vf v_round(vf a) { return _mm256_round_ps(a, 8); }
INLINE vf v_floor(vf a) { return _mm256_round_ps(a, 9); }
INLINE vf v_ceil(vf a) { return _mm256_round_ps(a, 10); }
INLINE vm v_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
INLINE vm v_le(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
INLINE vm v_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
INLINE vf v_sel(vm m, vf t, vf f) { return _mm256_blendv_ps(f, t, m); }
INLINE vi v_cast_i(vf a) { return (vi)_mm256_castps_si256(a); }
INLINE vf v_cast_f(vi a) { return _mm256_castsi256_ps((__m256i)a); }
INLINE vi v_to_i(vf a) { return (vi)_mm256_cvtps_epi32(a); }
INLINE vf v_to_f(vi a) { return _mm256_cvtepi32_ps((__m256i)a); }
INLINE vf v_limit(vf x, float m) {
  return _mm256_min_ps(_mm256_set1_ps(m), _mm256_max_ps(_mm256_set1_ps(-m), x));
}
/* In two steps, so that each power of two is a normal number. */
INLINE vf v_ldexp(vf a, vf n) {
  const vi k = v_to_i(n), h = k >> 1;
  return a * v_cast_f((h + v_seti(127)) << 23) * v_cast_f((k - h + v_seti(127)) << 23);
}
INLINE float v_hsum(vf a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
INLINE float v_hmax(vf a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

#include "provider/cpu/simd/simd_math.inl"

#endif
