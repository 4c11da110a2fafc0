/* The integer register tile: raw[rows][cols] = sum over k of u8 A times s8 B, then corrections,
 * scaling and storing in one go. Addressing is that of gemm/gemm_kernel.h, in bytes: A comes in
 * units of four consecutive k, B in panels [k / 4][32][4]. */
#ifndef MRT_PROVIDER_CPU_QGEMM_KERNEL_H
#define MRT_PROVIDER_CPU_QGEMM_KERNEL_H

#include "ops/qsum.h"
#include "provider/cpu/qgemm/qgemm.h"

typedef struct mrt_qblock {
  int64_t off; /* bytes from a row's start */
  int32_t len; /* units of 4 bytes, at most 16; B has 16 for each block, the rest zeros */
} mrt_qblock;

/* Rows of a tile that are stored one after another; rows in no segment are left out. */
typedef struct mrt_qsegment {
  int first, count;
  int64_t at; /* elements from c (and add) to the first */
} mrt_qsegment;

/* Sums may start at MRT_QSHIFT above col: read as a float, such a number is 2^23 + x, as long as x
 * is from 0 to 2^23, so that scale times it minus 2^23 * scale (which is exact) is x * scale,
 * rounded once, without a conversion. From -2^23 to 0 it is 2^23 + x / 2: below zero too, which is
 * all that matters where the zero point is the lowest number. Tables are made like this where x
 * cannot be larger and there is no bias. */
enum { MRT_QSHIFT = 0x4b000000, MRT_QSHIFT_K = 256 /* at most, of sums */ };

/* Per column tables are padded to whole panels, so they are always read 16 at a time.
 *   x = raw + col[j] - b_zero[j] * a_sum[i]       (sums start at col)
 *   S32: x.   Else v = x * scale[j] + bias[j] (+ residual), clamped to [lo, hi]; F32: v.
 *   U8, S8: round(v) + zero; scale, bias, lo and hi are given in units of the output's scale.
 * With `add`: z = (round(v) clamped to [lo, hi]) * ra + (add[i][j] - add_zero) * rb, clamped to
 * [add_lo, add_hi], rounded, + add_out: a QLinearAdd behind, of the same type. */
typedef struct mrt_qtile {
  const uint8_t *a, *a_hi;
  int64_t a_row; /* bytes */
  const mrt_qblock *blocks;
  int64_t n_blocks;
  const int8_t *b;
  void *c;
  int64_t c_row; /* elements of the output type */
  const mrt_qsegment *segments;
  int n_segments;
  bool a_signed; /* kernels with reads_s8 only */
  bool in_range; /* |v| < 2^31 whatever the sums are */
  bool shifted;  /* sums are MRT_QSHIFT too high, bias is not read; U8, S8 */
  const int32_t *col;
  const int32_t *b_zero, *a_sum; /* both or neither */
  const float *scale, *bias;
  const float *residual;
  int64_t r_row, residual_row; /* residual_row: the tile's first, for the driver */
  const uint8_t *add;          /* rows as c's; U8 and S8 only */
  float ra, rb, add_lo, add_hi;
  int32_t add_zero, add_out;
  float lo, hi; /* NaN gives lo for U8 and S8, and stays for F32 */
  int32_t zero;
  mrt_q_out out;
  int cols;
} mrt_qtile;

typedef void (*mrt_qtile_fn)(const mrt_qtile *t);

extern const float mrt_qtile_no_bias[32]; /* of a panel */
static inline const float *mrt_qtables_bias(const mrt_qtables *t, int64_t column) {
  return t->bias ? t->bias + column : mrt_qtile_no_bias;
}

typedef struct mrt_qgemm_kernels {
  const char *name;
  double macs_per_ns;
  int max_rows, nr, split; /* as in mrt_gemm_kernels */
  bool reads_s8;           /* A may be signed */
  bool shifts;             /* gains by shifted sums */
  /* Rows of A that are read for `rows` of them: AMX loads sixteen at a time; 64 bytes a block. */
  bool by_sixteen;
  mrt_qtile_fn wide[33], narrow[33];
  void (*begin)(void), (*end)(void); /* around the tiles of a thread; may be NULL */
  /* y = clamp(round(x / scale) + zero), NaN gives the lowest; bits ^ flip (0x80 turns u8 into s8).
   */
  void (*quantize)(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                   uint8_t *y);
  void (*dequantize)(const uint8_t *x, int64_t n, float scale, int32_t zero, bool is_signed,
                     float *y);
  void (*range)(const float *x, int64_t n, float *io_min, float *io_max);
} mrt_qgemm_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_qgemm_kernels symbol;
#include "provider/cpu/qgemm/qgemm.def"
#undef MRT_KERNEL

