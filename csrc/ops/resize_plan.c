/* Where each output position of Resize reads: coordinates (in float, as ONNX Runtime computes them,
 * so that ties of the nearest mode fall alike), windows and weights. Along one axis a filter of
 * half-width `radius` is centred on the coordinate; taps outside the input are left out
 * (exclude_outside) or fold onto the edge. Formulas: the ONNX operator specification. */
#include "ops/resize.h"

#define MAX_TAPS_TOTAL ((int64_t)1 << 40)

mrt_resize_mode mrt_resize_mode_of(const mrt_node *node) {
  const char *mode = mrt_node_str(node, "mode");
  return strcmp(mode, "nearest") == 0 ? MRT_NEAREST
         : strcmp(mode, "cubic") == 0 ? MRT_CUBIC
                                      : MRT_LINEAR; /* "linear", "bilinear" of old forms */
}
mrt_status *mrt_resize_axes(const mrt_node *node, int rank, int *axes, int *n) {
  const int64_t *v = mrt_node_ints(node, "axes", n);
  if (!v || !*n) {
    *n = rank;
    for (int i = 0; i < rank; ++i) axes[i] = i;
    return NULL;
  }
  if (*n > rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "%d axes for rank %d", *n, rank);
  for (int i = 0; i < *n; ++i) MRT_TRY(mrt_fix_axis(v[i], rank, &axes[i]));
  return NULL;
}
int64_t mrt_resize_scaled(int64_t in, float scale) {
  float v = floorf((float)in * scale);
  return v >= 0 && v < 9e18f ? (int64_t)v : -1;
}
mrt_status *mrt_resize_policy(const mrt_node *node, int n, const int64_t *in, int64_t *sizes,
                              float *scale) {
  const char *policy = mrt_node_str(node, "keep_aspect_ratio_policy");
  bool larger = strcmp(policy, "not_smaller") == 0, smaller = strcmp(policy, "not_larger") == 0;
  float all = 0;
  for (int i = 0; i < n; ++i) {
    scale[i] = in[i] ? (float)sizes[i] / (float)in[i] : 1;
    if (i == 0 || (larger && scale[i] > all) || (smaller && scale[i] < all)) all = scale[i];
  }
  if (!larger && !smaller) {
    if (strcmp(policy, "stretch") == 0 || !*policy) return NULL;
    return MRT_ERR(MRT_INVALID_ARGUMENT, "keep_aspect_ratio_policy '%s'", policy);
  }
  for (int i = 0; i < n; ++i) {
    sizes[i] = (int64_t)roundf(all * (float)in[i]);
    scale[i] = all;
  }
  return NULL;
}

/* ---- coordinates ---- */
enum { HALF, SYMMETRIC, PYTORCH, ALIGN, ASYMMETRIC, CROP, HALF_NN };
static mrt_status *read_coords(const mrt_node *node, int *out) {
  static const char *const names[] = {
      "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",  "align_corners",
      "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn"};
  const char *s = mrt_node_str(node, "coordinate_transformation_mode");
  for (int i = 0; i < 7; ++i)
    if (strcmp(s, names[i]) == 0) {
      *out = i;
      return NULL;
    }
  return MRT_ERR(MRT_INVALID_ARGUMENT, "coordinate_transformation_mode '%s'", s);
}
/* width: the output's size before rounding down (equal to a->out when sizes are given). */
static float coordinate(int mode, const resize_axis *a, float width, int64_t o) {
  float x = (float)o, in = (float)a->in, s = a->scale;
  float from = (float)a->roi_start, to = (float)a->roi_end;
  switch (mode) {
    case HALF: return (x + 0.5f) / s - 0.5f;
    case SYMMETRIC: return in / 2 * (1 - (float)a->out / width) + (x + 0.5f) / s - 0.5f;
    case PYTORCH: return a->out > 1 ? (x + 0.5f) / s - 0.5f : 0;
    case ALIGN: return width == 1 ? 0 : x * (in - 1) / (width - 1);
    case CROP:
      return width > 1 ? from * (in - 1) + x * (to - from) * (in - 1) / (width - 1)
                       : 0.5f * (from + to) * (in - 1);
    case HALF_NN: return (x + 0.5f) / s;
    default: return x / s;
  }
}
typedef enum { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL, SIMPLE } nearest_mode;
static mrt_status *read_nearest(const mrt_node *node, nearest_mode *out) {
  static const char *const names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                      "_simple"};
  const char *s = mrt_node_str(node, "nearest_mode");
  for (int i = 0; i < 5; ++i)
    if (strcmp(s, names[i]) == 0) {
      *out = (nearest_mode)i;
      return NULL;
    }
  return MRT_ERR(MRT_INVALID_ARGUMENT, "nearest_mode '%s'", s);
}
static float pick(nearest_mode how, float x, float scale) {
  switch (how) {
    case PREFER_FLOOR: return ceilf(x - 0.5f);
    case PREFER_CEIL: return floorf(x + 0.5f);
    case FLOOR: return floorf(x);
    case CEIL: return ceilf(x);
    default: return scale < 1 ? ceilf(x) : floorf(x); /* before opset 11 */
  }
}

