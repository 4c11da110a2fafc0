/* The two loops of qplanes.h. The dot product is inline assembly: with the intrinsic gcc 12 copies
 * and spills the accumulators. */
#include <immintrin.h>

#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/qplanes.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- interleaving ---- */
INLINE void four_rows(const __m512i t[4], uint8_t *to, int64_t plane) {
  const __m512i low = _mm512_unpacklo_epi8(t[0], t[1]), high = _mm512_unpackhi_epi8(t[0], t[1]),
                low2 = _mm512_unpacklo_epi8(t[2], t[3]), high2 = _mm512_unpackhi_epi8(t[2], t[3]);
  _mm512_storeu_si512(to, _mm512_unpacklo_epi16(low, low2));
  _mm512_storeu_si512(to + plane, _mm512_unpackhi_epi16(low, low2));
  _mm512_storeu_si512(to + 2 * plane, _mm512_unpacklo_epi16(high, high2));
  _mm512_storeu_si512(to + 3 * plane, _mm512_unpackhi_epi16(high, high2));
}
INLINE void fill(const mrt_qplanes_fill *f, const bool flips) {
  const __m512i flip = _mm512_set1_epi8((char)f->flip);
  uint8_t *to = f->to;
  for (int64_t i = 0; i < f->runs; ++i, to += f->bytes)
    for (int64_t at = 0; at < f->bytes; at += 64) {
      const int64_t off = i * f->step + at;
      __m512i t[4];
      if (__builtin_expect(off <= f->safe, 1)) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) t[r] = _mm512_loadu_si512(f->row[r] + (off & f->mask[r]));
      } else {
        const int64_t left = f->bytes - at;
        const __mmask64 m = left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r)
          t[r] = _mm512_maskz_loadu_epi8(m, f->row[r] + (off & f->mask[r]));
      }
#pragma GCC unroll 4
      for (int r = 0; r < 4 && flips; ++r) t[r] = _mm512_xor_si512(t[r], flip);
      four_rows(t, to + at, f->plane);
    }
}
void mrt_qplanes_fill_avx512vnni(const mrt_qplanes_fill *f) {
  f->flip ? fill(f, true) : fill(f, false);
}

/* ---- dot products ---- */
INLINE __m512i dot(__m512i acc, __m512i x, __m512i w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  return acc;
}

/* PLAIN: the zero point is the lowest number, nothing else bounds results, and sums are shifted. */
enum { PLAIN_U8, PLAIN_S8, ANY_U8, ANY_S8 };
typedef struct finish {
  __m512i shift, zero, lo, hi;
} finish;

/* less: 2^23 * scale. */
INLINE __m512i scaled(const finish *f, __m512i x, __m512 scale, __m512 less, const int kind) {
  if (kind == PLAIN_U8 || kind == PLAIN_S8)
    return _mm512_cvtps_epi32(_mm512_fmsub_ps(_mm512_castsi512_ps(x), scale, less));
  const __m512 n = _mm512_cvtepi32_ps(_mm512_sub_epi32(x, f->shift));
  return _mm512_cvtps_epi32(_mm512_mul_ps(n, scale));
}
INLINE __m512i bytes_of(const finish *f, const __m512i acc[4], const __m512 scale[4],
                        const __m512 less[4], const int kind) {
  __m512i p = _mm512_packs_epi32(scaled(f, acc[0], scale[0], less[0], kind),
                                 scaled(f, acc[1], scale[1], less[1], kind));
  __m512i q = _mm512_packs_epi32(scaled(f, acc[2], scale[2], less[2], kind),
                                 scaled(f, acc[3], scale[3], less[3], kind));
  if (kind == PLAIN_U8) return _mm512_packus_epi16(p, q);
  if (kind == PLAIN_S8)
    return _mm512_xor_si512(_mm512_packus_epi16(p, q), _mm512_set1_epi8((char)0x80));
  p = _mm512_adds_epi16(p, f->zero);
  q = _mm512_adds_epi16(q, f->zero);
  if (kind == ANY_S8)
    return _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(p, q), f->lo), f->hi);
  return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(p, q), f->lo), f->hi);
}

INLINE finish finish_of(const mrt_qplanes_dots *d) {
  return (finish){_mm512_set1_epi32(d->shifted ? MRT_QSHIFT : 0),
                  _mm512_set1_epi16((int16_t)d->zero), _mm512_set1_epi8((char)d->lo),
                  _mm512_set1_epi8((char)d->hi)};
}

INLINE __m512i second_row(__m512i w) { return _mm512_slli_epi32(w, 8); }

/* Three taps of one output row, 0 or 1: weights and factors of a block stay in registers over all
 * the blocks that share them. */
