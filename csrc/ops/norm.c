/* InstanceNormalization, GroupNormalization, RMSNormalization, LpNormalization, LRN: statistics of
 * contiguous runs or along one axis. Half types are computed in float. */
#include "ops/work.h"

typedef struct norm_job {
  const mrt_tensor *x, *scale, *bias;
  mrt_tensor *y;
  const mrt_bcast *bcast;
  int64_t channels, per, inner; /* per: channels of a group, or length of the axis */
  bool per_group;               /* scale and bias have one element per group */
  int64_t p;
  double eps, alpha, beta, k;
} norm_job;
#define MRT_TEMPLATE "ops/norm.inl"
#include "tensor/each_float.h"

typedef void (*loop)(void *arg, int64_t begin, int64_t end);

/* Input 0 and output 0 in the working type; the other inputs are converted by the caller. */
static mrt_status *open(mrt_kctx *c, norm_job *j, mrt_tensor view[2], mrt_dtype *work) {
  const mrt_tensor *x = mrt_in(c, 0);
  *work = mrt_work_type((mrt_dtype)x->dtype);
  MRT_TRY(mrt_work_in(c, x, *work, &view[0], &j->x));
  return mrt_work_out(c, mrt_out(c, 0), *work, &view[1], &j->y);
}
static void finish(mrt_kctx *c, norm_job *j, mrt_dtype work, int64_t units, double ns, loop f32,
                   loop f64) {
  if (units > 0 && mrt_tensor_count(j->y) > 0)
    mrt_par_range(&c->par, units, ns, work == MRT_FLOAT ? f32 : f64, j);
  mrt_work_done(j->y, mrt_out(c, 0));
}

static mrt_status *channels_run(mrt_kctx *c, int64_t groups, bool per_group) {
  norm_job j = {.eps = mrt_node_float(c->node, "epsilon"), .per_group = per_group};
  mrt_tensor view[2], fs, fb;
  mrt_dtype work;
  if (!mrt_out(c, 0)) return NULL;
  MRT_TRY(open(c, &j, view, &work));
  if (j.x->rank < 2) return MRT_ERR(MRT_INVALID_ARGUMENT, "input of rank %d", j.x->rank);
  MRT_TRY(mrt_work_in(c, mrt_in(c, 1), work, &fs, &j.scale));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 2), work, &fb, &j.bias));
  j.channels = j.x->dims[1];
  j.inner = mrt_dims_product(j.x->dims, 2, j.x->rank);
  if (groups == 0) groups = j.channels;
  if (mrt_tensor_count(j.y) == 0) return NULL;
  if (groups < 1 || j.channels % groups)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%lld channels do not fall into %lld groups",
                   (long long)j.channels, (long long)groups);
  j.per = j.channels / groups;
  int64_t want = per_group ? groups : j.channels;
  if (mrt_tensor_count(j.scale) != want || mrt_tensor_count(j.bias) != want)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "scale and bias need %lld elements", (long long)want);
  finish(c, &j, work, j.x->dims[0] * groups, (double)(j.per * j.inner) * 2, groups_f32, groups_f64);
  return NULL;
}
static mrt_status *instance_run(mrt_kctx *c) { return channels_run(c, 0, false); }
static mrt_status *group_run(mrt_kctx *c) {
  int64_t groups = mrt_node_int(c->node, "num_groups");
  if (groups < 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "num_groups is %lld", (long long)groups);
  return channels_run(c, groups, mrt_node_int(c->node, "_per_group") != 0);
}

/* ---- RMSNormalization ---- */
static mrt_status *rms_infer(mrt_infer *c) {
  mrt_dtype t = mrt_infer_has(c, 1) ? mrt_infer_dtype(c, 1) : mrt_infer_dtype(c, 0);
  int axis;
  if (mrt_infer_rank(c, 0) >= 0)
    MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), mrt_infer_rank(c, 0), &axis));
  return t ? mrt_infer_out_like(c, 0, 0, t) : NULL;
}
static mrt_status *rms_run(mrt_kctx *c) {
  norm_job j = {.eps = mrt_node_float(c->node, "epsilon")};
  mrt_tensor view[2], fs;
  mrt_dtype work;
  mrt_bcast b;
  int axis;
  if (!mrt_out(c, 0)) return NULL;
  MRT_TRY(open(c, &j, view, &work));
  MRT_TRY(mrt_work_in(c, mrt_in(c, 1), work, &fs, &j.scale));
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), j.x->rank, &axis));
  MRT_TRY(mrt_bcast_init(&b, 1, &j.scale, j.x->rank, j.x->dims));
  j.inner = mrt_dims_product(j.x->dims, axis, j.x->rank);
  j.bcast = &b;
  if (mrt_tensor_count(j.y) == 0) return NULL;
  bool f32 = work == MRT_FLOAT;
  mrt_par_range(&c->par, mrt_dims_product(j.x->dims, 0, axis), (double)j.inner * 2,
                f32 ? rms_f32 : rms_f64, &j);
  mrt_bcast_each_row(&b, f32 ? scale_row_f32 : scale_row_f64, &j);
  mrt_work_done(j.y, mrt_out(c, 0));
  return NULL;
}

