/* A register tile: ROWS rows by two vectors. The left side is read where it lies (rows of q, or of
 * probabilities that were just written), so nothing but k and v is packed. */
#include <stddef.h>

#define REPEAT_1(X)  X(0)
#define REPEAT_2(X)  REPEAT_1(X) X(1)
#define REPEAT_4(X)  REPEAT_2(X) X(2) X(3)
#define REPEAT_6(X)  REPEAT_4(X) X(4) X(5)
#define REPEAT_12(X) REPEAT_6(X) X(6) X(7) X(8) X(9) X(10) X(11)

#define INIT(i) vf l##i = v_set(0.0f), r##i = l##i;
#define STEP(i)                         \
  {                                     \
    const vf s = v_set(a[(i)*lda + p]); \
    l##i = v_fma(s, b0, l##i);          \
    r##i = v_fma(s, b1, r##i);          \
  }
#define STORE(i)              \
  v_store(c + (i)*ldc, l##i); \
  v_store(c + (i)*ldc + VW, r##i);

#define TILE(name, repeat)                                                             \
  static void name(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, \
                   int64_t k) {                                                        \
    repeat(INIT) for (int64_t p = 0; p < k; ++p) {                                     \
      const vf b0 = v_load(b + p * 32), b1 = v_load(b + p * 32 + VW);                  \
      repeat(STEP)                                                                     \
    }                                                                                  \
    repeat(STORE)                                                                      \
  }
TILE(tile_full, REPEAT)
TILE(tile_two, REPEAT_2)
TILE(tile_one, REPEAT_1)

static void panel(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t m,
                  int64_t k) {
  for (int j = 0; j < 32; j += 2 * VW) {
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS) tile_full(c + i * ldc + j, ldc, a + i * lda, lda, b + j, k);
    for (; i + 2 <= m; i += 2) tile_two(c + i * ldc + j, ldc, a + i * lda, lda, b + j, k);
    if (i < m) tile_one(c + i * ldc + j, ldc, a + i * lda, lda, b + j, k);
  }
}

const mrt_attn_kernels TABLE = {.name = TABLE_NAME, .panel = panel};
