/* ConvInteger and QLinearConv: plain sums over the window, one output element at a time. */
#include "ops/conv_integer.h"

static bool is_qlinear(const char *op) { return op[0] == 'Q'; }
int mrt_iconv_weights(const char *op_type) { return is_qlinear(op_type) ? 3 : 1; }

mrt_status *mrt_iconv_infer(mrt_infer *c) {
  const int iw = mrt_iconv_weights(c->node->op_type);
  const bool last = mrt_node_int(c->node, "channels_last") != 0;
  mrt_dtype t = iw == 1 ? MRT_INT32 : mrt_infer_dtype(c, 7);
  int rank = mrt_infer_rank(c, 0), rw = mrt_infer_rank(c, iw);
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  int64_t kernel[MRT_MAX_SPATIAL], group = mrt_node_int(c->node, "group");
  mrt_window w;
  if (rank < 0 || rw < 0) return mrt_infer_out(c, 0, t, -1, NULL);
  if (rank < 3 || rank != rw || rank > MRT_MAX_SPATIAL + 2)
    return MRT_ERR(MRT_FAIL, "X of rank %d and W of rank %d", rank, rw);
  if (group < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute 'group' is %lld", (long long)group);
  for (int i = 2; i < rank; ++i)
    if (!mrt_expr_is_const(mrt_infer_dim(c, iw, i), &kernel[i - 2]))
      return mrt_infer_out(c, 0, t, -1, NULL);
  MRT_TRY(mrt_window_read(c->node, rank - 2, kernel, &w));
  const int channel = last ? rank - 1 : 1;
  MRT_TRY(mrt_infer_same_dim(
      c, mrt_infer_dim(c, 0, channel),
      mrt_expr_mul(c->sym, mrt_infer_dim(c, iw, 1), mrt_expr_const(c->sym, group)),
      "channels of X and of W times group", &unused));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[channel] = mrt_infer_dim(c, iw, 0);
  for (int i = 0; i < w.n; ++i) {
    const int at = i + (last ? 1 : 2);
    dims[at] = mrt_window_out(c, &w, i, mrt_infer_dim(c, 0, at));
  }
  return mrt_infer_out(c, 0, t, rank, dims);
}

static mrt_status *check_count(const mrt_tensor *t, int64_t n, const char *what) {
  const int64_t count = t ? mrt_tensor_count(t) : 1;
  if (count == 1 || count == n) return NULL;
  return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %lld elements; 1 or %lld are needed", what,
                 (long long)count, (long long)n);
}

mrt_status *mrt_iconv_read(mrt_kctx *c, mrt_iconv *p) {
  const bool q = is_qlinear(c->node->op_type);
  *p = (mrt_iconv){.x = mrt_in(c, 0),
                   .x_scale = q ? mrt_in(c, 1) : NULL,
                   .x_zero = mrt_in(c, 2),
                   .w = mrt_in(c, q ? 3 : 1),
                   .w_scale = q ? mrt_in(c, 4) : NULL,
                   .w_zero = mrt_in(c, q ? 5 : 3),
                   .y_scale = q ? mrt_in(c, 6) : NULL,
                   .y_zero = q ? mrt_in(c, 7) : NULL,
                   .bias = q ? mrt_in(c, 8) : NULL,
                   .y = mrt_out(c, 0),
                   .last = mrt_node_int(c->node, "channels_last") != 0,
                   .group = mrt_node_int(c->node, "group")};
  if (!p->y) return NULL;
  if (p->y_scale) MRT_TRY(mrt_quant_bounds(c->node, (mrt_dtype)p->y->dtype, &p->lo, &p->hi));
  const int s = p->x->rank - 2, at = p->last ? 1 : 2;
  MRT_TRY(mrt_window_read(c->node, s, p->w->dims + 2, &p->win));
  mrt_window_resolve_same(&p->win, p->x->dims + at, p->y->dims + at);
  p->n = p->x->dims[0];
  p->cin = p->w->dims[1];
  p->cout = p->w->dims[0];
  p->in_size = p->out_size = p->taps = 1;
  for (int i = 0; i < s; ++i) {
    p->in_size *= p->in[i] = p->x->dims[at + i];
    p->out_size *= p->out[i] = p->y->dims[at + i];
    p->taps *= p->win.kernel[i];
    if (p->win.kernel[i] != p->w->dims[i + 2])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel_shape is not compatible with W shape.");
  }
  if (p->cin * p->group != p->x->dims[p->last ? s + 1 : 1] || p->cout % p->group)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "channels of X, W and group do not fit");
  MRT_TRY(check_count(p->x_zero, 1, "x_zero_point"));
  MRT_TRY(check_count(p->w_zero, p->cout, "w_zero_point"));
  MRT_TRY(check_count(p->x_scale, 1, "x_scale"));
  MRT_TRY(check_count(p->w_scale, p->cout, "w_scale"));
  MRT_TRY(check_count(p->y_scale, 1, "y_scale"));
  MRT_TRY(check_count(p->y_zero, 1, "y_zero_point"));
  if (p->bias && mrt_tensor_count(p->bias) != p->cout)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "bias has %lld elements for %lld channels",
                   (long long)mrt_tensor_count(p->bias), (long long)p->cout);
  return NULL;
}

