/* Exact products of nbits_exact.h in AVX-512 with its dot product of bytes. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "provider/cpu/nbits/nbits_exact.h"

#define INLINE static inline __attribute__((always_inline))

enum {
  DIGITS = MRT_NBITS_DIGITS,
  COLS = MRT_NBITS_PANEL,
  SPREAD = 14,  /* of exponents: integers below 2^38 hold 24 bits of every number */
  LEAST = 67,   /* exponent fields of the largest number: sums in units stay far from */
  MOST = 217,   /* underflow and overflow, so that scales may be any */
  AHEAD = 2048, /* bytes of weights fetched ahead */
  HALF = 8      /* the zero point of 4-bit weights */
};

/* ---- digits ---- */

/* Exponent fields of the largest and the smallest number that is not zero; none: 0 and 255. */
static void exponents(const float *a, int64_t n, uint32_t *most, uint32_t *least) {
  const __m512i all = _mm512_set1_epi32(0x7fffffff);
  __m512i hi = _mm512_setzero_si512(), lo = all;
  for (int64_t i = 0; i < n; i += 16) {
    const __m512i u = _mm512_and_si512(_mm512_loadu_si512(a + i), all);
    hi = _mm512_max_epu32(hi, u);
    lo = _mm512_mask_min_epu32(lo, _mm512_test_epi32_mask(u, u), lo, u);
  }
  *most = _mm512_reduce_max_epu32(hi) >> 23;
  *least = _mm512_reduce_min_epu32(lo) >> 23;
}

static float power(uint32_t field) {
  const uint32_t bits = field << 23;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* Eight integers to their digits, [digit][8]; the bytes behind those are garbage. */
INLINE __m512i digits_of(__m512i q) {
  const __m512i bias = _mm512_set1_epi64(0x80808080);
  const __m512i pairs = _mm512_set4_epi32(0x0f070e06, 0x0d050c04, 0x0b030a02, 0x09010800);
  const __m512i words = _mm512_set_epi16(31, 23, 15, 7, 30, 22, 14, 6, 29, 21, 13, 5, 28, 20, 12, 4,
                                         27, 19, 11, 3, 26, 18, 10, 2, 25, 17, 9, 1, 24, 16, 8, 0);
  q = _mm512_xor_si512(_mm512_add_epi64(q, bias), bias);
  return _mm512_permutexvar_epi16(words, _mm512_shuffle_epi8(q, pairs));
}

static void split(const float *a, int64_t blocks, int64_t block, const mrt_nbits_exact_row *x) {
  int8_t *to = x->digits;
  for (int64_t b = 0; b < blocks; ++b, a += block) {
    uint32_t most, least;
    exponents(a, block, &most, &least);
    const bool zero = most == 0 && least == 255;
    const bool good = zero || (most >= LEAST && most <= MOST && least + SPREAD >= most);
    /* 2^(most - 126) is above the largest; it becomes 2^38. */
    const __m512d up = _mm512_set1_pd(zero || !good ? 0 : 0x1p38 / (double)power(most + 1));
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < block; i += 8, to += 8 * DIGITS) {
      const __m512d v = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(a + i)), up);
      const __m512i d = digits_of(_mm512_cvttpd_epi64(v));
      _mm512_storeu_si512(to, d);
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), d);
    }
    int32_t part[16];
    _mm512_storeu_si512(part, sum);
    for (int i = 0; i < DIGITS; ++i)
      x->starts[b * DIGITS + i] = -HALF * (part[2 * i] + part[2 * i + 1]);
    x->units[b] = zero ? 0 : good ? power(most + 1) * 0x1p-38f : NAN;
  }
}

/* ---- products ---- */

/* 16 columns: digits' sums, from the highest down. */
INLINE __m512 value_of(const __m512i s[DIGITS]) {
  const __m512 base = _mm512_set1_ps(65536.0f);
  const __m512i mid = _mm512_add_epi32(s[2], _mm512_slli_epi32(s[3], 8));
  const __m512i low = _mm512_add_epi32(s[0], _mm512_slli_epi32(s[1], 8));
  const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[4]), base, _mm512_cvtepi32_ps(mid));
  return _mm512_fmadd_ps(f, base, _mm512_cvtepi32_ps(low));
}

INLINE __m512i four(const int8_t *p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}

/* One block; y += its sums. */
INLINE void block_dot(const uint32_t *q, int64_t words, const float *scales, const int8_t *digits,
                      const int32_t *starts, float unit, __m512 y[2]) {
  const __m512i low = _mm512_set1_epi8(15);
  __m512i s[2][DIGITS];
#pragma GCC unroll 5
  for (int d = 0; d < DIGITS; ++d) s[0][d] = s[1][d] = _mm512_set1_epi32(starts[d]);
  for (int64_t i = 0; i < words; ++i, q += COLS, digits += 8 * DIGITS) {
    __builtin_prefetch((const char *)q + AHEAD);
    __builtin_prefetch((const char *)q + AHEAD + 64);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const __m512i w = _mm512_loadu_si512(q + 16 * v);
      const __m512i w0 = _mm512_and_si512(w, low),
                    w1 = _mm512_and_si512(_mm512_srli_epi32(w, 4), low);
#pragma GCC unroll 5
      for (int d = 0; d < DIGITS; ++d) {
        s[v][d] = _mm512_dpbusd_epi32(s[v][d], w0, four(digits + 8 * d));
        s[v][d] = _mm512_dpbusd_epi32(s[v][d], w1, four(digits + 8 * d + 4));
      }
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v)
    y[v] = _mm512_fmadd_ps(_mm512_mul_ps(value_of(s[v]), _mm512_set1_ps(unit)),
                           _mm512_loadu_ps(scales + 16 * v), y[v]);
}

/* The same in floats. */
static void float_dot(const mrt_nbits_panel *p, int64_t b, const float *a, __m512 y[2]) {
  float sums[COLS];
  const mrt_nbits_panel one = {.q = p->q + b * p->block / 8 * COLS,
                               .scales = p->scales + b * COLS,
                               .blocks = 1,
                               .block = p->block,
                               .bits = 4};
  mrt_nbits_avx512vnni.dot_f32(&one, &(mrt_nbits_rows){.a = a + b * p->block}, 1, sums);
  y[0] = _mm512_add_ps(y[0], _mm512_loadu_ps(sums));
  y[1] = _mm512_add_ps(y[1], _mm512_loadu_ps(sums + 16));
}

static void dot(const mrt_nbits_panel *p, const mrt_nbits_exact_row *x, const float *a, float *y) {
  const int64_t words = p->block / 8;
  __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t b = 0; b < p->blocks; ++b) {
    if (isnan(x->units[b]))
      float_dot(p, b, a, sum);
    else
      block_dot(p->q + b * words * COLS, words, p->scales + b * COLS,
                x->digits + b * words * 8 * DIGITS, x->starts + b * DIGITS, x->units[b], sum);
  }
  _mm512_storeu_ps(y, sum[0]);
  _mm512_storeu_ps(y + 16, sum[1]);
}

const mrt_nbits_exact mrt_nbits_exact_avx512vnni = {split, dot};
