/* ConvInteger and QLinearConv (ai.onnx and com.microsoft) as kernels. Images are NHWC inside; plain
 * NCHW tensors are transposed on the way in and out. Constant weights are packed once. */
#include <string.h>

#include "base/cpu.h"
#include "ops/conv_integer.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qconv.h"
#include "provider/cpu/weights/packed.h"

typedef struct qconv_kernel {
  mrt_kernel k;
  mrt_packed *weights; /* NULL: they are not constant */
  const void *packed;  /* theirs */
  void *prepared;      /* NULL: something per channel is not constant */
  mrt_qconv p;         /* of what was packed */
} qconv_kernel;

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_dtype w = mrt_node_in_dtype(node, mrt_iconv_weights(node->op_type));
  const int rank = mrt_node_in_rank(node, 0);
  return (rank == 3 || rank == 4) && (w == MRT_INT8 || w == MRT_UINT8);
}

static void destroy(mrt_kernel *k) {
  mrt_packed_release(((qconv_kernel *)k)->weights);
  mrt_mem_free(k->alloc, ((qconv_kernel *)k)->prepared);
  mrt_kernel_free(k);
}

static void set_geometry(const mrt_window *w, mrt_qconv *p) {
  const int x = w->n - 1;
  p->kw = w->kernel[x], p->stride_w = w->stride[x], p->dil_w = w->dilation[x];
  p->pad_left = w->begin[x];
  p->kh = p->stride_h = p->dil_h = 1;
  p->pad_top = 0;
  if (w->n == 1) return;
  p->kh = w->kernel[0], p->stride_h = w->stride[0], p->dil_h = w->dilation[0];
  p->pad_top = w->begin[0];
}

/* Zero points of the weights as int32, one per output channel; NULL when all are 0. */
static void read_zeros(const mrt_tensor *t, int64_t cout, int32_t *buffer, const int32_t **out) {
  *out = NULL;
  if (!t) return;
  const int64_t count = mrt_tensor_count(t);
  for (int64_t i = 0; i < cout; ++i) {
    buffer[i] = (int32_t)mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, count == 1 ? 0 : i);
    if (buffer[i]) *out = buffer;
  }
}

typedef struct pack_arg {
  const mrt_qconv *p;
  const int32_t *zeros;
} pack_arg;

static mrt_status *pack(const void *arg, const mrt_tensor *w, void *dst) {
  const pack_arg *a = arg;
  const mrt_par par = {0};
  uint8_t *tmp;
  MRT_TRY(mrt_mem_new(mrt_alloc_default(), w->bytes + 1, (void **)&tmp));
  memset(dst, 0, mrt_qconv_packed_size(a->p));
  mrt_qconv_pack(&par, a->p, w->data, a->zeros, tmp, dst);
  mrt_mem_free(mrt_alloc_default(), tmp);
  return NULL;
}

mrt_status *mrt_qconv_weights(const mrt_qconv *p, const mrt_tensor *w, const mrt_tensor *zero,
                              const int32_t *w_zero, mrt_packed **out) {
  const pack_arg arg = {p, w_zero};
  const mrt_packer packer = {
      .format = "qconv.5",
      .params = {p->groups, p->cin, p->cout, p->kh << 32 | p->kw, p->stride_h << 32 | p->stride_w,
                 p->dil_h << 32 | p->dil_w,
                 p->w_signed | p->direct << 1 | p->depthwise << 2 | (w_zero != NULL) << 3 |
                     p->dots_only << 4 | p->halves << 5,
                 mrt_cpu_get()->isa},
      .bytes = mrt_qconv_packed_size(p),
      .more = {w_zero ? zero : NULL},
      .pack = pack,
      .arg = &arg};
  if (!packer.bytes) return MRT_ERR(MRT_INVALID_ARGUMENT, "weights are too large");
  return mrt_packed_get(w, &packer, out);
}

/* A depthwise convolution that may do without the weights of plain loops. */
static bool wants_dots(const mrt_node *node, const mrt_qconv *p) {
  return mrt_qconv_has_dots(p) && mrt_iconv_weights(node->op_type) == 3 &&
         mrt_node_out_dtype(node, 0) != MRT_INT32 && (node->n_in <= 9 || !node->in[9].var);
}

