/* band_tiles.h in plain C, on the model of the tiles: the specification, bit for bit, of
 * band_tiles_amx.c, and what tests run where there are no tiles. */
#include <math.h>

#define MRT_AMX_MODEL
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/band/band_tiles.h"

#define INLINE          static inline
#define FETCH1(address) (void)(address)
#define FETCH2(address) (void)(address)

typedef struct finisher {
  uint32_t most[32], least[32];
} finisher;

static finisher finisher_of(const mrt_band_tiles *t) {
  finisher f;
  (void)t;
  memset(f.most, 0, sizeof f.most);
  memset(f.least, 0xff, sizeof f.least);
  return f;
}

static void finish_row(const mrt_band_tiles *t, finisher *f, const float *acc, int64_t acc16,
                       int64_t pixel, bool two) {
  for (int c = 0; c < (two ? 32 : 16); ++c) {
    const int64_t at = pixel * 16 + c / 16 * t->col16 + c % 16;
    float x = acc[c / 16 * acc16 + c % 16];
    uint32_t u;
    memcpy(&u, &x, 4);
    u &= 0x7fffffff;
    if (u > f->most[c]) f->most[c] = u;
    if (u - 1 < f->least[c]) f->least[c] = u - 1;
    x += t->bias[c];
    if (t->residual) x += t->residual[at];
    x = x < t->lo ? t->lo : x;
    t->out[at] = x > t->hi ? t->hi : x;
  }
}

static void finisher_done(mrt_band_tiles *t, const finisher *f) {
  memcpy(t->most, f->most, sizeof f->most);
  memcpy(t->least, f->least, sizeof f->least);
}

static void split_pair(const float *raw, uint16_t *dst, int64_t pair) {
  const int64_t i = pair % 32 / 2, half = pair % 2;
  raw += pair / 32 * 1024 + i * 32 + half * 16;
  dst += pair / 32 * 3072 + half * 512 + i * 32;
  for (int c = 0; c < 32; ++c) {
    float x = raw[c % 16 + c / 16 * 512];
    for (int p = 0; p < 3; ++p) { /* the first is the nearest, the others are cut off */
      uint32_t u;
      memcpy(&u, &x, 4);
      if (p == 0) u += 0x8000;
      dst[p * 1024 + c % 16 * 2 + c / 16] = (uint16_t)(u >> 16);
      u &= 0xffff0000u;
      float part;
      memcpy(&part, &u, 4);
      x -= part;
    }
  }
}

#include "provider/cpu/band/band_tiles.inl"

void mrt_band_tiles_model(mrt_band_tiles *t) { all_blocks(t, t->cols > 16); }
