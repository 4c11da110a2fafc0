/* Input and ends of split convolutions in AVX-512 with BF16, for all kernels that have these.
 * conv_split_model.c says what is computed. */
#include <immintrin.h>

#include "provider/cpu/conv/conv_split.h"

#define INLINE         static inline __attribute__((always_inline))
#define FETCH(address) _mm_prefetch(address, _MM_HINT_T1)

/* From [x0 | x1] to pairs. */
static const uint16_t interleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                        21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                        11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

/* Two registers of floats to registers of pairs of bf16, one per part. */
INLINE void split_two(__m512 x0, __m512 x1, const int parts, __m512i order, uint16_t *dst,
                      int64_t part) {
  const __m512i high = _mm512_set1_epi32((int)0xffff0000u), half = _mm512_set1_epi32(0x8000);
#pragma GCC unroll 2
  for (int p = 0; p + 1 < parts; ++p) {
    const __m512i t0 = _mm512_add_epi32((__m512i)x0, half);
    const __m512i h0 = _mm512_and_si512(t0, high);
    const __m512i h1 = _mm512_and_si512(_mm512_add_epi32((__m512i)x1, half), high);
    _mm512_store_si512(dst + p * part, _mm512_or_si512(_mm512_srli_epi32(t0, 16), h1));
    x0 = _mm512_sub_ps(x0, (__m512)h0);
    x1 = _mm512_sub_ps(x1, (__m512)h1);
  }
  const __m512i last = (__m512i)_mm512_cvtne2ps_pbh(x1, x0);
  _mm512_store_si512(dst + (parts - 1) * part, _mm512_permutexvar_epi16(order, last));
}

/* Lanes whose sum cannot be trusted: neither zero nor 2^-90 <= |x| < infinity. */
INLINE __mmask16 untrusted(__m512 x) {
  const __m512i low = _mm512_set1_epi32((127 - 90) << 23), all = _mm512_set1_epi32(0x7fffffff);
  const __m512i span = _mm512_set1_epi32((int)(0x7f800000u - ((127 - 90) << 23)));
  const __m512i u = _mm512_and_si512((__m512i)x, all);
  return _mm512_mask_cmpge_epu32_mask(_mm512_test_epi32_mask(u, u), _mm512_sub_epi32(u, low), span);
}

/* Small sums under a bias or residual of normal size: that is the result to the last bit, or one
 * beside it, whatever was flushed. Channels that training has let die look like that. */
INLINE __mmask16 absorbed(__m512 sum, __m512 y, __mmask16 of) {
  const __mmask16 m =
      _mm512_mask_cmp_ps_mask(of, _mm512_abs_ps(sum), _mm512_set1_ps(0x1p-90f), _CMP_LT_OQ);
  return _mm512_mask_cmp_ps_mask(m, _mm512_abs_ps(y), _mm512_set1_ps(0x1p-60f), _CMP_GE_OQ);
}

typedef struct finish_row {
  __m512 bias[2], lo, hi;
} finish_row;

/* Half a row of sums at acc, one by one. Bounds stand first: max and min return the second when one
 * is NaN. */
INLINE uint32_t finish_half(const finish_row *f, const int half, const float *acc,
                            const float *residual, float *out) {
  const __m512 sum = _mm512_load_ps(acc + 16 * half);
  __mmask16 bad = untrusted(sum);
  __m512 x = _mm512_add_ps(sum, f->bias[half]);
  if (residual) x = _mm512_add_ps(x, _mm512_loadu_ps(residual));
  if (bad) bad &= (__mmask16)~absorbed(sum, x, bad);
  x = _mm512_min_ps(f->hi, _mm512_max_ps(f->lo, x));
  _mm512_mask_storeu_ps(out, (__mmask16)~bad, x);
  return bad;
}

INLINE finish_row finish_of(const mrt_split_out *o) {
  return (finish_row){{_mm512_loadu_ps(o->bias), _mm512_loadu_ps(o->bias + 16)},
                      _mm512_set1_ps(o->clip ? o->lo : -__builtin_inff()),
                      _mm512_set1_ps(o->clip ? o->hi : __builtin_inff())};
}

/* Rows that are not all good, or may not be. Not inlined: what it holds in registers would be made
 * ready for good rows, too. */
__attribute__((noinline, cold)) static void finish_doubtful(mrt_split_out *o, int r, int end) {
  const finish_row f = finish_of(o);
  for (; r < end; ++r) {
    const float *acc = o->acc + r * 32;
    const int64_t at = o->rows[r];
    uint32_t b = 0;
    for (int half = 0; half < (o->col16 ? 2 : 1) && at >= 0; ++half) {
      const int64_t to = at + half * o->col16;
      b |= finish_half(&f, half, acc, o->residual ? o->residual + to : NULL, o->out + to)
           << (16 * half);
    }
    o->bad[r] = b;
    o->any |= b;
  }
}

/* The same for sums that are all trusted. */
INLINE void finish_good(const finish_row *f, const int half, const float *acc,
                        const float *residual, float *out, const bool top) {
  __m512 x = _mm512_add_ps(_mm512_load_ps(acc + 16 * half), f->bias[half]);
  if (residual) x = _mm512_add_ps(x, _mm512_loadu_ps(residual));
  x = _mm512_max_ps(f->lo, x);
  if (top) x = _mm512_min_ps(f->hi, x);
  _mm512_storeu_ps(out, x);
}

