/* AMX tile operations as macros, with a software model behind the same names, so that a kernel
 * written on them also runs, bit for bit the same, where there are no tiles.
 *
 * A kernel's body stands in an .inl file. NAME_amx.c includes it as it is: the macros are
 * instructions. NAME_model.c defines MRT_AMX_MODEL first: the macros are plain C. The eight tiles
 * are always configured as 16 rows of 64 bytes; tile numbers are literals 0 .. 7.
 *
 *   MRT_AMX_BEGIN() / MRT_AMX_END()      configure / release; around every use, per thread
 *   MRT_AMX_ZERO(t)                      t = 0
 *   MRT_AMX_LOAD(t, ptr, stride)         16 rows of 64 bytes, `stride` bytes apart
 *   MRT_AMX_ONCE(t, ptr, stride)         loads what will not be read again soon
 *   MRT_AMX_STORE(t, ptr, stride)
 *   MRT_AMX_BF16(c, a, b)                c[m][n] (float) += sum over pairs a[m][2k..] * b[k][2n..]
 *   MRT_AMX_U8S8, _S8S8, _S8U8, _U8U8    c[m][n] (int32, wraps) += sum over quads
 *
 * Float semantics of the hardware: within one instruction the even and the odd halves are summed
 * apart over k by fused multiply-add, then added to each other, then to c; round to nearest;
 * denormal inputs and results count as zero. */
#ifndef MRT_PROVIDER_CPU_AMX_TILE_H
#define MRT_PROVIDER_CPU_AMX_TILE_H

#include <stdint.h>
#include <string.h>

#ifndef MRT_AMX_MODEL
#include <immintrin.h>

typedef struct mrt_amx_config {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} mrt_amx_config;

static inline __attribute__((always_inline)) void mrt_amx_begin(void) {
  mrt_amx_config c = {.palette = 1};
  for (int i = 0; i < 8; ++i) {
    c.row_bytes[i] = 64;
    c.rows[i] = 16;
  }
  /* The compiler does not know that the instruction reads c: keep the stores above it. */
  __asm__ volatile("ldtilecfg %0" ::"m"(c) : "memory");
}
#define MRT_AMX_BEGIN()               mrt_amx_begin()
#define MRT_AMX_END()                 _tile_release()
#define MRT_AMX_ZERO(t)               _tile_zero(t)
#define MRT_AMX_LOAD(t, ptr, stride)  _tile_loadd(t, ptr, stride)
#define MRT_AMX_ONCE(t, ptr, stride)  _tile_stream_loadd(t, ptr, stride)
#define MRT_AMX_STORE(t, ptr, stride) _tile_stored(t, ptr, stride)
#define MRT_AMX_BF16(c, a, b)         _tile_dpbf16ps(c, a, b)
#define MRT_AMX_U8S8(c, a, b)         _tile_dpbusd(c, a, b)
#define MRT_AMX_S8S8(c, a, b)         _tile_dpbssd(c, a, b)
#define MRT_AMX_S8U8(c, a, b)         _tile_dpbsud(c, a, b)
#define MRT_AMX_U8U8(c, a, b)         _tile_dpbuud(c, a, b)

#else
#include <math.h>

extern _Thread_local uint8_t mrt_amx_tiles[8][16][64]; /* one set for all kernels of a thread */

static inline float mrt_amx_flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
static inline float mrt_amx_get_f32(const uint8_t *p) {
  float x;
  memcpy(&x, p, 4);
  return x;
}
static inline float mrt_amx_get_bf16(const uint8_t *p) {
  const uint32_t u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
  float x;
  memcpy(&x, &u, 4);
  return mrt_amx_flush(x);
}

static inline void mrt_amx_model_load(int t, const void *src, int64_t stride) {
  for (int r = 0; r < 16; ++r) memcpy(mrt_amx_tiles[t][r], (const char *)src + r * stride, 64);
}
static inline void mrt_amx_model_store(int t, void *dst, int64_t stride) {
  for (int r = 0; r < 16; ++r) memcpy((char *)dst + r * stride, mrt_amx_tiles[t][r], 64);
}

static inline void mrt_amx_model_bf16(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      float half[2] = {0, 0};
      for (int k = 0; k < 16; ++k)
        for (int p = 0; p < 2; ++p) {
          const float x = mrt_amx_get_bf16(&mrt_amx_tiles[a][m][4 * k + 2 * p]);
          const float y = mrt_amx_get_bf16(&mrt_amx_tiles[b][k][4 * n + 2 * p]);
          half[p] = mrt_amx_flush(fmaf(x, y, half[p]));
        }
      const float sum = mrt_amx_flush(half[0] + half[1]);
      const float old = mrt_amx_flush(mrt_amx_get_f32(&mrt_amx_tiles[c][m][4 * n]));
      const float out = mrt_amx_flush(old + sum);
      memcpy(&mrt_amx_tiles[c][m][4 * n], &out, 4);
    }
}

static inline void mrt_amx_model_int8(int c, int a, int b, int a_signed, int b_signed) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      uint32_t sum;
      memcpy(&sum, &mrt_amx_tiles[c][m][4 * n], 4);
      for (int k = 0; k < 16; ++k)
        for (int p = 0; p < 4; ++p) {
          const uint8_t x = mrt_amx_tiles[a][m][4 * k + p], y = mrt_amx_tiles[b][k][4 * n + p];
          sum += (uint32_t)((a_signed ? (int8_t)x : x) * (b_signed ? (int8_t)y : y));
        }
      memcpy(&mrt_amx_tiles[c][m][4 * n], &sum, 4);
    }
}

#define MRT_AMX_BEGIN()               memset(mrt_amx_tiles, 0, sizeof mrt_amx_tiles)
#define MRT_AMX_END()                 memset(mrt_amx_tiles, 0xff, sizeof mrt_amx_tiles)
#define MRT_AMX_ZERO(t)               memset(mrt_amx_tiles[t], 0, sizeof mrt_amx_tiles[t])
#define MRT_AMX_LOAD(t, ptr, stride)  mrt_amx_model_load(t, ptr, stride)
#define MRT_AMX_ONCE(t, ptr, stride)  mrt_amx_model_load(t, ptr, stride)
#define MRT_AMX_STORE(t, ptr, stride) mrt_amx_model_store(t, ptr, stride)
#define MRT_AMX_BF16(c, a, b)         mrt_amx_model_bf16(c, a, b)
#define MRT_AMX_U8S8(c, a, b)         mrt_amx_model_int8(c, a, b, 0, 1)
#define MRT_AMX_S8S8(c, a, b)         mrt_amx_model_int8(c, a, b, 1, 1)
#define MRT_AMX_S8U8(c, a, b)         mrt_amx_model_int8(c, a, b, 1, 0)
#define MRT_AMX_U8U8(c, a, b)         mrt_amx_model_int8(c, a, b, 0, 0)
#endif

#endif
