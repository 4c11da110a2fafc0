/* band_tiles.h on AMX tiles; what runs beside them in AVX-512. band_tiles_model.c says what it
 * computes. */
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/band/band_tiles.h"

#define INLINE          static inline __attribute__((always_inline))
#define FETCH1(address) _mm_prefetch((const char *)(address), _MM_HINT_T0)
#define FETCH2(address) _mm_prefetch(address, _MM_HINT_T1)

typedef struct finisher {
  __m512 bias[2], lo, hi;
  __m512i most[2], least[2];
} finisher;

INLINE finisher finisher_of(const mrt_band_tiles *t) {
  const __m512i none = _mm512_setzero_si512(), all = _mm512_set1_epi32(-1);
  return (finisher){{t->out ? _mm512_loadu_ps(t->bias) : (__m512)none,
                     t->out ? _mm512_loadu_ps(t->bias + 16) : (__m512)none},
                    _mm512_set1_ps(t->lo),
                    _mm512_set1_ps(t->hi),
                    {none, none},
                    {all, all}};
}

/* Bounds stand first: max and min return the second when one is NaN. */
INLINE void finish_half(const mrt_band_tiles *t, finisher *f, const float *acc, const int half,
                        int64_t at) {
  const __m512 x = _mm512_loadu_ps(acc);
  const __m512i u = _mm512_and_si512((__m512i)x, _mm512_set1_epi32(0x7fffffff));
  f->most[half] = _mm512_max_epu32(f->most[half], u);
  f->least[half] = _mm512_min_epu32(f->least[half], _mm512_add_epi32(u, _mm512_set1_epi32(-1)));
  __m512 y = _mm512_add_ps(x, f->bias[half]);
  if (t->residual) y = _mm512_add_ps(y, _mm512_loadu_ps(t->residual + at));
  _mm512_storeu_ps(t->out + at, _mm512_min_ps(f->hi, _mm512_max_ps(f->lo, y)));
}

INLINE void finish_row(const mrt_band_tiles *t, finisher *f, const float *acc, int64_t acc16,
                       int64_t pixel, const bool two) {
  finish_half(t, f, acc, 0, pixel * 16);
  if (two) finish_half(t, f, acc + acc16, 1, pixel * 16 + t->col16);
}

INLINE void finisher_done(mrt_band_tiles *t, const finisher *f) {
  for (int h = 0; h < 2; ++h) {
    _mm512_storeu_si512(t->most + h * 16, f->most[h]);
    _mm512_storeu_si512(t->least + h * 16, f->least[h]);
  }
}

/* The upper halves of x0 and x1, side by side. */
INLINE __m512i upper_halves(__m512i x0, __m512i x1) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(x0, 16), x1);
}
INLINE __m512 rest_of(__m512 x, __m512i part) {
  return _mm512_sub_ps(x, (__m512)_mm512_and_si512(part, _mm512_set1_epi32((int)0xffff0000u)));
}

INLINE void split_pair(const float *raw, uint16_t *dst, int64_t pair) {
  const int64_t i = pair % 32 / 2, half = pair % 2;
  const float *src = raw + pair / 32 * 1024 + i * 32 + half * 16;
  const __m512i round = _mm512_set1_epi32(0x8000);
  __m512 x0 = _mm512_loadu_ps(src), x1 = _mm512_loadu_ps(src + 512);
  dst += pair / 32 * 3072 + half * 512 + i * 32;
  const __m512i t0 = _mm512_add_epi32((__m512i)x0, round),
                t1 = _mm512_add_epi32((__m512i)x1, round);
  _mm512_store_si512(dst, upper_halves(t0, t1));
  x0 = rest_of(x0, t0), x1 = rest_of(x1, t1);
  _mm512_store_si512(dst + 1024, upper_halves((__m512i)x0, (__m512i)x1));
  x0 = rest_of(x0, (__m512i)x0), x1 = rest_of(x1, (__m512i)x1);
  _mm512_store_si512(dst + 2048, upper_halves((__m512i)x0, (__m512i)x1));
}

#include "provider/cpu/band/band_tiles.inl"

void mrt_band_tiles_amx(mrt_band_tiles *t) {
  if (t->cols > 16)
    all_blocks(t, true);
  else
    all_blocks(t, false);
}
