/* Resize (and Upsample, which upgrades to it). The nearest mode moves elements of any type by index
 * maps; linear and cubic run one axis after the other, smallest results first. */
#include "ops/resize.h"

/* ---- inference ---- */
static const mrt_expr *scaled(mrt_infer *c, const mrt_expr *in, float scale) {
  int64_t v;
  if (mrt_expr_is_const(in, &v)) {
    int64_t out = mrt_resize_scaled(v, scale);
    return out < 0 ? NULL : mrt_expr_const(c->sym, out);
  }
  if (scale >= 1 && scale == floorf(scale) && scale < 1e6f)
    return mrt_expr_mul(c->sym, in, mrt_expr_const(c->sym, (int64_t)scale));
  /* A power of two below 1 divides exactly; other fractions round in float: known at run time. */
  int e;
  if (frexpf(scale, &e) == 0.5f && e <= 0 && e > -30)
    return mrt_expr_floordiv(c->sym, in, mrt_expr_const(c->sym, (int64_t)1 << (1 - e)));
  return NULL;
}
static bool given(const mrt_infer *c, int i) {
  int64_t n;
  return mrt_infer_has(c, i) &&
         !(mrt_infer_rank(c, i) == 1 && mrt_expr_is_const(mrt_infer_dim(c, i, 0), &n) && n == 0);
}
static mrt_status *sizes_infer(mrt_infer *c, int n, const int *axes, const mrt_expr **dims) {
  const char *policy = mrt_node_str(c->node, "keep_aspect_ratio_policy");
  int64_t in[MRT_MAX_RANK], want[MRT_MAX_RANK];
  float scale[MRT_MAX_RANK];
  int k;
  const mrt_expr *const *e = mrt_infer_ints(c, 3, &k);
  for (int i = 0; i < n; ++i) dims[axes[i]] = NULL;
  if (!e) return NULL;
  if (k != n) return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize: %d sizes for %d axes", k, n);
  bool known = true;
  for (int i = 0; i < n; ++i)
    known = known && mrt_expr_is_const(mrt_infer_dim(c, 0, axes[i]), &in[i]) &&
            mrt_expr_is_const(e[i], &want[i]);
  if (strcmp(policy, "stretch") == 0) {
    for (int i = 0; i < n; ++i) dims[axes[i]] = e[i];
  } else if (known) {
    MRT_TRY(mrt_resize_policy(c->node, n, in, want, scale));
    for (int i = 0; i < n; ++i) dims[axes[i]] = mrt_expr_const(c->sym, want[i]);
  }
  return NULL;
}
static mrt_status *resize_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axes[MRT_MAX_RANK], n;
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  MRT_TRY(mrt_resize_axes(c->node, rank, axes, &n));
  bool by_size = given(c, 3), by_scale = given(c, 2);
  const mrt_tensor *s = mrt_infer_const(c, 2);
  if (c->concrete && by_size == by_scale)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Either `sizes` or `scales` must be provided, but not both of them");
  if (by_size && (!by_scale || (s && mrt_tensor_count(s) == 0))) {
    MRT_TRY(sizes_infer(c, n, axes, dims));
  } else if (s && by_scale) {
    if (mrt_tensor_count(s) != n)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Resize: %lld scales for %d axes",
                     (long long)mrt_tensor_count(s), n);
    for (int i = 0; i < n; ++i) {
      float f = (float)mrt_elem_get_f64((mrt_dtype)s->dtype, s->data, i);
      if (!(f > 0)) return MRT_ERR(MRT_INVALID_ARGUMENT, "Scale value should be greater than 0.");
      dims[axes[i]] = scaled(c, dims[axes[i]], f);
    }
  } else {
    for (int i = 0; i < n; ++i) dims[axes[i]] = NULL;
  }
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

/* ---- nearest ---- */
typedef struct nearest_job {
  const mrt_tensor *x;
  mrt_tensor *y;
  const resize_axis *axes;
  int rank;
  char fill[16];
} nearest_job;
/* Input offset of output row r; -1: outside. */
static int64_t nearest_base(const nearest_job *j, int64_t r) {
  int64_t base = 0, step = j->axes[j->rank - 1].in;
  for (int d = j->rank - 2; d >= 0; --d) {
    const resize_axis *a = &j->axes[d];
    int64_t o = r % a->out, at = a->identity ? o : a->start[o];
    r /= a->out;
    if (at < 0) return -1;
    base += at * step;
    step *= a->in;
  }
  return base;
}
#define MRT_TEMPLATE "ops/resize_nearest.inl"
#include "tensor/each_size.h"
static mrt_status *nearest_run(mrt_kctx *c, const mrt_tensor *x, mrt_tensor *y,
                               const resize_axis *axes) {
  nearest_job j = {.x = x, .y = y, .axes = axes, .rank = x->rank};
  double fill = mrt_node_float(c->node, "extrapolation_value");
  mrt_dtype t = (mrt_dtype)x->dtype;
  void (*fn)(void *, int64_t, int64_t);
  switch (mrt_dtype_bits(t)) {
    case 8: fn = rows_1; break;
    case 16: fn = rows_2; break;
    case 32: fn = rows_4; break;
    case 64: fn = rows_8; break;
    case 128: fn = rows_16; break;
    default: return mrt_no_type("Resize", t);
  }
  if (t == MRT_COMPLEX64 || t == MRT_COMPLEX128)
    mrt_elem_set_f64(t == MRT_COMPLEX64 ? MRT_FLOAT : MRT_DOUBLE, j.fill, 0, fill);
  else if (t != MRT_STRING)
    mrt_elem_set_f64(t, j.fill, 0, fill);
  int64_t row = axes[x->rank - 1].out;
  mrt_par_range(&c->par, mrt_tensor_count(y) / row, (double)row, fn, &j);
  mrt_tensor_retain_strings(y);
  return NULL;
}

