/* ReverseSequence, SpaceToDepth, DepthToSpace, CenterCropPad: whole runs of elements moved. */
#include "ops/common.h"

/* ---- ReverseSequence ---- */
static mrt_status *reverse_axes(const mrt_node *n, int rank, int *batch, int *time) {
  int64_t b = mrt_node_int(n, "batch_axis"), t = mrt_node_int(n, "time_axis");
  if (b < 0 || b > 1 || t < 0 || t > 1 || b == t)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid batch_axis of %lld or time_axis of %lld",
                   (long long)b, (long long)t);
  if (rank < 2) return MRT_ERR(MRT_INVALID_ARGUMENT, "'input' must have rank >= 2");
  *batch = (int)b;
  *time = (int)t;
  return NULL;
}
static mrt_status *reverse_infer(mrt_infer *c) {
  int b, t;
  if (mrt_infer_rank(c, 0) >= 0) MRT_TRY(reverse_axes(c->node, mrt_infer_rank(c, 0), &b, &t));
  return mrt_infer_same_shape(c);
}
static mrt_status *reverse_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *lens = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  int b, t;
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &size));
  MRT_TRY(reverse_axes(c->node, x->rank, &b, &t));
  if (mrt_tensor_count(lens) != x->dims[b])
    return MRT_ERR(MRT_INVALID_ARGUMENT, "sequence_lens shape must be {batch_size}");
  int64_t inner = mrt_dims_product(x->dims, 2, x->rank), n = x->dims[t];
  for (int64_t i = 0; i < x->dims[b]; ++i)
    if (mrt_index_at(lens, i) < 0 || mrt_index_at(lens, i) > n)
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "Invalid sequence length: %lld. Value must be in range [0,%lld]",
                     (long long)mrt_index_at(lens, i), (long long)n);
  size_t row = (size_t)inner * size;
  for (int64_t i = 0; i < x->dims[b] && row; ++i)
    for (int64_t s = 0; s < n; ++s) {
      int64_t len = mrt_index_at(lens, i), from = s < len ? len - 1 - s : s;
      int64_t to_row = b == 0 ? i * n + s : s * x->dims[b] + i,
              from_row = b == 0 ? i * n + from : from * x->dims[b] + i;
      memcpy((char *)y->data + (size_t)to_row * row, (const char *)x->data + (size_t)from_row * row,
             row);
    }
  mrt_tensor_retain_strings(y);
  return NULL;
}

/* ---- SpaceToDepth, DepthToSpace: a reshape, a transpose, a reshape ---- */
static mrt_status *check_block(const mrt_infer *c, const mrt_expr **size) {
  int64_t b = mrt_node_int(c->node, "blocksize"), h, w, ch;
  bool to_depth = strcmp(c->node->op_type, "SpaceToDepth") == 0;
  if (mrt_infer_rank(c, 0) != 4)
    return MRT_ERR(MRT_FAIL, "%s ops require a 4-D input. Provided rank: %d", c->node->op_type,
                   mrt_infer_rank(c, 0));
  if (b < 1 || b > 1 << 20) return MRT_ERR(MRT_FAIL, "Blocksize must be positive");
  *size = mrt_expr_const(c->sym, b);
  if (to_depth && ((mrt_expr_is_const(mrt_infer_dim(c, 0, 2), &h) && h % b) ||
                   (mrt_expr_is_const(mrt_infer_dim(c, 0, 3), &w) && w % b)))
    return MRT_ERR(MRT_FAIL,
                   "SpaceToDepth requires input height and width to be a multiple of block_size");
  if (!to_depth && mrt_expr_is_const(mrt_infer_dim(c, 0, 1), &ch) && ch % (b * b))
    return MRT_ERR(
        MRT_FAIL, "DepthToSpace requires input depth to be a multiple of (block_size * blok_size)");
  return NULL;
}
static mrt_status *space_infer(mrt_infer *c) {
  const mrt_expr *b = NULL, *d[4];
  if (mrt_infer_rank(c, 0) < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(check_block(c, &b));
  for (int i = 0; i < 4; ++i) d[i] = mrt_infer_dim(c, 0, i);
  if (strcmp(c->node->op_type, "SpaceToDepth") == 0) {
    d[1] = mrt_expr_mul(c->sym, d[1], mrt_expr_mul(c->sym, b, b));
    d[2] = mrt_expr_floordiv(c->sym, d[2], b);
    d[3] = mrt_expr_floordiv(c->sym, d[3], b);
  } else {
    d[1] = mrt_expr_floordiv(c->sym, d[1], mrt_expr_mul(c->sym, b, b));
    d[2] = mrt_expr_mul(c->sym, d[2], b);
    d[3] = mrt_expr_mul(c->sym, d[3], b);
  }
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 4, d);
}
/* y = x seen as dims6, permuted; both contiguous. */
static mrt_status *permute6(mrt_tensor *y, const mrt_tensor *x, const int64_t *dims,
                            const int *perm) {
  int64_t strides[6], step = 1;
  mrt_tensor from, to;
  mrt_tensor_look(&from, x);
  mrt_tensor_look(&to, y);
  for (int i = 5; i >= 0; --i) {
    strides[i] = step;
    step *= dims[i];
  }
  if (step != mrt_tensor_count(x) || x->bytes != y->bytes)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the dims are not multiples of the block size");
  for (int i = 0; i < 6; ++i) {
    from.dims[i] = to.dims[i] = dims[perm[i]];
    from.strides[i] = strides[perm[i]];
  }
  from.rank = to.rank = 6;
  from.strided = true;
  return mrt_tensor_copy_into(&to, &from);
}
static mrt_status *to_depth_run(mrt_kctx *c) {
  static const int perm[6] = {0, 3, 5, 1, 2, 4};
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t b = mrt_node_int(c->node, "blocksize");
  if (!y) return NULL;
  int64_t dims[6] = {x->dims[0], x->dims[1], x->dims[2] / b, b, x->dims[3] / b, b};
  return permute6(y, x, dims, perm);
}
static mrt_status *to_space_run(mrt_kctx *c) {
  static const int dcr[6] = {0, 3, 4, 1, 5, 2}, crd[6] = {0, 1, 4, 2, 5, 3};
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t b = mrt_node_int(c->node, "blocksize");
  const char *mode = mrt_node_str(c->node, "mode");
  if (!y) return NULL;
  bool is_crd = strcmp(mode, "CRD") == 0;
  if (!is_crd && strcmp(mode, "DCR") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "DepthToSpace op: only 'DCR' and 'CRD' modes are supported");
  int64_t ch = x->dims[1] / (b * b);
  int64_t d1[6] = {x->dims[0], b, b, ch, x->dims[2], x->dims[3]},
          d2[6] = {x->dims[0], ch, b, b, x->dims[2], x->dims[3]};
  return permute6(y, x, is_crd ? d2 : d1, is_crd ? crd : dcr);
}