/* ---- weights ---- */
static double filter(mrt_resize_mode mode, double a, double x) {
  x = fabs(x);
  if (mode == MRT_LINEAR) return x < 1 ? 1 - x : 0;
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}
typedef struct build {
  mrt_resize_mode mode;
  int coords;
  bool antialias, exclude;
  double coeff_a;
  mrt_dtype work;
} build;
/* One output position: its window, clamped to the input, and normalised weights (tmp: [taps]). */
static void window_at(const build *b, resize_axis *a, int64_t o, double x, double stretch,
                      double radius, double *tmp) {
  int64_t lo = (int64_t)ceil(x - radius), hi = (int64_t)floor(x + radius), last = a->in - 1;
  double sum = 0;
  int64_t from = lo < 0 ? 0 : lo > last ? last : lo, to = hi < 0 ? 0 : hi > last ? last : hi;
  if (to - from >= a->taps) to = from + a->taps - 1;
  for (int64_t k = 0; k < a->taps; ++k) tmp[k] = 0;
  for (int64_t i = lo; i <= hi; ++i) {
    if (b->exclude && (i < 0 || i > last)) continue;
    int64_t at = i < from ? from : i > to ? to : i;
    double w = filter(b->mode, b->coeff_a, ((double)i - x) * stretch);
    tmp[at - from] += w;
    sum += w;
  }
  while (to > from && tmp[to - from] == 0) --to; /* a tap of weight 0 must not bring in a NaN */
  int64_t skip = 0;
  while (skip < to - from && tmp[skip] == 0) ++skip;
  a->start[o] = from + skip;
  a->count[o] = (int32_t)(to - from - skip + 1);
  for (int64_t k = 0; k < a->count[o]; ++k) {
    double w = (b->antialias || b->exclude) && sum != 0 ? tmp[k + skip] / sum : tmp[k + skip];
    if (b->work == MRT_FLOAT)
      ((float *)a->weight)[o * a->taps + k] = (float)w;
    else
      ((double *)a->weight)[o * a->taps + k] = w;
  }
}
static mrt_status *build_axis(mrt_kctx *c, const build *b, nearest_mode how, resize_axis *a) {
  double stretch = b->antialias && a->scale < 1 ? (double)a->scale : 1;
  double radius = (b->mode == MRT_CUBIC ? 2 : 1) / stretch, *tmp;
  float width = (float)a->in * a->scale;
  if (fabsf(width - (float)a->out) < 1e-3f) width = (float)a->out;
  MRT_TRY(mrt_scratch_array(c, a->out, sizeof *a->start, &a->start));
  if (b->mode != MRT_NEAREST) {
    a->taps = radius * 2 + 2 < (double)a->in ? (int64_t)(radius * 2) + 2 : a->in;
    if (a->out > MAX_TAPS_TOTAL / a->taps)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize: too many weights");
    MRT_TRY(mrt_scratch_array(c, a->out, sizeof *a->count, &a->count));
    MRT_TRY(mrt_scratch_array(c, a->out * a->taps, 8, &a->weight));
    MRT_TRY(mrt_scratch_array(c, a->taps, sizeof *tmp, &tmp));
  }
  for (int64_t o = 0; o < a->out; ++o) {
    float x = coordinate(b->coords, a, width, o), last = (float)(a->in - 1);
    bool outside = (b->coords == CROP && (x < 0 || x > last)) || isnan(x);
    if (b->mode == MRT_NEAREST) {
      float at = pick(how, x, a->scale);
      a->start[o] = outside ? -1 : at < 0 ? 0 : at > last ? a->in - 1 : (int64_t)at;
      if (a->start[o] > a->in - 1) a->start[o] = a->in - 1;
    } else if (outside) {
      a->start[o] = 0;
      a->count[o] = -1;
    } else {
      double limit = (double)a->in + radius; /* far outside is the edge anyway */
      window_at(b, a, o, x < -limit ? -limit : x > limit ? limit : (double)x, stretch, radius, tmp);
    }
  }
  return NULL;
}

