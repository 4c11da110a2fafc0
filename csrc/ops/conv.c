/* Conv and ConvTranspose over 1 to 8 spatial dims. The transposed convolution is the same sum read
 * backwards: where Conv gathers input[o * stride + tap - pad] into output o, ConvTranspose scatters
 * input i to output[i * stride + tap - pad]; "fine" is the side with the strided index. */
#include "ops/window.h"
#include "ops/work.h"

typedef struct conv_job {
  const mrt_tensor *x, *w, *b, *fine, *coarse;
  mrt_tensor *y;
  mrt_window win;
  bool transpose;
  int64_t group, cin, cout, in_size, out_size, coarse_size, taps; /* cin: of one group */
} conv_job;
#define MRT_TEMPLATE "ops/conv.inl"
#include "tensor/each_float.h"

/* Ranks, group and kernel sizes that both operators check; *known false: not enough is known. */
static mrt_status *read_conv(mrt_infer *c, mrt_window *w, bool *known) {
  int rank = mrt_infer_rank(c, 0), rw = mrt_infer_rank(c, 1);
  int64_t kernel[MRT_MAX_SPATIAL], group = mrt_node_int(c->node, "group");
  *known = false;
  if (rank < 0 || rw < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank < 3 || rank != rw || rank > MRT_MAX_SPATIAL + 2)
    return MRT_ERR(MRT_FAIL, "X of rank %d and W of rank %d", rank, rw);
  if (group < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute 'group' is %lld", (long long)group);
  for (int i = 2; i < rank; ++i)
    if (!mrt_expr_is_const(mrt_infer_dim(c, 1, i), &kernel[i - 2]))
      return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  *known = true;
  return mrt_window_read(c->node, rank - 2, kernel, w);
}
mrt_status *mrt_conv_infer(mrt_infer *c) {
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  int64_t group = mrt_node_int(c->node, "group");
  mrt_window w;
  bool known;
  MRT_TRY(read_conv(c, &w, &known));
  if (!known) return NULL;
  MRT_TRY(mrt_infer_same_dim(
      c, mrt_infer_dim(c, 0, 1),
      mrt_expr_mul(c->sym, mrt_infer_dim(c, 1, 1), mrt_expr_const(c->sym, group)),
      "channels of X and of W times group", &unused));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_infer_dim(c, 1, 0);
  for (int i = 0; i < w.n; ++i) dims[i + 2] = mrt_window_out(c, &w, i, mrt_infer_dim(c, 0, i + 2));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), w.n + 2, dims);
}

/* ---- ConvTranspose ---- */
/* output_padding and output_shape (the last n entries; some exporters write batch and channels
 * too). *shape NULL: not given. */
static mrt_status *read_output(const mrt_node *node, int n, int64_t *padding,
                               const int64_t **shape) {
  int k;
  const int64_t *v = mrt_node_ints(node, "output_padding", &k);
  if (v && k && k != n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "output_padding has %d entries for %d spatial dims", k, n);
  for (int i = 0; i < n; ++i) {
    padding[i] = v && k ? v[i] : 0;
    if (padding[i] < 0 || padding[i] > INT32_MAX)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "output_padding out of range");
  }
  v = mrt_node_ints(node, "output_shape", &k);
  *shape = NULL;
  if (v && k) {
    if (k != n && k != n + 2)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "output_shape has %d entries for %d spatial dims", k, n);
    *shape = v + (k - n);
  }
  return NULL;
}
static mrt_status *transpose_infer(mrt_infer *c) {
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  mrt_symtab *t = c->sym;
  int64_t padding[MRT_MAX_SPATIAL];
  const int64_t *shape;
  mrt_window w;
  bool known;
  MRT_TRY(read_conv(c, &w, &known));
  if (!known) return NULL;
  MRT_TRY(read_output(c->node, w.n, padding, &shape));
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, 1), mrt_infer_dim(c, 1, 0),
                             "channels of X and of W", &unused));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] =
      mrt_expr_mul(t, mrt_infer_dim(c, 1, 1), mrt_expr_const(t, mrt_node_int(c->node, "group")));
  for (int i = 0; i < w.n; ++i) {
    const mrt_expr *in = mrt_infer_dim(c, 0, i + 2), *stride = mrt_expr_const(t, w.stride[i]);
    int64_t rest = (w.kernel[i] - 1) * w.dilation[i] + 1 + padding[i] - w.begin[i] - w.end[i];
    if (shape)
      dims[i + 2] = mrt_expr_const(t, shape[i]);
    else if (w.same)
      dims[i + 2] = mrt_expr_mul(t, in, stride);
    else
      dims[i + 2] =
          mrt_expr_add(t, mrt_expr_mul(t, in, stride), mrt_expr_const(t, rest - w.stride[i]));
  }
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), w.n + 2, dims);
}
/* Padding that follows from the output's size: the odd element goes to the end for SAME_UPPER, else
 * to the beginning. */
