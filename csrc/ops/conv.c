/* Conv, MaxPool, AveragePool, the global pools and BatchNormalization: operators that slide a
 * window over 1 to 3 spatial dims (any number is allowed). The window's geometry is one struct,
 * used by inference (symbolically) and by the kernels. */
#include "ops/common.h"

#define MAX_SPATIAL 8

typedef struct window {
  int n; /* spatial dims */
  int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL];
  int64_t begin[MAX_SPATIAL], end[MAX_SPATIAL];
  bool ceil_mode, same, same_lower;
} window;

static mrt_status *read_window(const mrt_node *node, int n, const int64_t *kernel, window *w) {
  int k;
  const int64_t *v;
  if (n < 1 || n > MAX_SPATIAL) return MRT_ERR(MRT_NOT_IMPLEMENTED, "%d spatial dims", n);
  *w = (window){.n = n};
  const char *pad = mrt_node_str(node, "auto_pad");
  w->same_lower = strcmp(pad, "SAME_LOWER") == 0;
  w->same = w->same_lower || strcmp(pad, "SAME_UPPER") == 0;
  w->ceil_mode = mrt_node_int(node, "ceil_mode") != 0;
  for (int i = 0; i < n; ++i)
    w->kernel[i] = kernel ? kernel[i] : 1, w->stride[i] = w->dilation[i] = 1;
  if ((v = mrt_node_ints(node, "kernel_shape", &k)) && k == n)
    memcpy(w->kernel, v, (size_t)n * 8);
  else if (v)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel_shape has %d entries for %d spatial dims", k, n);
  if ((v = mrt_node_ints(node, "strides", &k)) && k == n) memcpy(w->stride, v, (size_t)n * 8);
  if ((v = mrt_node_ints(node, "dilations", &k)) && k == n) memcpy(w->dilation, v, (size_t)n * 8);
  if ((v = mrt_node_ints(node, "pads", &k)) && k == 2 * n &&
      (!*pad || strcmp(pad, "NOTSET") == 0)) {
    memcpy(w->begin, v, (size_t)n * 8);
    memcpy(w->end, v + n, (size_t)n * 8);
  }
  for (int i = 0; i < n; ++i)
    if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel, stride or dilation below 1");
  return NULL;
}