/* Packs the constant weights; leaves q->packed NULL where something is not constant. */
static mrt_status *pack_constant(const mrt_provider *p, const mrt_node *node, bool dots,
                                 qconv_kernel *q) {
  const int iw = mrt_iconv_weights(node->op_type);
  const mrt_tensor *w = mrt_node_in_const(node, iw), *z = mrt_node_in_const(node, iw == 1 ? 3 : 5);
  const bool has_zero = (iw == 1 ? 3 : 5) < node->n_in && node->in[iw == 1 ? 3 : 5].var;
  const int64_t group = mrt_node_int(node, "group");
  mrt_window win;
  if (!w || w->strided || (has_zero && !z) || w->rank < 3 || group < 1) return NULL;
  if (w->dims[0] < 1 || w->dims[1] < 1 || w->dims[0] % group) return NULL;
  if (z && mrt_tensor_count(z) != 1 && mrt_tensor_count(z) != w->dims[0]) return NULL;
  MRT_TRY(mrt_window_read(node, w->rank - 2, w->dims + 2, &win));
  for (int i = 0; i < win.n; ++i)
    if (win.kernel[i] != w->dims[i + 2]) return NULL; /* the run says what is wrong */
  q->p = (mrt_qconv){
      .groups = group, .cin = w->dims[1], .cout = w->dims[0], .w_signed = w->dtype == MRT_INT8};
  set_geometry(&win, &q->p);
  int32_t *zeros = NULL;
  const int32_t *use = NULL;
  const mrt_alloc *alloc = p->env->alloc;
  MRT_TRY(mrt_mem_new(alloc, (size_t)q->p.cout * 4, (void **)&zeros));
  read_zeros(z, q->p.cout, zeros, &use);
  mrt_qconv_plan(&q->p, use);
  q->p.dots_only = dots && wants_dots(node, &q->p);
  mrt_status *st = mrt_qconv_weights(&q->p, w, z, use, &q->weights);
  if (!st) {
    q->packed = mrt_packed_data(q->weights);
    q->k.any_align = 1u << iw;
  }
  mrt_mem_free(alloc, zeros);
  return st;
}

/* Input i as a constant, or absent. */
static bool fixed(const mrt_node *node, int i, const mrt_tensor **out) {
  *out = mrt_node_in_const(node, i);
  return *out ? !(*out)->strided : i >= node->n_in || !node->in[i].var;
}

/* Tables per channel, where scales, zero points and bias are constants of the right size. */
static mrt_status *prepare_constant(const mrt_provider *p, const mrt_node *node, qconv_kernel *q) {
  const mrt_tensor *in[9];
  const mrt_alloc *alloc = p->env->alloc;
  if (!q->packed || mrt_iconv_weights(node->op_type) != 3) return NULL;
  for (int i = 1; i < 9; ++i)
    if (!fixed(node, i, &in[i])) return NULL;
  if (!in[1] || !in[4] || !in[6] || mrt_tensor_count(in[1]) != 1 || mrt_tensor_count(in[6]) != 1 ||
      (mrt_tensor_count(in[4]) != 1 && mrt_tensor_count(in[4]) != q->p.cout) ||
      (in[2] && mrt_tensor_count(in[2]) != 1) || (in[7] && mrt_tensor_count(in[7]) != 1) ||
      (in[8] && mrt_tensor_count(in[8]) != q->p.cout))
    return NULL;
  float *scale;
  const mrt_iconv c = {.x_scale = in[1], .w_scale = in[4], .y_scale = in[6]};
  const size_t bytes = mrt_qconv_prepared_size(&q->p);
  if (!bytes) return NULL;
  MRT_TRY(mrt_mem_new(alloc, (size_t)q->p.cout * 4, (void **)&scale));
  for (int64_t m = 0; m < q->p.cout; ++m) scale[m] = mrt_iconv_scale(&c, m);
  const mrt_qgemm_epilogue e = {
      .out = mrt_node_out_dtype(node, 0) == MRT_UINT8 ? MRT_Q_U8 : MRT_Q_S8,
      .out_scale = 1,
      .out_zero = mrt_scalar_i32(in[7], 0),
      .scale = scale,
      .scale_per_col = true,
      .act = {MRT_EW_CLIP, {0, 0}}, /* bounds are no part of the tables */
      .add = node->n_in > 9 && node->in[9].var ? (const uint8_t *)scale : NULL, /* there is a sum */
      .bias_s32 = in[8] ? in[8]->data : NULL};
  const mrt_qconv_args a = {.x_signed = mrt_node_in_dtype(node, 0) == MRT_INT8,
                            .x_zero = mrt_scalar_i32(in[2], 0),
                            .packed = q->packed,
                            .epi = &e};
  mrt_status *st = mrt_mem_new_aligned(alloc, bytes, MRT_ALIGN, &q->prepared);
  if (!st && mrt_qconv_prepare(&q->p, &a, q->prepared)) {
    q->k.any_align |= 1u << 4 | 1u << 5 | 1u << 8; /* the tables hold them */
  } else if (!st) {
    mrt_mem_free(alloc, q->prepared);
    q->prepared = NULL;
  }
  mrt_mem_free(alloc, scale);
  return st;
}