/* ---- linear, cubic ---- */
typedef struct pass_job {
  const void *x;
  void *y;
  const resize_axis *axis;
  int64_t inner;
  double fill;
} pass_job;
#define MRT_TEMPLATE "ops/resize.inl"
#include "tensor/each_float.h"

/* The next axis to do: the one that shrinks most; among equals the last one. -1: none left. */
static int next_axis(const resize_axis *axes, const bool *done, int rank) {
  int best = -1;
  for (int i = 0; i < rank; ++i)
    if (!done[i] && (best < 0 || (double)axes[i].out / (double)axes[i].in <=
                                     (double)axes[best].out / (double)axes[best].in))
      best = i;
  return best;
}
/* Whole numbers: linear truncates as ONNX Runtime does (with room for rounding errors), filters
 * with antialiasing round; both saturate. */
static void store_ints(const double *v, mrt_tensor *y, bool round) {
  mrt_dtype t = (mrt_dtype)y->dtype;
  int bits = mrt_dtype_bits(t);
  bool is_signed = mrt_dtype_is_signed(t);
  double hi = ldexp(1, is_signed ? bits - 1 : bits), lo = is_signed ? -hi : 0;
  int64_t n = mrt_tensor_count(y);
  for (int64_t i = 0; i < n; ++i) {
    double q = round ? rint(v[i]) : v[i] < 0 ? ceil(v[i] - 1e-6) : floor(v[i] + 1e-6);
    if (q >= hi)
      mrt_elem_set_i64(t, y->data, i, is_signed ? (int64_t)(((uint64_t)1 << (bits - 1)) - 1) : -1);
    else
      mrt_elem_set_f64(t, y->data, i, q < lo ? lo : q);
  }
}
static mrt_status *filter_run(mrt_kctx *c, const mrt_tensor *x, mrt_tensor *y, mrt_dtype work,
                              const resize_axis *axes) {
  mrt_tensor fx, fy;
  const mrt_tensor *in;
  mrt_tensor *out;
  int64_t dims[MRT_MAX_RANK];
  bool done[MRT_MAX_RANK];
  int left = 0;
  pass_job j = {.fill = mrt_node_float(c->node, "extrapolation_value")};
  MRT_TRY(mrt_work_in(c, x, work, &fx, &in));
  MRT_TRY(mrt_work_out(c, y, work, &fy, &out));
  for (int i = 0; i < x->rank; ++i) {
    dims[i] = x->dims[i];
    done[i] = axes[i].identity;
    left += !done[i];
  }
  const void *from = in->data;
  if (left == 0) memcpy(out->data, in->data, in->bytes);
  for (; left > 0; --left) {
    int a = next_axis(axes, done, x->rank);
    int64_t outer = mrt_dims_product(dims, 0, a), count;
    j.inner = mrt_dims_product(dims, a + 1, x->rank);
    j.axis = &axes[a];
    j.x = from;
    dims[a] = axes[a].out;
    done[a] = true;
    MRT_TRY(mrt_shape_count(x->rank, dims, &count));
    j.y = out->data;
    if (left > 1) MRT_TRY(mrt_scratch_array(c, count, 8, &j.y));
    bool f32 = work == MRT_FLOAT, last = j.inner == 1;
    double ns = (double)axes[a].taps * (last ? (double)axes[a].out : (double)j.inner * 0.2);
    mrt_par_range(&c->par, last ? outer : outer * axes[a].out, ns,
                  last ? (f32 ? last_f32 : last_f64) : (f32 ? along_f32 : along_f64), &j);
    from = j.y;
  }
  if (mrt_dtype_is_int((mrt_dtype)y->dtype))
    store_ints(out->data, y, mrt_node_int(c->node, "antialias") != 0);
  else
    mrt_work_done(out, y);
  return NULL;
}
static mrt_status *resize_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  resize_axis axes[MRT_MAX_RANK];
  if (!y) return NULL;
  mrt_dtype t = (mrt_dtype)x->dtype;
  bool nearest = mrt_resize_mode_of(c->node) == MRT_NEAREST, whole = mrt_dtype_is_int(t);
  mrt_dtype work = whole || t == MRT_DOUBLE ? MRT_DOUBLE : MRT_FLOAT;
  if (!nearest && !whole && !mrt_dtype_is_float(t)) return mrt_no_type("Resize", t);
  if (x->rank == 0) {
    memcpy(y->data, x->data, x->bytes);
    mrt_tensor_retain_strings(y);
    return NULL;
  }
  MRT_TRY(mrt_resize_plan(c, x, y, work, axes));
  if (mrt_tensor_count(y) == 0) return NULL;
  return nearest ? nearest_run(c, x, y, axes) : filter_run(c, x, y, work, axes);
}