/* Output size along spatial dim i. */
static const mrt_expr *out_dim(mrt_infer *c, const window *w, int i, const mrt_expr *in) {
  mrt_symtab *t = c->sym;
  const mrt_expr *stride = mrt_expr_const(t, w->stride[i]);
  int64_t span = (w->kernel[i] - 1) * w->dilation[i] + 1;
  if (w->same) return mrt_expr_ceildiv(t, in, stride);
  const mrt_expr *room = mrt_expr_add(t, in, mrt_expr_const(t, w->begin[i] + w->end[i] - span));
  const mrt_expr *one = mrt_expr_const(t, 1);
  if (!w->ceil_mode) return mrt_expr_add(t, mrt_expr_floordiv(t, room, stride), one);
  const mrt_expr *n = mrt_expr_add(t, mrt_expr_ceildiv(t, room, stride), one);
  /* A window that starts in the end padding is left out: n <= ceil((in + begin) / stride). */
  return mrt_expr_min(
      t, n, mrt_expr_ceildiv(t, mrt_expr_add(t, in, mrt_expr_const(t, w->begin[i])), stride));
}
/* SAME padding depends on the size. */
static void resolve_same(window *w, const int64_t *in, const int64_t *out) {
  for (int i = 0; i < w->n && w->same; ++i) {
    int64_t total = (out[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - in[i];
    if (total < 0) total = 0;
    w->begin[i] = w->same_lower ? total - total / 2 : total / 2;
    w->end[i] = total - w->begin[i];
  }
}

/* ---- Conv ---- */
static mrt_status *conv_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), rw = mrt_infer_rank(c, 1);
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  int64_t kernel[MAX_SPATIAL], group = mrt_node_int(c->node, "group");
  window w;
  if (rank < 0 || rw < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank < 3 || rank != rw || rank > MAX_SPATIAL + 2)
    return MRT_ERR(MRT_FAIL, "X of rank %d and W of rank %d", rank, rw);
  if (group < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute 'group' is %lld", (long long)group);
  for (int i = 2; i < rank; ++i)
    if (!mrt_expr_is_const(mrt_infer_dim(c, 1, i), &kernel[i - 2]))
      return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(read_window(c->node, rank - 2, kernel, &w));
  MRT_TRY(mrt_infer_same_dim(
      c, mrt_infer_dim(c, 0, 1),
      mrt_expr_mul(c->sym, mrt_infer_dim(c, 1, 1), mrt_expr_const(c->sym, group)),
      "channels of X and of W times group", &unused));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_infer_dim(c, 1, 0);
  for (int i = 0; i < w.n; ++i) dims[i + 2] = out_dim(c, &w, i, mrt_infer_dim(c, 0, i + 2));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

typedef struct conv_job {
  const mrt_tensor *x, *w, *b;
  mrt_tensor *y;
  window win;
  int64_t group, cin, cout, in_size, out_size, taps;
} conv_job;

/* Range of output columns for which tap offset `at` reads inside [0, in). */
static void inside(int64_t at, int64_t stride, int64_t in, int64_t out, int64_t *lo, int64_t *hi) {
  *lo = at >= 0 ? 0 : (-at + stride - 1) / stride;
  *hi = at >= in ? 0 : (in - 1 - at) / stride + 1;
  if (*hi > out) *hi = out;
  if (*lo > *hi) *lo = *hi;
}

/* Adds one input plane times one kernel plane to an output plane, row by row. */
static void add_plane(const conv_job *j, const float *x, const float *k, float *y) {
  const window *w = &j->win;
  int last = w->n - 1;
  const int64_t *xd = j->x->dims + 2, *yd = j->y->dims + 2;
  int64_t rows = j->out_size / (yd[last] ? yd[last] : 1);
  for (int64_t tap = 0; tap < j->taps; ++tap) {
    int64_t kp[MAX_SPATIAL], rest = tap, lo, hi;
    float v = k[tap];
    for (int d = last; d >= 0; --d) {
      kp[d] = rest % w->kernel[d] * w->dilation[d] - w->begin[d];
      rest /= w->kernel[d];
    }
    inside(kp[last], w->stride[last], xd[last], yd[last], &lo, &hi);
    for (int64_t r = 0; r < rows; ++r) {
      int64_t at = 0, step = 1, q = r;
      bool ok = true;
      for (int d = last - 1; d >= 0; --d) {
        int64_t pos = q % yd[d] * w->stride[d] + kp[d];
        q /= yd[d];
        ok = ok && pos >= 0 && pos < xd[d];
        at += pos * step;
        step *= xd[d];
      }
      if (!ok) continue;
      const float *src = x + at * xd[last] + kp[last];
      float *dst = y + r * yd[last];
      if (w->stride[last] == 1)
        for (int64_t i = lo; i < hi; ++i) dst[i] += v * src[i];
      else
        for (int64_t i = lo; i < hi; ++i) dst[i] += v * src[i * w->stride[last]];
    }
  }
}
static void conv_planes(void *arg, int64_t begin, int64_t end) {
  const conv_job *j = arg;
  int64_t per = j->cout / j->group;
  for (int64_t p = begin; p < end; ++p) { /* p: (n, output channel) */
    int64_t n = p / j->cout, oc = p % j->cout, g = oc / per;
    float *y = (float *)j->y->data + p * j->out_size,
          b = j->b ? ((const float *)j->b->data)[oc] : 0;
    for (int64_t i = 0; i < j->out_size; ++i) y[i] = b;
    for (int64_t ic = 0; ic < j->cin; ++ic)
      add_plane(j, (const float *)j->x->data + ((n * j->group + g) * j->cin + ic) * j->in_size,
                (const float *)j->w->data + (oc * j->cin + ic) * j->taps, y);
  }
}

/* The other floating types are computed in float. */
static mrt_status *as_float(mrt_kctx *c, const mrt_tensor *t, mrt_tensor *view,
                            const mrt_tensor **out) {
  *out = t;
  if (!t || t->dtype == MRT_FLOAT) return NULL;
  int64_t n = mrt_tensor_count(t);
  void *data;
  MRT_TRY(mrt_scratch(c, (size_t)n * 4, &data));
  mrt_convert_to_f32((mrt_dtype)t->dtype, t->data, 0, n, data);
  mrt_tensor_init_view(view, MRT_FLOAT, t->rank, t->dims, data, (size_t)n * 4, MRT_HOST);
  *out = view;
  return NULL;
}
static mrt_status *conv_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0), fx, fw, fb, fy;
  conv_job j = {.group = mrt_node_int(c->node, "group")};
  if (!y) return NULL;
  if (y->dtype == MRT_DOUBLE) return mrt_no_type("Conv", MRT_DOUBLE);
  MRT_TRY(as_float(c, mrt_in(c, 0), &fx, &j.x));
  MRT_TRY(as_float(c, mrt_in(c, 1), &fw, &j.w));
  MRT_TRY(as_float(c, mrt_in(c, 2), &fb, &j.b));
  j.y = y;
  if (y->dtype != MRT_FLOAT) {
    void *data;
    int64_t n = mrt_tensor_count(y);
    MRT_TRY(mrt_scratch(c, (size_t)n * 4, &data));
    mrt_tensor_init_view(&fy, MRT_FLOAT, y->rank, y->dims, data, (size_t)n * 4, MRT_HOST);
    j.y = &fy;
  }
  MRT_TRY(read_window(c->node, j.x->rank - 2, j.w->dims + 2, &j.win));
  resolve_same(&j.win, j.x->dims + 2, y->dims + 2);
  j.cin = j.w->dims[1];
  j.cout = j.w->dims[0];
  if (j.cin * j.group != j.x->dims[1] || j.cout % j.group)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "channels %lld do not fit group %lld",
                   (long long)j.x->dims[1], (long long)j.group);
  for (int i = 0; i < j.win.n; ++i)
    if (j.win.kernel[i] != j.w->dims[i + 2])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel_shape is not compatible with W shape.");
  if (j.b && mrt_tensor_count(j.b) != j.cout)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "bias has %lld elements for %lld channels",
                   (long long)mrt_tensor_count(j.b), (long long)j.cout);
  j.in_size = mrt_dims_product(j.x->dims, 2, j.x->rank);
  j.out_size = mrt_dims_product(y->dims, 2, y->rank);
  j.taps = mrt_dims_product(j.w->dims, 2, j.w->rank);
  if (j.out_size)
    mrt_par_range(&c->par, y->dims[0] * j.cout, (double)(j.cin * j.taps * j.out_size) * 0.2,
                  conv_planes, &j);
  if (j.y != y)
    mrt_convert_from_f32((mrt_dtype)y->dtype, y->data, 0, mrt_tensor_count(y), j.y->data);
  return NULL;
}