float mrt_iconv_scale(const mrt_iconv *p, int64_t m) {
  const float *w = p->w_scale->data;
  return mrt_scalar_f32(p->x_scale, 1) * w[mrt_tensor_count(p->w_scale) == 1 ? 0 : m] /
         mrt_scalar_f32(p->y_scale, 1);
}

static int32_t byte_at(const mrt_tensor *t, int64_t i) {
  const uint8_t v = ((const uint8_t *)t->data)[i];
  return t->dtype == MRT_INT8 ? (int8_t)v : v;
}

/* The sum for output position `o` (of out_size) of image n, channel m. */
static int32_t one_sum(const mrt_iconv *p, int64_t n, int64_t m, int64_t o, int32_t xz,
                       int32_t wz) {
  const int64_t channels = p->cin * p->group, first = m / (p->cout / p->group) * p->cin;
  const int64_t c_step = p->last ? 1 : p->in_size, s_step = p->last ? channels : 1;
  int64_t pos[MRT_MAX_SPATIAL], off[MRT_MAX_SPATIAL];
  uint32_t sum = 0;
  for (int d = p->win.n - 1; d >= 0; --d) {
    pos[d] = o % p->out[d] * p->win.stride[d];
    o /= p->out[d];
  }
  for (int64_t tap = 0; tap < p->taps; ++tap) {
    int64_t at = 0;
    bool inside = true;
    mrt_window_tap(&p->win, tap, off);
    for (int d = 0; d < p->win.n && inside; ++d) {
      const int64_t q = pos[d] + off[d];
      inside = q >= 0 && q < p->in[d];
      at = at * p->in[d] + q;
    }
    if (!inside) continue;
    at = n * channels * p->in_size + at * s_step + first * c_step;
    for (int64_t i = 0; i < p->cin; ++i)
      sum += (uint32_t)((byte_at(p->x, at + i * c_step) - xz) *
                        (byte_at(p->w, (m * p->cin + i) * p->taps + tap) - wz));
  }
  return (int32_t)sum;
}

static void planes(void *arg, int64_t begin, int64_t end) {
  const mrt_iconv *p = arg;
  int32_t lo = 0, hi = 0;
  if (p->y_scale) lo = p->lo, hi = p->hi;
  const int32_t xz = mrt_scalar_i32(p->x_zero, 0), yz = mrt_scalar_i32(p->y_zero, 0);
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t n = plane / p->cout, m = plane % p->cout;
    const int64_t at = p->last ? n * p->out_size * p->cout + m : plane * p->out_size,
                  step = p->last ? p->cout : 1;
    const int32_t wz =
        !p->w_zero ? 0 : byte_at(p->w_zero, mrt_tensor_count(p->w_zero) == 1 ? 0 : m);
    for (int64_t o = 0; o < p->out_size; ++o) {
      int32_t v = one_sum(p, n, m, o, xz, wz);
      if (p->y_scale) {
        if (p->bias) v = (int32_t)((uint32_t)v + (uint32_t)((const int32_t *)p->bias->data)[m]);
        v = mrt_quant_value((float)v * mrt_iconv_scale(p, m), 1, yz, lo, hi);
      }
      mrt_elem_set_i64((mrt_dtype)p->y->dtype, p->y->data, at + o * step, v);
    }
  }
}

mrt_status *mrt_iconv_run(mrt_kctx *c) {
  mrt_iconv p;
  MRT_TRY(mrt_iconv_read(c, &p));
  if (p.y)
    mrt_par_range(&c->par, p.n * p.cout, (double)(p.out_size * p.taps * p.cin) * 2, planes, &p);
  return NULL;
}

#define WINDOW \
  "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints"
#define BYTES "X=int8,uint8;W=int8,uint8;"
#define QLINEAR                                                                          \
  .name = "QLinearConv", .doc = "convolution of quantised numbers, quantised again",     \
  .in =                                                                                  \
      "x:X, x_scale:S, x_zero_point:X, w:W, w_scale:S, w_zero_point:W, y_scale:S, "      \
      "y_zero_point:Y, B:B?",                                                            \
  .out = "y:Y", .types = BYTES "Y=int8,uint8;S=float;B=int32", .infer = mrt_iconv_infer, \
  .run = mrt_iconv_run
static const mrt_op_version v10[] = {{10}, {0}}, v1[] = {{1}, {0}};
MRT_OP(ConvInteger) = {.domain = "",
                       .name = "ConvInteger",
                       .doc = "convolution of 8-bit integers, as int32",
                       .in = "x:X, w:W, x_zero_point:X?, w_zero_point:W?",
                       .out = "y:Y",
                       .types = BYTES "Y=int32",
                       .attrs = WINDOW,
                       .versions = v10,
                       .infer = mrt_iconv_infer,
                       .run = mrt_iconv_run};
MRT_OP(QLinearConv) = {.domain = "", QLINEAR, .attrs = WINDOW, .versions = v10};
MRT_OP_IN(ms, QLinearConv) = {
    .domain = "com.microsoft", QLINEAR, .attrs = WINDOW " channels_last:int=0", .versions = v1};
