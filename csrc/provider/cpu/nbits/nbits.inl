/* Kernels of the block-quantised products, written over a file's vectors of VW columns:
 *   vi, v_to_f, v_seti     int32 lanes
 *   load_words(p)          VW words from p
 *   load_value(p, bits, j) words from which value j (for 4 bits also j + 1, j even) can be taken
 *   nibble(w, j, half)     value j of each of VW words as floats, minus 8 if half
 *   byte(w, j, half)       the same of 8-bit values, minus 128 if half
 *   dot4(acc, w, a)        acc + the sum of four products, bytes of w (0 .. 15) and of a (signed)
 *   dot8(acc, w, a)        the same for bytes of w in 0 .. 255
 *   SPAN                   vectors that are worked on together */
#include <stdbool.h>
#include <string.h>

enum {
  COLS = MRT_NBITS_PANEL,
  MAX_ROWS = MRT_NBITS_ROWS,
  AHEAD = 2048, /* bytes: what comes from memory arrives in time, across pages too */
  CHAINS = 2    /* rows up to which two sums hide the latency of additions */
};

/* Place in its eight (four) of value j of a word. */
INLINE int place(const int bits, const int j) { return bits == 4 ? 4 * (j & 1) + j / 2 : j; }

INLINE vf value(vi w, const int bits, const int j, const bool half) {
  return bits == 4 ? nibble(w, j, half) : byte(w, j, half);
}

INLINE void fetch_ahead(const uint32_t *q) {
  for (int i = 0; i < SPAN * VW; i += 16) __builtin_prefetch((const char *)(q + i) + AHEAD);
}

/* SPAN vectors of columns from `col` on. rows, bits and half are constants where this is inlined.
 */
INLINE void span_f32(const mrt_nbits_panel *p, const mrt_nbits_rows *x, const int rows, float *y,
                     int col, const int bits, const bool half) {
  const int64_t per = 32 / bits, words = p->block / per, lda = p->blocks * p->block;
  const uint32_t *q = p->q + col;
  const float *a = x->a;
  for (int64_t b = 0; b < p->blocks; ++b) {
    vf part[MAX_ROWS][SPAN], odd[MAX_ROWS][SPAN], zero[SPAN];
#pragma GCC unroll 8
    for (int v = 0; v < SPAN; ++v) {
      zero[v] = half ? v_set(0.0f) : v_load(p->zeros + b * COLS + col + v * VW);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) part[r][v] = odd[r][v] = v_set(0.0f);
    }
    for (int64_t i = 0; i < words; ++i, q += COLS, a += per) {
      vi word[SPAN];
      fetch_ahead(q);
#pragma GCC unroll 8
      for (int j = 0; j < per; ++j)
#pragma GCC unroll 8
        for (int v = 0; v < SPAN; ++v) {
          if (bits == 8 || j % 2 == 0) word[v] = load_value(q + v * VW, bits, j);
          vf w = value(word[v], bits, j, half);
          if (!half) w = w - zero[v];
#pragma GCC unroll 4
          for (int r = 0; r < rows; ++r) {
            vf *to = rows <= CHAINS && (j & 1) ? &odd[r][v] : &part[r][v];
            *to = v_fma(v_set(a[r * lda + place(bits, j)]), w, *to);
          }
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < SPAN; ++v) {
      const vf scale = v_load(p->scales + b * COLS + col + v * VW);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        float *to = y + r * COLS + col + v * VW;
        if (rows <= CHAINS) part[r][v] = part[r][v] + odd[r][v];
        v_store(to, v_fma(part[r][v], scale, v_load(to)));
      }
    }
  }
}

INLINE vi word_of(const int8_t *a) {
  int32_t four;
  memcpy(&four, a, 4);
  return v_seti(four);
}

