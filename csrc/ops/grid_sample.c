/* GridSample and AffineGrid: reading an image of any number of spatial dims at coordinates that are
 * given in [-1, 1] (x first), and the coordinates that an affine map produces. */
#include "ops/work.h"

#define MAX_DIMS 6 /* spatial; cubic reads 4^dims taps */

typedef enum { GRID_NEAREST, GRID_LINEAR, GRID_CUBIC } grid_mode;
typedef enum { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION } grid_padding;
typedef struct grid_job {
  const mrt_tensor *x, *grid;
  mrt_tensor *y;
  grid_mode mode;
  grid_padding padding;
  bool align;
  int n, taps;
  int64_t channels, points, in_size;
} grid_job;
static float floor_of_f32(float v) { return floorf(v); }
static double floor_of_f64(double v) { return floor(v); }
static float round_of_f32(float v) { return rintf(v); }
static double round_of_f64(double v) { return rint(v); }
#define MRT_TEMPLATE "ops/grid_sample.inl"
#include "tensor/each_float.h"

static mrt_status *sample_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  if (rank < 0) rank = mrt_infer_rank(c, 1);
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank < 3 || (mrt_infer_rank(c, 1) >= 0 && mrt_infer_rank(c, 1) != rank))
    return MRT_ERR(MRT_FAIL, "X of rank %d and grid of rank %d", rank, mrt_infer_rank(c, 1));
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, 0), mrt_infer_dim(c, 1, 0),
                             "batch of X and of grid", &dims[0]));
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 1, rank - 1), mrt_expr_const(c->sym, rank - 2),
                             "last dim of grid and the number of spatial dims", &unused));
  dims[1] = mrt_infer_dim(c, 0, 1);
  for (int i = 2; i < rank; ++i) dims[i] = mrt_infer_dim(c, 1, i - 1);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static mrt_status *read_modes(const mrt_node *node, grid_job *j) {
  const char *mode = mrt_node_str(node, "mode"), *pad = mrt_node_str(node, "padding_mode");
  if (strcmp(mode, "nearest") == 0)
    j->mode = GRID_NEAREST;
  else if (strcmp(mode, "linear") == 0)
    j->mode = GRID_LINEAR;
  else if (strcmp(mode, "cubic") == 0)
    j->mode = GRID_CUBIC;
  else
    return MRT_ERR(MRT_INVALID_ARGUMENT, "GridSample: mode '%s'", mode);
  if (strcmp(pad, "zeros") == 0)
    j->padding = PAD_ZEROS;
  else if (strcmp(pad, "border") == 0)
    j->padding = PAD_BORDER;
  else if (strcmp(pad, "reflection") == 0)
    j->padding = PAD_REFLECTION;
  else
    return MRT_ERR(MRT_INVALID_ARGUMENT, "GridSample: padding_mode '%s'", pad);
  j->taps = j->mode == GRID_NEAREST ? 1 : j->mode == GRID_LINEAR ? 2 : 4;
  j->align = mrt_node_int(node, "align_corners") != 0;
  return NULL;
}
static mrt_status *sample_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *grid = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0), fx, fg, fy;
  grid_job j = {0};
  if (!y) return NULL;
  mrt_dtype t = (mrt_dtype)x->dtype;
  if (t == MRT_STRING || t == MRT_COMPLEX64 || t == MRT_COMPLEX128)
    return mrt_no_type("GridSample", t);
  MRT_TRY(read_modes(c->node, &j));
  j.n = x->rank - 2;
  if (j.n < 1 || j.n > MAX_DIMS || grid->rank != x->rank || grid->dims[0] != x->dims[0] ||
      grid->dims[grid->rank - 1] != j.n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "GridSample: the shapes of X and grid do not fit");
  mrt_dtype work = grid->dtype == MRT_DOUBLE ? MRT_DOUBLE : mrt_work_type(t);
  MRT_TRY(mrt_work_in(c, x, work, &fx, &j.x));
  MRT_TRY(mrt_work_in(c, grid, work, &fg, &j.grid));
  MRT_TRY(mrt_work_out(c, y, work, &fy, &j.y));
  if (mrt_tensor_count(y) == 0) return NULL;
  j.channels = x->dims[1];
  j.points = mrt_dims_product(y->dims, 2, y->rank);
  j.in_size = mrt_dims_product(x->dims, 2, x->rank);
  if (j.in_size == 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "GridSample of an empty image");
  mrt_par_range(&c->par, y->dims[0] * j.points, (double)(j.channels * j.taps * j.taps) * 4,
                work == MRT_FLOAT ? sample_f32 : sample_f64, &j);
  mrt_work_done(j.y, y);
  return NULL;
}
/* Before 20 the modes had the names of their two-dimensional forms. */
static mrt_status *sample_up16(mrt_node *node) {
  const char *mode = mrt_node_str(node, "mode");
  if (strcmp(mode, "bilinear") == 0) return mrt_node_set_str(node, "mode", "linear");
  if (strcmp(mode, "bicubic") == 0) return mrt_node_set_str(node, "mode", "cubic");
  return NULL;
}