/* ---- pools ---- */
static mrt_status *pool_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK];
  window w;
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(read_window(c->node, rank - 2, NULL, &w));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_infer_dim(c, 0, 1);
  for (int i = 0; i < w.n; ++i) dims[i + 2] = out_dim(c, &w, i, mrt_infer_dim(c, 0, i + 2));
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims));
  return mrt_infer_out(c, 1, MRT_INT64, rank, dims);
}
typedef struct pool_job {
  const mrt_tensor *x;
  mrt_tensor *y, *index;
  window w;
  bool max, count_pad, column_major;
  int64_t in_size, out_size, taps;
} pool_job;
static void pool_one(const pool_job *j, int64_t plane, int64_t o) {
  const window *w = &j->w;
  const int64_t *xd = j->x->dims + 2, *yd = j->y->dims + 2;
  int64_t start[MAX_SPATIAL], rest = o, best = -1, n = 0, padded = 1;
  double acc = 0;
  mrt_dtype t = (mrt_dtype)j->x->dtype;
  for (int d = w->n - 1; d >= 0; --d) {
    start[d] = rest % yd[d] * w->stride[d] - w->begin[d];
    rest /= yd[d];
    int64_t in = 0; /* taps of this dim inside the padded input */
    for (int64_t k = 0; k < w->kernel[d]; ++k)
      in += start[d] + k * w->dilation[d] < xd[d] + w->end[d];
    padded *= in;
  }
  for (int64_t tap = 0; tap < j->taps; ++tap) {
    int64_t q = tap, at = 0, step = 1;
    bool ok = true;
    for (int d = w->n - 1; d >= 0; --d) {
      int64_t pos = start[d] + q % w->kernel[d] * w->dilation[d];
      q /= w->kernel[d];
      ok = ok && pos >= 0 && pos < xd[d];
      at += pos * step;
      step *= xd[d];
    }
    if (!ok) continue;
    double v = t == MRT_FLOAT ? ((const float *)j->x->data)[plane * j->in_size + at]
                              : mrt_elem_get_f64(t, j->x->data, plane * j->in_size + at);
    ++n;
    if (!j->max)
      acc += v;
    else if (best < 0 || v > acc || isnan(v))
      acc = v, best = at;
  }
  if (!j->max)
    acc /= (double)(j->count_pad ? padded : n ? n : 1);
  else if (!n)
    acc = -INFINITY;
  mrt_elem_set_f64(t, j->y->data, plane * j->out_size + o, acc);
  if (!j->index) return;
  if (j->column_major && best >= 0) {
    int64_t pos[MAX_SPATIAL], b = best, step = 1;
    for (int d = w->n - 1; d >= 0; --d) pos[d] = b % xd[d], b /= xd[d];
    best = 0;
    for (int d = 0; d < w->n; ++d) best += pos[d] * step, step *= xd[d];
  }
  ((int64_t *)j->index->data)[plane * j->out_size + o] = plane * j->in_size + best;
}
static void pool_planes(void *arg, int64_t begin, int64_t end) {
  const pool_job *j = arg;
  for (int64_t p = begin; p < end; ++p)
    for (int64_t o = 0; o < j->out_size; ++o) pool_one(j, p, o);
}
static mrt_status *pool_run(mrt_kctx *c, bool max, bool global) {
  pool_job j = {.x = mrt_in(c, 0),
                .y = mrt_out(c, 0),
                .index = mrt_out(c, 1),
                .max = max,
                .count_pad = mrt_node_int(c->node, "count_include_pad") != 0,
                .column_major = mrt_node_int(c->node, "storage_order") != 0};
  if (!j.y) return NULL;
  MRT_TRY(read_window(c->node, j.x->rank - 2, global ? j.x->dims + 2 : NULL, &j.w));
  resolve_same(&j.w, j.x->dims + 2, j.y->dims + 2);
  j.in_size = mrt_dims_product(j.x->dims, 2, j.x->rank);
  j.out_size = mrt_dims_product(j.y->dims, 2, j.y->rank);
  j.taps = mrt_dims_product(j.w.kernel, 0, j.w.n);
  mrt_par_range(&c->par, j.x->dims[0] * j.x->dims[1], (double)(j.out_size * j.taps) * 3,
                pool_planes, &j);
  return NULL;
}
static mrt_status *maxpool_run(mrt_kctx *c) { return pool_run(c, true, false); }
static mrt_status *avgpool_run(mrt_kctx *c) { return pool_run(c, false, false); }
static mrt_status *gmax_run(mrt_kctx *c) { return pool_run(c, true, true); }
static mrt_status *gavg_run(mrt_kctx *c) { return pool_run(c, false, true); }
static mrt_status *global_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 2)
    return rank < 0 ? NULL : MRT_ERR(MRT_FAIL, "Input tensor must have at least two dimensions");
  for (int i = 0; i < rank; ++i)
    dims[i] = i < 2 ? mrt_infer_dim(c, 0, i) : mrt_expr_const(c->sym, 1);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