static void transpose_pads(mrt_window *w, const int64_t *in, const int64_t *out,
                           const int64_t *padding, bool upper) {
  for (int i = 0; i < w->n; ++i) {
    int64_t total =
        (in[i] - 1) * w->stride[i] + padding[i] + (w->kernel[i] - 1) * w->dilation[i] + 1 - out[i];
    if (total < 0) total = 0;
    w->begin[i] = upper ? total / 2 : total - total / 2;
    w->end[i] = total - w->begin[i];
  }
}

/* ---- kernels ---- */
static mrt_status *check(const conv_job *j) {
  int64_t in = j->transpose ? j->w->dims[0] : j->cin * j->group;
  if (j->group < 1 || in != j->x->dims[1] || in % j->group || j->cout % j->group)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "channels %lld do not fit group %lld",
                   (long long)j->x->dims[1], (long long)j->group);
  for (int i = 0; i < j->win.n; ++i)
    if (j->win.kernel[i] != j->w->dims[i + 2])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel_shape is not compatible with W shape.");
  if (j->b && mrt_tensor_count(j->b) != j->cout)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "bias has %lld elements for %lld channels",
                   (long long)mrt_tensor_count(j->b), (long long)j->cout);
  return NULL;
}
static mrt_status *run(mrt_kctx *c, bool transpose) {
  mrt_tensor *y = mrt_out(c, 0), fx, fw, fb, fy;
  conv_job j = {.group = mrt_node_int(c->node, "group"), .transpose = transpose};
  if (!y) return NULL;
  mrt_dtype work = mrt_work_type((mrt_dtype)y->dtype);
  MRT_TRY(mrt_work_in(c, mrt_in(c, 0), work, &fx, &j.x));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 1), work, &fw, &j.w));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 2), work, &fb, &j.b));
  MRT_TRY(mrt_work_out(c, y, work, &fy, &j.y));
  MRT_TRY(mrt_window_read(c->node, j.x->rank - 2, j.w->dims + 2, &j.win));
  if (transpose) {
    int64_t padding[MRT_MAX_SPATIAL];
    const int64_t *shape;
    MRT_TRY(read_output(c->node, j.win.n, padding, &shape));
    if (shape || j.win.same)
      transpose_pads(&j.win, j.x->dims + 2, y->dims + 2, padding,
                     strcmp(mrt_node_str(c->node, "auto_pad"), "SAME_UPPER") == 0);
  } else {
    mrt_window_resolve_same(&j.win, j.x->dims + 2, y->dims + 2);
  }
  j.cin = transpose ? j.w->dims[0] / (j.group < 1 ? 1 : j.group) : j.w->dims[1];
  j.cout = y->dims[1];
  MRT_TRY(check(&j));
  j.fine = transpose ? j.y : j.x;
  j.coarse = transpose ? j.x : j.y;
  j.in_size = mrt_dims_product(j.x->dims, 2, j.x->rank);
  j.out_size = mrt_dims_product(y->dims, 2, y->rank);
  j.coarse_size = transpose ? j.in_size : j.out_size;
  j.taps = mrt_dims_product(j.w->dims, 2, j.w->rank);
  if (j.out_size)
    mrt_par_range(&c->par, y->dims[0] * j.cout, (double)(j.cin * j.taps * j.coarse_size) * 0.2,
                  work == MRT_FLOAT ? planes_f32 : planes_f64, &j);
  mrt_work_done(j.y, y);
  return NULL;
}
static mrt_status *conv_run(mrt_kctx *c) { return run(c, false); }
static mrt_status *transpose_run(mrt_kctx *c) { return run(c, true); }

static const mrt_op_version conv_v[] = {{1}, {11}, {22}, {0}};
#define ROW \
  .domain = "", .in = "X:T, W:T, B:T?", .out = "Y:T", .types = "T=" MRT_T_FLOATS, .versions = conv_v
MRT_OP(Conv) = {ROW,
                .name = "Conv",
                .doc = "convolution",
                .attrs =
                    "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints "
                    "strides:ints",
                .infer = mrt_conv_infer,
                .run = conv_run};
MRT_OP(ConvTranspose) = {ROW,
                         .name = "ConvTranspose",
                         .doc = "transposed convolution",
                         .attrs =
                             "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints "
                             "output_padding:ints output_shape:ints pads:ints strides:ints",
                         .infer = transpose_infer,
                         .run = transpose_run};
