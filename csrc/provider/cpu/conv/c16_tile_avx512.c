/* Tiles of products on channel blocks whose pixels are neighbours: what mrt_tile says with a_row,
 * c_row and r_row of 16 floats (or A in planes, a few floats apart), for any number of pixels. All
 * addresses are one register and a constant, 16 steps of k are one straight piece of code, and a
 * whole run of tiles is one call, so that short sums (K of 16 to 64) do not drown in what is around
 * them. Sums start from the bias and run over k in order, whatever the number of pixels. */
#include "provider/cpu/conv/conv_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 14 };

/* Where one tile lies, and what is to be fetched on the way. */
typedef struct spot {
  const float *a;
  float *c;
  const float *residual;
  const float *ahead;
} spot;

INLINE void step(__m512 c[ROWS][2], const float *a, const float *b, const int rows, const int nv,
                 const int apart) {
  const __m512 b0 = _mm512_loadu_ps(b);
  const __m512 b1 = nv > 1 ? _mm512_loadu_ps(b + 16) : b0;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    const __m512 x = _mm512_set1_ps(a[i * apart]);
    c[i][0] = _mm512_fmadd_ps(x, b0, c[i][0]);
    if (nv > 1) c[i][1] = _mm512_fmadd_ps(x, b1, c[i][1]);
  }
}

INLINE void finish(const mrt_tile *t, const spot *s, __m512 c[ROWS][2], const int rows,
                   const int nv) {
#define EACH _Pragma("GCC unroll 14") for (int i = 0; i < rows; ++i)
  if (t->flags & MRT_TILE_FINAL) {
    if (s->residual) EACH {
        c[i][0] = _mm512_add_ps(c[i][0], _mm512_loadu_ps(s->residual + i * 16));
        if (nv > 1)
          c[i][1] = _mm512_add_ps(c[i][1], _mm512_loadu_ps(s->residual + t->r_col16 + i * 16));
      }
    if (t->flags & MRT_TILE_CLIP) { /* max and min return the second operand when one is NaN */
      const __m512 lo = _mm512_set1_ps(t->lo), hi = _mm512_set1_ps(t->hi);
      EACH {
        c[i][0] = _mm512_min_ps(hi, _mm512_max_ps(lo, c[i][0]));
        if (nv > 1) c[i][1] = _mm512_min_ps(hi, _mm512_max_ps(lo, c[i][1]));
      }
    }
  }
  EACH {
    _mm512_storeu_ps(s->c + i * 16, c[i][0]);
    if (nv > 1) _mm512_storeu_ps(s->c + t->c_col16 + i * 16, c[i][1]);
  }
}

/* The sums so far, or the bias. */
INLINE void start(const mrt_tile *t, const spot *s, __m512 c[ROWS][2], const int rows,
                  const int nv) {
  if (t->flags & MRT_TILE_LOAD) {
    EACH {
      c[i][0] = _mm512_loadu_ps(s->c + i * 16);
      if (nv > 1) c[i][1] = _mm512_loadu_ps(s->c + t->c_col16 + i * 16);
    }
    return;
  }
  const __m512 b0 = t->bias ? _mm512_loadu_ps(t->bias) : _mm512_setzero_ps();
  const __m512 b1 = t->bias && nv > 1 ? _mm512_loadu_ps(t->bias + 16) : b0;
  EACH { c[i][0] = b0, c[i][1] = b1; }
#undef EACH
}

/* apart: floats from a row of A to the next; most blocks of k are `whole` long, all of them in
 * planes. */
INLINE void tile(const mrt_tile *t, spot *s, const int rows, const int nv, const int apart,
                 const int whole) {
  __m512 c[ROWS][2];
  const float *b = t->b;
  start(t, s, c, rows, nv);
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const float *a = s->a + t->blocks[kb].off;
    const int64_t len = t->blocks[kb].len;
    if (apart < 16 || __builtin_expect(len == whole, 1)) {
#pragma GCC unroll 16
      for (int k = 0; k < whole; ++k) {
        const float *ak = a + k;
        /* Rows share values: the compiler must not keep them from one k to the next in registers
         * that the sums need. */
        if (apart < 16) __asm__("" : "+r"(ak));
        step(c, ak, b + k * 32, rows, nv, apart);
      }
      b += whole * 32;
      if (whole == 16 && s->ahead)
        for (int i = 0; i < t->ahead_lines; ++i, s->ahead += 16)
          _mm_prefetch((const char *)s->ahead, _MM_HINT_T1);
    } else {
      for (int64_t k = 0; k < len; ++k, b += 32) step(c, a + k, b, rows, nv, apart);
    }
  }
  finish(t, s, c, rows, nv);
}

INLINE void run(const mrt_tile *t, int64_t pixels, const int nv, const int apart, const int whole) {
  const int64_t pieces = (pixels + ROWS - 1) / ROWS;
  spot s = {t->a, t->c, t->residual, t->ahead};
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t rows = mrt_par_begin(pixels, pieces, i + 1) - mrt_par_begin(pixels, pieces, i);
    switch (rows) {
#define CASE(n) \
  case n: tile(t, &s, n, nv, apart, whole); break;
      /* The formatter cannot agree with itself on lists of macros. */
      /* clang-format off */
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
      CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
      /* clang-format on */
#undef CASE
    }
    s.a += rows * apart;
    s.c += rows * 16;
    if (s.residual) s.residual += rows * 16;
  }
}

#define TILE(name, apart, whole)                        \
  static void name(const mrt_tile *t, int64_t pixels) { \
    if (t->cols > 16)                                   \
      run(t, pixels, 2, apart, whole);                  \
    else                                                \
      run(t, pixels, 1, apart, whole);                  \
  }
TILE(blocks, 16, 16)
TILE(blocks_s2, 32, 16)
/* First layers of networks. */
TILE(plane_3_s1, 1, 3)
TILE(plane_3_s2, 2, 3)
TILE(plane_7_s2, 2, 7)

mrt_c16_tile_fn mrt_pixel_tile_avx512(int64_t apart, int64_t whole) {
  if (whole == 16) return apart == 16 ? blocks : apart == 32 ? blocks_s2 : NULL;
  if (apart == 2) return whole == 3 ? plane_3_s2 : whole == 7 ? plane_7_s2 : NULL;
  return apart == 1 && whole == 3 ? plane_3_s1 : NULL;
}
