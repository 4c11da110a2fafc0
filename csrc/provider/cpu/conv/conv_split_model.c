/* Split convolution in plain C, on the model of the tiles: the specification, bit for bit, of
 * conv_split_amx.c, and what tests run where there are no tiles. */
#include <math.h>

#define MRT_AMX_MODEL
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/conv/conv_split.h"
#include "tensor/dtype.h"

#define INLINE         static inline
#define FETCH(address) (void)(address)

/* Nearest bf16: as gemm_split_model.c. */
static uint16_t to_bf16(float x, bool last) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if (!last) return (uint16_t)((u + 0x8000) >> 16);
  if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
  if (fabsf(x) < 0x1p-126f) return (uint16_t)(u >> 16 & 0x8000);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void split_one(float x, int parts, uint16_t *dst, int64_t part) {
  for (int p = 0; p < parts; ++p) {
    const uint16_t h = to_bf16(x, p + 1 == parts);
    const uint32_t u = (uint32_t)h << 16;
    float back;
    memcpy(&back, &u, 4);
    dst[p * part] = h;
    x -= back;
  }
}

static void finish_row(mrt_split_out *o, int r) {
  o->bad[r] = 0;
  if (o->rows[r] < 0) return;
  for (int c = 0; c < (o->col16 ? 32 : 16); ++c) {
    const int64_t at = o->rows[r] + c / 16 * o->col16 + c % 16;
    float x = o->acc[r * 32 + c];
    const float size = fabsf(x);
    const bool small = size != 0 && size < 0x1p-90f;
    x += o->bias[c];
    if (o->residual) x += o->residual[at];
    if (!(size < INFINITY) || (small && !(fabsf(x) >= 0x1p-60f))) {
      o->bad[r] |= 1u << c;
      if (!o->parts) continue;
    }
    if (o->clip) {
      x = x < o->lo ? o->lo : x;
      x = x > o->hi ? o->hi : x;
    }
    if (o->parts)
      split_one(x, o->parts, o->halves + 2 * o->rows[r] + c % 16 * 2 + c / 16, o->part);
    else
      o->out[at] = x;
  }
  o->any |= o->bad[r];
}

static void finish_rows(mrt_split_out *o, int r, int end) {
  for (; r < end; ++r) finish_row(o, r);
}

static void split_pair(const void *raw, bool f16, uint16_t *dst, int64_t pair) {
  const int64_t group = pair / 32, i = pair % 32 / 2, half = pair % 2;
  const int parts = f16 ? 2 : 3;
  for (int c = 0; c < 32; ++c) {
    const int64_t at = group * 1024 + i * 32 + half * 16 + c % 16 + c / 16 * 512;
    const float x = f16 ? mrt_f16_to_f32(((const uint16_t *)raw)[at]) : ((const float *)raw)[at];
    split_one(x, parts, dst + group * parts * 1024 + half * 512 + i * 32 + c % 16 * 2 + c / 16,
              1024);
  }
}

#include "provider/cpu/conv/conv_split.inl"

static void split_line(const mrt_split_line *l, int parts) {
  for (int64_t i = 0; i < l->count; ++i)
    for (int c = 0; c < 32; ++c)
      split_one(c < l->channels ? l->src[i * l->step + c / 16 * l->block + c % 16] : 0.0f, parts,
                l->dst + i * MRT_SPLIT_PIXEL + c % 16 * 2 + c / 16, l->part);
}

/* begin and end of gemm's model work on its own tiles: ours are set and cleared by each block. */
const mrt_conv_split_kernels mrt_conv_split_model = {.name = "model",
                                                     .gemm = &mrt_gemm_split_model,
                                                     .few = 1, /* so that tests see both ways */
                                                     TILE_COSTS,
                                                     .split_line = split_line,
                                                     .split_pairs = split_pairs,
                                                     .multiply = multiply,
                                                     .finish = finish};
