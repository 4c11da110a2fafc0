/* Transposing tiles of 4-byte elements by registers of four: 2x of one element after the other. */
#ifndef MRT_TENSOR_TILE4_H
#define MRT_TENSOR_TILE4_H

#include <stdint.h>
#include <string.h>

#if defined(__clang__) || __GNUC__ >= 12
#define MRT_SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define MRT_SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, (mrt_v4u){i, j, k, l})
#endif
typedef uint32_t mrt_v4u __attribute__((vector_size(16)));

static inline mrt_v4u mrt_v4u_load(const char *p) {
  mrt_v4u v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void mrt_v4u_store(char *p, mrt_v4u v) { memcpy(p, &v, sizeof v); }

/* dst rows `dr` bytes apart get the columns of src's rows, `sc` bytes apart: 4 x 4. */
static inline void mrt_transpose_4x4(char *dst, int64_t dr, const char *src, int64_t sc) {
  mrt_v4u a = mrt_v4u_load(src), b = mrt_v4u_load(src + sc), c = mrt_v4u_load(src + 2 * sc),
          d = mrt_v4u_load(src + 3 * sc);
  mrt_v4u ab = MRT_SHUFFLE4(a, b, 0, 4, 1, 5), ba = MRT_SHUFFLE4(a, b, 2, 6, 3, 7);
  mrt_v4u cd = MRT_SHUFFLE4(c, d, 0, 4, 1, 5), dc = MRT_SHUFFLE4(c, d, 2, 6, 3, 7);
  mrt_v4u_store(dst, MRT_SHUFFLE4(ab, cd, 0, 1, 4, 5));
  mrt_v4u_store(dst + dr, MRT_SHUFFLE4(ab, cd, 2, 3, 6, 7));
  mrt_v4u_store(dst + 2 * dr, MRT_SHUFFLE4(ba, dc, 0, 1, 4, 5));
  mrt_v4u_store(dst + 3 * dr, MRT_SHUFFLE4(ba, dc, 2, 3, 6, 7));
}
/* The same for h x w elements: dst[k * dr + 4 * l] = src[l * sc + 4 * k]. */
static inline void mrt_transpose_tile4(char *dst, int64_t dr, const char *src, int64_t sc,
                                       int64_t h, int64_t w) {
  int64_t k = 0;
  for (; k + 4 <= h; k += 4) {
    int64_t l = 0;
    for (; l + 4 <= w; l += 4)
      mrt_transpose_4x4(dst + k * dr + l * 4, dr, src + l * sc + k * 4, sc);
    for (; l < w; ++l)
      for (int64_t i = k; i < k + 4; ++i) memcpy(dst + i * dr + l * 4, src + l * sc + i * 4, 4);
  }
  for (; k < h; ++k)
    for (int64_t l = 0; l < w; ++l) memcpy(dst + k * dr + l * 4, src + l * sc + k * 4, 4);
}

#endif
