/* macart.ConvBand as a kernel: constants are packed when it is made, values are in channel blocks.
 */
#include <string.h>

#include "provider/cpu/band/band.h"
#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/conv/conv_split.h"
#include "provider/cpu/weights/packed.h"

enum { X, EXPAND_W, W = 3, PROJECT_W = 5, Z = 7 };

/* From here on tiles of bf16 parts are faster (Sapphire Rapids): with fewer channels what surrounds
 * the products costs more than they gain, with fewer pixels the splitting of weights. */
enum { TILES_CHANNELS = 64, TILES_PIXELS = 128 };

typedef struct band_kernel {
  mrt_kernel k;
  mrt_band b;
  mrt_packed *weights[3];
  float *bias[3]; /* whole blocks, or NULL */
} band_kernel;

static const int weight_input[3] = {EXPAND_W, W, PROJECT_W};

static void destroy(mrt_kernel *k) {
  band_kernel *q = (band_kernel *)k;
  for (int i = 0; i < 3; ++i) {
    mrt_packed_release(q->weights[i]);
    mrt_mem_free(k->alloc, q->bias[i]);
  }
  mrt_kernel_free(k);
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const band_kernel *q = (const band_kernel *)k;
  const mrt_tensor *x = mrt_in(c, X), *z = mrt_in(c, Z);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const mrt_planes in = mrt_planes_of(x);
  const int64_t channels = q->b.expands ? q->b.cin : q->b.depthwise.cin;
  if (in.c != channels)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "X has %lld channels, the weights are for %lld",
                   (long long)in.c, (long long)channels);
  if (z && !mrt_shape_equal(z->rank, z->dims, y->rank, y->dims))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Z has not the shape of the output");
  int64_t floats;
  if (!mrt_i64_mul(in.h + 16, in.w + 16, &floats) ||
      !mrt_i64_mul(floats, mrt_c16_blocks(in.c) * 16, &floats) || floats > INT32_MAX)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "ConvBand over an image of more than 2^31 values");
  mrt_band_args a = {
      .n = in.n, .h = in.h, .w = in.w, .x = x->data, .z = z ? z->data : NULL, .y = y->data};
  for (int i = 0; i < 3; ++i) {
    a.weights[i] = q->weights[i] ? mrt_packed_data(q->weights[i]) : NULL;
    a.bias[i] = q->bias[i];
  }
  size_t bytes;
  void *scratch;
  if (!mrt_band_scratch_size(&c->par, &q->b, in.n, in.h, in.w, &bytes)) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_band_run(&c->par, &q->b, &a, scratch);
  return NULL;
}

/* ---- creation ---- */

static mrt_status *pack(const void *arg, const mrt_tensor *source, void *dst) {
  const mrt_par alone = {.threads = 1};
  mrt_conv_pack(&alone, arg, source->data, dst);
  return NULL;
}

static mrt_status *pack_pairs(const void *arg, const mrt_tensor *source, void *dst) {
  MRT_TRY(pack(arg, source, dst));
  mrt_band_pair_weights(arg, dst);
  return NULL;
}

/* The same bytes, of weights that tiles of bf16 parts can take. */
static mrt_status *pack_for_tiles(const void *arg, const mrt_tensor *source, void *dst) {
  if (!mrt_conv_split_ok(arg, source->data))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "weights out of the range of bf16 parts");
  return pack(arg, source, dst);
}

static mrt_status *get_weights(band_kernel *q, int i, const mrt_tensor *w, const mrt_conv *conv) {
  const bool tiles = q->b.tiles && i != 1, pairs = q->b.pairs && i != 1 && mrt_band_pairs_ok(conv);
  const mrt_packer packer = {.format = tiles   ? "conv.band.split.1"
                                       : pairs ? "conv.band.pairs.1"
                                               : "conv.band.f32.1",
                             .params = {conv->cin, conv->cout, conv->groups, conv->kh, conv->kw},
                             .bytes = mrt_conv_packed_size(conv),
                             .align_source = true,
                             .pack = tiles   ? pack_for_tiles
                                     : pairs ? pack_pairs
                                             : pack,
                             .arg = conv};
  mrt_status *st = mrt_packed_get(w, &packer, &q->weights[i]);
  if (!tiles || mrt_status_code(st) != MRT_NOT_IMPLEMENTED) return st;
  mrt_status_free(st);
  q->b.tiles = NULL;
  return get_weights(q, i, w, conv);
}

static mrt_status *get_bias(band_kernel *q, int i, const mrt_tensor *b) {
  if (!b) return NULL;
  const int64_t n = mrt_tensor_count(b);
  const size_t bytes = (size_t)mrt_c16_blocks(n) * 64;
  MRT_TRY(mrt_mem_new_aligned(q->k.alloc, bytes, MRT_ALIGN, (void **)&q->bias[i]));
  memset(q->bias[i], 0, bytes);
  memcpy(q->bias[i], b->data, (size_t)n * sizeof(float));
  return NULL;
}

