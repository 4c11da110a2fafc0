/* DeformConv: a 2-D convolution whose taps are moved by given offsets and scaled by a mask. */
#include "ops/window.h"
#include "ops/work.h"

typedef struct deform {
  const mrt_tensor *x, *w, *offset, *b, *mask;
  mrt_tensor *y;
  mrt_window win;
  int64_t group, offset_groups, taps, units, chunks;
  void *col;
} deform;
#define MRT_TEMPLATE "ops/deform_conv.inl"
#include "tensor/each_float.h"

static mrt_status *deform_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  int64_t kernel[MRT_MAX_SPATIAL];
  const mrt_expr *dims[MRT_MAX_RANK];
  mrt_window w;
  if (rank < 0 || mrt_infer_rank(c, 1) < 0)
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank != 4 || mrt_infer_rank(c, 1) != 4)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "DeformConv of rank %d", rank);
  for (int i = 0; i < 2; ++i)
    if (!mrt_expr_is_const(mrt_infer_dim(c, 1, i + 2), &kernel[i]))
      return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_window_read(c->node, 2, kernel, &w));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_infer_dim(c, 1, 0);
  for (int i = 0; i < 2; ++i) dims[i + 2] = mrt_window_out(c, &w, i, mrt_infer_dim(c, 0, i + 2));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 4, dims);
}
static bool has_shape(const mrt_tensor *t, int64_t n, int64_t channels, const int64_t *size) {
  return t->rank == 4 && t->dims[0] == n && t->dims[1] == channels && t->dims[2] == size[2] &&
         t->dims[3] == size[3];
}
static mrt_status *check(const deform *j) {
  const int64_t *xd = j->x->dims, *wd = j->w->dims, *yd = j->y->dims;
  if (j->group < 1 || j->offset_groups < 1 || wd[1] * j->group != xd[1] || wd[0] % j->group ||
      xd[1] % j->offset_groups || yd[1] != wd[0])
    return MRT_ERR(MRT_INVALID_ARGUMENT, "DeformConv: channels do not fit the groups");
  if (!has_shape(j->offset, xd[0], j->offset_groups * j->taps * 2, yd) ||
      (j->mask && !has_shape(j->mask, xd[0], j->offset_groups * j->taps, yd)))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "DeformConv: offset or mask has another shape");
  if (j->win.kernel[0] != wd[2] || j->win.kernel[1] != wd[3] ||
      (j->b && mrt_tensor_count(j->b) != wd[0]))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "DeformConv: kernel_shape or bias do not fit W");
  return NULL;
}
static mrt_status *deform_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0), view[6];
  deform j = {.group = mrt_node_int(c->node, "group"),
              .offset_groups = mrt_node_int(c->node, "offset_group")};
  const mrt_tensor **in[5] = {&j.x, &j.w, &j.offset, &j.b, &j.mask};
  if (!y) return NULL;
  mrt_dtype work = mrt_work_type((mrt_dtype)y->dtype);
  for (int i = 0; i < 5; ++i) MRT_TRY(mrt_work_in(c, mrt_in(c, i), work, &view[i], in[i]));
  MRT_TRY(mrt_work_out(c, y, work, &view[5], &j.y));
  if (j.x->rank != 4 || j.w->rank != 4)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "DeformConv of rank %d", j.x->rank);
  MRT_TRY(mrt_window_read(c->node, 2, j.w->dims + 2, &j.win));
  j.taps = j.w->dims[2] * j.w->dims[3];
  MRT_TRY(check(&j));
  if (mrt_tensor_count(y) == 0) return NULL;
  int64_t col = j.x->dims[1] * j.taps;
  j.units = y->dims[0] * y->dims[2];
  j.chunks = mrt_par_chunks(j.units, (double)mrt_tensor_count(y) * (double)col);
  MRT_TRY(mrt_scratch_array(c, j.chunks * col, 8, &j.col));
  mrt_par_run(&c->par, j.chunks, work == MRT_FLOAT ? rows_f32 : rows_f64, &j);
  mrt_work_done(j.y, y);
  return NULL;
}
static const mrt_op_version deform_v[] = {{19}, {22}, {0}};
MRT_OP(DeformConv) = {.domain = "",
                      .name = "DeformConv",
                      .doc = "convolution with moved taps",
                      .in = "X:T, W:T, offset:T, B:T?, mask:T?",
                      .out = "Y:T",
                      .types = "T=" MRT_T_FLOATS,
                      .attrs =
                          "dilations:ints group:int=1 kernel_shape:ints offset_group:int=1 "
                          "pads:ints strides:ints",
                      .versions = deform_v,
                      .infer = deform_infer,
                      .run = deform_run};
