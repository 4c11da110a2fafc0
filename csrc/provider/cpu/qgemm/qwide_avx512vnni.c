/* The two loops of qwide.h. The dot product is inline assembly: with the intrinsic gcc 12 copies
 * and spills the accumulators. */
#include <immintrin.h>

#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/qwide.h"

#define INLINE static inline __attribute__((always_inline))
enum { PIXELS = 4 };

INLINE __m512i dot(__m512i acc, __m512i x, __m512i w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  return acc;
}
INLINE __m512i load4(const uint8_t *p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}
/* From 0 to 255, and sums are shifted. */
static inline bool is_plain(bool shifted, int32_t zero, int32_t lo, int32_t hi) {
  return shifted && zero == 0 && lo <= 0 && hi >= 255;
}
/* What a sum is as a float, of which bias is taken (qgemm_kernel.h). */
INLINE __m512 number(__m512i sum, const bool shifted) {
  return shifted ? _mm512_castsi512_ps(sum) : _mm512_cvtepi32_ps(sum);
}

/* ---- expand ---- */
INLINE __m512i rounded(__m512i sum, __m512 scale, __m512 bias, const bool shifted) {
  return _mm512_cvtps_epi32(_mm512_fmadd_ps(number(sum, shifted), scale, bias));
}

/* What an expansion keeps in registers. */
typedef struct expansion {
  __m512i b[MRT_QWIDE_K / 4], col, order, zero, lo, hi;
  __m512 scale, bias;
  __mmask8 keep;
} expansion;

/* n pixels, an even number or one: one step of all their sums after the other, so that few
 * instructions wait. */
INLINE void expand_pixels(const expansion *x, const uint8_t *x0, const uint8_t *x1, int64_t pitch,
                          uint8_t *to, uint8_t *next, int64_t step, uint8_t *pair, const int n,
                          const int nk, const bool any, const bool shifted) {
  __m512i s0[PIXELS], s1[PIXELS], p[PIXELS];
#pragma GCC unroll 4
  for (int u = 0; u < n; ++u) s0[u] = s1[u] = x->col;
#pragma GCC unroll 8
  for (int q = 0; q < nk; ++q)
#pragma GCC unroll 4
    for (int u = 0; u < n; ++u) {
      s0[u] = dot(s0[u], load4(x0 + u * pitch + 4 * q), x->b[q]);
      s1[u] = dot(s1[u], load4(x1 + u * pitch + 4 * q), x->b[q]);
    }
#pragma GCC unroll 4
  for (int u = 0; u < n; ++u) {
    p[u] = _mm512_packs_epi32(rounded(s0[u], x->scale, x->bias, shifted),
                              rounded(s1[u], x->scale, x->bias, shifted));
    if (!any) continue;
    p[u] = _mm512_min_epi16(_mm512_max_epi16(_mm512_adds_epi16(p[u], x->zero), x->lo), x->hi);
    p[u] = _mm512_mask_mov_epi64(x->zero, x->keep, p[u]);
  }
#pragma GCC unroll 2
  for (int u = 0; u < n; u += 2, pair += 64, to += to ? step : 0, next += to ? step : 0) {
    const __m512i two =
        _mm512_shuffle_epi8(_mm512_packus_epi16(p[u], p[u + 1 < n ? u + 1 : u]), x->order);
    if (to) {
      const __m512i before = _mm512_load_si512(pair);
      _mm512_store_si512(to, _mm512_unpacklo_epi16(before, two));
      if (n > 1) _mm512_store_si512(next, _mm512_unpackhi_epi16(before, two));
    }
    _mm512_store_si512(pair, two);
  }
}