/* ---- AffineGrid ---- */
static mrt_status *affine_infer(mrt_infer *c) {
  int n;
  const mrt_expr *const *size = mrt_infer_ints(c, 1, &n), *dims[5];
  int64_t len;
  if (!size) {
    const mrt_expr *unknown[5] = {NULL};
    bool known = mrt_expr_is_const(mrt_infer_dim(c, 1, 0), &len) && (len == 4 || len == 5);
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), known ? (int)len : -1, unknown);
  }
  if (n != 4 && n != 5) return MRT_ERR(MRT_FAIL, "size has %d elements, not 4 or 5", n);
  dims[0] = size[0];
  for (int i = 2; i < n; ++i) dims[i - 1] = size[i];
  dims[n - 1] = mrt_expr_const(c->sym, n - 2);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), n, dims);
}
/* Coordinate i of `length` along one dim. */
static double base_coord(int64_t i, int64_t length, bool align) {
  if (align) return length > 1 ? (double)(2 * i) / (double)(length - 1) - 1 : 0;
  return (double)(2 * i + 1) / (double)length - 1;
}
static mrt_status *affine_run(mrt_kctx *c) {
  const mrt_tensor *theta = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  bool align = mrt_node_int(c->node, "align_corners") != 0;
  if (!y) return NULL;
  int n = y->rank - 2; /* spatial dims */
  if (theta->rank != 3 || theta->dims[0] != y->dims[0] || theta->dims[1] != n ||
      theta->dims[2] != n + 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "AffineGrid: theta does not fit size");
  int64_t points = mrt_dims_product(y->dims, 1, n + 1), total = y->dims[0] * points;
  mrt_dtype t = (mrt_dtype)theta->dtype;
  for (int64_t u = 0; u < total; ++u) {
    double at[4] = {0};
    int64_t rest = u % points;
    for (int d = n - 1; d >= 0; --d) { /* x is the last dim */
      at[n - 1 - d] = base_coord(rest % y->dims[d + 1], y->dims[d + 1], align);
      rest /= y->dims[d + 1];
    }
    at[n] = 1;
    for (int r = 0; r < n; ++r) {
      double v = 0;
      for (int k = 0; k <= n; ++k)
        v += mrt_elem_get_f64(t, theta->data, (u / points * n + r) * (n + 1) + k) * at[k];
      mrt_elem_set_f64(t, y->data, u * n + r, v);
    }
  }
  return NULL;
}
static const mrt_op_version sample_v[] = {{16, sample_up16}, {20}, {22}, {0}};
static const mrt_op_version affine_v[] = {{20}, {0}};
MRT_OP(GridSample) = {
    .domain = "",
    .name = "GridSample",
    .doc = "interpolation at given coordinates",
    .in = "X:T1, grid:T2",
    .out = "Y:T1",
    .types = "T1=" MRT_T_NUMERIC ",bool,string,complex64,complex128;T2=" MRT_T_FLOATS,
    .attrs = "align_corners:int=0 mode:string=linear padding_mode:string=zeros",
    .versions = sample_v,
    .infer = sample_infer,
    .run = sample_run};
MRT_OP(AffineGrid) = {.domain = "",
                      .name = "AffineGrid",
                      .doc = "coordinates for GridSample from affine maps",
                      .in = "theta:T1, size:int64",
                      .out = "grid:T1",
                      .types = "T1=" MRT_T_FLOATS,
                      .attrs = "align_corners:int=0",
                      .versions = affine_v,
                      .infer = affine_infer,
                      .run = affine_run};