/* ---- older forms ---- */
/* Resize-10 and Upsample-9: scales as input 1, coordinates by plain division. */
static mrt_status *from_scales(mrt_node *node) {
  mrt_var *scales = node->n_in > 1 ? node->in[1].var : NULL;
  MRT_TRY(mrt_node_set_input(node, 2, scales));
  MRT_TRY(mrt_node_set_input(node, 1, NULL));
  MRT_TRY(mrt_node_set_str(node, "coordinate_transformation_mode", "asymmetric"));
  return mrt_node_set_str(node, "nearest_mode", "_simple");
}
/* ONNX's name for the mode, where there is one: it depends on the direction. */
static mrt_status *simple_to_onnx(mrt_node *node, const mrt_op_table *ops) {
  (void)ops;
  const mrt_tensor *scales = node->n_in > 2 && node->in[2].var ? node->in[2].var->constant : NULL;
  bool nearest = strcmp(mrt_node_str(node, "mode"), "nearest") == 0, up = true, down = true;
  int64_t n = nearest && scales ? mrt_tensor_count(scales) : 0;
  for (int64_t i = 0; i < n; ++i) {
    double v = mrt_elem_get_f64((mrt_dtype)scales->dtype, scales->data, i);
    up = up && v >= 1;
    down = down && v <= 1;
  }
  if (nearest && (!n || (!up && !down)))
    return MRT_ERR(MRT_NOT_IMPLEMENTED,
                   "Resize-10 with scales that are not known, or of both kinds");
  return mrt_node_set_str(node, "nearest_mode", up ? "floor" : "ceil");
}
static mrt_status *scales_input(mrt_node *node, int n, const float *v) {
  mrt_tensor *t;
  mrt_var *var;
  int64_t dim = n;
  MRT_TRY(mrt_tensor_create(node->graph->model->alloc, MRT_FLOAT, 1, &dim, &t));
  for (int i = 0; i < n; ++i) ((float *)t->data)[i] = v[i];
  MRT_TRY(mrt_graph_add_constant(node->graph, NULL, t, &var));
  return mrt_node_set_input(node, 1, var);
}
static mrt_status *upsample_up1(mrt_node *node) { /* to the form of 9 */
  mrt_attr h = {0}, w = {0};
  if (!mrt_node_take_attr(node, "height_scale", &h) || !mrt_node_take_attr(node, "width_scale", &w))
    return MRT_ERR(MRT_INVALID_GRAPH,
                   "Required attribute 'height_scale' or 'width_scale' is "
                   "missing.");
  return scales_input(node, 4, (const float[]){1, 1, h.f, w.f});
}
static mrt_status *upsample_up7(mrt_node *node) {
  mrt_attr a;
  if (node->n_in > 1) return NULL; /* comes from 1 */
  if (!mrt_node_take_attr(node, "scales", &a) || a.kind != MRT_ATTR_FLOATS || a.n > MRT_MAX_RANK)
    return MRT_ERR(MRT_INVALID_GRAPH, "Required attribute 'scales' is missing.");
  return scales_input(node, (int)a.n, a.floats);
}
static mrt_status *upsample_up9(mrt_node *node) {
  MRT_TRY(from_scales(node));
  node->version = 19;
  return mrt_node_set_op(node, "", "Resize");
}
static const mrt_op_version upsample_v[] = {
    {1, upsample_up1}, {7, upsample_up7}, {9, upsample_up9}, {0}};
static const mrt_op_version resize_v[] = {{10, from_scales}, {11}, {13}, {18}, {19}, {0}};
#define MOVABLE MRT_T_NUMERIC ",bool,string,complex64,complex128"
MRT_OP(Upsample) = {.domain = "",
                    .name = "Upsample",
                    .doc = "older name of Resize",
                    .in = "X:T, scales:float",
                    .out = "Y:T",
                    .types = "T=" MOVABLE,
                    .attrs = "mode:string=nearest",
                    .versions = upsample_v,
                    .removed_in = 10};
MRT_OP(Resize) = {
    .domain = "",
    .name = "Resize",
    .doc = "interpolation to another size",
    .in = "X:T1, roi:T2?, scales:float?, sizes:int64?",
    .out = "Y:T1",
    .types = "T1=" MOVABLE ";T2=float16,float,double",
    .attrs =
        "antialias:int=0 axes:ints coordinate_transformation_mode:string=half_pixel "
        "cubic_coeff_a:float=-0.75 exclude_outside:int=0 extrapolation_value:float=0.0 "
        "keep_aspect_ratio_policy:string=stretch mode:string=nearest "
        "nearest_mode:string=round_prefer_floor",
    .decompose = simple_to_onnx,
    .versions = resize_v,
    .infer = resize_infer,
    .run = resize_run};