/* nk: k / 4. any: there are bounds, a zero point, or a row outside of the image. */
INLINE void expand(const mrt_qwide_expand *e, const int nk, const bool any, const bool shifted) {
  const int32_t *table = e->table;
  expansion x = {.col = _mm512_load_si512(table),
                 .order = _mm512_set4_epi32(0x0f0b0e0a, 0x0d090c08, 0x07030602, 0x05010400),
                 .zero = _mm512_set1_epi16((int16_t)e->zero),
                 .lo = _mm512_set1_epi16((int16_t)e->lo),
                 .hi = _mm512_set1_epi16((int16_t)e->hi),
                 .scale = _mm512_load_ps(table + 16),
                 .bias = _mm512_load_ps(table + 32),
                 .keep = (__mmask8)((e->keep & 1 ? 0x55 : 0) | (e->keep & 2 ? 0xaa : 0))};
#pragma GCC unroll 8
  for (int q = 0; q < nk; ++q) x.b[q] = _mm512_load_si512(table + 48 + 16 * q);
  const uint8_t *x0 = e->row[0], *x1 = e->row[1];
  uint8_t *to = e->planes[0], *next = e->planes[1], *pair = e->pairs;
  const int64_t pitch = e->pitch, step = e->step;
  int64_t i = 0;
  for (; !any && i + PIXELS <= e->pixels; i += PIXELS) {
    expand_pixels(&x, x0, x1, pitch, to, next, step, pair, PIXELS, nk, any, shifted);
    x0 += PIXELS * pitch, x1 += PIXELS * pitch, pair += 32 * PIXELS;
    if (to) to += PIXELS / 2 * step, next += PIXELS / 2 * step;
  }
  for (; i + 2 <= e->pixels; i += 2, x0 += 2 * pitch, x1 += 2 * pitch, pair += 64) {
    expand_pixels(&x, x0, x1, pitch, to, next, step, pair, 2, nk, any, shifted);
    if (to) to += step, next += step;
  }
  if (i < e->pixels) expand_pixels(&x, x0, x1, pitch, to, next, step, pair, 1, nk, any, shifted);
}

#define EXPAND(nk)                                                              \
  static __attribute__((noinline)) void plain_##nk(const mrt_qwide_expand *e) { \
    expand(e, nk, false, true);                                                 \
  }                                                                             \
  static __attribute__((noinline)) void edge_##nk(const mrt_qwide_expand *e) {  \
    expand(e, nk, true, true);                                                  \
  }                                                                             \
  static __attribute__((noinline)) void any_##nk(const mrt_qwide_expand *e) {   \
    expand(e, nk, true, false);                                                 \
  }
EXPAND(2)
EXPAND(4)
EXPAND(6)
EXPAND(7)
EXPAND(8)

void mrt_qwide_expand_avx512vnni(const mrt_qwide_expand *e) {
  static void (*const loops[3][MRT_QWIDE_K / 4 + 1])(const mrt_qwide_expand *) = {
      {[2] = any_2, [4] = any_4, [6] = any_6, any_7, any_8},
      {[2] = edge_2, [4] = edge_4, [6] = edge_6, edge_7, edge_8},
      {[2] = plain_2, [4] = plain_4, [6] = plain_6, plain_7, plain_8}};
  const bool plain = e->keep == 3 && is_plain(e->shifted, e->zero, e->lo, e->hi);
  loops[plain ? 2 : e->shifted][e->units](e);
}

/* ---- filter ---- */
typedef struct finish {
  __m512i shift, zero, lo, hi, order;
  __m512 scale, bias;
} finish;

