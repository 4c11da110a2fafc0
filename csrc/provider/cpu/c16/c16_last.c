/* Transposes between channel blocks and channels-last: [N, C, H, W] in blocks read as [N, H, W, C],
 * and back. Both keep a pixel's 16 channels together, so this moves cache lines, where a transpose
 * of plain values would move single floats after a reorder. Tiles of pixels, block by block. */
#include <string.h>

#include "provider/cpu/c16/c16.h"

enum { TILE_PIXELS = 64, BLOCK_BYTES = 64 };

typedef struct last_job {
  const float *x;
  float *y;
  int64_t c, area, tiles; /* tiles of pixels an image */
  bool to_blocks;
} last_job;

static void move(const last_job *j, int64_t image, int64_t p0, int64_t p1) {
  const int64_t blocks = mrt_c16_blocks(j->c);
  const int64_t last = image * j->area * j->c, blocked = image * blocks * j->area * 16;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t at = blocked + b * j->area * 16, lanes = j->c - b * 16;
    const size_t bytes = lanes < 16 ? (size_t)lanes * 4 : BLOCK_BYTES;
    for (int64_t p = p0; p < p1; ++p) {
      const float *from = j->x + (j->to_blocks ? last + p * j->c + b * 16 : at + p * 16);
      float *to = j->y + (j->to_blocks ? at + p * 16 : last + p * j->c + b * 16);
      if (bytes == BLOCK_BYTES) {
        memcpy(to, from, BLOCK_BYTES);
        continue;
      }
      if (j->to_blocks) memset(to, 0, BLOCK_BYTES);
      memcpy(to, from, bytes);
    }
  }
}

static void work(void *arg, int64_t begin, int64_t end) {
  const last_job *j = arg;
  for (int64_t u = begin; u < end; ++u) {
    const int64_t p0 = u % j->tiles * TILE_PIXELS, p1 = p0 + TILE_PIXELS;
    move(j, u / j->tiles, p0, p1 < j->area ? p1 : j->area);
  }
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const bool to_blocks = mrt_is_c16(c->node->out[0]);
  const mrt_planes s = mrt_planes_of(to_blocks ? y : x);
  last_job j = {x->data, y->data, s.c, s.h * s.w, 1, to_blocks};
  j.tiles = (j.area + TILE_PIXELS - 1) / TILE_PIXELS;
  const double ns = (double)s.c * TILE_PIXELS * 0.15;
  mrt_par_range(&c->par, s.n * j.tiles, ns, work, &j);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  uint64_t data;
  const mrt_c16_role r = mrt_c16_node(node, &data);
  const bool in = mrt_is_c16(node->in[0].var), out = mrt_is_c16(node->out[0]);
  return in != out && r == (in ? MRT_C16_READS : MRT_C16_MAKES);
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "c16_transpose", run, NULL, out);
}

MRT_CPU_KERNEL(c16_transpose) = {
    .domain = "", .op = "Transpose", .match = match, .create = create, .layouts = true};
