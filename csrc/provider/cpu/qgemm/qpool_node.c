/* MaxPool and NhwcMaxPool of bytes: the larger of whole pixels at a time. Plain images are
 * transposed to NHWC and back. QLinearGlobalAveragePool of NHWC: sums of channels. */
#include <string.h>

#include "ops/quant.h"
#include "ops/window.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qconv.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"

enum { MAX_TAPS = 64 };

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  const int rank = mrt_node_in_rank(node, 0);
  return (t == MRT_INT8 || t == MRT_UINT8) && (rank == 3 || rank == 4) &&
         (node->n_out < 2 || !node->out[1]);
}

typedef struct pool_job {
  mrt_window w; /* two dims; the first is 1 for rank 3 */
  int64_t h, wd, oh, ow, c, chunks, lines;
  const uint8_t *x;
  uint8_t *y, flip;
  const mrt_qbytes *loops;
} pool_job;

static void one_pixel(const pool_job *j, int64_t n, int64_t oy, int64_t ox, uint8_t *y) {
  const uint8_t *tap[MAX_TAPS];
  int64_t taps = 0, seen = 0;
  for (int64_t ky = 0; ky < j->w.kernel[0]; ++ky) {
    const int64_t iy = oy * j->w.stride[0] - j->w.begin[0] + ky * j->w.dilation[0];
    if (iy < 0 || iy >= j->h) continue;
    for (int64_t kx = 0; kx < j->w.kernel[1]; ++kx) {
      const int64_t ix = ox * j->w.stride[1] - j->w.begin[1] + kx * j->w.dilation[1];
      if (ix < 0 || ix >= j->wd) continue;
      const uint8_t *x = j->x + ((n * j->h + iy) * j->wd + ix) * j->c;
      tap[taps++] = x;
      ++seen;
      if (taps < MAX_TAPS) continue;
      j->loops->max(tap, taps, j->c, j->flip, y);
      tap[0] = y, taps = 1;
    }
  }
  if (!seen)
    memset(y, j->flip ? 0x80 : 0, (size_t)j->c); /* a window of nothing but padding */
  else
    j->loops->max(tap, taps, j->c, j->flip, y);
}
static void chunk(void *arg, int64_t i, int worker) {
  (void)worker;
  const pool_job *j = arg;
  const int64_t end = mrt_par_begin(j->lines, j->chunks, i + 1);
  for (int64_t l = mrt_par_begin(j->lines, j->chunks, i); l < end; ++l)
    for (int64_t ox = 0; ox < j->ow; ++ox)
      one_pixel(j, l / j->oh, l % j->oh, ox, j->y + (l * j->ow + ox) * j->c);
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_window w;
  if (!y || !mrt_tensor_count(y) || !mrt_tensor_count(x)) return NULL;
  const int s = x->rank - 2;
  const bool last = *c->node->domain != 0;
  const int64_t *xd = x->dims + (last ? 1 : 2), *yd = y->dims + (last ? 1 : 2);
  MRT_TRY(mrt_window_read(c->node, s, NULL, &w));
  mrt_window_resolve_same(&w, xd, yd);
  pool_job j = {.w = w,
                .h = s == 2 ? xd[0] : 1,
                .wd = xd[s - 1],
                .oh = s == 2 ? yd[0] : 1,
                .ow = yd[s - 1],
                .c = x->dims[last ? s + 1 : 1],
                .x = x->data,
                .y = y->data,
                .flip = x->dtype == MRT_INT8 ? 0x80 : 0,
                .loops = mrt_qbytes_get()};
  if (s == 1) { /* one line */
    j.w.kernel[1] = w.kernel[0], j.w.stride[1] = w.stride[0], j.w.dilation[1] = w.dilation[0];
    j.w.begin[1] = w.begin[0];
    j.w.kernel[0] = j.w.stride[0] = j.w.dilation[0] = 1;
    j.w.begin[0] = 0;
  }
  if (!last) {
    uint8_t *in;
    MRT_TRY(mrt_scratch(c, x->bytes + 64, (void **)&in));
    MRT_TRY(mrt_scratch(c, y->bytes + 64, (void **)&j.y));
    mrt_bytes_transpose(&c->par, x->data, x->dims[0], j.c, j.h * j.wd, in);
    j.x = in;
  }
  j.lines = x->dims[0] * j.oh;
  j.chunks = mrt_par_chunks(j.lines,
                            (double)(j.lines * j.ow * j.c * j.w.kernel[0] * j.w.kernel[1]) * 0.05);
  mrt_par_run(&c->par, j.chunks, chunk, &j);
  if (!last) mrt_bytes_transpose(&c->par, j.y, x->dims[0], j.oh * j.ow, j.c, y->data);
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "max_pool_bytes", run, NULL, out);
}
MRT_CPU_KERNEL(q_max_pool) = {"", "MaxPool", match, create};
MRT_CPU_KERNEL(q_nhwc_max_pool) = {"com.microsoft", "NhwcMaxPool", match, create};

