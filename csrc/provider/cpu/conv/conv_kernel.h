/* Kernels on rows of c16 pixels, one table per instruction set (conv.def): depthwise convolution,
 * pooling, and the moves between plain NCHW and c16. Dense convolution uses the tiles of gemm/. */
#ifndef MRT_PROVIDER_CPU_CONV_KERNEL_H
#define MRT_PROVIDER_CPU_CONV_KERNEL_H

#include "provider/cpu/conv/conv.h"
#include "provider/cpu/gemm/gemm_kernel.h"

/* Packed weights of dense convolutions: bytes of an element, and elements of one group. */
static inline size_t mrt_conv_width(const mrt_conv *p) { return p->narrow ? 2 : sizeof(float); }
int64_t mrt_conv_group_size(const mrt_conv *p);

enum { MRT_DW_MAX_ROWS = 8 }; /* window rows of depthwise_row at most */

/* One output row of one channel block of a depthwise convolution whose taps are neighbours in x.
 * Input pixels left and right of the row count as zeros; window rows outside the image are left out
 * by the caller. */
typedef struct mrt_dw_row {
  const float *rows[MRT_DW_MAX_ROWS]; /* pixel 0 of each input row */
  int n_rows, kw, stride, pad;        /* pad: zeros in front; there and behind fewer than kw */
  int64_t w, ow;                      /* pixels of an input row, of the output row */
  const float *weights;               /* [n_rows][kw][16] */
  const float *bias;                  /* 16 floats or NULL */
  const float *residual;              /* like out, or NULL */
  float *out;
  float lo, hi; /* if clip */
  bool clip;
} mrt_dw_row;
typedef void (*mrt_dw_fn)(const mrt_dw_row *r);

/* One tap of a window: where its input lies from the first tap's pixel, and which weight. */
typedef struct mrt_tap {
  int32_t off; /* floats */
  int32_t w;   /* index into weights, in units of 16 floats */
} mrt_tap;

/* `count` output pixels of one row and channel block; input pixels of neighbours are step floats
 * apart. */
typedef struct mrt_pixel_row {
  const float *in;
  float *out;
  const mrt_tap *taps;
  int n_taps;
  int64_t step, count;
  const float *weights;  /* depthwise: [kh * kw][16] */
  const float *bias;     /* depthwise: 16 floats or NULL */
  const float *residual; /* depthwise: like out, or NULL */
  float lo, hi;          /* depthwise: clip if `clip` */
  bool clip;
  float scale; /* mean: 1 / number of positions */
} mrt_pixel_row;

/* The end of `count` Winograd tiles of one tile row and channel block: product f of tile t lies at
 * m + f * f_stride + t * 16. */
typedef struct mrt_wino_out {
  const float *m;
  int64_t f_stride, count;
  float *out[4]; /* output rows (2 or 4), from the first tile's first pixel; NULL: no such row */
  const float *residual[4]; /* or NULL */
  int last_cols;            /* columns of the last tile that exist: 1 to 2 or 4 */
  const float *bias;        /* 16 floats or NULL */
  float lo, hi;
  bool clip;
  uint8_t *bad; /* [count]: 0, or 1 + the first lane not written, since a sum is not finite */
} mrt_wino_out;

typedef void (*mrt_c16_tile_fn)(const mrt_tile *t, int64_t pixels);

typedef struct mrt_conv_kernels {
  const char *name;
  void (*depthwise)(const mrt_pixel_row *r);
  /* NULL where (kw, stride) has no kernel of its own: depthwise serves all. */
  mrt_dw_fn (*depthwise_row)(int64_t kw, int64_t stride);
  void (*max)(const mrt_pixel_row *r);
  void (*mean)(const mrt_pixel_row *r);
  /* out[16]: sum or maximum over `count` consecutive pixels. */
  void (*reduce_max)(const float *in, int64_t count, float *out);
  void (*reduce_sum)(const float *in, int64_t count, float *out);
  /* `pixels` pixels of `channels` (1..16) planes, `plane` floats apart, to 16-float pixels; missing
   * channels 0. And back. */
  void (*to_c16)(const float *src, int64_t plane, int channels, int64_t pixels, float *dst);
  void (*from_c16)(const float *src, int64_t plane, int channels, int64_t pixels, float *dst);
  /* `count` neighbouring 4x4 tiles, two pixels apart; rows[i]: the first tile's first pixel in row
   * i. Element f of tile t goes to dst + f * f_stride + t * 16. */
  void (*wino_input)(const float *const *rows, int64_t count, float *dst, int64_t f_stride);
  void (*wino_output)(const mrt_wino_out *o);
  /* The same for 6x6 tiles, four pixels apart. */
  void (*wino4_input)(const float *const *rows, int64_t count, float *dst, int64_t f_stride);
  void (*wino4_output)(const mrt_wino_out *o);
  /* `pixels` pixels of a row, `apart` floats from one to the next in the input and 16 in the
   * output: t without its a_hi, a_row, c_row and r_row, alpha and beta (1) and row_bias (none);
   * cols 1..32, of which whole blocks are written; blocks of k of `whole` floats (16: and shorter
   * ones); the bias counts in the first block (no MRT_TILE_LOAD); ahead_lines lines are fetched for
   * each block of 16 k. NULL: none (for these), use the tiles of gemm/. */
  mrt_c16_tile_fn (*pixel_tile)(int64_t apart, int64_t whole);
} mrt_conv_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_conv_kernels symbol;
#include "provider/cpu/conv/conv.def"
#undef MRT_KERNEL

const mrt_conv_kernels *mrt_conv_kernels_get(void);
mrt_c16_tile_fn mrt_pixel_tile_avx512(int64_t apart, int64_t whole);

/* conv_depthwise.c: the groups == cin == cout part of mrt_conv_run. */
static inline bool mrt_conv_is_depthwise(const mrt_conv *p) {
  return p->groups > 1 && p->groups == p->cin && p->groups == p->cout;
}
/* The row kernel that serves p, NULL: none. Fills in what is the same for all rows of a block. */
mrt_dw_fn mrt_conv_dw_find(const mrt_conv *p, const mrt_act *act, mrt_dw_row *row);
/* Sets the window rows of output row oy: plane is the block's input (rows `pitch` floats apart),
 * weights the block's. */
void mrt_conv_dw_rows(const mrt_conv *p, int64_t h, const float *plane, int64_t pitch,
                      const float *weights, int64_t oy, mrt_dw_row *row);
void mrt_conv_depthwise_pack(const mrt_conv *p, const float *weights, float *dst);
void mrt_conv_depthwise_run(const mrt_par *par, const mrt_conv *p, const mrt_conv_args *args,
                            float *scratch);

/* conv_winograd.c: the same for p->winograd. */
size_t mrt_conv_winograd_packed_size(const mrt_conv *p);
void mrt_conv_winograd_pack(const mrt_par *par, const mrt_conv *p, const float *weights,
                            float *dst);
size_t mrt_conv_winograd_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w);
void mrt_conv_winograd_run(const mrt_par *par, const mrt_conv *p, const mrt_conv_args *args,
                           float *scratch);

#endif
