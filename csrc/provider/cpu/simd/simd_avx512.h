/* The vector primitives of simd_math.inl on 512-bit vectors. For files of this instruction set. */
#ifndef MRT_PROVIDER_CPU_SIMD_AVX512_H
#define MRT_PROVIDER_CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
enum { VW = 16 };
typedef __m512 vf;
typedef int vi __attribute__((vector_size(64)));
typedef __mmask16 vm;

INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vi v_seti(int x) { return (vi)_mm512_set1_epi32(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
/* Around the caches; p: at a whole vector. */
INLINE void v_stream(float *p, vf x) { _mm512_stream_ps(p, x); }
INLINE vf v_load_n(const float *p, int n) {
  return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void v_store_n(float *p, vf x, int n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}
INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
INLINE vf v_round(vf a) { return _mm512_roundscale_ps(a, 8); }
INLINE vf v_floor(vf a) { return _mm512_roundscale_ps(a, 9); }
INLINE vf v_ceil(vf a) { return _mm512_roundscale_ps(a, 10); }
INLINE vm v_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE vm v_le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
INLINE vm v_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
INLINE vf v_sel(vm m, vf t, vf f) { return _mm512_mask_blend_ps(m, f, t); }
INLINE vi v_cast_i(vf a) { return (vi)_mm512_castps_si512(a); }
INLINE vf v_cast_f(vi a) { return _mm512_castsi512_ps((__m512i)a); }
INLINE vi v_to_i(vf a) { return (vi)_mm512_cvtps_epi32(a); }
INLINE vf v_to_f(vi a) { return _mm512_cvtepi32_ps((__m512i)a); }
INLINE vf v_limit(vf x, float m) { return _mm512_range_ps(x, _mm512_set1_ps(m), 2); }
INLINE vf v_ldexp(vf a, vf n) { return _mm512_scalef_ps(a, n); }
INLINE float v_hsum(vf a) { return _mm512_reduce_add_ps(a); }
INLINE float v_hmax(vf a) { return _mm512_reduce_max_ps(a); }

#include "provider/cpu/simd/simd_math.inl"

#endif
