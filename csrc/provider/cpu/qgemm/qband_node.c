/* macart.QLinearBand as a kernel: everything but the images is constant and read when it is made.
 */
#include <string.h>

#include "ops/qband.h"
#include "ops/quant.h"
#include "ops/window.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qband.h"
#include "provider/cpu/qgemm/qband_node.h"
#include "provider/cpu/qgemm/qdepth.h"

typedef struct band_kernel {
  mrt_kernel k;
  mrt_qband b;
  int32_t zero[3];
  mrt_packed *weights[3];
  void *prepared[3];
  void *wide;       /* b.wide */
  int64_t w_end[2]; /* padding behind the image that the first convolution reads */
  mrt_qgemm_epilogue epi[3];
  bool adds;
} band_kernel;

static void release_conv(band_kernel *q, int i) {
  mrt_packed_release(q->weights[i]);
  mrt_mem_free(q->k.alloc, q->prepared[i]);
  q->weights[i] = NULL;
  q->prepared[i] = NULL;
}

static void destroy(mrt_kernel *k) {
  band_kernel *q = (band_kernel *)k;
  for (int i = 0; i < 3; ++i) release_conv(q, i);
  mrt_mem_free(k->alloc, q->wide);
  mrt_kernel_free(k);
}

static const mrt_tensor *constant(const mrt_node *node, int conv, int which) {
  return mrt_node_in_const(node, mrt_qband_in(conv, which));
}
static bool has(const mrt_node *node, int i) { return i < node->n_in && node->in[i].var; }

static bool is_one(const mrt_tensor *t) { return t && mrt_tensor_count(t) == 1; }

bool mrt_qband_scales_fit(float x_scale, const mrt_tensor *w_scale, float y_scale) {
  const float *w = w_scale->data;
  for (int64_t i = 0; i < mrt_tensor_count(w_scale); ++i)
    if (!(__builtin_fabsf(x_scale * w[i] / y_scale) < 0.89f)) return false;
  return true;
}

/* Constants of convolution i; *x_scale: of what it reads, and then of what it makes. */
static bool read_constants(const mrt_node *node, int i, const mrt_qconv *p, float *x_scale) {
  const mrt_tensor *scale = constant(node, i, MRT_QBAND_W_SCALE),
                   *zero = constant(node, i, MRT_QBAND_W_ZERO),
                   *to = constant(node, i, MRT_QBAND_Y_SCALE),
                   *bias = constant(node, i, MRT_QBAND_BIAS);
  if (!scale || scale->strided || scale->dtype != MRT_FLOAT || !zero || !is_one(to) ||
      !is_one(constant(node, i, MRT_QBAND_Y_ZERO)) ||
      (mrt_tensor_count(scale) != 1 && mrt_tensor_count(scale) != p->cout) ||
      (bias ? bias->strided || mrt_tensor_count(bias) != p->cout
            : has(node, mrt_qband_in(i, MRT_QBAND_BIAS))))
    return false;
  for (int64_t k = 0; k < mrt_tensor_count(zero); ++k)
    if (mrt_elem_get_i64((mrt_dtype)zero->dtype, zero->data, k)) return false;
  const float y_scale = mrt_scalar_f32(to, 1);
  const bool fits = mrt_qband_scales_fit(*x_scale, scale, y_scale);
  *x_scale = y_scale;
  return fits;
}

static bool read_window(const mrt_node *node, const mrt_tensor *w, mrt_qconv *p) {
  mrt_window win;
  mrt_status *st = mrt_window_read(node, 2, w->dims + 2, &win);
  const bool known = !st && !win.same;
  mrt_status_free(st);
  if (!known) return false;
  p->kh = win.kernel[0], p->kw = win.kernel[1];
  p->stride_h = win.stride[0], p->stride_w = win.stride[1];
  p->dil_h = win.dilation[0], p->dil_w = win.dilation[1];
  p->pad_top = win.begin[0], p->pad_left = win.begin[1];
  return p->kh == w->dims[2] && p->kw == w->dims[3];
}

