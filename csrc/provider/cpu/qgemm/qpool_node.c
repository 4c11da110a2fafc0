/* MaxPool and NhwcMaxPool of bytes: the larger of whole pixels at a time. Plain images are
 * transposed to NHWC and back. */
#include <string.h>

#include "ops/window.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qconv.h"

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
  bool first = true;
  memset(y, j->flip ? 0x80 : 0, (size_t)j->c); /* a window of nothing but padding */
  for (int64_t ky = 0; ky < j->w.kernel[0]; ++ky) {
    const int64_t iy = oy * j->w.stride[0] - j->w.begin[0] + ky * j->w.dilation[0];
    if (iy < 0 || iy >= j->h) continue;
    for (int64_t kx = 0; kx < j->w.kernel[1]; ++kx) {
      const int64_t ix = ox * j->w.stride[1] - j->w.begin[1] + kx * j->w.dilation[1];
      if (ix < 0 || ix >= j->wd) continue;
      const uint8_t *x = j->x + ((n * j->h + iy) * j->wd + ix) * j->c;
      if (first)
        memcpy(y, x, (size_t)j->c);
      else
        j->loops->max(y, x, j->c, j->flip);
      first = false;
    }
  }
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