/* ---- the average of all pixels ---- */
typedef struct mean_job {
  const uint8_t *x;
  uint8_t *y, flip;
  int64_t area, c, units, chunks;
  float scale;
  int32_t x_zero, y_zero;
  const mrt_qbytes *loops;
  void (*quantize)(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                   uint8_t *y);
} mean_job;
enum { MEAN_BLOCK = 64 };

static void mean_block(const mean_job *j, int64_t unit) {
  const int64_t blocks = (j->c + MEAN_BLOCK - 1) / MEAN_BLOCK, image = unit / blocks,
                c0 = unit % blocks * MEAN_BLOCK,
                n = j->c - c0 < MEAN_BLOCK ? j->c - c0 : MEAN_BLOCK;
  int32_t sum[MEAN_BLOCK] = {0};
  j->loops->sum(j->x + image * j->area * j->c + c0, j->area, j->c, n, j->flip, sum);
  float mean[MEAN_BLOCK];
  for (int64_t i = 0; i < n; ++i)
    mean[i] = (float)((int64_t)sum[i] - j->area * j->x_zero) * j->scale;
  j->quantize(mean, n, 1.0f, j->y_zero, j->flip != 0, j->y + image * j->c + c0);
}
static void mean_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const mean_job *j = arg;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) mean_block(j, u);
}

static mrt_status *run_mean(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  const bool s8 = x->dtype == MRT_INT8;
  if (!y || !mrt_tensor_count(y)) return NULL;
  mean_job j = {.x = x->data,
                .y = y->data,
                .flip = s8 ? 0x80 : 0,
                .area = mrt_dims_product(x->dims, 1, x->rank - 1),
                .c = x->dims[x->rank - 1],
                .x_zero = mrt_scalar_i32(mrt_in(c, 2), 0) + (s8 ? 128 : 0),
                .y_zero = mrt_scalar_i32(mrt_in(c, 4), 0),
                .loops = mrt_qbytes_get(),
                .quantize = mrt_qgemm_kernels_get()->quantize};
  for (int i = 1; i < 5; ++i)
    if (mrt_in(c, i) && mrt_tensor_count(mrt_in(c, i)) != 1) return c->node->def->run(c);
  if (j.area < 1 || j.area > 1 << 22) return c->node->def->run(c);
  j.scale = mrt_scalar_f32(mrt_in(c, 1), 1) / ((float)j.area * mrt_scalar_f32(mrt_in(c, 3), 1));
  j.units = x->dims[0] * ((j.c + MEAN_BLOCK - 1) / MEAN_BLOCK);
  j.chunks = mrt_par_chunks(j.units, (double)(x->dims[0] * j.c) * ((double)j.area * 0.1 + 5));
  mrt_par_run(&c->par, j.chunks, mean_chunk, &j);
  return NULL;
}
static bool match_mean(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  return (t == MRT_INT8 || t == MRT_UINT8) && mrt_node_int(node, "channels_last");
}
static mrt_status *create_mean(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "mean_bytes", run_mean, NULL, out);
}
MRT_CPU_KERNEL(q_global_average) = {"com.microsoft", "QLinearGlobalAveragePool", match_mean,
                                    create_mean};