static bool read_expand_window(const mrt_node *node, const mrt_tensor *w, mrt_qconv *p,
                               int64_t end[2]) {
  mrt_window win;
  mrt_status *st = mrt_qband_expand_window(node, &win);
  const bool known = !st;
  mrt_status_free(st);
  if (!known) return false;
  p->kh = win.kernel[0], p->kw = win.kernel[1];
  p->stride_h = win.stride[0], p->stride_w = win.stride[1];
  p->pad_top = win.begin[0], p->pad_left = win.begin[1];
  end[0] = win.end[0], end[1] = win.end[1];
  const bool plain = p->kh * p->kw > 1 || (p->stride_h == 1 && p->stride_w == 1 && !p->pad_top &&
                                           !p->pad_left && !end[0] && !end[1]);
  return plain && p->kh == w->dims[2] && p->kw == w->dims[3];
}

/* The geometry; false: not for this kernel. */
static bool read(const mrt_node *node, mrt_qband *b, int64_t w_end[2]) {
  float scale;
  *b = (mrt_qband){.expands = has(node, mrt_qband_in(0, MRT_QBAND_W)),
                   .is_signed = mrt_node_in_dtype(node, MRT_QBAND_X) == MRT_INT8};
  if (!is_one(mrt_node_in_const(node, MRT_QBAND_X_SCALE)) ||
      !is_one(mrt_node_in_const(node, MRT_QBAND_X_ZERO)))
    return false;
  scale = mrt_scalar_f32(mrt_node_in_const(node, MRT_QBAND_X_SCALE), 1);
  for (int i = b->expands ? 0 : 1; i < 3; ++i) {
    const mrt_tensor *w = constant(node, i, MRT_QBAND_W);
    if (!w || w->strided || w->rank != 4 || w->dtype != MRT_INT8 || w->dims[0] < 1 ||
        w->dims[1] < 1)
      return false;
    b->conv[i] = mrt_qconv_pointwise(i == 1 ? w->dims[0] : 1, w->dims[1], w->dims[0]);
    if (i == 0   ? !read_expand_window(node, w, &b->conv[0], w_end)
        : i == 1 ? !read_window(node, w, &b->conv[1])
                 : w->dims[2] != 1 || w->dims[3] != 1)
      return false;
    mrt_qconv_plan(&b->conv[i], NULL);
    b->conv[i].dots_only = mrt_qconv_has_dots(&b->conv[i]);
    b->conv[i].halves = i == 0 && mrt_qband_halves(&b->conv[0]);
    if (!read_constants(node, i, &b->conv[i], &scale)) return false;
  }
  for (int i = MRT_QBAND_ADD + 1; has(node, MRT_QBAND_ADD) && i < MRT_QBAND_INPUTS; ++i)
    if (!is_one(mrt_node_in_const(node, i))) return false;
  return mrt_node_int(node, "group") == b->conv[1].cout && b->conv[2].cin == b->conv[1].cout &&
         (!b->expands || b->conv[0].cout == b->conv[1].cout) && mrt_qband_fits(b);
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  mrt_qband b;
  int64_t end[2];
  (void)p;
  return mrt_node_in_rank(node, MRT_QBAND_X) == 4 && read(node, &b, end);
}

