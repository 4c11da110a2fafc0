/* Resize of float32 along the last two dims of an image (or the last of a signal), in either
 * layout. Everything else is the operator's own kernel. */
#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/c16/c16.h"
#include "provider/cpu/resize/resize.h"

const mrt_resize_kernels *mrt_resize_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/resize/resize.def"
#undef MRT_KERNEL
}

/* Do batch and channels stay as they are? Known from the attributes, the constant scales or the
 * types. */
static bool keeps_channels(const mrt_node *node) {
  int list[MRT_MAX_RANK], n;
  const mrt_type *x = node->in[0].var->type, *y = node->out[0]->type;
  mrt_status *st = mrt_resize_axes(node, x->rank, list, &n);
  if (st) {
    mrt_status_free(st);
    return false;
  }
  bool outer = false;
  for (int i = 0; i < n; ++i) outer = outer || list[i] < 2;
  if (!outer) return true;
  const mrt_tensor *s = mrt_node_in_const(node, 2);
  if (s && mrt_tensor_count(s) == n) {
    for (int i = 0; i < n; ++i)
      if (list[i] < 2 && ((const float *)s->data)[i] != 1) return false;
    return true;
  }
  const bool by_size = node->n_in > 3 && node->in[3].var && (!s || mrt_tensor_count(s) == 0) &&
                       (s || node->n_in < 3 || !node->in[2].var);
  return by_size && strcmp(mrt_node_str(node, "keep_aspect_ratio_policy"), "stretch") == 0 &&
         x->dims[0] && x->dims[1] && x->dims[0] == y->dims[0] && x->dims[1] == y->dims[1];
}
bool mrt_resize_node_ok(const mrt_node *node) {
  const mrt_var *x = node->in[0].var, *y = node->out[0];
  return x && y && x->type && y->type && x->type->dtype == MRT_FLOAT &&
         (x->type->rank == 3 || x->type->rank == 4) && y->type->rank == x->type->rank &&
         strcmp(mrt_node_str(node, "coordinate_transformation_mode"), "tf_crop_and_resize") != 0 &&
         keeps_channels(node);
}

typedef struct resize_kernel {
  mrt_kernel k;
  bool c16, nearest;
} resize_kernel;
typedef struct resize_job {
  const mrt_resize_kernels *kern;
  const resize_axis *rows, *cols; /* rows NULL: a signal */
  const float *x;
  float *y, *buffer; /* buffer: one row per worker */
  bool nearest;
  int64_t lanes, in_w, out_w, in_h, out_h, units, chunks;
} resize_job;

/* One input (or blended) row to one output row. */
static void resize_row(const resize_job *j, const float *x, float *y) {
  const resize_axis *a = j->cols;
  if (a->identity) {
    memcpy(y, x, (size_t)(j->out_w * j->lanes) * sizeof *y);
  } else if (!j->nearest) {
    (j->lanes == 16 ? j->kern->pixels16 : j->kern->pixels1)(a, x, 0, y);
  } else if (j->lanes == 16) {
    for (int64_t o = 0; o < a->out; ++o) memcpy(y + o * 16, x + a->start[o] * 16, 64);
  } else {
    for (int64_t o = 0; o < a->out; ++o) y[o] = x[a->start[o]];
  }
}
/* Units: output rows of all planes. */
static void resize_chunk(void *arg, int64_t chunk, int worker) {
  const resize_job *j = arg;
  const resize_axis *a = j->rows;
  const int64_t begin = mrt_par_begin(j->units, j->chunks, chunk),
                end = mrt_par_begin(j->units, j->chunks, chunk + 1), in_row = j->in_w * j->lanes,
                out_row = j->out_w * j->lanes;
  float *buffer = j->buffer + worker * in_row;
  for (int64_t u = begin; u < end; ++u) {
    const int64_t plane = u / j->out_h, o = u % j->out_h;
    const int64_t at = !a || a->identity ? o : a->start[o];
    const float *x = j->x + (plane * j->in_h + at) * in_row;
    float *y = j->y + u * out_row;
    if (!a || a->identity ||
        (!j->nearest && a->count[o] == 1 && ((const float *)a->weight)[o * a->taps] == 1)) {
      resize_row(j, x, y);
    } else if (j->nearest) {
      if (o > 0 && u > begin && a->start[o - 1] == at)
        memcpy(y, y - out_row, (size_t)out_row * sizeof *y);
      else
        resize_row(j, x, y);
    } else {
      const float *w = (const float *)a->weight + o * a->taps;
      float *to = j->cols->identity ? y : buffer;
      j->kern->rows(x, in_row, w, a->count[o], in_row, to);
      if (to == buffer) resize_row(j, buffer, y);
    }
  }
}
static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const resize_kernel *q = (const resize_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  resize_axis axes[MRT_MAX_RANK];
  if (!y || !mrt_tensor_count(y)) return NULL;
  MRT_TRY(mrt_resize_plan(c, x, y, MRT_FLOAT, axes));
  if (!axes[0].identity || !axes[1].identity) {
    if (!q->c16) return c->node->def->run(c);
    return MRT_ERR(MRT_FAIL, "Resize over channels of a blocked value");
  }
  const mrt_planes in = mrt_planes_of(x), out = mrt_planes_of(y);
  resize_job j = {.kern = mrt_resize_kernels_get(),
                  .rows = x->rank == 4 ? &axes[2] : NULL,
                  .cols = &axes[x->rank - 1],
                  .x = x->data,
                  .y = y->data,
                  .nearest = q->nearest,
                  .lanes = q->c16 ? 16 : 1,
                  .in_w = in.w,
                  .out_w = out.w,
                  .in_h = in.h,
                  .out_h = out.h};
  j.units = in.n * (q->c16 ? mrt_c16_blocks(in.c) : in.c) * out.h;
  j.chunks = mrt_par_chunks(j.units, (double)(j.units * out.w) * (q->c16 ? 4 : 1));
  MRT_TRY(
      mrt_scratch_array(c, mrt_par_workers(&c->par) * in.w * j.lanes, sizeof *j.buffer, &j.buffer));
  mrt_par_run(&c->par, j.chunks, resize_chunk, &j);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_resize_node_ok(node) && mrt_is_c16(node->in[0].var) == mrt_is_c16(node->out[0]);
}
static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  resize_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "resize_f32", run, NULL, &q));
  q->c16 = mrt_is_c16(node->out[0]);
  q->nearest = mrt_resize_mode_of(node) == MRT_NEAREST;
  *out = &q->k;
  return NULL;
}
MRT_CPU_KERNEL(resize_f32) = {
    .domain = "", .op = "Resize", .match = match, .create = create, .layouts = true};
