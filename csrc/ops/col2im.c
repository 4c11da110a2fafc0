/* Col2Im: blocks of columns are added up into an image (the transpose of im2col). */
#include "ops/window.h"
#include "ops/work.h"

static mrt_status *col2im_infer(mrt_infer *c) {
  int n = -1, k = -1;
  const mrt_expr *const *image = mrt_infer_ints(c, 1, &n), *const *block = mrt_infer_ints(c, 2, &k);
  const mrt_expr *dims[MRT_MAX_RANK], *taps = mrt_expr_const(c->sym, 1);
  if (!image) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (n > MRT_MAX_SPATIAL || (block && k != n))
    return MRT_ERR(MRT_FAIL, "image_shape has %d elements, block_shape %d", n, k);
  for (int i = 0; i < n; ++i) taps = block ? mrt_expr_mul(c->sym, taps, block[i]) : NULL;
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_expr_floordiv(c->sym, mrt_infer_dim(c, 0, 1), taps);
  for (int i = 0; i < n; ++i) dims[i + 2] = image[i];
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), n + 2, dims);
}

typedef struct col_job {
  const double *x;
  double *y;
  mrt_window w;
  int64_t grid[MRT_MAX_SPATIAL]; /* positions of the block */
  const int64_t *image;
  int64_t taps, blocks, size; /* size: elements of an image */
} col_job;
static void images(void *arg, int64_t begin, int64_t end) {
  const col_job *j = arg;
  for (int64_t p = begin; p < end; ++p) { /* p: (batch, channel) */
    double *y = j->y + p * j->size;
    for (int64_t i = 0; i < j->size; ++i) y[i] = 0;
    for (int64_t tap = 0; tap < j->taps; ++tap) {
      int64_t off[MRT_MAX_SPATIAL];
      mrt_window_tap(&j->w, tap, off);
      const double *x = j->x + (p * j->taps + tap) * j->blocks;
      for (int64_t b = 0; b < j->blocks; ++b) {
        int64_t rest = b, at = 0, step = 1;
        bool ok = true;
        for (int d = j->w.n - 1; d >= 0; --d) {
          int64_t pos = rest % j->grid[d] * j->w.stride[d] + off[d];
          rest /= j->grid[d];
          ok = ok && pos >= 0 && pos < j->image[d];
          at += pos * step;
          step *= j->image[d];
        }
        if (ok) y[at] += x[b];
      }
    }
  }
}
static mrt_status *col2im_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *in;
  mrt_tensor *y = mrt_out(c, 0), fx, fy, *out;
  int64_t block[MRT_MAX_SPATIAL];
  int n;
  col_job j = {.taps = 1, .blocks = 1};
  if (!y) return NULL;
  mrt_dtype t = (mrt_dtype)x->dtype;
  if (!mrt_dtype_is_int(t) && !mrt_dtype_is_float(t)) return mrt_no_type("Col2Im", t);
  MRT_TRY(mrt_read_ints(mrt_in(c, 2), MRT_MAX_SPATIAL, block, &n, "block_shape"));
  if (n != y->rank - 2 || x->rank != 3)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Col2Im: input of rank %d, %d block dims", x->rank, n);
  MRT_TRY(mrt_window_read(c->node, n, block, &j.w));
  j.image = y->dims + 2;
  for (int i = 0; i < n; ++i) {
    int64_t room = j.image[i] + j.w.begin[i] + j.w.end[i] - (block[i] - 1) * j.w.dilation[i] - 1;
    j.grid[i] = room < 0 ? 0 : room / j.w.stride[i] + 1;
    if (!mrt_i64_mul(j.taps, block[i], &j.taps) || !mrt_i64_mul(j.blocks, j.grid[i], &j.blocks))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Col2Im: block_shape is too large");
  }
  if (x->dims[1] % j.taps || x->dims[2] != j.blocks)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Col2Im: expected %lld blocks and a multiple of %lld rows, got %lld and %lld",
                   (long long)j.blocks, (long long)j.taps, (long long)x->dims[2],
                   (long long)x->dims[1]);
  MRT_TRY(mrt_work_in(c, x, MRT_DOUBLE, &fx, &in));
  MRT_TRY(mrt_work_out(c, y, MRT_DOUBLE, &fy, &out));
  j.x = in->data;
  j.y = out->data;
  j.size = mrt_dims_product(y->dims, 2, y->rank);
  mrt_par_range(&c->par, y->dims[0] * y->dims[1], (double)(j.taps * j.blocks) * 4, images, &j);
  mrt_work_done(out, y);
  return NULL;
}
static const mrt_op_version col2im_v[] = {{18}, {0}};
MRT_OP(Col2Im) = {.domain = "",
                  .name = "Col2Im",
                  .doc = "sum of sliding blocks into an image",
                  .in = "input:T, image_shape:int64, block_shape:int64",
                  .out = "output:T",
                  .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128",
                  .attrs = "dilations:ints pads:ints strides:ints",
                  .versions = col2im_v,
                  .infer = col2im_infer,
                  .run = col2im_run};