const mrt_qgemm_kernels *mrt_qgemm_kernels_get(void);
/* The clamp of a tile: the activation's and the output type's. */
void mrt_qtile_bounds(const mrt_qgemm_epilogue *e, float *out_lo, float *out_hi);
/* What is the same for all tiles of an epilogue: its result, bounds, and a sum behind it. */
static inline void mrt_qtile_epilogue(const mrt_qgemm_epilogue *e, mrt_qtile *t) {
  t->out = e->out;
  t->zero = e->out_zero;
  t->r_row = e->residual_ld;
  t->ra = e->ra;
  t->rb = e->rb;
  t->add_lo = e->add_lo;
  t->add_hi = e->add_hi;
  t->add_zero = e->add_zero;
  t->add_out = e->add_out;
  mrt_qtile_bounds(e, &t->lo, &t->hi);
}
/* For tests: these kernels from now on; NULL: by the machine. */
void mrt_qgemm_kernels_set(const mrt_qgemm_kernels *k);

/* The last step in plain C, for kernels that leave their sums in memory: raw[i * ld + j]. */
static inline void mrt_qtile_store1(const mrt_qtile *t, int i, int j, int64_t at, int32_t x) {
  if (t->b_zero) x = (int32_t)((uint32_t)x - (uint32_t)t->b_zero[j] * (uint32_t)t->a_sum[i]);
  if (t->out == MRT_Q_S32) {
    ((int32_t *)t->c)[at] = x;
    return;
  }
  float v =
      t->shifted ? (float)(x - MRT_QSHIFT) * t->scale[j] : (float)x * t->scale[j] + t->bias[j];
  if (t->out == MRT_Q_F32) {
    if (t->residual) v += t->residual[i * t->r_row + j];
    v = v < t->lo ? t->lo : v;
    ((float *)t->c)[at] = v > t->hi ? t->hi : v;
    return;
  }
  v = v > t->lo ? v : t->lo;
  v = v < t->hi ? v : t->hi;
  int32_t zero = t->zero;
  if (t->add) {
    const int32_t other = t->out == MRT_Q_S8 ? (int8_t)t->add[at] : t->add[at];
    v = mrt_qsum(__builtin_rintf(v), t->ra, (float)(other - t->add_zero), t->rb);
    v = v > t->add_lo ? v : t->add_lo;
    v = v < t->add_hi ? v : t->add_hi;
    zero = t->add_out;
  }
  ((uint8_t *)t->c)[at] = (uint8_t)((int32_t)__builtin_rintf(v) + zero);
}
static inline void mrt_qtile_finish(const mrt_qtile *t, const int32_t *raw, int ld) {
  for (int s = 0; s < t->n_segments; ++s) {
    const mrt_qsegment *g = &t->segments[s];
    for (int i = 0; i < g->count; ++i)
      for (int j = 0; j < t->cols; ++j)
        mrt_qtile_store1(t, g->first + i, j, g->at + i * t->c_row + j,
                         raw[(g->first + i) * ld + j]);
  }
}

/* Plain C forms of the last three, which compilers vectorise per instruction set. */
static inline void mrt_quantize_loop(const float *x, int64_t n, float scale, int32_t zero,
                                     bool is_signed, uint8_t *y) {
  const float lo = (float)((is_signed ? -128 : 0) - zero),
              hi = (float)((is_signed ? 127 : 255) - zero);
  for (int64_t i = 0; i < n; ++i) {
    float v = x[i] / scale;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    y[i] = (uint8_t)((int32_t)__builtin_rintf(v) + zero);
  }
}
static inline void mrt_dequantize_loop(const uint8_t *x, int64_t n, float scale, int32_t zero,
                                       bool is_signed, float *y) {
  const uint8_t flip = is_signed ? 0x80 : 0;
  const int32_t shift = zero + (is_signed ? 128 : 0);
  for (int64_t i = 0; i < n; ++i) y[i] = (float)((int32_t)(x[i] ^ flip) - shift) * scale;
}
static inline void mrt_range_loop(const float *x, int64_t n, float *io_min, float *io_max) {
  float lo = *io_min, hi = *io_max;
  for (int64_t i = 0; i < n; ++i) {
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  *io_min = lo;
  *io_max = hi;
}

#endif