/* ---- a run ---- */
/* Size of what the depthwise convolution reads along dim i. */
static int64_t between(const band_kernel *q, int i, int64_t x) {
  const mrt_qconv *e = &q->b.conv[0];
  if (!q->b.expands) return x;
  const int64_t stride = i ? e->stride_w : e->stride_h, kernel = i ? e->kw : e->kh,
                room = x + (i ? e->pad_left : e->pad_top) + q->w_end[i] - kernel;
  return room < 0 ? 0 : room / stride + 1;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const band_kernel *q = (const band_kernel *)k;
  const mrt_tensor *x = mrt_in(c, MRT_QBAND_X), *z = mrt_in(c, MRT_QBAND_ADD);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_qgemm_epilogue last = q->epi[2];
  if (!y || !mrt_tensor_count(y)) return NULL;
  const int64_t channels = q->b.expands ? q->b.conv[0].cin : q->b.conv[1].cout;
  if (x->dims[3] != channels)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "X has %lld channels, the weights are for %lld",
                   (long long)x->dims[3], (long long)channels);
  if (z && !mrt_shape_equal(z->rank, z->dims, y->rank, y->dims))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the second operand has not the shape of the output");
  if (q->adds) last.add = z->data;
  mrt_qband_args a = {.n = x->dims[0],
                      .xh = x->dims[1],
                      .xw = x->dims[2],
                      .h = between(q, 0, x->dims[1]),
                      .w = between(q, 1, x->dims[2]),
                      .oh = y->dims[1],
                      .ow = y->dims[2],
                      .x = x->data,
                      .x_end = (const uint8_t *)x->data + x->bytes,
                      .epi = {&q->epi[0], &q->epi[1], &last},
                      .y = y->data};
  for (int i = 0; i < 3; ++i) {
    a.packed[i] = q->weights[i] ? mrt_packed_data(q->weights[i]) : NULL;
    a.prepared[i] = q->prepared[i];
    a.zero[i] = q->zero[i];
  }
  size_t bytes;
  void *scratch;
  if (!mrt_qband_scratch_size(&c->par, &q->b, &a, &bytes))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "QLinearBand: too many pixels");
  MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_qband_run(&c->par, &q->b, &a, scratch);
  return NULL;
}

/* ---- creation ---- */
/* Bounds as the epilogue wants them: from the zero point. */
static mrt_act bounds_of(const mrt_node *node, int which, mrt_dtype t, int32_t zero) {
  int32_t lo = 0, hi = 0;
  mrt_quant_range(t, &lo, &hi);
  if (mrt_node_attr(node, mrt_qband_bounds[which][0]))
    lo = (int32_t)mrt_node_int(node, mrt_qband_bounds[which][0]);
  if (mrt_node_attr(node, mrt_qband_bounds[which][1]))
    hi = (int32_t)mrt_node_int(node, mrt_qband_bounds[which][1]);
  return (mrt_act){MRT_EW_CLIP, {(float)(lo - zero), (float)(hi - zero)}};
}

static void fill_add(band_kernel *q, const mrt_node *node, mrt_dtype t) {
  mrt_qgemm_epilogue *e = &q->epi[2];
  const mrt_tensor *in[5];
  for (int i = 1; i < 5; ++i) in[i] = mrt_node_in_const(node, MRT_QBAND_ADD + i);
  const float sum = mrt_scalar_f32(in[3], 1);
  e->ra = mrt_scalar_f32(constant(node, 2, MRT_QBAND_Y_SCALE), 1) / sum;
  e->rb = mrt_scalar_f32(in[1], 1) / sum;
  e->add_zero = mrt_scalar_i32(in[2], 0);
  e->add_out = mrt_scalar_i32(in[4], 0);
  const mrt_act act = bounds_of(node, 3, t, e->add_out);
  e->add_lo = act.p[0], e->add_hi = act.p[1];
  q->adds = true;
}

/* Convolution i, which reads numbers of scale x_scale: weights, tables. */
static mrt_status *fill_conv(band_kernel *q, const mrt_node *node, int i, float x_scale) {
  const mrt_qconv *p = &q->b.conv[i];
  const mrt_alloc *alloc = q->k.alloc;
  const mrt_tensor *ws = constant(node, i, MRT_QBAND_W_SCALE),
                   *ys = constant(node, i, MRT_QBAND_Y_SCALE),
                   *bias = constant(node, i, MRT_QBAND_BIAS);
  const size_t bytes = mrt_qconv_prepared_size(p);
  mrt_qgemm_epilogue e = q->epi[i];
  float *scale;
  MRT_TRY(mrt_qconv_weights(p, constant(node, i, MRT_QBAND_W), NULL, NULL, &q->weights[i]));
  MRT_TRY(mrt_mem_new_aligned(alloc, bytes, MRT_ALIGN, &q->prepared[i]));
  MRT_TRY(mrt_mem_new(alloc, (size_t)p->cout * sizeof(float), (void **)&scale));
  for (int64_t m = 0; m < p->cout; ++m)
    scale[m] = x_scale * ((const float *)ws->data)[mrt_tensor_count(ws) == 1 ? 0 : m] /
               mrt_scalar_f32(ys, 1);
  e.scale = scale;
  e.scale_per_col = true;
  if (i == 2 && has(node, MRT_QBAND_ADD)) e.add = (const uint8_t *)scale; /* there is a sum */
  e.bias_s32 = bias ? bias->data : NULL;
  const mrt_qconv_args a = {.x_signed = q->b.is_signed,
                            .x_zero = q->zero[i],
                            .packed = mrt_packed_data(q->weights[i]),
                            .epi = &e};
  const bool made = mrt_qconv_prepare(p, &a, q->prepared[i]);
  mrt_mem_free(alloc, scale);
  return made ? NULL : MRT_ERR(MRT_NOT_IMPLEMENTED, "QLinearBand: factors out of range");
}

