/* The same primitives on one float, in libm's words: what the vector forms are compared with. Only
 * what the row kernels use. VW is 1, so there are no tails. */
#ifndef MRT_PROVIDER_CPU_SIMD_SCALAR_H
#define MRT_PROVIDER_CPU_SIMD_SCALAR_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define INLINE static inline
enum { VW = 1 };
typedef float vf;
typedef bool vm;

INLINE vf v_set(float x) { return x; }
INLINE vf v_load(const float *p) { return *p; }
INLINE void v_store(float *p, vf x) { *p = x; }
INLINE void v_stream(float *p, vf x) { *p = x; }
INLINE vf v_load_n(const float *p, int n) { return n > 0 ? *p : 0.0f; }
INLINE void v_store_n(float *p, vf x, int n) {
  if (n > 0) *p = x;
}
INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf v_min(vf a, vf b) { return a < b ? a : b; }
INLINE vf v_max(vf a, vf b) { return a > b ? a : b; }
INLINE vf v_sqrt(vf a) { return sqrtf(a); }
INLINE vm v_eq(vf a, vf b) { return a == b; }
INLINE vf v_sel(vm m, vf t, vf f) { return m ? t : f; }
INLINE vf v_abs(vf a) { return fabsf(a); }
INLINE vf v_exp(vf a) { return expf(a); }
INLINE vf v_sigmoid(vf a) { return 1.0f / (1.0f + expf(-a)); }
INLINE vf v_tanh(vf a) { return tanhf(a); }
INLINE float v_hsum(vf a) { return a; }
INLINE float v_hmax(vf a) { return a; }

#endif
