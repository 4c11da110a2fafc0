/* Kernels of nodes whose values the layout pass put into channel blocks: point-wise ones, Concat,
 * and the reorders between layouts. Whole blocks are computed, spare lanes too: nobody reads them.
 *
 * An operand that has one value a channel is spread over a tile of TILE floats (32 pixels), so that
 * the flat point-wise functions serve it. */
#include <string.h>

#include "provider/cpu/c16/c16.h"

enum { TILE = 512, TILE_PIXELS = TILE / 16, PIECE_PIXELS = 512 };

typedef struct c16_kernel {
  mrt_kernel k;
  mrt_ew_fn fn;
  mrt_act spec; /* parameters of a unary node */
  mrt_c16_operand kind[2];
  float *vec[2]; /* constants, one value a channel, whole blocks */
} c16_kernel;

static void destroy(mrt_kernel *k) {
  c16_kernel *q = (c16_kernel *)k;
  for (int i = 0; i < 2; ++i) mrt_mem_free(k->alloc, q->vec[i]);
  mrt_kernel_free(k);
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  uint64_t data;
  if (mrt_node_is_plain(node) || !node->n_out || !mrt_is_c16(node->out[0]) ||
      mrt_c16_node(node, &data) != MRT_C16_FLOW)
    return false;
  for (int i = 0; i < node->n_in; ++i)
    if (node->in[i].var && mrt_is_c16(node->in[i].var) != ((data >> i & 1) != 0)) return false;
  return true;
}

/* ---- flat: all operands lie alike ---- */
typedef struct flat_job {
  const c16_kernel *q;
  const float *a, *b;
  float *y;
  int64_t units, chunks, n;
} flat_job;

static void flat_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const flat_job *j = arg;
  const int64_t u0 = mrt_par_begin(j->units, j->chunks, chunk);
  int64_t begin = u0 * TILE, end = mrt_par_begin(j->units, j->chunks, chunk + 1) * TILE;
  if (end > j->n) end = j->n;
  j->q->fn(j->y + begin, j->a + begin, j->b ? j->b + begin : NULL, NULL, j->q->spec.p, end - begin);
}

static void run_flat(const c16_kernel *q, const mrt_par *par, const float *a, const float *b,
                     float *y, int64_t n, double ns) {
  flat_job j = {q, a, b, y, (n + TILE - 1) / TILE, 1, n};
  if (!j.units) return;
  j.chunks = mrt_par_chunks(j.units, (double)n * ns);
  mrt_par_run(par, j.chunks, flat_chunk, &j);
}

static mrt_status *unary_run(const mrt_kernel *k, mrt_kctx *c) {
  const c16_kernel *q = (const c16_kernel *)k;
  mrt_tensor *y = mrt_out(c, 0);
  if (y) run_flat(q, &c->par, mrt_in(c, 0)->data, NULL, y->data, (int64_t)(y->bytes / 4), 0.3);
  return NULL;
}

static mrt_status *unary_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  c16_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "c16_unary", unary_run, destroy, &q));
  if (!mrt_unary_node_act(node, &q->spec)) {
    destroy(&q->k);
    return MRT_ERR(MRT_FAIL, "not a unary node");
  }
  *out = &q->k;
  q->fn = mrt_ew_find(q->spec.op);
  return NULL;
}

/* ---- two operands, one of them perhaps a value a channel ---- */
typedef struct plane_job {
  const c16_kernel *q;
  const float *in[2];
  float *y;
  int64_t blocks, area, pieces, units, chunks;
} plane_job;

static void spread(const float *v, float *tile) {
  for (int i = 0; i < TILE; i += 16) memcpy(tile + i, v, 64);
}

static void plane_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const plane_job *j = arg;
  const c16_kernel *q = j->q;
  float tile[2][TILE] __attribute__((aligned(64)));
  int64_t last[2] = {-1, -1};
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    const int64_t plane = u / j->pieces, p0 = u % j->pieces * PIECE_PIXELS;
    const int64_t p1 = p0 + PIECE_PIXELS < j->area ? p0 + PIECE_PIXELS : j->area;
    for (int i = 0; i < 2; ++i) {
      const int64_t at = q->kind[i] == MRT_C16_PIXEL ? plane : plane % j->blocks;
      if (q->kind[i] == MRT_C16_SAME || last[i] == at) continue;
      spread((q->vec[i] ? q->vec[i] : j->in[i]) + at * 16, tile[i]);
      last[i] = at;
    }
    for (int64_t x = p0; x < p1; x += TILE_PIXELS) {
      const int64_t off = (plane * j->area + x) * 16;
      const int64_t n = (p1 - x < TILE_PIXELS ? p1 - x : TILE_PIXELS) * 16;
      const float *a = q->kind[0] == MRT_C16_SAME ? j->in[0] + off : tile[0];
      const float *b = q->kind[1] == MRT_C16_SAME ? j->in[1] + off : tile[1];
      q->fn(j->y + off, a, b, NULL, q->spec.p, n);
    }
  }
}

