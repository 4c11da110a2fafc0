/* Tiles of products on channel blocks whose pixels are neighbours: what mrt_tile says with a_row,
 * c_row and r_row of 16 floats (or A in planes, a few floats apart), for any number of pixels. All
 * addresses are one register and a constant, 8 steps of k are one straight piece of code, and a
 * whole run of tiles is one call, so that short sums (K of 16 to 64) do not drown in what is around
 * them. Sums start from the bias and run over k in order, whatever the number of pixels. */
#include "provider/cpu/conv/conv_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum {
  ROWS = 14,
  ASKS = 8,    /* lines fetched ahead in a block of 16 k, spread over it */
  STRAIGHT = 8 /* k in a straight piece of code */
};

/* Where one tile lies, and what is to be fetched on the way: `lines` lines a block of 16 k. */
typedef struct spot {
  const float *a;
  float *c;
  const float *residual;
  const float *ahead;
  int64_t lines;
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

/* Lines are asked for in parts between the steps of a block of 16 k, those that are not wanted as
 * well (they come next): a burst would hold the buffers that loads from L2 need. */
INLINE void fetch(const spot *s, int64_t k) {
#pragma GCC unroll 8
  for (int i = 0; i < ASKS * STRAIGHT / 16; ++i)
    _mm_prefetch((const char *)(s->ahead + (k * ASKS / 16 + i) * 16), _MM_HINT_T1);
}

INLINE void fetch_rest(spot *s) {
  for (int64_t i = ASKS; i < s->lines; ++i)
    _mm_prefetch((const char *)(s->ahead + i * 16), _MM_HINT_T1);
  s->ahead += s->lines * 16;
}

/* A block of 16 k, STRAIGHT at a time. */
INLINE void steps(spot *s, __m512 c[ROWS][2], const float *a, const float *b, const int rows,
                  const int nv, const int apart) {
#pragma GCC unroll 1
  for (int64_t k = 0; k < 16; k += STRAIGHT) {
#pragma GCC unroll 16
    for (int i = 0; i < STRAIGHT; ++i) step(c, a + k + i, b + (k + i) * 32, rows, nv, apart);
    if (s->lines) fetch(s, k);
  }
  fetch_rest(s);
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
    if (whole == 16 && __builtin_expect(len == 16, 1)) {
      steps(s, c, a, b, rows, nv, apart);
      b += 16 * 32;
    } else if (whole < 16) {
#pragma GCC unroll 16
      for (int k = 0; k < whole; ++k) {
        const float *ak = a + k;
        /* Rows share values: the compiler must not keep them from one k to the next in registers
         * that the sums need. */
        __asm__("" : "+r"(ak));
        step(c, ak, b + k * 32, rows, nv, apart);
      }
      b += whole * 32;
    } else {
      for (int64_t k = 0; k < len; ++k, b += 32) step(c, a + k, b, rows, nv, apart);
    }
  }
  finish(t, s, c, rows, nv);
}

INLINE spot first_spot(const mrt_tile *t) {
  return (spot){t->a, t->c, t->residual, t->ahead, t->ahead ? t->ahead_lines : 0};
}

/* ---- pairs of k (MRT_TILE_PAIRS) ---- */
/* A vector of B is 8 columns of two k, side by side; one broadcast of a pair of A's values serves
 * all of them. So 24 columns take three vectors, not four, and 16 or fewer need half the loads. */
enum { EIGHTS = 3, PAIR_ROWS = 9 }; /* PAIR_ROWS: of three vectors */

typedef double two_floats __attribute__((may_alias));

INLINE void pair_step(__m512 c[ROWS][EIGHTS], const float *a, const float *b, const int rows,
                      const int nv) {
  __m512 bk[EIGHTS];
#pragma GCC unroll 3
  for (int v = 0; v < nv; ++v) bk[v] = _mm512_loadu_ps(b + v * 16);
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    const __m512 x = _mm512_castpd_ps(_mm512_set1_pd(*(const two_floats *)(a + i * 16)));
#pragma GCC unroll 3
    for (int v = 0; v < nv; ++v) c[i][v] = _mm512_fmadd_ps(x, bk[v], c[i][v]);
  }
}