INLINE void span_s8(const mrt_nbits_panel *p, const mrt_nbits_rows *x, const int rows, float *y,
                    int col, const int bits, const bool half) {
  const int64_t per = 32 / bits, words = p->block / per, lda = p->blocks * p->block;
  const uint32_t *q = p->q + col;
  const int8_t *a = x->q;
  for (int64_t b = 0; b < p->blocks; ++b) {
    vi acc[MAX_ROWS][SPAN];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < SPAN; ++v)
        acc[r][v] = v_seti(half ? -(1 << (bits - 1)) * x->sums[r * p->blocks + b] : 0);
    for (int64_t i = 0; i < words; ++i, q += COLS, a += per) {
      fetch_ahead(q);
#pragma GCC unroll 8
      for (int v = 0; v < SPAN; ++v) {
        const vi w = load_words(q + v * VW), low = w & v_seti(0x0f0f0f0f),
                 high = (w >> 4) & v_seti(0x0f0f0f0f);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
          const int8_t *at = a + r * lda;
          if (bits == 4)
            acc[r][v] = dot4(dot4(acc[r][v], low, word_of(at)), high, word_of(at + 4));
          else
            acc[r][v] = dot8(acc[r][v], w, word_of(at));
        }
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < SPAN; ++v) {
      const vf scale = v_load(p->scales + b * COLS + col + v * VW);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        float *to = y + r * COLS + col + v * VW;
        vf sum = v_to_f(acc[r][v]);
        if (!half)
          sum = sum - v_load(p->zeros + b * COLS + col + v * VW) *
                          v_set((float)x->sums[r * p->blocks + b]);
        v_store(to, v_fma(sum, scale * v_set(x->scales[r * p->blocks + b]), v_load(to)));
      }
    }
  }
}

#define DOT(name, rows, bits, half)                                                            \
  for (int col = 0; col < COLS; col += SPAN * VW) span_##name(p, a, rows, y, col, bits, half); \
  return;
#define DOT_ROWS(name, bits, half)           \
  switch (rows) {                            \
    case 1: DOT(name, 1, bits, half)         \
    case 2: DOT(name, 2, bits, half)         \
    case 3: DOT(name, 3, bits, half)         \
    default: DOT(name, MAX_ROWS, bits, half) \
  }
#define DOT_FUNCTION(name)                                                                        \
  static void dot_##name(const mrt_nbits_panel *p, const mrt_nbits_rows *a, int rows, float *y) { \
    memset(y, 0, (size_t)rows *COLS * sizeof *y);                                                 \
    if (p->bits == 4 && !p->zeros) DOT_ROWS(name, 4, true)                                        \
    if (p->bits == 4) DOT_ROWS(name, 4, false)                                                    \
    if (!p->zeros) DOT_ROWS(name, 8, true)                                                        \
    DOT_ROWS(name, 8, false)                                                                      \
  }
DOT_FUNCTION(f32)
DOT_FUNCTION(s8)

INLINE void expand_bits(const mrt_nbits_panel *p, float *out, const int bits) {
  const int64_t per = 32 / bits, words = p->block / per;
  const uint32_t *q = p->q;
  const vf half = v_set((float)(1 << (bits - 1)));
  for (int64_t b = 0; b < p->blocks; ++b)
    for (int64_t i = 0; i < words; ++i, q += COLS, out += per * COLS)
      for (int c = 0; c < COLS; c += VW) {
        const vf scale = v_load(p->scales + b * COLS + c);
        const vf zero = p->zeros ? v_load(p->zeros + b * COLS + c) : half;
#pragma GCC unroll 8
        for (int j = 0; j < per; ++j) {
          const vf w = value(load_value(q + c, bits, j & ~1), bits, j, false);
          v_store(out + place(bits, j) * COLS + c, (w - zero) * scale);
        }
      }
}
static void expand(const mrt_nbits_panel *p, float *out) {
  if (p->bits == 4)
    expand_bits(p, out, 4);
  else
    expand_bits(p, out, 8);
}

static void quantize(const float *a, int64_t blocks, int64_t block, int8_t *q, float *scales,
                     int32_t *sums) {
  for (int64_t b = 0; b < blocks; ++b, a += block, q += block) {
    vf most = v_set(0.0f), bad = most;
    for (int64_t i = 0; i < block; i += VW) {
      const vf x = v_load(a + i);
      most = v_max(v_abs(x), most); /* NaN: the second */
      bad = v_fma(x, v_set(0.0f), bad);
    }
    const float top = v_hmax(most);
    const bool finite = v_hsum(bad) == 0.0f;
    const vf inverse = v_set(top > 1e-36f ? 127.0f / top : 0.0f); /* finite */
    int32_t sum = 0;
    for (int64_t i = 0; i < block; i += VW) {
      int32_t rounded[VW] = {0};
      const vi r = v_to_i(v_load(a + i) * inverse);
      if (finite) memcpy(rounded, &r, sizeof rounded);
      for (int j = 0; j < VW; ++j) {
        q[i + j] = (int8_t)rounded[j];
        sum += rounded[j];
      }
    }
    scales[b] = finite ? top / 127.0f : NAN;
    sums[b] = sum;
  }
}

const mrt_nbits_kernels TABLE = {TABLE_NAME, dot_f32, dot_s8, expand, quantize};
