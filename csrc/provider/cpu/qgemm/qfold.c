/* See qfold.h. */
#include "provider/cpu/qgemm/qfold.h"

#include <string.h>

#include "base/cpu.h"

enum { UNIT = 64, LOAD = 16 };

static inline int64_t units(int64_t n) { return (n + UNIT - 1) / UNIT; }

bool mrt_qfold_pays(int64_t kh, int64_t kw, int64_t c) {
  return kh > 1 && kh <= MRT_QFOLD_ROWS && c <= MRT_QFOLD_CHANNELS &&
         units(kh * kw * c) < kh * units(kw * c);
}

void mrt_qfold_init(mrt_qfold *f, int64_t rows, int64_t c, uint8_t flip) {
  f->rows = rows, f->c = c, f->flip = flip;
  f->pixels = 0;
#ifdef MRT_HAVE_AVX512VNNI
  if (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI)
    f->pixels = LOAD / c < UNIT / (rows * c) ? LOAD / c : UNIT / (rows * c);
#endif
  memset(f->from, 0x80, sizeof f->from); /* a zero */
  uint8_t at = 0;
  for (int64_t p = 0; p < f->pixels; ++p)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < c; ++i) f->from[r][at++] = (uint8_t)(p * c + i);
}

void mrt_qfold_run(const mrt_qfold *f, const uint8_t *const *row, int64_t pixels, uint8_t *to) {
  const int64_t c = f->c;
  int64_t p = 0;
#ifdef MRT_HAVE_AVX512VNNI
  if (f->pixels) p = mrt_qfold_avx512vnni(f, row, pixels, to);
#endif
  to += p * f->rows * c;
  for (; c <= 4 && p * c + 4 <= pixels * c; ++p)
    for (int64_t r = 0; r < f->rows; ++r, to += c) {
      uint32_t four; /* what is too much is overwritten */
      memcpy(&four, row[r] + p * c, 4);
      four ^= 0x01010101u * f->flip;
      memcpy(to, &four, 4);
    }
  for (; p < pixels; ++p)
    for (int64_t r = 0; r < f->rows; ++r, to += c)
      for (int64_t i = 0; i < c; ++i) to[i] = row[r][p * c + i] ^ f->flip;
}
