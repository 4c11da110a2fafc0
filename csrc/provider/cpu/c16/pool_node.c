/* MaxPool, AveragePool, GlobalMaxPool and GlobalAveragePool of float32 with one or two spatial
 * dims, in either layout. Plain tensors are reordered into c16 and back, which costs less than the
 * window saves. And ReduceMean over the image, where it lies in c16. */
#include <string.h>

#include "provider/cpu/c16/c16.h"

typedef struct pool_kernel {
  mrt_kernel k;
  mrt_pool_kind kind;
  mrt_window win;
  bool global, in_c16, out_c16;
} pool_kernel;

static bool is_mean(const mrt_node *node) { return strcmp(node->op_type, "ReduceMean") == 0; }
static bool is_global(const mrt_node *node) {
  return strncmp(node->op_type, "Global", 6) == 0 || is_mean(node);
}

static bool read_window(const mrt_node *node, mrt_window *w) {
  const int n = mrt_node_in_rank(node, 0) - 2;
  int64_t taps = 1;
  if (n < 1 || n > 2) return false;
  mrt_status *st = mrt_window_read(node, n, NULL, w);
  bool ok = !st;
  mrt_status_free(st);
  for (int i = 0; i < n && ok; ++i)
    ok = w->begin[i] >= 0 && w->end[i] >= 0 && mrt_i64_mul(taps, w->kernel[i], &taps);
  return ok && taps <= MRT_POOL_MAX_TAPS;
}

bool mrt_pool_node_ok(const mrt_node *node) {
  mrt_window w;
  const int rank = mrt_node_in_rank(node, 0);
  if (mrt_node_in_dtype(node, 0) != MRT_FLOAT || (rank != 3 && rank != 4)) return false;
  if (is_global(node)) return true;
  if (node->n_out > 1 && node->out[1]) return false; /* indices: the reference */
  return read_window(node, &w);
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_pool_node_ok(node);
}

static bool match_mean(const mrt_provider *p, const mrt_node *node) {
  uint64_t data;
  (void)p;
  return mrt_is_c16(node->in[0].var) && !mrt_is_c16(node->out[0]) &&
         mrt_c16_node(node, &data) == MRT_C16_READS;
}

static mrt_status *c16_scratch(mrt_kctx *c, const mrt_planes *s, float **out) {
  const int64_t dims[4] = {s->n, s->c, s->h, s->w};
  size_t bytes;
  MRT_TRY(mrt_layout_bytes(MRT_FLOAT, MRT_LAYOUT_C16, 4, dims, &bytes));
  return mrt_scratch(c, bytes, (void **)out);
}

static mrt_pool geometry(const pool_kernel *q, const mrt_tensor *x, const mrt_tensor *y) {
  mrt_window w = q->win;
  mrt_window_resolve_same(&w, x->dims + 2, y->dims + 2);
  const int i = w.n - 1;
  mrt_pool p = {.kind = q->kind,
                .kh = 1,
                .kw = w.kernel[i],
                .stride_h = 1,
                .stride_w = w.stride[i],
                .dil_h = 1,
                .dil_w = w.dilation[i],
                .pad_left = w.begin[i],
                .pad_right = w.end[i]};
  if (w.n == 1) return p;
  p.kh = w.kernel[0], p.stride_h = w.stride[0], p.dil_h = w.dilation[0];
  p.pad_top = w.begin[0], p.pad_bottom = w.end[0];
  return p;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const pool_kernel *q = (const pool_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const mrt_planes in = mrt_planes_of(x), out = mrt_planes_of(y);
  const float *src = x->data;
  float *dst = y->data, *tmp;
  if (!q->in_c16) {
    MRT_TRY(c16_scratch(c, &in, &tmp));
    mrt_c16_from_nchw(&c->par, src, in.n, in.c, in.h, in.w, tmp);
    src = tmp;
  }
  if (q->global) {
    mrt_pool_global(&c->par, q->kind, in.n, in.c, in.h, in.w, src, dst, q->out_c16);
    return NULL;
  }
  if (!q->out_c16) MRT_TRY(c16_scratch(c, &out, &dst));
  const mrt_pool p = geometry(q, x, y);
  mrt_pool_run(&c->par, &p, in.n, in.c, in.h, in.w, src, out.h, out.w, dst);
  if (!q->out_c16) mrt_c16_to_nchw(&c->par, dst, out.n, out.c, out.h, out.w, y->data);
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  pool_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "pool_f32", run, NULL, &q));
  q->global = is_global(node);
  q->kind = strstr(node->op_type, "MaxPool")                        ? MRT_POOL_MAX
            : !q->global && mrt_node_int(node, "count_include_pad") ? MRT_POOL_AVG_INCLUDE_PAD
                                                                    : MRT_POOL_AVG;
  q->in_c16 = mrt_is_c16(node->in[0].var);
  q->out_c16 = mrt_is_c16(node->out[0]);
  if (!q->global && !read_window(node, &q->win)) {
    mrt_kernel_free(&q->k);
    return MRT_ERR(MRT_FAIL, "not a pool of this kernel");
  }
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(max_pool_f32) = {
    .domain = "", .op = "MaxPool", .match = match, .create = create, .layouts = true};
MRT_CPU_KERNEL(average_pool_f32) = {
    .domain = "", .op = "AveragePool", .match = match, .create = create, .layouts = true};
MRT_CPU_KERNEL(global_max_pool_f32) = {
    .domain = "", .op = "GlobalMaxPool", .match = match, .create = create, .layouts = true};
MRT_CPU_KERNEL(global_average_pool_f32) = {
    .domain = "", .op = "GlobalAveragePool", .match = match, .create = create, .layouts = true};
MRT_CPU_KERNEL(mean_pool_f32) = {
    .domain = "", .op = "ReduceMean", .match = match_mean, .create = create, .layouts = true};