/* ---- CenterCropPad ---- */
static mrt_status *crop_axes(const mrt_node *node, int rank, int *axes, int *n) {
  const int64_t *a = mrt_node_ints(node, "axes", n);
  if (!mrt_node_attr(node, "axes")) {
    *n = rank;
    for (int i = 0; i < rank; ++i) axes[i] = i;
    return NULL;
  }
  if (*n > rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "axes has %d entries for rank %d", *n, rank);
  for (int i = 0; i < *n; ++i) MRT_TRY(mrt_fix_axis(a[i], rank, &axes[i]));
  return NULL;
}
static mrt_status *crop_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axes[MRT_MAX_RANK], n, k;
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(crop_axes(c->node, rank, axes, &n));
  const mrt_expr *const *s = mrt_infer_ints(c, 1, &k);
  if (s && k != n) return MRT_ERR(MRT_INVALID_ARGUMENT, "shape has %d entries for %d axes", k, n);
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  for (int i = 0; i < n; ++i) dims[axes[i]] = s ? s[i] : NULL;
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static mrt_status *crop_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t from[MRT_MAX_RANK], to[MRT_MAX_RANK], len[MRT_MAX_RANK], index[MRT_MAX_RANK] = {0},
                                                                   rows = 1;
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &size));
  if (y->bytes) memset(y->data, 0, y->bytes);
  if (!x->rank) {
    memcpy(y->data, x->data, size);
    mrt_tensor_retain_strings(y);
    return NULL;
  }
  for (int d = 0; d < x->rank; ++d) { /* the odd element: cut or filled at the end */
    int64_t a = x->dims[d], b = y->dims[d];
    from[d] = a > b ? (a - b) / 2 : 0;
    to[d] = b > a ? (b - a) / 2 : 0;
    len[d] = a < b ? a : b;
    if (d < x->rank - 1) rows *= len[d];
  }
  int last = x->rank - 1;
  for (int64_t r = 0; r < rows && len[last]; ++r) {
    int64_t at_x = 0, at_y = 0;
    for (int d = 0; d <= last; ++d) {
      int64_t i = d < last ? index[d] : 0;
      at_x = at_x * x->dims[d] + from[d] + i;
      at_y = at_y * y->dims[d] + to[d] + i;
    }
    memcpy((char *)y->data + (size_t)at_y * size, (const char *)x->data + (size_t)at_x * size,
           (size_t)len[last] * size);
    mrt_next_index(last, len, index);
  }
  mrt_tensor_retain_strings(y);
  return NULL;
}

static mrt_status *to_space_up1(mrt_node *node) { return mrt_node_set_str(node, "mode", "DCR"); }

static const mrt_op_version reverse_v[] = {{10}, {0}};
static const mrt_op_version depth_v[] = {{1}, {13}, {0}};
static const mrt_op_version space_v[] = {{1, to_space_up1}, {11}, {13}, {0}};
static const mrt_op_version crop_v[] = {{18}, {0}};
#define ANY \
  .domain = "", .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128;I=int32,int64"
MRT_OP(ReverseSequence) = {ANY,
                           .name = "ReverseSequence",
                           .doc = "reverses the first elements along time, per batch entry",
                           .in = "input:T, sequence_lens:int64",
                           .out = "Y:T",
                           .attrs = "batch_axis:int=1 time_axis:int=0",
                           .versions = reverse_v,
                           .infer = reverse_infer,
                           .run = reverse_run};
MRT_OP(SpaceToDepth) = {ANY,
                        .name = "SpaceToDepth",
                        .doc = "blocks of space become channels",
                        .in = "input:T",
                        .out = "output:T",
                        .attrs = "blocksize:int!",
                        .versions = depth_v,
                        .infer = space_infer,
                        .run = to_depth_run};
MRT_OP(DepthToSpace) = {ANY,
                        .name = "DepthToSpace",
                        .doc = "channels become blocks of space",
                        .in = "input:T",
                        .out = "output:T",
                        .attrs = "blocksize:int! mode:string=DCR",
                        .versions = space_v,
                        .infer = space_infer,
                        .run = to_space_run};
MRT_OP(CenterCropPad) = {ANY,
                         .name = "CenterCropPad",
                         .doc = "cuts or fills around the middle to a shape",
                         .in = "input_data:T, shape:I",
                         .out = "output_data:T",
                         .attrs = "axes:ints",
                         .versions = crop_v,
                         .infer = crop_infer,
                         .run = crop_run};
