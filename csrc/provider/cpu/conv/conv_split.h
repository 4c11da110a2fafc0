/* Dense convolution out of bf16 tile products (gemm/gemm_split.h says what the parts of a number
 * are and what they promise). A band of input rows is split once into parts, laid out so that
 * every tap of every output pixel is a plain tile load:
 *
 *   [channel group of 32][part][phase][row][pixel][32 halves]
 *
 * A pixel of one part is one cache line: halves 2i and 2i + 1 are channels i and i + 16 of the
 * group. With strides, rows and columns are sorted by their remainder (phases), so that
 * neighbouring outputs always read neighbouring pixels. Rows are `pitch` pixels apart and share the
 * zeros between them: the padding right of one is the padding left of the next. Output pixels are
 * then numbered q = y * pitch + x, tap (ky, kx) of output q reads pixel q + a constant, and blocks
 * of 32 consecutive q run over row ends; the few q with x beyond the output are thrown away.
 *
 * Plain input of few channels (input_nchw): group ky holds all (kx, channel) of the output pixel's
 * own window row, there are no column phases.
 *
 * Values between two of these convolutions may be made of parts at once: whole images in the same
 * order, without phases and padding, [image][channel group][part][row][pixel][32 halves], which for
 * two parts takes the memory of floats. A 1x1 convolution reads them where they lie, others copy
 * them into their bands.
 *
 * Weights are split when they are packed: [panel of 32][channel group][tap][part][2 tiles], so that
 * taps read again what L1 still holds. Three parts are half as large again as floats and need not
 * be: with mrt_conv.raw weights are kept as blocks of [32 k][32] numbers and split slice by slice
 * beside the products of the slice before. Weights of 2 bytes (mrt_conv.narrow) have fewer parts: a
 * bf16 is one, a float16 two; products with parts that are zero are left out. */
#ifndef MRT_PROVIDER_CPU_CONV_SPLIT_H
#define MRT_PROVIDER_CPU_CONV_SPLIT_H

#include "provider/cpu/conv/conv.h"
#include "provider/cpu/gemm/gemm_split.h"

enum { MRT_SPLIT_PIXEL = 32 }; /* halves of a pixel of one part */

/* `count` pixels of one row, at src + i * step, channels 16 .. 31 `block` floats after 0 .. 15;
 * only `channels` of them exist, the others become zero. Part p of pixel i goes to
 * dst + p * part + i * 32. */
typedef struct mrt_split_line {
  const float *src;
  int64_t step, block;
  int channels;
  int64_t count;
  uint16_t *dst;
  int64_t part;
} mrt_split_line;

/* A block of 32 x 32 sums: rows 16 and up of A follow the first 16. Group g of k of part p lies at
 * a + offsets[g] + p * part; groups of B follow each other. */
typedef struct mrt_split_block {
  const uint16_t *a, *b;
  const int64_t *offsets;
  int64_t groups, part;
  int rows, cols;
  int b_parts; /* of B, at most those of A; 0: as many */
  bool load;   /* acc is added to */
  bool once;   /* A is read once only: it passes by what L1 holds of B */
  float *acc;  /* [32][32] */
  /* Weights of a later slice that are split on the way, floats to three parts, float16 numbers to
   * two: rows of 32 k x 16 columns, 2 for each k and k + 16, numbers [pair, pair_end) of blocks
   * [32][32] at raw. */
  const void *raw;
  bool raw_f16;
  uint16_t *split;
  int64_t pair, pair_end;
  /* Weights that come next, fetched into L2 on the way, from line ahead_line on: so many cache
   * lines for each product of parts. May run past the end. Of the first ahead_turns, pages take
   * turns (mrt_split_fetch_at). */
  const char *ahead;
  int ahead_lines;
  int64_t ahead_line, ahead_turns;
} mrt_split_block;

/* What becomes of a block of sums. Elements that tiles may have got wrong (not finite, or so small
 * that something was flushed: below 2^-90, but not zero, where bias and residual do not absorb it:
 * then the result is below 2^-60) are not written but marked in bad. */
typedef struct mrt_split_out {
  const float *acc;
  int64_t first;       /* pixel q of row 0 */
  const int64_t *rows; /* [32]: floats from `out` to the row's pixel; -1: no such pixel */
  float *out;
  /* Instead of out, 1 or 2 parts, `part` halves apart: twice as many halves from here as rows says
   * floats. No residual, and all columns; marked elements are written, too, with anything. */
  uint16_t *halves;
  int64_t part;
  int parts;
  const float *residual; /* like out, or NULL */
  int64_t col16;         /* floats to columns 16 .. 31 of out and residual; 0: there are none */
  const float *bias;     /* [32] */
  float lo, hi;
  bool clip;
  uint32_t *bad; /* [32]: bit c: column c */
  uint32_t any;  /* of all rows, or-ed */
} mrt_split_out;