/* ---- a run ---- */
static mrt_status *fill_epilogue(mrt_kctx *c, const mrt_iconv *p, bool prepared,
                                 mrt_qgemm_epilogue *e) {
  *e = (mrt_qgemm_epilogue){.out = p->y->dtype == MRT_INT32   ? MRT_Q_S32
                                   : p->y->dtype == MRT_UINT8 ? MRT_Q_U8
                                                              : MRT_Q_S8,
                            .out_scale = 1, /* the factors hold 1 / y_scale already */
                            .out_zero = mrt_scalar_i32(p->y_zero, 0),
                            .bias_s32 = p->bias && !prepared ? p->bias->data : NULL};
  if (!p->y_scale) return NULL;
  e->act = (mrt_act){MRT_EW_CLIP, {(float)(p->lo - e->out_zero), (float)(p->hi - e->out_zero)}};
  float *scale;
  if (prepared) return NULL;
  MRT_TRY(mrt_scratch(c, (size_t)p->cout * 4 + 4, (void **)&scale));
  for (int64_t m = 0; m < p->cout; ++m) scale[m] = mrt_iconv_scale(p, m);
  e->scale = scale;
  e->scale_per_col = true;
  return NULL;
}

/* The sum behind a convolution: inputs 9 to 13. */
static mrt_status *fill_sum(mrt_kctx *c, mrt_qgemm_epilogue *e) {
  const mrt_tensor *other = mrt_in(c, 9), *y = mrt_out(c, 0);
  if (!other) return NULL;
  int32_t lo = 0, hi = 0;
  mrt_quant_range((mrt_dtype)y->dtype, &lo, &hi);
  if (mrt_node_attr(c->node, "add_lo")) lo = (int32_t)mrt_node_int(c->node, "add_lo");
  if (mrt_node_attr(c->node, "add_hi")) hi = (int32_t)mrt_node_int(c->node, "add_hi");
  if (other->bytes != y->bytes)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "QLinearConvAdd: the operands differ in size");
  const float sum = mrt_scalar_f32(mrt_in(c, 12), 1);
  e->add = other->data;
  e->ra = mrt_scalar_f32(mrt_in(c, 6), 1) / sum;
  e->rb = mrt_scalar_f32(mrt_in(c, 10), 1) / sum;
  e->add_zero = mrt_scalar_i32(mrt_in(c, 11), 0);
  e->add_out = mrt_scalar_i32(mrt_in(c, 13), 0);
  e->add_lo = (float)(lo - e->add_out);
  e->add_hi = (float)(hi - e->add_out);
  return NULL;
}