static mrt_status *binary_run(const mrt_kernel *k, mrt_kctx *c) {
  const c16_kernel *q = (const c16_kernel *)k;
  const mrt_tensor *a = mrt_in(c, 0), *b = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const mrt_planes s = mrt_planes_of(y);
  for (int i = 0; i < 2; ++i) {
    const mrt_tensor *t = i ? b : a;
    if (q->kind[i] == MRT_C16_SAME && !mrt_shape_equal(t->rank, t->dims, y->rank, y->dims))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "operands differ in shape");
  }
  if (q->kind[0] == MRT_C16_SAME && q->kind[1] == MRT_C16_SAME) {
    run_flat(q, &c->par, a->data, b->data, y->data, (int64_t)(y->bytes / 4), 0.25);
    return NULL;
  }
  plane_job j = {.q = q,
                 .in = {a->data, b->data},
                 .y = y->data,
                 .blocks = mrt_c16_blocks(s.c),
                 .area = s.h * s.w};
  j.pieces = (j.area + PIECE_PIXELS - 1) / PIECE_PIXELS;
  j.units = s.n * j.blocks * j.pieces;
  j.chunks = mrt_par_chunks(j.units, (double)(y->bytes / 4) * 0.2);
  mrt_par_run(&c->par, j.chunks, plane_chunk, &j);
  return NULL;
}

static mrt_status *new_vector(const mrt_kernel *k, int64_t channels, float **out) {
  return mrt_mem_new_aligned(k->alloc, (size_t)mrt_c16_blocks(channels) * 64, MRT_ALIGN,
                             (void **)out);
}

static int64_t node_channels(const mrt_node *node) {
  int64_t c = 0;
  (void)mrt_expr_is_const(node->out[0]->type->dims[1], &c);
  return c;
}

static mrt_status *binary_fill(c16_kernel *q, const mrt_node *node) {
  const int64_t channels = node_channels(node);
  q->fn = mrt_ew_find(mrt_c16_binary(node));
  for (int i = 0; i < 2; ++i) {
    q->kind[i] = mrt_c16_operand_of(node, i);
    if (q->kind[i] != MRT_C16_CHANNEL && q->kind[i] != MRT_C16_SCALAR) continue;
    MRT_TRY(new_vector(&q->k, channels, &q->vec[i]));
    mrt_c16_spread(node->in[i].var->constant, channels, q->vec[i]);
  }
  return NULL;
}

static mrt_status *binary_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  c16_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "c16_binary", binary_run, destroy, &q));
  mrt_status *st = binary_fill(q, node);
  if (st)
    destroy(&q->k);
  else
    *out = &q->k;
  return st;
}

/* ---- Concat along channels ---- */
enum { CONCAT_PIECE = 32 << 10 };

typedef struct concat_job {
  mrt_kctx *c;
  char *y;
  size_t out_image; /* bytes of an image of the output */
  int64_t images, pieces, units, chunks;
} concat_job;

/* Bytes [begin, end) of an image of the output. */
static void concat_piece(const concat_job *j, int64_t image, size_t begin, size_t end) {
  char *dst = j->y + (size_t)image * j->out_image;
  size_t at = 0; /* where the input begins */
  for (int i = 0; i < j->c->n_in; ++i) {
    const mrt_tensor *x = mrt_in(j->c, i);
    const size_t bytes = x->bytes / (size_t)j->images;
    const size_t b = begin > at ? begin : at, e = end < at + bytes ? end : at + bytes;
    const char *src = (const char *)x->data + (size_t)image * bytes;
    if (b < e && src != dst + at) memcpy(dst + b, src + (b - at), e - b);
    at += bytes;
  }
}

/* Units: (image, piece of the output). */
static void concat_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const concat_job *j = arg;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    const size_t begin = (size_t)(u % j->pieces) * CONCAT_PIECE, left = j->out_image - begin;
    concat_piece(j, u / j->pieces, begin, begin + (left < CONCAT_PIECE ? left : CONCAT_PIECE));
  }
}

