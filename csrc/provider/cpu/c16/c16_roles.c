/* Roles of nodes in the blocked layout, from types and constants alone. */
#include <string.h>

#include "provider/cpu/c16/c16.h"

bool mrt_c16_type_ok(const mrt_type *t) {
  int64_t c;
  return t && t->kind == MRT_KIND_TENSOR && t->dtype == MRT_FLOAT &&
         (t->rank == 3 || t->rank == 4) && t->dims[1] && mrt_expr_is_const(t->dims[1], &c) &&
         c > 0 && c <= INT32_MAX;
}

static int64_t channels_of(const mrt_type *t) {
  int64_t c = 0;
  (void)mrt_expr_is_const(t->dims[1], &c);
  return c;
}
static bool is_const_dim(const mrt_expr *e, int64_t want) {
  int64_t v;
  return e && mrt_expr_is_const(e, &v) && v == want;
}
static bool same_dims(const mrt_type *a, const mrt_type *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i]) return false;
  return true;
}

/* [C, 1, 1], [1, C, 1, 1] or one element, against an output of that rank. */
static mrt_c16_operand const_operand(const mrt_tensor *t, int rank, int64_t channels) {
  if (t->dtype != MRT_FLOAT || t->strided || t->rank > rank) return MRT_C16_OTHER;
  if (mrt_tensor_count(t) == 1) return MRT_C16_SCALAR;
  const int at = 1 - (rank - t->rank);
  if (at < 0 || t->dims[at] != channels || mrt_tensor_count(t) != channels) return MRT_C16_OTHER;
  return MRT_C16_CHANNEL;
}

mrt_c16_operand mrt_c16_operand_of(const mrt_node *node, int i) {
  const mrt_type *y = node->out[0]->type;
  const mrt_var *v = node->in[i].var;
  if (!v) return MRT_C16_OTHER;
  if (v->constant) return const_operand(v->constant, y->rank, channels_of(y));
  if (!mrt_c16_type_ok(v->type)) return MRT_C16_OTHER;
  if (same_dims(v->type, y)) return MRT_C16_SAME;
  if (v->type->rank != y->rank || v->type->dims[0] != y->dims[0] || v->type->dims[1] != y->dims[1])
    return MRT_C16_OTHER;
  for (int k = 2; k < y->rank; ++k)
    if (!is_const_dim(v->type->dims[k], 1)) return MRT_C16_OTHER;
  return MRT_C16_PIXEL;
}

mrt_ew_op mrt_c16_binary(const mrt_node *node) {
  static const struct {
    const char *op;
    mrt_ew_op ew;
  } rows[] = {{"Add", MRT_EW_ADD}, {"Sub", MRT_EW_SUB}, {"Mul", MRT_EW_MUL},
              {"Div", MRT_EW_DIV}, {"Min", MRT_EW_MIN}, {"Max", MRT_EW_MAX}};
  if (*node->domain || node->n_in != 2 || node->n_out != 1) return MRT_EW_COPY;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i)
    if (strcmp(rows[i].op, node->op_type) == 0) return rows[i].ew;
  return MRT_EW_COPY;
}

void mrt_c16_spread(const mrt_tensor *t, int64_t channels, float *dst) {
  const int64_t n = mrt_tensor_count(t), padded = mrt_c16_blocks(channels) * 16;
  const float *src = t->data;
  for (int64_t i = 0; i < padded; ++i) dst[i] = n == 1 ? *src : i < channels ? src[i] : 0.0f;
}

static mrt_c16_role binary_role(const mrt_node *node, uint64_t *data) {
  int same = 0;
  for (int i = 0; i < 2; ++i) {
    const mrt_c16_operand k = mrt_c16_operand_of(node, i);
    if (k == MRT_C16_OTHER) return MRT_C16_NEVER;
    if (k == MRT_C16_SAME || k == MRT_C16_PIXEL) *data |= (uint64_t)1 << i;
    same += k == MRT_C16_SAME;
  }
  return same ? MRT_C16_FLOW : MRT_C16_NEVER;
}

/* Along channels, where every input but the last fills its blocks. */
static mrt_c16_role concat_role(const mrt_node *node, uint64_t *data) {
  const int64_t axis = mrt_node_int(node, "axis");
  const int rank = node->out[0]->type->rank;
  if ((axis != 1 && axis != 1 - rank) || node->n_in > 64) return MRT_C16_NEVER;
  for (int i = 0; i < node->n_in; ++i) {
    const mrt_var *v = node->in[i].var;
    if (!v || v->constant || !mrt_c16_type_ok(v->type)) return MRT_C16_NEVER;
    if (i + 1 < node->n_in && channels_of(v->type) % 16) return MRT_C16_NEVER;
    *data |= (uint64_t)1 << i;
  }
  return MRT_C16_FLOW;
}

