/* The two loops of qplanes.h. There is no dot product of bytes here that is exact: of each dword,
 * the four bytes of a column, the first and third byte become a pair of 16-bit numbers by a mask,
 * the others by a shift, and each pair is one multiply-add with weights widened beforehand. */
#include <immintrin.h>
#include <string.h>

#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/qplanes.h"

#define INLINE static inline __attribute__((always_inline))
enum { BLOCK = 64, TAPS = MRT_QPLANES_TAPS };

INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void store(void *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }

/* ---- interleaving ---- */
INLINE void four_rows(const __m256i t[4], uint8_t *to, int64_t plane) {
  const __m256i low = _mm256_unpacklo_epi8(t[0], t[1]), high = _mm256_unpackhi_epi8(t[0], t[1]),
                low2 = _mm256_unpacklo_epi8(t[2], t[3]), high2 = _mm256_unpackhi_epi8(t[2], t[3]);
  store(to, _mm256_unpacklo_epi16(low, low2));
  store(to + plane, _mm256_unpackhi_epi16(low, low2));
  store(to + 2 * plane, _mm256_unpacklo_epi16(high, high2));
  store(to + 3 * plane, _mm256_unpackhi_epi16(high, high2));
}
void mrt_qplanes_fill_avx2(const mrt_qplanes_fill *f) {
  const __m256i flip = _mm256_set1_epi8((char)f->flip);
  uint8_t *to = f->to, last[MRT_QPLANES_ROWS][BLOCK] = {{0}};
  for (int64_t i = 0; i < f->runs; ++i, to += f->bytes)
    for (int64_t at = 0; at < f->bytes; at += BLOCK) {
      const int64_t off = i * f->step + at, left = f->bytes - at;
      const uint8_t *from[MRT_QPLANES_ROWS];
      for (int r = 0; r < MRT_QPLANES_ROWS; ++r) {
        from[r] = f->row[r] + (off & f->mask[r]);
        if (__builtin_expect(off <= f->safe, 1)) continue;
        memcpy(last[r], from[r], (size_t)(left < BLOCK ? left : BLOCK));
        from[r] = last[r];
      }
      for (int64_t half = 0; half < BLOCK && half < left; half += 32) {
        __m256i t[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) t[r] = _mm256_xor_si256(load(from[r] + half), flip);
        four_rows(t, to + at + half, f->plane);
      }
    }
}

/* ---- dot products ---- */
/* PLAIN: the zero point is the lowest number, nothing else bounds results, and sums are shifted. */
enum { PLAIN, ANY };

/* Of half a block, 32 channels: vector v holds the dwords of channels 4 v to 4 v + 3 of each lane.
 */
typedef struct half {
  __m256i w[TAPS][2][4][2]; /* [tap][output row][vector]; first and third byte, the others */
  __m256i col[4];
  __m256 scale[4], less[4];
  __m256i shift, zero, lo, hi, flip;
  bool is_signed;
} half;

INLINE void half_fill(const mrt_qplanes_dots *d, int64_t block, int which, const int rows,
                      half *out) {
  const int8_t *w = d->w + block * d->taps * 256 + 32 * which;
  for (int64_t q = 0; q < d->taps; ++q)
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < 4; ++v) {
        const __m256i first = load(w + (q * 4 + v) * 64),
                      x = r ? _mm256_slli_epi32(first, 8) : first;
        out->w[q][r][v][0] = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
        out->w[q][r][v][1] = _mm256_srai_epi16(x, 8);
      }
  for (int v = 0; v < 4; ++v) {
    const int64_t at = block * 64 + 16 * v + 8 * which;
    out->col[v] = load(d->col + at);
    out->scale[v] = _mm256_loadu_ps(d->scale + at);
    out->less[v] = _mm256_mul_ps(out->scale[v], _mm256_set1_ps(0x1p23f));
  }
  out->shift = _mm256_set1_epi32(d->shifted ? MRT_QSHIFT : 0);
  out->zero = _mm256_set1_epi16((int16_t)d->zero);
  out->lo = _mm256_set1_epi8((char)d->lo);
  out->hi = _mm256_set1_epi8((char)d->hi);
  out->flip = _mm256_set1_epi8(d->is_signed ? (char)0x80 : 0);
  out->is_signed = d->is_signed;
}

