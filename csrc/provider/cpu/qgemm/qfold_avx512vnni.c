/* See qfold.h: a step takes 16 bytes of each row, in every lane of a vector, and picks its own. */
#include <immintrin.h>

#include "provider/cpu/qgemm/qfold.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i piece(const uint8_t *row, const uint8_t *from) {
  const __m128i x = _mm_loadu_si128((const __m128i *)row);
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(x), _mm512_loadu_si512(from));
}

INLINE int64_t steps(const mrt_qfold *f, const uint8_t *const *row, int64_t pixels, uint8_t *to,
                     const int64_t rows) {
  const int64_t c = f->c, per = f->pixels, bytes = per * rows * c;
  const __m512i flip = _mm512_set1_epi8((char)f->flip);
  int64_t p = 0;
  for (; p * c + 16 <= pixels * c; p += per, to += bytes) {
    __m512i x = flip;
#pragma GCC unroll 3
    for (int64_t r = 0; r < rows; ++r) x = _mm512_xor_si512(x, piece(row[r] + p * c, f->from[r]));
    _mm512_storeu_si512(to, x);
  }
  return p;
}

int64_t mrt_qfold_avx512vnni(const mrt_qfold *f, const uint8_t *const *row, int64_t pixels,
                             uint8_t *to) {
  return f->rows == 3 ? steps(f, row, pixels, to, 3) : steps(f, row, pixels, to, f->rows);
}
