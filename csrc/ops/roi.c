/* RoiAlign and MaxRoiPool: pooling of boxes of an image into grids of a fixed size. Sums are kept
 * in double; sampling points of a box are shared by all channels. */
#include "ops/work.h"

static mrt_status *roi_infer(mrt_infer *c, const mrt_expr *h, const mrt_expr *w) {
  const mrt_expr *dims[4] = {mrt_infer_dim(c, 1, 0), mrt_infer_dim(c, 0, 1), h, w};
  if (mrt_infer_rank(c, 0) >= 0 && mrt_infer_rank(c, 0) != 4)
    return MRT_ERR(MRT_FAIL, "X must have rank 4, not %d", mrt_infer_rank(c, 0));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 4, dims);
}
static mrt_status *align_infer(mrt_infer *c) {
  return roi_infer(c, mrt_expr_const(c->sym, mrt_node_int(c->node, "output_height")),
                   mrt_expr_const(c->sym, mrt_node_int(c->node, "output_width")));
}
static mrt_status *pool_infer(mrt_infer *c) {
  int n;
  const int64_t *v = mrt_node_ints(c->node, "pooled_shape", &n);
  if (n != 2) return MRT_ERR(MRT_FAIL, "pooled_shape needs two elements");
  return roi_infer(c, mrt_expr_const(c->sym, v[0]), mrt_expr_const(c->sym, v[1]));
}

typedef struct roi_job {
  const mrt_tensor *x, *rois, *batch;
  mrt_tensor *y;
  double scale;
  bool half_pixel, max;
  int64_t ratio;
} roi_job;
static double at(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}