static mrt_status *fill_wide(band_kernel *q) {
  const mrt_qconv *d = &q->b.conv[1];
  const mrt_qtables *t = mrt_qconv_tables(q->prepared[0]);
  const size_t bytes = mrt_qwide_tables_size(&q->b.conv[0]);
  const bool window = q->b.conv[0].kh * q->b.conv[0].kw > 1;
  if (!bytes || !t->in_range)
    return window ? MRT_ERR(MRT_NOT_IMPLEMENTED, "QLinearBand: factors out of range") : NULL;
  MRT_TRY(mrt_mem_new_aligned(q->k.alloc, bytes, MRT_ALIGN, &q->wide));
  mrt_qwide_tables(&q->b.conv[0], mrt_packed_data(q->weights[0]), t, d,
                   mrt_qconv_depth_weights(d, mrt_packed_data(q->weights[1])),
                   mrt_qconv_depth_tables(q->prepared[1]), q->wide);
  mrt_qdepth_rows rows;
  mrt_qdepth_rows_of(d, &q->epi[1], NULL, mrt_qconv_depth_tables(q->prepared[1]), 1, &rows);
  q->b.wide = q->wide;
  q->b.wide_shifted[0] = t->shifted;
  q->b.wide_shifted[1] = rows.shifted;
  for (int i = 0; i < 2 && mrt_qband_only_wide(&q->b); ++i) release_conv(q, i);
  return NULL;
}

static mrt_status *fill(band_kernel *q, const mrt_node *node) {
  const mrt_dtype t = mrt_node_in_dtype(node, MRT_QBAND_X);
  float scale = mrt_scalar_f32(mrt_node_in_const(node, MRT_QBAND_X_SCALE), 1);
  int32_t zero = mrt_scalar_i32(mrt_node_in_const(node, MRT_QBAND_X_ZERO), 0);
  for (int i = q->b.expands ? 0 : 1; i < 3; ++i) {
    q->zero[i] = zero;
    zero = mrt_scalar_i32(constant(node, i, MRT_QBAND_Y_ZERO), 0);
    q->epi[i] = (mrt_qgemm_epilogue){.out = t == MRT_INT8 ? MRT_Q_S8 : MRT_Q_U8,
                                     .out_scale = 1, /* the factors hold 1 / y_scale already */
                                     .out_zero = zero,
                                     .act = bounds_of(node, i, t, zero)};
    MRT_TRY(fill_conv(q, node, i, scale));
    scale = mrt_scalar_f32(constant(node, i, MRT_QBAND_Y_SCALE), 1);
  }
  if (has(node, MRT_QBAND_ADD)) fill_add(q, node, t);
  q->k.any_align = ((1u << MRT_QBAND_INPUTS) - 1) & ~(1u << MRT_QBAND_X | 1u << MRT_QBAND_ADD);
  return mrt_qband_wants_wide(&q->b) ? fill_wide(q) : NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  band_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "qband", run, destroy, &q));
  mrt_status *st =
      read(node, &q->b, q->w_end) ? fill(q, node) : MRT_ERR(MRT_FAIL, "not a band of this kernel");
  if (st)
    destroy(&q->k);
  else
    *out = &q->k;
  return st;
}

MRT_CPU_KERNEL(q_linear_band) = {"macart", "QLinearBand", match, create};