static mrt_c16_role batch_norm_role(const mrt_node *node) {
  if (mrt_node_int(node, "training_mode") || node->n_in != 5) return MRT_C16_NEVER;
  for (int i = 1; i < 5; ++i) {
    const mrt_tensor *t = mrt_node_in_const(node, i);
    if (!t || t->dtype != MRT_FLOAT || mrt_tensor_count(t) != channels_of(node->out[0]->type))
      return MRT_C16_NEVER;
  }
  return MRT_C16_FLOW;
}

static bool is_pool(const mrt_node *node) {
  static const char *const ops[] = {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; ++i)
    if (strcmp(ops[i], node->op_type) == 0) return !*node->domain;
  return false;
}

/* [N, C, H, W] to or from [N, H, W, C]. */
static mrt_c16_role transpose_role(const mrt_node *node, uint64_t *data) {
  static const int64_t reads[] = {0, 2, 3, 1}, makes[] = {0, 3, 1, 2};
  int n;
  const int64_t *perm = mrt_node_ints(node, "perm", &n);
  const mrt_var *x = node->in[0].var;
  if (!perm || n != 4 || x->constant) return MRT_C16_NEVER;
  const mrt_type *in = x->type, *out = node->out[0]->type;
  if (memcmp(perm, reads, sizeof reads) == 0 && mrt_c16_type_ok(in) && in->rank == 4)
    return MRT_C16_READS;
  *data = 0;
  if (memcmp(perm, makes, sizeof makes) == 0 && mrt_c16_type_ok(out) && out->rank == 4)
    return MRT_C16_MAKES;
  return MRT_C16_NEVER;
}

/* A mean over the image, and over nothing else. */
static mrt_c16_role mean_role(const mrt_node *node) {
  const mrt_type *x = node->in[0].var->type;
  const mrt_tensor *axes = mrt_node_in_const(node, 1);
  if (!mrt_c16_type_ok(x) || node->in[0].var->constant || !axes || axes->dtype != MRT_INT64 ||
      axes->strided || mrt_tensor_count(axes) != x->rank - 2)
    return MRT_C16_NEVER;
  int found = 0;
  for (int i = 0; i < x->rank - 2; ++i) {
    const int64_t axis = mrt_elem_get_i64(MRT_INT64, axes->data, i);
    found |= axis >= -x->rank && axis < x->rank ? 1 << (axis + x->rank) % x->rank : 1;
  }
  return found == (x->rank == 4 ? 4 + 8 : 4) ? MRT_C16_READS : MRT_C16_NEVER;
}

mrt_c16_role mrt_c16_node(const mrt_node *node, uint64_t *data) {
  mrt_conv conv;
  mrt_act act;
  int64_t loop;
  const mrt_var *x = node->n_in ? node->in[0].var : NULL;
  *data = 1;
  if (!x || !node->n_out || !node->out[0] || !node->def) return MRT_C16_NEVER;
  if (!*node->domain && strcmp(node->op_type, "Transpose") == 0) return transpose_role(node, data);
  if (!*node->domain && strcmp(node->op_type, "ReduceMean") == 0) return mean_role(node);
  if (!mrt_c16_type_ok(node->out[0]->type)) return MRT_C16_NEVER;
  if (strcmp(node->op_type, "Conv") == 0) {
    if (node->n_in > 3 && node->in[3].var) *data |= 8;
    return mrt_c16_type_ok(x->type) && mrt_conv_node_read(node, &conv, &loop) && loop == 1 &&
                   mrt_conv_node_act(node, &act)
               ? MRT_C16_ENDS
               : MRT_C16_NEVER;
  }
  if (strcmp(node->op_type, "ConvTranspose") == 0)
    return mrt_c16_type_ok(x->type) && mrt_convt_node_ok(node) ? MRT_C16_ENDS : MRT_C16_NEVER;
  if (is_pool(node)) return mrt_pool_node_ok(node) ? MRT_C16_ENDS : MRT_C16_NEVER;
  if (mrt_c16_binary(node) != MRT_EW_COPY) {
    *data = 0;
    return binary_role(node, data);
  }
  if (*node->domain || !mrt_c16_type_ok(x->type) || x->constant) return MRT_C16_NEVER;
  if (strcmp(node->op_type, "Concat") == 0) {
    *data = 0;
    return concat_role(node, data);
  }
  if (strcmp(node->op_type, "Resize") == 0)
    return mrt_resize_node_ok(node) ? MRT_C16_FLOW : MRT_C16_NEVER;
  if (strcmp(node->op_type, "BatchNormalization") == 0) return batch_norm_role(node);
  return mrt_unary_node_act(node, &act) ? MRT_C16_FLOW : MRT_C16_NEVER;
}