/* Is every sum of `n` rows finite and not small? Zeros do not count as such here: this only tells
 * the usual case apart, in two operations for 16 sums. */
INLINE bool all_good(const float *acc, int n, const bool two) {
  __m512 none = _mm512_setzero_ps(), least = _mm512_set1_ps(1.0f);
  for (const float *end = acc + n * 32; acc < end; acc += 32)
    for (int half = 0; half < (two ? 2 : 1); ++half) {
      const __m512 sum = _mm512_load_ps(acc + 16 * half);
      none = _mm512_fmadd_ps(sum, _mm512_setzero_ps(), none); /* infinity * 0 is NaN */
      least = _mm512_range_ps(least, sum, 2);                 /* smaller magnitude */
    }
  least = _mm512_add_ps(least, none);
  return _mm512_cmp_ps_mask(least, _mm512_set1_ps(0x1p-90f), _CMP_GE_OQ) == 0xffff;
}

/* Everything that all rows share is in registers: stores to `out` might change o for all that the
 * compiler knows. */
INLINE void finish_some(mrt_split_out *o, int r, int end, const bool add, const bool two,
                        const bool top) {
  const finish_row f = finish_of(o);
  const float *acc = o->acc + r * 32, *residual = o->residual;
  const int64_t *rows = o->rows, col16 = o->col16;
  float *out = o->out;
  uint32_t *bad = o->bad;
  if (__builtin_expect(!all_good(acc, end - r, two), 0)) {
    finish_doubtful(o, r, end);
    return;
  }
  for (; r < end; ++r, acc += 32) {
    const int64_t at = rows[r];
    bad[r] = 0;
    if (at < 0) continue;
    finish_good(&f, 0, acc, add ? residual + at : NULL, out + at, top);
    if (two) finish_good(&f, 1, acc, add ? residual + at + col16 : NULL, out + at + col16, top);
  }
}

/* Which columns of a row of sums, whose results became parts, cannot be trusted. */
__attribute__((noinline, cold)) static void mark_doubtful(mrt_split_out *o, int r, int end) {
  const finish_row f = finish_of(o);
  for (; r < end; ++r) {
    for (int half = 0; half < 2 && o->rows[r] >= 0; ++half) {
      const __m512 sum = _mm512_load_ps(o->acc + r * 32 + 16 * half);
      const __mmask16 m = untrusted(sum);
      o->bad[r] |= (uint32_t)(m & (__mmask16)~absorbed(sum, _mm512_add_ps(sum, f.bias[half]), m))
                   << (16 * half);
    }
    o->any |= o->bad[r];
  }
}

/* Rows whose results become parts. Marked elements get what was computed. */
INLINE void finish_parts(mrt_split_out *o, int r, int end, const int parts) {
  const finish_row f = finish_of(o);
  const __m512i order = _mm512_loadu_si512(interleave);
  const float *acc = o->acc + r * 32;
  const int64_t *rows = o->rows, part = o->part;
  uint16_t *halves = o->halves;
  uint32_t *bad = o->bad;
  const bool good = all_good(acc, end - r, true);
  for (int i = r; i < end; ++i, acc += 32) {
    __m512 x[2];
    bad[i] = 0;
    if (rows[i] < 0) continue;
    for (int half = 0; half < 2; ++half) {
      x[half] = _mm512_add_ps(_mm512_load_ps(acc + 16 * half), f.bias[half]);
      x[half] = _mm512_min_ps(f.hi, _mm512_max_ps(f.lo, x[half]));
    }
    split_two(x[0], x[1], parts, order, halves + 2 * rows[i], part);
  }
  if (__builtin_expect(!good, 0)) mark_doubtful(o, r, end);
}

INLINE void finish_columns(mrt_split_out *o, int r, int end, const bool two) {
  const bool top = o->clip && o->hi < __builtin_inff();
  if (o->residual && top)
    finish_some(o, r, end, true, two, true);
  else if (o->residual)
    finish_some(o, r, end, true, two, false);
  else if (top)
    finish_some(o, r, end, false, two, true);
  else
    finish_some(o, r, end, false, two, false);
}

INLINE void finish_rows(mrt_split_out *o, int r, int end) {
  if (o->parts == 1)
    finish_parts(o, r, end, 1);
  else if (o->parts)
    finish_parts(o, r, end, 2);
  else if (o->col16)
    finish_columns(o, r, end, true);
  else
    finish_columns(o, r, end, false);
}

static inline __mmask16 mask_of(int n) {
  return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1);
}

INLINE void line(const mrt_split_line *l, const int parts) {
  const __m512i order = _mm512_loadu_si512(interleave);
  const __mmask16 m0 = mask_of(l->channels), m1 = mask_of(l->channels - 16);
  const float *src = l->src;
  uint16_t *dst = l->dst;
  for (int64_t i = 0; i < l->count; ++i, src += l->step, dst += MRT_SPLIT_PIXEL)
    split_two(_mm512_maskz_loadu_ps(m0, src), _mm512_maskz_loadu_ps(m1, src + l->block), parts,
              order, dst, l->part);
}

static void split_line(const mrt_split_line *l, int parts) {
  if (parts == 1)
    line(l, 1);
  else if (parts == 2)
    line(l, 2);
  else
    line(l, 3);
}