typedef struct mrt_conv_split_kernels {
  const char *name;
  const mrt_split_kernels *gemm; /* begin, end, split_b */
  int few; /* up to so many workers split a band each for itself rather than together */
  /* Nanoseconds, by parts, beside float32 arithmetic of 100 multiply-adds a nanosecond: products of
   * a 32 x 32 block and group of k (parts of A, of B); splitting of a pixel of a group. Per block:
   * its end. */
  double product_ns[4][4], pixel_ns[4], block_ns;
  void (*split_line)(const mrt_split_line *l, int parts);
  /* (NULL where kernels know one part only.) */
  void (*split_pairs)(const void *raw, bool f16, uint16_t *split, int64_t pair, int64_t pair_end);
  /* Computes block t and, in the shadow of the tiles, finishes another one (NULL: none). */
  void (*multiply)(const mrt_split_block *t, int parts, mrt_split_out *before);
  void (*finish)(mrt_split_out *o);
} mrt_conv_split_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_conv_split_kernels symbol;
#include "provider/cpu/conv/conv_split.def"
#undef MRT_KERNEL

/* The kernels of this machine, NULL if it has none: as mrt_split_kernels_get. */
const mrt_conv_split_kernels *mrt_conv_split_kernels_get(void);

/* Can p be run this way at all: weights finite and not all tiny, one group, blocked input? weights
 * NULL: asks about the shape only. */
bool mrt_conv_split_ok(const mrt_conv *p, const float *weights);
/* The fastest way that keeps `precision` for images of this size: sets p->parts, and clears
 * p->winograd, unless float32 arithmetic (with Winograd if p->winograd) is faster. A function of
 * shape and machine. */
void mrt_conv_split_choose(mrt_conv *p, mrt_precision precision, int64_t h, int64_t w);
/* The same, or nothing unless `split`; nanoseconds on one core, about, of the way that p has now.
 */
double mrt_conv_choose(mrt_conv *p, mrt_precision precision, int64_t h, int64_t w, bool split);
/* Nanoseconds on one core, about, of p->parts > 0. */
double mrt_conv_split_cost(const mrt_conv *p, int64_t h, int64_t w);

/* May its output become parts, if kernels of p->parts > 0 run it: whole groups of channels? */
static inline bool mrt_conv_split_gives(const mrt_conv *p, const mrt_act *act, int parts) {
  return p->parts && parts >= 1 && parts <= 2 && p->cout % 32 == 0 && !p->spread &&
         !p->output_nchw &&
         (act->op == MRT_EW_COPY || act->op == MRT_EW_RELU || act->op == MRT_EW_CLIP);
}
/* Are pixels of values neighbours in tiles, too? */
static inline bool mrt_conv_split_in_place(const mrt_conv *p) {
  return p->kh * p->kw == 1 && p->stride_h * p->stride_w == 1 && !p->pad_top && !p->pad_left &&
         !p->pad_bottom && !p->pad_right;
}
/* Values of parts as floats in c16. */
void mrt_conv_split_join(const mrt_par *par, int parts, const void *src, int64_t n, int64_t c,
                         int64_t area, float *dst);
/* The float whose parts lie `part` halves apart. Of what is beyond bf16's largest number the first
 * part is infinite and the second is so, too, with the other sign. */
float mrt_conv_split_value(const uint16_t *at, int parts, int64_t part);

/* Parts of a weight. */
static inline int mrt_conv_split_b_parts(const mrt_conv *p) {
  const int most = p->narrow == MRT_CONV_BF16 ? 1 : p->narrow == MRT_CONV_F16 ? 2 : 3;
  return p->parts < most ? p->parts : most;
}
/* Bytes of packed weights of a panel and 32 k. */
static inline int64_t mrt_conv_split_group_bytes(const mrt_conv *p) {
  const int each = p->narrow ? 2 : (int)sizeof(float);
  return p->raw ? 32 * 32 * each : mrt_conv_split_b_parts(p) * MRT_SPLIT_GROUP_PART * 2;
}
/* Products of parts for `parts` of A and `b_parts` of B. */
static inline int mrt_split_products(int parts, int b_parts) {
  return b_parts * parts - b_parts * (b_parts - 1) / 2;
}

/* The parts of mrt_conv_* for p->parts > 0. */
size_t mrt_conv_split_packed_size(const mrt_conv *p);
void mrt_conv_split_pack(const mrt_conv_split_kernels *kern, const mrt_par *par, const mrt_conv *p,
                         const float *weights, void *dst);
size_t mrt_conv_split_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w);
void mrt_conv_split_run(const mrt_conv_split_kernels *kern, const mrt_par *par, const mrt_conv *p,
                        const mrt_conv_args *args, void *scratch);

#endif