/* Even and odd k together, as blocks of 16 columns, and what sums start from. */
INLINE void pair_sums(const mrt_tile *t, const spot *s, __m512 in[ROWS][EIGHTS], __m512 c[ROWS][2],
                      const int rows, const int nv) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
#pragma GCC unroll 2
  for (int v = 0; v < (nv + 1) / 2; ++v) {
    const __m512 bias = t->bias ? _mm512_loadu_ps(t->bias + v * 16) : _mm512_setzero_ps();
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      const __m512 lo = in[i][2 * v], hi = 2 * v + 1 < nv ? in[i][2 * v + 1] : lo;
      const __m512 sum =
          _mm512_add_ps(_mm512_permutex2var_ps(lo, even, hi), _mm512_permutex2var_ps(lo, odd, hi));
      const float *before = s->c + v * t->c_col16 + i * 16;
      c[i][v] = _mm512_add_ps(t->flags & MRT_TILE_LOAD ? _mm512_loadu_ps(before) : bias, sum);
    }
  }
}

INLINE void pair_tile(const mrt_tile *t, spot *s, const int rows, const int nv) {
  __m512 in[ROWS][EIGHTS], c[ROWS][2];
  const float *b = t->b;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 3
    for (int v = 0; v < nv; ++v) in[i][v] = _mm512_setzero_ps();
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const float *a = s->a + t->blocks[kb].off;
    const int64_t len = t->blocks[kb].len;
    if (__builtin_expect(len == 16, 1)) {
#pragma GCC unroll 1
      for (int64_t k = 0; k < 16; k += STRAIGHT) {
#pragma GCC unroll 8
        for (int i = 0; i < STRAIGHT; i += 2) pair_step(in, a + k + i, b + (k + i) * 32, rows, nv);
        if (s->lines) fetch(s, k);
      }
      fetch_rest(s);
    } else {
      for (int64_t k = 0; k < len; k += 2) pair_step(in, a + k, b + k * 32, rows, nv);
    }
    b += len * 32;
  }
  pair_sums(t, s, in, c, rows, nv);
  finish(t, s, c, rows, (nv + 1) / 2);
}

/* ---- runs ---- */
/* nv: vectors of columns, or of 8 columns in pairs. */
INLINE void run(const mrt_tile *t, int64_t pixels, const int nv, const int pairs, const int apart,
                const int whole) {
  const int64_t most = pairs && nv == EIGHTS ? PAIR_ROWS : ROWS,
                pieces = (pixels + most - 1) / most;
  spot s = first_spot(t);
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t rows = mrt_par_begin(pixels, pieces, i + 1) - mrt_par_begin(pixels, pieces, i);
    switch (rows) {
#define CASE(n)                         \
  case n:                               \
    if (!pairs)                         \
      tile(t, &s, n, nv, apart, whole); \
    else if (n <= most)                 \
      pair_tile(t, &s, n, nv);          \
    break;
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
      run(t, pixels, 2, 0, apart, whole);               \
    else                                                \
      run(t, pixels, 1, 0, apart, whole);               \
  }
TILE(all_columns, 16, 16)
TILE(blocks_s2, 32, 16)
/* First layers of networks. */
TILE(plane_3_s1, 1, 3)
TILE(plane_3_s2, 2, 3)
TILE(plane_7_s2, 2, 7)

static void blocks(const mrt_tile *t, int64_t pixels) {
  if (!(t->flags & MRT_TILE_PAIRS))
    all_columns(t, pixels);
  else if (t->cols > 16)
    run(t, pixels, 3, 1, 16, 16);
  else if (t->cols > 8)
    run(t, pixels, 2, 1, 16, 16);
  else
    run(t, pixels, 1, 1, 16, 16);
}

mrt_c16_tile_fn mrt_pixel_tile_avx512(int64_t apart, int64_t whole) {
  if (whole == 16) return apart == 16 ? blocks : apart == 32 ? blocks_s2 : NULL;
  if (apart == 2) return whole == 3 ? plane_3_s2 : whole == 7 ? plane_7_s2 : NULL;
  return apart == 1 && whole == 3 ? plane_3_s1 : NULL;
}
