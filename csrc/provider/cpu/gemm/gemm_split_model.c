/* The split product in plain C, on the model of the tiles: the specification, bit for bit, of
 * gemm_split_amx.c, and what tests run where there are no tiles. */
#include <math.h>
#include <string.h>

#include "provider/cpu/gemm/gemm_split.h"

enum { AWAY, CUT, EVEN }; /* how a part is made of what is left */

/* AWAY: nearest, ties away from zero, by an integer sum that turns some NaN into something else,
 * which does not matter, because what is left is NaN then. CUT: the upper half. EVEN: nearest, ties
 * to even, denormals count as zero, NaN stays NaN. */
static uint16_t to_bf16(float x, int how) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if (how == AWAY) return (uint16_t)((u + 0x8000) >> 16);
  if (how == CUT) return (uint16_t)(u >> 16);
  if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
  if (fabsf(x) < 0x1p-126f) return (uint16_t)(u >> 16 & 0x8000);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static float from_bf16(uint16_t h) {
  const uint32_t u = (uint32_t)h << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}

/* All of the next slice before the first product. */
static void split(float x, int parts, uint16_t *dst);
static void split_whole(mrt_split_ahead *n, int parts) {
  for (; n->at < n->end; ++n->at)
    for (int j = 0; n->panel && j < 64; ++j) {
      const int k = (int)(n->at & 15) + j / 32 * 16;
      split(n->panel[(n->at >> 4) * 1024 + k * 32 + j % 32], parts,
            n->dst + (n->at >> 4) * parts * 1024 + j % 32 / 16 * 512 + (n->at & 15) * 32 +
                j % 16 * 2 + j / 32);
    }
}
#define MRT_AMX_MODEL
#define SPLIT_STEP(next, parts) split_whole(&(next), parts)
#define SPLIT_OWN(acc, two_rows)
#include "provider/cpu/gemm/gemm_split.inl"

/* Parts of x, one tile pair (1024 numbers) apart. */
static void split(float x, int parts, uint16_t *dst) {
  for (int p = 0; p < parts; ++p) {
    dst[p * 1024] = to_bf16(x, parts == 3 && p ? CUT : p + 1 == parts ? EVEN : AWAY);
    x -= from_bf16(dst[p * 1024]);
  }
}

static void split_a(const mrt_split_rows *src, int parts, uint16_t *dst) {
  group_cursor c = {src->blocks, src->n_blocks, 0, 0};
  const int64_t groups = groups_of(src->blocks, src->n_blocks);
  const int rows = src->rows > 16 ? 32 : 16;
  for (int64_t g = 0; g < groups; ++g, dst += parts * 1024)
    for (int k = 0; k < 32; ++k) {
      int64_t off = 0;
      const int n = cursor_piece(&c, 1, &off);
      for (int r = 0; r < rows; ++r)
        split(n && r < src->rows ? src->row[r][off] : 0.0f, parts,
              dst + r * 32 + k % 16 * 2 + k / 16);
    }
}

static void split_b(const float *panel, int64_t k, int cols, int parts, uint16_t *dst) {
  const int n = cols > 16 ? 32 : 16;
  for (int64_t g = 0; g < (k + 31) / 32; ++g, dst += parts * 1024)
    for (int kk = 0; kk < 32; ++kk)
      for (int j = 0; j < n; ++j)
        split(g * 32 + kk < k ? panel[(g * 32 + kk) * 32 + j] : 0.0f, parts,
              dst + j / 16 * 512 + kk % 16 * 32 + j % 16 * 2 + kk / 16);
}

static bool suspicious(const float *acc, int rows, int cols) {
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < cols; ++j) {
      const float x = fabsf(acc[r * 32 + j]);
      if (!(x < INFINITY) || (x != 0 && x < 0x1p-90f)) return true;
    }
  return false;
}

static void finish(const float *acc, int rows, const mrt_tile *t) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < t->cols; ++j) {
      const int64_t at = i * t->c_row + j / 16 * t->c_col16 + j % 16;
      float x = fmaf(acc[i * 32 + j], t->alpha, t->bias ? t->bias[j] : 0.0f);
      if (t->row_bias) x += t->row_bias[i];
      if (t->residual)
        x = fmaf(t->beta, t->residual[i * t->r_row + j / 16 * t->r_col16 + j % 16], x);
      if (t->flags & MRT_TILE_CLIP) {
        x = x < t->lo ? t->lo : x;
        x = x > t->hi ? t->hi : x;
      }
      t->c[at] = x;
    }
}

static bool finish_checked(const float *acc, int rows, const mrt_tile *t) {
  const bool bad = suspicious(acc, rows, t->cols);
  finish(acc, rows, t);
  return bad;
}

const mrt_split_kernels mrt_gemm_split_model = {
    .name = "model",
    .most_parts = 3,
    .costs = {.product = {0, 30, 72, 140},
              .split_b = {0, 130, 190, 250},
              .split_a = {0, 80, 115, 160},
              .block = 280,
              .rows = 16},
    .split_a = split_a,
    .split_b = split_b,
    .multiply = multiply,
    .multiply_ahead = multiply_ahead,
    .suspicious = suspicious,
    .finish = finish,
    .late = late,
    .begin = begin,
    .end = end,
};