/* ---- RoiAlign ---- */
typedef struct spot { /* four neighbours of a sampling point */
  int64_t pos[4];
  double w[4];
} spot;
static void locate(double y, double x, int64_t height, int64_t width, spot *s) {
  *s = (spot){{0}, {0}};
  if (!(y >= -1 && y <= (double)height && x >= -1 && x <= (double)width)) return;
  y = y < 0 ? 0 : y;
  x = x < 0 ? 0 : x;
  int64_t y0 = (int64_t)y, x0 = (int64_t)x, y1 = y0 + 1, x1 = x0 + 1;
  if (y0 >= height - 1) y0 = y1 = height - 1, y = (double)y0;
  if (x0 >= width - 1) x0 = x1 = width - 1, x = (double)x0;
  double fy = y - (double)y0, fx = x - (double)x0;
  *s = (spot){{y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1},
              {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx}};
}
/* Pools one cell over its n spots, for one channel. */
static double pool_cell(const roi_job *j, const spot *s, int64_t n, int64_t base) {
  double acc = 0;
  for (int64_t i = 0; i < n; ++i) {
    double v[4];
    for (int k = 0; k < 4; ++k) v[k] = s[i].w[k] * at(j->x, base + s[i].pos[k]);
    double one = j->max ? fmax(fmax(v[0], v[1]), fmax(v[2], v[3])) : v[0] + v[1] + v[2] + v[3];
    acc = j->max ? (i ? fmax(acc, one) : one) : acc + one;
  }
  return j->max ? acc : acc / (double)(n ? n : 1);
}
/* One cell (r, ph, pw) at a time: its spots, then all channels. */
static mrt_status *align_roi(mrt_kctx *c, const roi_job *j, int64_t r, spot **spots, int64_t *cap) {
  const int64_t *xd = j->x->dims, *yd = j->y->dims;
  double off = j->half_pixel ? 0.5 : 0, box[4];
  for (int k = 0; k < 4; ++k) box[k] = at(j->rois, r * 4 + k) * j->scale - off;
  double w = box[2] - box[0], h = box[3] - box[1];
  if (!j->half_pixel) w = w > 1 ? w : 1, h = h > 1 ? h : 1;
  double bin_h = h / (double)yd[2], bin_w = w / (double)yd[3];
  if (!(fabs(bin_h) < 1e6) || !(fabs(bin_w) < 1e6))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RoiAlign: box %lld is too large", (long long)r);
  int64_t gh = j->ratio > 0 ? j->ratio
               : bin_h > 0  ? (int64_t)ceil(bin_h)
                            : 0,
          gw = j->ratio > 0 ? j->ratio
               : bin_w > 0  ? (int64_t)ceil(bin_w)
                            : 0,
          n;
  if (!mrt_i64_mul(gh, gw, &n) || n > INT32_MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RoiAlign: too many sampling points");
  if (n > *cap) {
    *cap = n;
    MRT_TRY(mrt_scratch_array(c, n, sizeof **spots, spots));
  }
  int64_t image = mrt_elem_get_i64((mrt_dtype)j->batch->dtype, j->batch->data, r);
  for (int64_t cell = 0; cell < yd[2] * yd[3]; ++cell) {
    double top = box[1] + (double)(cell / yd[3]) * bin_h,
           left = box[0] + (double)(cell % yd[3]) * bin_w;
    for (int64_t i = 0; i < n; ++i)
      locate(top + ((double)(i / gw) + 0.5) * bin_h / (double)gh,
             left + ((double)(i % gw) + 0.5) * bin_w / (double)gw, xd[2], xd[3], &(*spots)[i]);
    for (int64_t k = 0; k < xd[1]; ++k)
      mrt_elem_set_f64((mrt_dtype)j->y->dtype, j->y->data, (r * xd[1] + k) * yd[2] * yd[3] + cell,
                       pool_cell(j, *spots, n, (image * xd[1] + k) * xd[2] * xd[3]));
  }
  return NULL;
}
static mrt_status *align_run(mrt_kctx *c) {
  const char *mode = mrt_node_str(c->node, "mode");
  roi_job j = {.x = mrt_in(c, 0),
               .rois = mrt_in(c, 1),
               .batch = mrt_in(c, 2),
               .y = mrt_out(c, 0),
               .scale = (double)mrt_node_float(c->node, "spatial_scale"),
               .ratio = mrt_node_int(c->node, "sampling_ratio"),
               .max = strcmp(mode, "max") == 0,
               .half_pixel = strcmp(mrt_node_str(c->node, "coordinate_transformation_mode"),
                                    "half_pixel") == 0};
  spot *spots = NULL;
  int64_t cap = 0;
  if (!j.y) return NULL;
  if (!j.max && strcmp(mode, "avg") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RoiAlign: mode '%s'", mode);
  if (j.x->rank != 4 || j.rois->rank != 2 || j.rois->dims[1] != 4 ||
      mrt_tensor_count(j.batch) != j.rois->dims[0])
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RoiAlign: X, rois and batch_indices do not fit");
  if (mrt_tensor_count(j.y) && j.x->dims[2] * j.x->dims[3] == 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "RoiAlign of an empty image");
  for (int64_t r = 0; r < j.rois->dims[0]; ++r) {
    int64_t b = mrt_elem_get_i64((mrt_dtype)j.batch->dtype, j.batch->data, r);
    if (b < 0 || b >= j.x->dims[0])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "RoiAlign: batch index %lld of %lld", (long long)b,
                     (long long)j.x->dims[0]);
    MRT_TRY(align_roi(c, &j, r, &spots, &cap));
  }
  return NULL;
}
/* Boxes used to be taken without the shift by half a pixel. */
static mrt_status *align_up10(mrt_node *node) {
  return mrt_node_set_str(node, "coordinate_transformation_mode", "output_half_pixel");
}

/* ---- MaxRoiPool: rois are (batch, x1, y1, x2, y2), rounded to whole pixels ---- */
static int64_t clamp(double v, int64_t limit) {
  return v < 0 ? 0 : v > (double)limit ? limit : (int64_t)v;
}
static mrt_status *pool_run(mrt_kctx *c) {
  roi_job j = {.x = mrt_in(c, 0),
               .rois = mrt_in(c, 1),
               .y = mrt_out(c, 0),
               .scale = (double)mrt_node_float(c->node, "spatial_scale")};
  if (!j.y) return NULL;
  const int64_t *xd = j.x->dims, *yd = j.y->dims;
  if (j.x->rank != 4 || j.rois->rank != 2 || j.rois->dims[1] != 5)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MaxRoiPool: X and rois do not fit");
  int64_t cells = yd[2] * yd[3], total = j.rois->dims[0] * xd[1] * cells;
  for (int64_t i = 0; i < total; ++i) {
    int64_t r = i / cells / xd[1], k = i / cells % xd[1], ph = i % cells / yd[3], pw = i % yd[3];
    double image = at(j.rois, r * 5), box[4];
    if (!(image >= 0 && image < (double)xd[0]))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "MaxRoiPool: batch index %g of %lld", image,
                     (long long)xd[0]);
    for (int q = 0; q < 4; ++q) { /* a half decides: rounded as the type computes it */
      double v = at(j.rois, r * 5 + 1 + q);
      box[q] = j.rois->dtype == MRT_DOUBLE ? round(v * j.scale)
                                           : (double)roundf((float)v * (float)j.scale);
    }
    double bh = fmax(box[3] - box[1] + 1, 1) / (double)yd[2],
           bw = fmax(box[2] - box[0] + 1, 1) / (double)yd[3];
    int64_t y0 = clamp(floor((double)ph * bh) + box[1], xd[2]),
            y1 = clamp(ceil((double)(ph + 1) * bh) + box[1], xd[2]),
            x0 = clamp(floor((double)pw * bw) + box[0], xd[3]),
            x1 = clamp(ceil((double)(pw + 1) * bw) + box[0], xd[3]);
    double best = y0 < y1 && x0 < x1 ? -INFINITY : 0;
    for (int64_t y = y0; y < y1; ++y)
      for (int64_t x = x0; x < x1; ++x)
        best = fmax(best, at(j.x, (((int64_t)image * xd[1] + k) * xd[2] + y) * xd[3] + x));
    mrt_elem_set_f64((mrt_dtype)j.y->dtype, j.y->data, i, best);
  }
  return NULL;
}
static const mrt_op_version align_v[] = {{10, align_up10}, {16}, {22}, {0}};
static const mrt_op_version pool_v[] = {{1}, {22}, {0}};
MRT_OP(RoiAlign) = {
    .domain = "",
    .name = "RoiAlign",
    .doc = "bilinear sampling of boxes into a grid",
    .in = "X:T1, rois:T1, batch_indices:int64",
    .out = "Y:T1",
    .types = "T1=" MRT_T_FLOATS,
    .attrs =
        "coordinate_transformation_mode:string=half_pixel mode:string=avg "
        "output_height:int=1 output_width:int=1 sampling_ratio:int=0 spatial_scale:float=1.0",
    .versions = align_v,
    .infer = align_infer,
    .run = align_run};
MRT_OP(MaxRoiPool) = {.domain = "",
                      .name = "MaxRoiPool",
                      .doc = "maximum of boxes on a grid",
                      .in = "X:T, rois:T",
                      .out = "Y:T",
                      .types = "T=" MRT_T_FLOATS,
                      .attrs = "pooled_shape:ints! spatial_scale:float=1.0",
                      .versions = pool_v,
                      .infer = pool_infer,
                      .run = pool_run};
