/* amx/tile.h, tile_model: every tile instruction of this machine against the software model, bit
 * for bit, and the model against plain loops on any machine. */
#define MRT_AMX_MODEL
#include "provider/cpu/amx/tile.h"

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,amx-int8")
typedef struct real_config {
  uint8_t palette, start, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} real_config;
static void real(int op, uint8_t c[16][64], uint8_t a[16][64], uint8_t b[16][64]) {
  real_config cfg = {.palette = 1};
  for (int i = 0; i < 8; ++i) cfg.row_bytes[i] = 64, cfg.rows[i] = 16;
  __asm__ volatile("ldtilecfg %0" ::"m"(cfg) : "memory");
  _tile_loadd(0, c, 64);
  _tile_loadd(1, a, 64);
  _tile_loadd(2, b, 64);
  if (op == 0) _tile_dpbf16ps(0, 1, 2);
  if (op == 1) _tile_dpbusd(0, 1, 2);
  if (op == 2) _tile_dpbssd(0, 1, 2);
  if (op == 3) _tile_dpbsud(0, 1, 2);
  if (op == 4) _tile_dpbuud(0, 1, 2);
  _tile_stored(0, c, 64);
  _tile_release();
}
#pragma GCC pop_options
#else
static void real(int op, uint8_t c[16][64], uint8_t a[16][64], uint8_t b[16][64]) {
  (void)op, (void)c, (void)a, (void)b;
}
#endif

static void model(int op, uint8_t c[16][64], uint8_t a[16][64], uint8_t b[16][64]) {
  MRT_AMX_BEGIN();
  MRT_AMX_LOAD(0, c, 64);
  MRT_AMX_LOAD(1, a, 64);
  MRT_AMX_LOAD(2, b, 64);
  if (op == 0) MRT_AMX_BF16(0, 1, 2);
  if (op == 1) MRT_AMX_U8S8(0, 1, 2);
  if (op == 2) MRT_AMX_S8S8(0, 1, 2);
  if (op == 3) MRT_AMX_S8U8(0, 1, 2);
  if (op == 4) MRT_AMX_U8U8(0, 1, 2);
  MRT_AMX_STORE(0, c, 64);
  MRT_AMX_END();
}

/* A bf16 of a random exponent in [1, 1 + span) around 1.0, or any bits at all when span is 0. */
static uint16_t random_bf16(int span) {
  const uint32_t r = rng();
  if (!span) return (uint16_t)r;
  return (uint16_t)((r & 0x807f) | (uint32_t)(127 - span / 2 + (int)(r >> 8) % span) << 7);
}

static void fill(int op, int span, uint8_t c[16][64], uint8_t a[16][64], uint8_t b[16][64]) {
  for (int r = 0; r < 16; ++r)
    for (int i = 0; i < 32; ++i) {
      const uint16_t x = op ? (uint16_t)rng() : random_bf16(span);
      const uint16_t y = op ? (uint16_t)rng() : random_bf16(span);
      memcpy(&a[r][2 * i], &x, 2);
      memcpy(&b[r][2 * i], &y, 2);
    }
  for (int r = 0; r < 16; ++r)
    for (int i = 0; i < 16; ++i) {
      const uint32_t whole = rng();
      float x = rng_float();
      if (op || !span)
        memcpy(&c[r][4 * i], &whole, 4);
      else
        memcpy(&c[r][4 * i], &x, 4);
    }
}

/* NaN may carry any payload. */
static int same_floats(uint8_t a[16][64], uint8_t b[16][64]) {
  for (int r = 0; r < 16; ++r)
    for (int i = 0; i < 16; ++i) {
      const float x = mrt_amx_get_f32(&a[r][4 * i]), y = mrt_amx_get_f32(&b[r][4 * i]);
      if (!(isnan(x) && isnan(y)) && memcmp(&x, &y, 4) != 0) return 0;
    }
  return 1;
}

static void check_real(void) {
  static const int spans[] = {4, 30, 120, 0};
  uint8_t a[16][64], b[16][64], c[16][64], d[16][64];
  if (!(mrt_cpu_get()->isa & MRT_ISA_AMX)) return;
  for (int op = 0; op < 5; ++op)
    for (int s = 0; s < 4; ++s)
      for (int i = 0; i < 100; ++i) {
        fill(op, spans[s], c, a, b);
        memcpy(d, c, sizeof d);
        real(op, c, a, b);
        model(op, d, a, b);
        CHECK(op ? memcmp(c, d, sizeof c) == 0 : same_floats(c, d));
      }
}

static void check_model(void) {
  uint8_t a[16][64], b[16][64], c[16][64], old[16][64];
  fill(0, 4, c, a, b);
  memcpy(old, c, sizeof c);
  model(0, c, a, b);
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      double want = mrt_amx_get_f32(&old[m][4 * n]), mass = fabs(want);
      for (int k = 0; k < 32; ++k) {
        const double p = (double)mrt_amx_get_bf16(&a[m][2 * k]) *
                         (double)mrt_amx_get_bf16(&b[k / 2][4 * n + 2 * (k & 1)]);
        want += p, mass += fabs(p);
      }
      CHECK(fabs((double)mrt_amx_get_f32(&c[m][4 * n]) - want) <= 1e-6 * mass);
    }
  for (int op = 1; op < 5; ++op) {
    fill(op, 0, c, a, b);
    memcpy(old, c, sizeof c);
    model(op, c, a, b);
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        uint32_t want, got;
        memcpy(&want, &old[m][4 * n], 4);
        memcpy(&got, &c[m][4 * n], 4);
        for (int k = 0; k < 64; ++k) {
          const int x = a[m][k], y = b[k / 4][4 * n + k % 4];
          want += (uint32_t)((op == 1 || op == 4 || x < 128 ? x : x - 256) *
                             (op == 3 || op == 4 || y < 128 ? y : y - 256));
        }
        CHECK(want == got);
      }
  }
}

int main(void) {
  check_model();
  check_real();
  return CHECK_DONE();
}