INLINE void row_of_3(const mrt_qplanes_dots *d, const int row, const int kind) {
  const finish f = finish_of(d);
  const int64_t plane = d->plane, plane3 = 3 * plane, turn = 64 * d->period,
                y_turn = d->step * d->period;
  for (int64_t i = 0; i < d->period && 64 * i < d->bytes; ++i) {
    const int64_t block = d->first + i < d->period ? d->first + i : d->first + i - d->period;
    __m512i w[3][4], col[4];
    __m512 scale[4], less[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int8_t *from = d->w + block * 768 + 64 * v;
#pragma GCC unroll 3
      for (int q = 0; q < 3; ++q) {
        w[q][v] = _mm512_loadu_si512(from + 256 * q);
        if (row) w[q][v] = second_row(w[q][v]);
      }
      col[v] = _mm512_loadu_si512(d->col + block * 64 + 16 * v);
      scale[v] = _mm512_loadu_ps(d->scale + block * 64 + 16 * v);
      less[v] = _mm512_mul_ps(scale[v], _mm512_set1_ps(0x1p23f));
    }
    const uint8_t *t0 = d->tap[0] + 64 * i, *t1 = d->tap[1] + 64 * i, *t2 = d->tap[2] + 64 * i;
    uint8_t *y = d->y[row] + d->step * i;
    for (int64_t left = d->bytes - 64 * i; left > 0; left -= turn, y += y_turn) {
      __m512i a[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const int64_t at = v == 3 ? plane3 : v * plane;
        a[v] = dot(col[v], _mm512_loadu_si512(t0 + at), w[0][v]);
        a[v] = dot(a[v], _mm512_loadu_si512(t1 + at), w[1][v]);
        a[v] = dot(a[v], _mm512_loadu_si512(t2 + at), w[2][v]);
      }
      const __m512i p = bytes_of(&f, a, scale, less, kind);
      if (left >= 64)
        _mm512_storeu_si512(y, p);
      else
        _mm512_mask_storeu_epi8(y, ((__mmask64)1 << left) - 1, p);
      t0 += turn, t1 += turn, t2 += turn;
    }
  }
}

INLINE void dots(const mrt_qplanes_dots *d, const int64_t taps, const int rows, const int kind) {
  const finish f = finish_of(d);
  const uint8_t *const *tap = d->tap;
  const int64_t plane = d->plane, plane3 = 3 * plane;
  int64_t block = d->first, out = 0;
  for (int64_t at = 0; at < d->bytes; at += 64, out += d->step) {
    const int8_t *w = d->w + block * taps * 256;
    const int32_t *col = d->col + block * 64;
    __m512 scale[4], less[4];
    __m512i a[4], b[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      a[v] = b[v] = _mm512_loadu_si512(col + 16 * v);
      scale[v] = _mm512_loadu_ps(d->scale + block * 64 + 16 * v);
      less[v] = _mm512_mul_ps(scale[v], _mm512_set1_ps(0x1p23f));
    }
    for (int64_t q = 0; q < taps; ++q, w += 256) {
      const uint8_t *from = tap[q] + at;
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512i x = _mm512_loadu_si512(from + (v == 3 ? plane3 : v * plane)),
                      first = _mm512_loadu_si512(w + 64 * v);
        a[v] = dot(a[v], x, first);
        if (rows > 1) b[v] = dot(b[v], x, second_row(first));
      }
    }
    const __m512i p = bytes_of(&f, a, scale, less, kind),
                  q = rows > 1 ? bytes_of(&f, b, scale, less, kind) : p;
    const int64_t left = d->bytes - at;
    if (left >= 64) {
      _mm512_storeu_si512(d->y[0] + out, p);
      if (rows > 1) _mm512_storeu_si512(d->y[1] + out, q);
    } else {
      const __mmask64 m = ((__mmask64)1 << left) - 1;
      _mm512_mask_storeu_epi8(d->y[0] + out, m, p);
      if (rows > 1) _mm512_mask_storeu_epi8(d->y[1] + out, m, q);
    }
    if (++block == d->period) block = 0;
  }
}

#define DOTS(name, kind)                                                  \
  static __attribute__((noinline)) void name(const mrt_qplanes_dots *d) { \
    if (d->taps == 3) {                                                   \
      row_of_3(d, 0, kind);                                               \
      if (d->y[1]) row_of_3(d, 1, kind);                                  \
    } else if (d->y[1]) {                                                 \
      dots(d, d->taps, 2, kind);                                          \
    } else {                                                              \
      dots(d, d->taps, 1, kind);                                          \
    }                                                                     \
  }
DOTS(dots_plain_u8, PLAIN_U8)
DOTS(dots_plain_s8, PLAIN_S8)
DOTS(dots_any_u8, ANY_U8)
DOTS(dots_any_s8, ANY_S8)

void mrt_qplanes_dots_avx512vnni(const mrt_qplanes_dots *d) {
  const int32_t lowest = d->is_signed ? -128 : 0;
  if (d->shifted && d->zero == lowest && d->lo <= lowest && d->hi >= lowest + 255)
    d->is_signed ? dots_plain_s8(d) : dots_plain_u8(d);
  else
    d->is_signed ? dots_any_s8(d) : dots_any_u8(d);
}