static mrt_status *get_weights(mrt_kctx *c, const qconv_kernel *q, const mrt_iconv *p,
                               mrt_qconv *geo, mrt_qconv_args *a) {
  int32_t *zeros;
  *geo = (mrt_qconv){
      .groups = p->group, .cin = p->cin, .cout = p->cout, .w_signed = p->w->dtype == MRT_INT8};
  set_geometry(&p->win, geo);
  if (q->packed && (q->p.direct || q->p.depthwise)) { /* there are none, or they are folded in */
    geo->direct = q->p.direct, geo->depthwise = q->p.depthwise, geo->folds = q->p.folds;
    geo->dots_only = q->p.dots_only;
    a->packed = q->packed;
    return NULL;
  }
  MRT_TRY(mrt_scratch(c, (size_t)p->cout * 4 + 4, (void **)&zeros));
  read_zeros(p->w_zero, p->cout, zeros, &a->w_zero);
  mrt_qconv_plan(geo, a->w_zero);
  a->packed = q->packed;
  if (q->packed) return NULL;
  const size_t bytes = mrt_qconv_packed_size(geo);
  uint8_t *tmp;
  void *packed;
  if (!bytes) return MRT_ERR(MRT_INVALID_ARGUMENT, "weights are too large");
  MRT_TRY(mrt_scratch(c, p->w->bytes + 1, (void **)&tmp));
  MRT_TRY(mrt_scratch(c, bytes, &packed));
  mrt_qconv_pack(&c->par, geo, p->w->data, a->w_zero, tmp, packed);
  a->packed = packed;
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const qconv_kernel *q = (const qconv_kernel *)k;
  mrt_iconv p;
  mrt_qconv geo;
  mrt_qgemm_epilogue e;
  MRT_TRY(mrt_iconv_read(c, &p));
  if (!p.y || !mrt_tensor_count(p.y)) return NULL;
  if (!mrt_tensor_count(p.x) || !mrt_tensor_count(p.w))
    return mrt_cpu_run_reference(c, k->any_align);
  const bool flat = p.win.n == 1;
  const int64_t channels = p.cin * p.group;
  mrt_qconv_args a = {.n = p.n,
                      .h = flat ? 1 : p.in[0],
                      .w = p.in[p.win.n - 1],
                      .oh = flat ? 1 : p.out[0],
                      .ow = p.out[p.win.n - 1],
                      .x = p.x->data,
                      .x_end = (const uint8_t *)p.x->data + p.x->bytes,
                      .x_signed = p.x->dtype == MRT_INT8,
                      .x_zero = mrt_scalar_i32(p.x_zero, 0),
                      .y = p.y->data,
                      .epi = &e};
  uint8_t *nhwc, *y = NULL;
  void *scratch;
  size_t bytes;
  MRT_TRY(get_weights(c, q, &p, &geo, &a));
  MRT_TRY(fill_epilogue(c, &p, q->prepared, &e));
  a.prepared = q->prepared;
  MRT_TRY(fill_sum(c, &e));
  if (!mrt_qconv_scratch_size(&c->par, &geo, &a, &bytes))
    return mrt_cpu_run_reference(c, k->any_align);
  MRT_TRY(mrt_scratch(c, bytes + 64, &scratch));
  if (!p.last) {
    MRT_TRY(mrt_scratch(c, p.x->bytes + 64, (void **)&nhwc));
    mrt_bytes_transpose(&c->par, p.x->data, p.n, channels, p.in_size, nhwc);
    a.x = nhwc;
    a.x_end = nhwc + p.x->bytes + 64;
    MRT_TRY(mrt_scratch(c, p.y->bytes + 64, (void **)&y));
    a.y = y;
  }
  mrt_qconv_run(&c->par, &geo, &a, scratch);
  if (p.last) return NULL;
  if (p.y->dtype != MRT_INT32) {
    mrt_bytes_transpose(&c->par, y, p.n, p.out_size, p.cout, p.y->data);
    return NULL;
  }
  const int32_t *from = (const int32_t *)y;
  int32_t *to = p.y->data;
  for (int64_t n = 0; n < p.n; ++n)
    for (int64_t m = 0; m < p.cout; ++m)
      for (int64_t o = 0; o < p.out_size; ++o) *to++ = from[(n * p.out_size + o) * p.cout + m];
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  qconv_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "qconv", run, destroy, &q));
  mrt_status *st = pack_constant(p, node, true, q);
  if (!st) st = prepare_constant(p, node, q);
  if (!st && q->p.dots_only && !q->prepared) {
    mrt_packed_release(q->weights);
    q->weights = NULL;
    q->packed = NULL;
    st = pack_constant(p, node, false, q);
  }
  if (st) {
    destroy(&q->k);
    return st;
  }
  *out = &q->k;
  return NULL;
}
MRT_CPU_KERNEL(q_conv_integer) = {"", "ConvInteger", match, create};
MRT_CPU_KERNEL(q_linear_conv) = {"", "QLinearConv", match, create};
MRT_CPU_KERNEL(q_linear_conv_mt) = {"macart", "QLinearConv", match, create};
MRT_CPU_KERNEL(q_linear_conv_add) = {"macart", "QLinearConvAdd", match, create};
MRT_CPU_KERNEL(q_linear_conv_ms) = {"com.microsoft", "QLinearConv", match, create};