/* ---- BatchNormalization, inference ---- */
static mrt_status *bn_up(mrt_node *node) {
  static const char *const gone[] = {"consumed_inputs", "is_test", "spatial", NULL};
  if (mrt_node_attr(node, "spatial") && !mrt_node_int(node, "spatial"))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "BatchNormalization with spatial = 0");
  for (int i = 0; gone[i]; ++i) mrt_node_del_attr(node, gone[i]);
  for (int i = 1; i < node->n_out; ++i)
    if (node->out[i] && (node->out[i]->n_uses || node->out[i]->n_graph_outputs))
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "BatchNormalization in training mode");
  node->n_out = 1;
  return NULL;
}
static mrt_status *bn_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *s = mrt_in(c, 1), *b = mrt_in(c, 2), *m = mrt_in(c, 3),
                   *v = mrt_in(c, 4);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  if (mrt_node_int(c->node, "training_mode"))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "BatchNormalization in training mode");
  int64_t channels = x->rank > 1 ? x->dims[1] : 1,
          inner = mrt_dims_product(x->dims, x->rank > 1 ? 2 : 1, x->rank);
  double eps = mrt_node_float(c->node, "epsilon");
  if (mrt_tensor_count(s) != channels || mrt_tensor_count(b) != channels ||
      mrt_tensor_count(m) != channels || mrt_tensor_count(v) != channels)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "scale, B, mean and var need %lld elements",
                   (long long)channels);
  int64_t planes = inner ? mrt_tensor_count(x) / inner : 0;
  for (int64_t p = 0; p < planes; ++p) {
    int64_t k = p % channels;
    double scale = mrt_elem_get_f64((mrt_dtype)s->dtype, s->data, k) /
                   sqrt(mrt_elem_get_f64((mrt_dtype)v->dtype, v->data, k) + eps);
    double shift = mrt_elem_get_f64((mrt_dtype)b->dtype, b->data, k) -
                   mrt_elem_get_f64((mrt_dtype)m->dtype, m->data, k) * scale;
    for (int64_t i = p * inner; i < (p + 1) * inner; ++i)
      mrt_elem_set_f64((mrt_dtype)y->dtype, y->data, i,
                       mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, i) * scale + shift);
  }
  return NULL;
}