/* Do the inputs lie in the output? */
static bool in_place(mrt_kctx *c, const mrt_tensor *y) {
  const char *at = y->data;
  bool all = y->dims[0] == 1;
  for (int i = 0; i < c->n_in && all; ++i) {
    all = mrt_in(c, i)->data == (const void *)at;
    at += mrt_in(c, i)->bytes;
  }
  return all;
}

static mrt_status *concat_run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y) || in_place(c, y)) return NULL;
  concat_job j = {
      .c = c, .y = y->data, .out_image = y->bytes / (size_t)y->dims[0], .images = y->dims[0]};
  j.pieces = (int64_t)((j.out_image + CONCAT_PIECE - 1) / CONCAT_PIECE);
  j.units = j.images * j.pieces;
  j.chunks = mrt_par_chunks(j.units, (double)y->bytes * 0.1);
  mrt_par_run(&c->par, j.chunks, concat_chunk, &j);
  return NULL;
}

static mrt_status *concat_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "c16_concat", concat_run, NULL, out));
  (*out)->joins = 2;
  return NULL;
}

/* ---- Reorder ---- */
static mrt_status *reorder_run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const mrt_planes s = mrt_planes_of(y);
  if (mrt_is_c16(c->node->out[0]))
    mrt_c16_from_nchw(&c->par, x->data, s.n, s.c, s.h, s.w, y->data);
  else
    mrt_c16_to_nchw(&c->par, x->data, s.n, s.c, s.h, s.w, y->data);
  return NULL;
}

static bool reorder_match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_c16_type_ok(node->out[0]->type) &&
         mrt_is_c16(node->in[0].var) != mrt_is_c16(node->out[0]);
}

static mrt_status *reorder_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "reorder", reorder_run, NULL, out);
}

MRT_CPU_KERNEL(c16_reorder) = {.domain = "macart",
                               .op = "Reorder",
                               .match = reorder_match,
                               .create = reorder_create,
                               .layouts = true};
#define C16 .domain = "", .match = match, .layouts = true
MRT_CPU_KERNEL(c16_relu) = {C16, .op = "Relu", .create = unary_create};
MRT_CPU_KERNEL(c16_clip) = {C16, .op = "Clip", .create = unary_create};
MRT_CPU_KERNEL(c16_leakyrelu) = {C16, .op = "LeakyRelu", .create = unary_create};
MRT_CPU_KERNEL(c16_sigmoid) = {C16, .op = "Sigmoid", .create = unary_create};
MRT_CPU_KERNEL(c16_tanh) = {C16, .op = "Tanh", .create = unary_create};
MRT_CPU_KERNEL(c16_hardsigmoid) = {C16, .op = "HardSigmoid", .create = unary_create};
MRT_CPU_KERNEL(c16_elu) = {C16, .op = "Elu", .create = unary_create};
MRT_CPU_KERNEL(c16_hardswish) = {C16, .op = "HardSwish", .create = unary_create};
MRT_CPU_KERNEL(c16_mish) = {C16, .op = "Mish", .create = unary_create};
MRT_CPU_KERNEL(c16_gelu) = {C16, .op = "Gelu", .create = unary_create};
MRT_CPU_KERNEL(c16_softplus) = {C16, .op = "Softplus", .create = unary_create};
MRT_CPU_KERNEL(c16_softsign) = {C16, .op = "Softsign", .create = unary_create};
MRT_CPU_KERNEL(c16_neg) = {C16, .op = "Neg", .create = unary_create};
MRT_CPU_KERNEL(c16_abs) = {C16, .op = "Abs", .create = unary_create};
MRT_CPU_KERNEL(c16_sqrt) = {C16, .op = "Sqrt", .create = unary_create};
MRT_CPU_KERNEL(c16_exp) = {C16, .op = "Exp", .create = unary_create};
MRT_CPU_KERNEL(c16_erf) = {C16, .op = "Erf", .create = unary_create};
MRT_CPU_KERNEL(c16_add) = {C16, .op = "Add", .create = binary_create};
MRT_CPU_KERNEL(c16_sub) = {C16, .op = "Sub", .create = binary_create};
MRT_CPU_KERNEL(c16_mul) = {C16, .op = "Mul", .create = binary_create};
MRT_CPU_KERNEL(c16_div) = {C16, .op = "Div", .create = binary_create};
MRT_CPU_KERNEL(c16_min) = {C16, .op = "Min", .create = binary_create};
MRT_CPU_KERNEL(c16_max) = {C16, .op = "Max", .create = binary_create};
MRT_CPU_KERNEL(c16_concat) = {C16, .op = "Concat", .create = concat_create};