INLINE __m512i scaled(const finish *f, __m512i x, const bool any) {
  if (!any) return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_castsi512_ps(x), f->scale, f->bias));
  const __m512 n = _mm512_cvtepi32_ps(_mm512_sub_epi32(x, f->shift));
  return _mm512_cvtps_epi32(_mm512_mul_ps(n, f->scale));
}
/* 16 channels of four pixels, one after the other. */
INLINE __m512i bytes_of(const finish *f, const __m512i acc[4], const bool any) {
  __m512i p = _mm512_packs_epi32(scaled(f, acc[0], any), scaled(f, acc[1], any)),
          q = _mm512_packs_epi32(scaled(f, acc[2], any), scaled(f, acc[3], any));
  if (any) p = _mm512_adds_epi16(p, f->zero), q = _mm512_adds_epi16(q, f->zero);
  p = _mm512_packus_epi16(p, q);
  if (any) p = _mm512_min_epu8(_mm512_max_epu8(p, f->lo), f->hi);
  return _mm512_permutexvar_epi32(f->order, p);
}
INLINE void store4(uint8_t *y, int64_t step, __m512i p, int64_t pixels) {
  _mm_storeu_si128((__m128i *)y, _mm512_castsi512_si128(p));
  if (pixels > 1) _mm_storeu_si128((__m128i *)(y + step), _mm512_extracti32x4_epi32(p, 1));
  if (pixels > 2) _mm_storeu_si128((__m128i *)(y + 2 * step), _mm512_extracti32x4_epi32(p, 2));
  if (pixels > 3) _mm_storeu_si128((__m128i *)(y + 3 * step), _mm512_extracti32x4_epi32(p, 3));
}

INLINE void dots(const mrt_qwide_dots *d, const int rows, const bool any) {
  const int32_t *table = d->table;
  finish f = {.shift = _mm512_set1_epi32(d->shifted ? MRT_QSHIFT : 0),
              .zero = _mm512_set1_epi16((int16_t)d->zero),
              .lo = _mm512_set1_epi8((char)d->lo),
              .hi = _mm512_set1_epi8((char)d->hi),
              .order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
              .scale = _mm512_load_ps(table + 16)};
  f.bias = _mm512_mul_ps(f.scale, _mm512_set1_ps(-0x1p23f));
  const __m512i col = _mm512_load_si512(table);
  __m512i w[2][MRT_QWIDE_TAPS];
#pragma GCC unroll 3
  for (int q = 0; q < MRT_QWIDE_TAPS; ++q) {
    w[0][q] = _mm512_load_si512(table + 32 + 16 * q);
    w[1][q] = _mm512_slli_epi32(w[0][q], 8); /* one row down */
  }
  const uint8_t *const t0 = d->tap[0], *const t1 = d->tap[1], *const t2 = d->tap[2];
  uint8_t *y0 = d->y[0], *y1 = rows > 1 ? d->y[1] : NULL;
  for (int64_t i = 0; i < d->pixels; i += 4) {
    __m512i a[4], b[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64_t at = (i + v) * 64;
      const __m512i x0 = _mm512_load_si512(t0 + at), x1 = _mm512_load_si512(t1 + at),
                    x2 = _mm512_load_si512(t2 + at);
      a[v] = dot(dot(dot(col, x0, w[0][0]), x1, w[0][1]), x2, w[0][2]);
      b[v] = rows > 1 ? dot(dot(dot(col, x0, w[1][0]), x1, w[1][1]), x2, w[1][2]) : a[v];
    }
    const int64_t left = d->pixels - i;
    const __m512i p = bytes_of(&f, a, any), q = rows > 1 ? bytes_of(&f, b, any) : p;
    if (__builtin_expect(left >= 4, 1)) {
      store4(y0, d->step, p, 4);
      if (rows > 1) store4(y1, d->step, q, 4);
    } else {
      store4(y0, d->step, p, left);
      if (rows > 1) store4(y1, d->step, q, left);
    }
    y0 += 4 * d->step;
    if (rows > 1) y1 += 4 * d->step;
  }
}

static __attribute__((noinline)) void plain_one(const mrt_qwide_dots *d) { dots(d, 1, false); }
static __attribute__((noinline)) void plain_two(const mrt_qwide_dots *d) { dots(d, 2, false); }
static __attribute__((noinline)) void any_one(const mrt_qwide_dots *d) { dots(d, 1, true); }
static __attribute__((noinline)) void any_two(const mrt_qwide_dots *d) { dots(d, 2, true); }

void mrt_qwide_dots_avx512vnni(const mrt_qwide_dots *d) {
  if (is_plain(d->shifted, d->zero, d->lo, d->hi))
    d->y[1] ? plain_two(d) : plain_one(d);
  else
    d->y[1] ? any_two(d) : any_one(d);
}