/* Scales and regions of interest of all axes. */
static mrt_status *read_axes(mrt_kctx *c, const mrt_tensor *x, const mrt_tensor *y, int coords,
                             resize_axis *axes) {
  const mrt_tensor *roi = mrt_in(c, 1), *scales = mrt_in(c, 2), *sizes = mrt_in(c, 3);
  int list[MRT_MAX_RANK], n;
  int64_t in[MRT_MAX_RANK], want[MRT_MAX_RANK];
  float scale[MRT_MAX_RANK];
  for (int i = 0; i < x->rank; ++i)
    axes[i] = (resize_axis){.in = x->dims[i], .out = y->dims[i], .scale = 1, .roi_end = 1};
  MRT_TRY(mrt_resize_axes(c->node, x->rank, list, &n));
  if (scales && mrt_tensor_count(scales)) {
    if (mrt_tensor_count(scales) != n)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize: %lld scales for %d axes",
                     (long long)mrt_tensor_count(scales), n);
    for (int i = 0; i < n; ++i)
      scale[i] = (float)mrt_elem_get_f64((mrt_dtype)scales->dtype, scales->data, i);
  } else {
    int k;
    MRT_TRY(mrt_read_ints(sizes, MRT_MAX_RANK, want, &k, "sizes"));
    if (k != n) return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize: %d sizes for %d axes", k, n);
    for (int i = 0; i < n; ++i) in[i] = x->dims[list[i]];
    MRT_TRY(mrt_resize_policy(c->node, n, in, want, scale));
  }
  for (int i = 0; i < n; ++i) {
    if (!(scale[i] > 0) || isinf(scale[i])) {
      if (mrt_tensor_count(y) == 0) continue;
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Scale value should be greater than 0.");
    }
    axes[list[i]].scale = scale[i];
  }
  if (coords != CROP) return NULL;
  if (!roi || mrt_tensor_count(roi) != 2 * n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize: tf_crop_and_resize needs %d elements in roi",
                   2 * n);
  for (int i = 0; i < n; ++i) {
    axes[list[i]].roi_start = mrt_elem_get_f64((mrt_dtype)roi->dtype, roi->data, i);
    axes[list[i]].roi_end = mrt_elem_get_f64((mrt_dtype)roi->dtype, roi->data, n + i);
  }
  return NULL;
}
mrt_status *mrt_resize_plan(mrt_kctx *c, const mrt_tensor *x, const mrt_tensor *y, mrt_dtype work,
                            resize_axis *axes) {
  nearest_mode how = PREFER_FLOOR;
  build b = {.mode = mrt_resize_mode_of(c->node),
             .antialias = mrt_node_int(c->node, "antialias") != 0,
             .exclude = mrt_node_int(c->node, "exclude_outside") != 0,
             .coeff_a = (double)mrt_node_float(c->node, "cubic_coeff_a"),
             .work = work};
  MRT_TRY(read_coords(c->node, &b.coords));
  MRT_TRY(read_nearest(c->node, &how));
  if (b.antialias && b.mode == MRT_NEAREST)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "antialias is not supported for mode nearest");
  MRT_TRY(read_axes(c, x, y, b.coords, axes));
  if (mrt_tensor_count(y) == 0) return NULL;
  for (int i = 0; i < x->rank; ++i) {
    resize_axis *a = &axes[i];
    if (a->in == 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize of an empty axis %d", i);
    a->identity = a->in == a->out && a->scale == 1 && b.coords != HALF_NN &&
                  (b.coords != CROP || (a->roi_start == 0 && a->roi_end == 1));
    if (!a->identity) MRT_TRY(build_axis(c, &b, how, a));
  }
  return NULL;
}