static const mrt_op_version conv_v[] = {{1}, {11}, {22}, {0}};
static const mrt_op_version maxpool_v[] = {{1}, {8}, {10}, {11}, {12}, {22}, {0}};
static const mrt_op_version avgpool_v[] = {{1}, {7}, {10}, {11}, {19}, {22}, {0}};
static const mrt_op_version global_v[] = {{1}, {22}, {0}};
static const mrt_op_version bn_v[] = {{1, bn_up}, {6, bn_up}, {7, bn_up}, {9, bn_up},
                                      {14},       {15},       {0}};
#define F .domain = "", .types = "T=" MRT_T_FLOATS ";U=" MRT_T_FLOATS
MRT_OP(Conv) = {F,
                .name = "Conv",
                .doc = "convolution",
                .in = "X:T, W:T, B:T?",
                .out = "Y:T",
                .attrs =
                    "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints "
                    "strides:ints",
                .versions = conv_v,
                .infer = conv_infer,
                .run = conv_run};
MRT_OP(MaxPool) = {.domain = "",
                   .types = "T=int8,uint8," MRT_T_FLOATS,
                   .name = "MaxPool",
                   .doc = "maximum in a window",
                   .in = "X:T",
                   .out = "Y:T, Indices:int64?",
                   .attrs =
                       "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints kernel_shape:ints! "
                       "pads:ints storage_order:int=0 strides:ints",
                   .versions = maxpool_v,
                   .infer = pool_infer,
                   .run = maxpool_run};
MRT_OP(AveragePool) = {F,
                       .name = "AveragePool",
                       .doc = "mean of a window",
                       .in = "X:T",
                       .out = "Y:T",
                       .attrs =
                           "auto_pad:string=NOTSET ceil_mode:int=0 count_include_pad:int=0 "
                           "dilations:ints kernel_shape:ints! pads:ints strides:ints",
                       .versions = avgpool_v,
                       .infer = pool_infer,
                       .run = avgpool_run};
MRT_OP(GlobalMaxPool) = {F,
                         .name = "GlobalMaxPool",
                         .doc = "maximum of each channel",
                         .in = "X:T",
                         .out = "Y:T",
                         .versions = global_v,
                         .infer = global_infer,
                         .run = gmax_run};
MRT_OP(GlobalAveragePool) = {F,
                             .name = "GlobalAveragePool",
                             .doc = "mean of each channel",
                             .in = "X:T",
                             .out = "Y:T",
                             .versions = global_v,
                             .infer = global_infer,
                             .run = gavg_run};
MRT_OP(BatchNormalization) = {F,
                              .name = "BatchNormalization",
                              .doc = "(x - mean) / sqrt(var + epsilon) * scale + B",
                              .in = "X:T, scale:U, B:U, input_mean:U, input_var:U",
                              .out = "Y:T, running_mean:U?, running_var:U?",
                              .attrs = "epsilon:float=1e-05 momentum:float=0.9 training_mode:int=0",
                              .versions = bn_v,
                              .infer = mrt_infer_same_shape,
                              .run = bn_run};