/* The geometry that the node's attributes and weights say; false: not for this kernel. */
static bool read(const mrt_node *node, mrt_band *b) {
  static const char *const names[3] = {"expand_activation", "activation", "project_activation"};
  static const char *const params[3] = {"expand_params", "activation_params", "project_params"};
  const mrt_tensor *w[3];
  mrt_window win;
  *b = (mrt_band){0};
  for (int i = 0; i < 3; ++i) {
    int n;
    w[i] = mrt_node_in_const(node, weight_input[i]);
    if (w[i] && (w[i]->rank != 4 || w[i]->dtype != MRT_FLOAT || w[i]->strided)) return false;
    const float *p = mrt_node_floats(node, params[i], &n);
    if (!mrt_act_of(mrt_node_str(node, names[i]), n, p, &b->act[i])) return false;
  }
  if (!w[1]) return false;
  mrt_status *st = mrt_window_read(node, 2, w[1]->dims + 2, &win);
  const bool known = !st && !win.same;
  mrt_status_free(st);
  if (!known) return false;
  const int64_t c = w[1]->dims[0];
  b->depthwise = (mrt_conv){.cin = c,
                            .cout = c,
                            .groups = c,
                            .kh = win.kernel[0],
                            .kw = win.kernel[1],
                            .stride_h = win.stride[0],
                            .stride_w = win.stride[1],
                            .dil_h = 1,
                            .dil_w = 1,
                            .pad_top = win.begin[0],
                            .pad_left = win.begin[1],
                            .pad_bottom = win.end[0],
                            .pad_right = win.end[1]};
  b->expands = w[0] != NULL;
  b->projects = w[2] != NULL;
  b->cin = w[0] ? w[0]->dims[1] : c;
  b->cout = w[2] ? w[2]->dims[0] : c;
  return mrt_band_ok(&b->depthwise) && (!w[0] || w[0]->dims[0] == c) &&
         (!w[2] || w[2]->dims[1] == c) && mrt_c16_blocks(b->cin) <= MRT_BAND_MAX_BLOCKS;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  mrt_band b;
  const mrt_var *z = node->n_in > Z ? node->in[Z].var : NULL;
  return mrt_is_c16(node->in[X].var) && mrt_is_c16(node->out[0]) && (!z || mrt_is_c16(z)) &&
         read(node, &b);
}

static mrt_status *fill(band_kernel *q, const mrt_node *node) {
  const mrt_conv convs[3] = {mrt_band_expand(&q->b), q->b.depthwise, mrt_band_project(&q->b)};
  const mrt_conv_split_kernels *tiles = mrt_conv_split_kernels_get();
  if (tiles && tiles->gemm->most_parts < 3) tiles = NULL; /* dot products know one part */
  if (q->b.expands && q->b.projects && q->b.cin >= TILES_CHANNELS && q->b.cout >= TILES_CHANNELS)
    q->b.tiles = tiles;
  q->b.tiles_from = TILES_PIXELS;
  q->b.pairs = !q->b.tiles;
  for (int i = 0; i < 3; ++i) {
    const mrt_tensor *w = mrt_node_in_const(node, weight_input[i]);
    const mrt_tensor *b = mrt_node_in_const(node, weight_input[i] + 1);
    if (!w) continue;
    if (b && mrt_tensor_count(b) != w->dims[0])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "bias has %lld elements for %lld channels",
                     (long long)mrt_tensor_count(b), (long long)w->dims[0]);
    MRT_TRY(get_weights(q, i, w, &convs[i]));
    MRT_TRY(get_bias(q, i, b));
    q->k.any_align |= 3u << weight_input[i];
  }
  return NULL;
}

/* Weights and biases. */
static uint32_t packs_misaligned(const mrt_node *node) {
  uint32_t bits = 0;
  for (int i = 0; i < 3; ++i)
    if (mrt_node_in_const(node, weight_input[i])) bits |= 3u << weight_input[i];
  return bits;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  band_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "conv_band_f32", run, destroy, &q));
  mrt_status *st =
      read(node, &q->b) ? fill(q, node) : MRT_ERR(MRT_FAIL, "not a band of this kernel");
  if (st)
    destroy(&q->k);
  else
    *out = &q->k;
  return st;
}

MRT_CPU_KERNEL(conv_band_f32) = {.domain = "macart",
                                 .op = "ConvBand",
                                 .match = match,
                                 .create = create,
                                 .layouts = true,
                                 .packs_misaligned = packs_misaligned};