INLINE __m256i scaled(const half *h, __m256i x, const int v, const int kind) {
  if (kind == PLAIN)
    return _mm256_cvtps_epi32(_mm256_fmsub_ps(_mm256_castsi256_ps(x), h->scale[v], h->less[v]));
  const __m256 n = _mm256_cvtepi32_ps(_mm256_sub_epi32(x, h->shift));
  return _mm256_cvtps_epi32(_mm256_mul_ps(n, h->scale[v]));
}
/* Packing within lanes puts the channels in order. */
INLINE __m256i bytes_of(const half *h, const __m256i a[4], const int kind) {
  __m256i p = _mm256_packs_epi32(scaled(h, a[0], 0, kind), scaled(h, a[1], 1, kind)),
          q = _mm256_packs_epi32(scaled(h, a[2], 2, kind), scaled(h, a[3], 3, kind));
  if (kind == PLAIN) return _mm256_xor_si256(_mm256_packus_epi16(p, q), h->flip);
  p = _mm256_adds_epi16(p, h->zero);
  q = _mm256_adds_epi16(q, h->zero);
  if (h->is_signed) return _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(p, q), h->lo), h->hi);
  return _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(p, q), h->lo), h->hi);
}
INLINE void store_left(uint8_t *y, __m256i p, int64_t left) {
  uint8_t t[32];
  store(t, p);
  memcpy(y, t, (size_t)left);
}

INLINE __m256i sum_of(__m256i acc, __m256i even, __m256i odd, const __m256i w[2]) {
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(even, w[0]));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(odd, w[1]));
}

/* One half of a block in all pixels that share its tables. */
INLINE void half_run(const mrt_qplanes_dots *d, const half *h, int64_t at, int64_t out,
                     const int64_t taps, const int rows, const int kind) {
  const __m256i low = _mm256_set1_epi16(0xff);
  const int64_t turn = BLOCK * d->period, y_turn = d->step * d->period;
  for (; at < d->bytes; at += turn, out += y_turn) {
    __m256i a[4], b[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      a[v] = b[v] = h->col[v];
      for (int64_t q = 0; q < taps; ++q) {
        const __m256i x = load(d->tap[q] + at + v * d->plane), even = _mm256_and_si256(x, low),
                      odd = _mm256_srli_epi16(x, 8);
        a[v] = sum_of(a[v], even, odd, h->w[q][0][v]);
        if (rows > 1) b[v] = sum_of(b[v], even, odd, h->w[q][1][v]);
      }
    }
    const __m256i p = bytes_of(h, a, kind), q = rows > 1 ? bytes_of(h, b, kind) : p;
    const int64_t left = d->bytes - at;
    if (left >= 32) {
      store(d->y[0] + out, p);
      if (rows > 1) store(d->y[1] + out, q);
    } else {
      store_left(d->y[0] + out, p, left);
      if (rows > 1) store_left(d->y[1] + out, q, left);
    }
  }
}

INLINE void dots(const mrt_qplanes_dots *d, const int rows, const int kind) {
  half h;
  for (int64_t i = 0; i < d->period && BLOCK * i < d->bytes; ++i)
    for (int which = 0; which < 2; ++which) {
      const int64_t block = d->first + i < d->period ? d->first + i : d->first + i - d->period,
                    at = BLOCK * i + 32 * which, out = d->step * i + 32 * which;
      half_fill(d, block, which, rows, &h);
      if (d->taps == 3)
        half_run(d, &h, at, out, 3, rows, kind);
      else
        half_run(d, &h, at, out, d->taps, rows, kind);
    }
}
static __attribute__((noinline)) void plain_one(const mrt_qplanes_dots *d) { dots(d, 1, PLAIN); }
static __attribute__((noinline)) void plain_two(const mrt_qplanes_dots *d) { dots(d, 2, PLAIN); }
static __attribute__((noinline)) void any_one(const mrt_qplanes_dots *d) { dots(d, 1, ANY); }
static __attribute__((noinline)) void any_two(const mrt_qplanes_dots *d) { dots(d, 2, ANY); }

void mrt_qplanes_dots_avx2(const mrt_qplanes_dots *d) {
  const int32_t lowest = d->is_signed ? -128 : 0;
  if (d->shifted && d->zero == lowest && d->lo <= lowest && d->hi >= lowest + 255)
    d->y[1] ? plain_two(d) : plain_one(d);
  else
    d->y[1] ? any_two(d) : any_one(d);
}
