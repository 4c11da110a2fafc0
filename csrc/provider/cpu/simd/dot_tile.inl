/* The register tile of bf16 dot products (vdpbf16ps): up to 14 rows x 32 columns of float sums, for
 * gemm/ and conv/. A and B lie as for AMX tiles (gemm_split.h): row r of a group of 32 k is one
 * cache line of 16 pairs (k = i and i + 16), row i of B the same pair of 16 columns. A pair of A is
 * broadcast, so the pairs of the group are 16 steps of two loads of B and `rows` broadcasts for
 * 2 * rows products.
 *
 * Sums are made pair by pair in the order of k; products and sums that are denormal count as zero,
 * as on tiles. Included after gemm/gemm_split.h. */
#include <immintrin.h>
#include <string.h>

#undef INLINE
#define INLINE static inline __attribute__((always_inline))

enum { DOT_ROWS = 14 };

/* Group g of A lies at a + offsets[g], or at a + 1024 g. Weights to come are fetched meanwhile: so
 * many lines for each group, from mrt_split_fetch_at(fetch, line, whole) on. */
typedef struct dot_block {
  const uint16_t *a, *b;
  const int64_t *offsets;
  int64_t groups;
  float *acc; /* [32][32] */
  bool load;
  const char *fetch;
  int64_t line, whole;
  int lines;
} dot_block;

/* Four pairs of a group. */
INLINE void dot_pairs(__m512 c[DOT_ROWS][2], const uint16_t *a, const uint16_t *b, const int rows,
                      const int nv) {
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const __m512bh b0 = (__m512bh)_mm512_load_si512(b + q * 32);
    const __m512bh b1 = nv > 1 ? (__m512bh)_mm512_load_si512(b + 512 + q * 32) : b0;
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      int pair;
      memcpy(&pair, a + i * 32 + q * 2, sizeof pair);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
      c[i][0] = _mm512_dpbf16_ps(c[i][0], x, b0);
      if (nv > 1) c[i][1] = _mm512_dpbf16_ps(c[i][1], x, b1);
    }
  }
}

/* rows and nv (vectors of columns) are constants. */
INLINE void dot_tile(const dot_block *t, const int rows, const int nv) {
  __m512 c[DOT_ROWS][2];
  float *acc = t->acc;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    c[i][0] = t->load ? _mm512_load_ps(acc + i * 32) : _mm512_setzero_ps();
    if (nv > 1) c[i][1] = t->load ? _mm512_load_ps(acc + i * 32 + 16) : _mm512_setzero_ps();
  }
  const uint16_t *b = t->b, *plain = t->a;
  const int64_t *offsets = t->offsets;
  int64_t line = t->line;
  for (int64_t g = 0; g < t->groups; ++g, plain += MRT_SPLIT_GROUP_PART, b += 512) {
    const uint16_t *a = offsets ? t->a + offsets[g] : plain;
#pragma GCC unroll 1
    for (int q = 0; q < 4; ++q, a += 8, b += 128) dot_pairs(c, a, b, rows, nv);
    for (const int64_t end = line + t->lines; line < end; ++line)
      _mm_prefetch(mrt_split_fetch_at(t->fetch, line, t->whole), _MM_HINT_T1);
  }
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    _mm512_store_ps(acc + i * 32, c[i][0]);
    if (nv > 1) _mm512_store_ps(acc + i * 32 + 16, c[i][1]);
  }
}

#define DOT_TILE(rows)                                                          \
  __attribute__((noinline)) static void dot_wide_##rows(const dot_block *t) {   \
    dot_tile(t, rows, 2);                                                       \
  }                                                                             \
  __attribute__((noinline)) static void dot_narrow_##rows(const dot_block *t) { \
    dot_tile(t, rows, 1);                                                       \
  }
/* The formatter cannot agree with itself on lists of macros. */
/* clang-format off */
DOT_TILE(1) DOT_TILE(2) DOT_TILE(3) DOT_TILE(4) DOT_TILE(5) DOT_TILE(6) DOT_TILE(7)
DOT_TILE(8) DOT_TILE(9) DOT_TILE(10) DOT_TILE(11) DOT_TILE(12) DOT_TILE(13) DOT_TILE(14)
#define DOT_LIST(kind)                                                                            \
  {0, kind##1, kind##2, kind##3, kind##4, kind##5, kind##6, kind##7, kind##8, kind##9, kind##10,  \
   kind##11, kind##12, kind##13, kind##14}
    /* clang-format on */

    /* Tiles that a block of up to 32 rows takes, of nearly equal height. */
    static inline int dot_tiles(int rows) {
  return (rows + DOT_ROWS - 1) / DOT_ROWS;
}

/* A block of `rows` x `cols`. t.lines counts for each tile. */
static void dot_multiply(dot_block t, int rows, int cols) {
  static void (*const wide[])(const dot_block *) = DOT_LIST(dot_wide_);
  static void (*const narrow[])(const dot_block *) = DOT_LIST(dot_narrow_);
  const int tiles = dot_tiles(rows);
  for (int i = 0; i < tiles; ++i) {
    const int n = rows * (i + 1) / tiles - rows * i / tiles;
    (cols > 16 ? wide : narrow)[n](&t);
    t.a += n * 32;
    t.acc += n * MRT_STRIP;
    t.line += t.groups * t.lines;
  }
}