/* ---- LpNormalization, LRN ---- */
static mrt_status *lp_run(mrt_kctx *c) {
  norm_job j = {.p = mrt_node_int(c->node, "p")};
  mrt_tensor view[2];
  mrt_dtype work;
  int axis;
  if (!mrt_out(c, 0)) return NULL;
  MRT_TRY(open(c, &j, view, &work));
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), j.x->rank, &axis));
  if (j.p != 1 && j.p != 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LpNormalization: p = %lld, must be 1 or 2",
                   (long long)j.p);
  if (j.x->rank == 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "LpNormalization of a scalar");
  j.per = j.x->dims[axis];
  j.inner = mrt_dims_product(j.x->dims, axis + 1, j.x->rank);
  finish(c, &j, work, mrt_dims_product(j.x->dims, 0, axis) * j.inner, (double)j.per * 3, lp_f32,
         lp_f64);
  return NULL;
}
static mrt_status *lrn_run(mrt_kctx *c) {
  norm_job j = {.alpha = mrt_node_float(c->node, "alpha"),
                .beta = mrt_node_float(c->node, "beta"),
                .k = mrt_node_float(c->node, "bias"),
                .per = mrt_node_int(c->node, "size")};
  mrt_tensor view[2];
  mrt_dtype work;
  if (!mrt_out(c, 0)) return NULL;
  MRT_TRY(open(c, &j, view, &work));
  if (j.x->rank < 2 || j.per < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LRN: rank %d, size %lld", j.x->rank, (long long)j.per);
  j.channels = j.x->dims[1];
  j.inner = mrt_dims_product(j.x->dims, 2, j.x->rank);
  finish(c, &j, work, j.x->dims[0] * j.channels, (double)(j.per * j.inner) * 2, lrn_f32, lrn_f64);
  return NULL;
}

static mrt_status *drop_legacy(mrt_node *node) {
  mrt_node_del_attr(node, "consumed_inputs");
  return NULL;
}
/* Before 21 scale and bias had one element per group. */
static mrt_status *group_up(mrt_node *node) { return mrt_node_set_int(node, "_per_group", 1); }
static const mrt_op_version instance_v[] = {{1, drop_legacy}, {6}, {22}, {0}};
static const mrt_op_version group_v[] = {{18, group_up}, {21}, {0}};
static const mrt_op_version rms_v[] = {{23}, {0}};
static const mrt_op_version lp_v[] = {{1}, {22}, {0}};
static const mrt_op_version lrn_v[] = {{1}, {13}, {0}};
#define FLOATS .types = "T=" MRT_T_FLOATS ";V=" MRT_T_FLOATS
#define ROW    .domain = "", .out = "output:T", FLOATS, .infer = mrt_infer_same_shape
MRT_OP(InstanceNormalization) = {ROW,
                                 .name = "InstanceNormalization",
                                 .doc = "(x - mean) / sqrt(var + epsilon) of each channel",
                                 .in = "input:T, scale:T, B:T",
                                 .attrs = "epsilon:float=1e-05",
                                 .versions = instance_v,
                                 .run = instance_run};
MRT_OP(GroupNormalization) = {ROW,
                              .name = "GroupNormalization",
                              .doc = "(x - mean) / sqrt(var + epsilon) of groups of channels",
                              .in = "X:T, scale:T, bias:T",
                              .attrs = "epsilon:float=1e-05 num_groups:int! stash_type:int=1",
                              .versions = group_v,
                              .run = group_run};
MRT_OP(RMSNormalization) = {.domain = "",
                            .name = "RMSNormalization",
                            .doc = "x / sqrt(mean(x^2) + epsilon) * scale",
                            .in = "X:T, scale:V",
                            .out = "Y:V",
                            FLOATS,
                            .attrs = "axis:int=-1 epsilon:float=1e-05 stash_type:int=1",
                            .versions = rms_v,
                            .infer = rms_infer,
                            .run = rms_run};
MRT_OP(LpNormalization) = {ROW,
                           .name = "LpNormalization",
                           .doc = "x / p-norm along an axis",
                           .in = "input:T",
                           .attrs = "axis:int=-1 p:int=2",
                           .versions = lp_v,
                           .run = lp_run};
MRT_OP(LRN) = {ROW,
               .name = "LRN",
               .doc = "local response normalization across channels",
               .in = "X:T",
               .attrs = "alpha:float=0.0001 beta:float=0.75 bias:float=1.0 size:int!",
               .versions = lrn_v,
               .run = lrn_run};
