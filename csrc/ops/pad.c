/* Pad: borders of a constant, or of the tensor continued (edge, reflect, wrap); negative pads cut.
 * Row by row of the output: what lies inside is one block, only the borders are looked up. */
#include "ops/common.h"

static mrt_status *pad_up(mrt_node *node) {
  mrt_attr value;
  mrt_var *v;
  MRT_TRY(mrt_node_attr_to_input(node, "paddings", 1));
  MRT_TRY(mrt_node_attr_to_input(node, "pads", 1));
  if (!mrt_node_take_attr(node, "value", &value)) return NULL;
  if (value.f == 0) return NULL;
  MRT_TRY(mrt_graph_const_f32(node->graph, value.f, &v));
  return mrt_node_set_input(node, 2, v);
}
static mrt_status *pad_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), n, na;
  const mrt_expr *dims[MRT_MAX_RANK];
  int64_t axes[MRT_MAX_RANK];
  const mrt_expr *const *p = mrt_infer_ints(c, 1, &n);
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  for (int i = 0; i < rank; ++i) dims[i] = p ? mrt_infer_dim(c, 0, i) : NULL, axes[i] = i;
  na = rank;
  if (mrt_infer_has(c, 3) && !mrt_infer_const_ints(c, 3, MRT_MAX_RANK, axes, &na)) p = NULL;
  if (p && n != 2 * na)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "pads has %d entries for %d axes", n, na);
  for (int i = 0; i < na && p; ++i) {
    int a;
    MRT_TRY(mrt_infer_axis(c, axes[i], rank, &a));
    dims[a] = mrt_expr_add(c->sym, dims[a], mrt_expr_add(c->sym, p[i], p[i + na]));
  }
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static int64_t pad_source(char mode, int64_t i, int64_t n) { /* -1: the constant */
  if (i >= 0 && i < n) return i;
  if (mode == 'c' || n == 0) return -1;
  if (mode == 'e') return i < 0 ? 0 : n - 1;
  if (mode == 'w') return (i % n + n) % n;
  if (n == 1) return 0;
  int64_t period = 2 * (n - 1), k = (i % period + period) % period; /* reflect */
  return k < n ? k : period - k;
}

typedef struct padding {
  const mrt_tensor *x;
  mrt_tensor *y;
  int64_t begin[MRT_MAX_RANK];
  const char *fill;
  size_t size;
  char mode;
} padding;

static void border(const padding *p, char *y, const char *x, int64_t from, int64_t to) {
  int last = p->y->rank - 1;
  for (int64_t i = from; i < to; ++i) {
    int64_t s = x ? pad_source(p->mode, i - p->begin[last], p->x->dims[last]) : -1;
    memcpy(y + (size_t)i * p->size, s < 0 ? p->fill : x + (size_t)s * p->size, p->size);
  }
}
/* Output rows [begin, end). */
static void rows(void *arg, int64_t begin, int64_t end) {
  const padding *p = arg;
  int last = p->y->rank - 1;
  int64_t n = p->y->dims[last], dim = p->x->dims[last], b = p->begin[last], index[MRT_MAX_RANK];
  int64_t lo = b < 0 ? 0 : b < n ? b : n, hi = b + dim < lo ? lo : b + dim < n ? b + dim : n;
  mrt_unravel(begin, last, p->y->dims, index);
  for (int64_t r = begin; r < end; ++r) {
    int64_t at = 0;
    for (int d = 0; d < last && at >= 0; ++d) {
      int64_t s = pad_source(p->mode, index[d] - p->begin[d], p->x->dims[d]);
      at = s < 0 ? -1 : at * p->x->dims[d] + s;
    }
    char *y = (char *)p->y->data + (size_t)(r * n) * p->size;
    const char *x = at < 0 ? NULL : (const char *)p->x->data + (size_t)(at * dim) * p->size;
    border(p, y, x, 0, x ? lo : n);
    if (x) {
      memcpy(y + (size_t)lo * p->size, x + (lo - b) * (int64_t)p->size,
             (size_t)(hi - lo) * p->size);
      border(p, y, x, hi, n);
    }
    mrt_next_index(last, p->y->dims, index);
  }
}

static mrt_status *pad_bytes(mrt_kctx *c) {
  static const char zeros[16] = {0};
  const mrt_tensor *value = mrt_in(c, 2);
  padding p = {.x = mrt_in(c, 0), .y = mrt_out(c, 0), .mode = *mrt_node_str(c->node, "mode")};
  int64_t pads[2 * MRT_MAX_RANK], axes[MRT_MAX_RANK];
  int n, na = p.x->rank;
  if (!p.y) return NULL;
  MRT_TRY(mrt_elem_size(c, p.x, &p.size));
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), 2 * MRT_MAX_RANK, pads, &n, "pads"));
  for (int i = 0; i < na; ++i) axes[i] = i;
  if (mrt_in(c, 3)) MRT_TRY(mrt_read_ints(mrt_in(c, 3), MRT_MAX_RANK, axes, &na, "axes"));
  if (n != 2 * na) return MRT_ERR(MRT_INVALID_ARGUMENT, "pads has %d entries for %d axes", n, na);
  for (int i = 0; i < na; ++i) {
    int a;
    MRT_TRY(mrt_fix_axis(axes[i], p.x->rank, &a));
    p.begin[a] = pads[i];
  }
  p.fill = value && mrt_tensor_count(value) == 1 ? value->data : zeros;
  if (!p.x->rank) {
    memcpy(p.y->data, p.x->data, p.size);
  } else if (p.y->bytes) {
    int64_t row = p.y->dims[p.y->rank - 1];
    mrt_par_range(&c->par, mrt_tensor_count(p.y) / row, (double)row * 0.3 + 10, rows, &p);
  }
  mrt_tensor_retain_strings(p.y);
  return NULL;
}
static mrt_status *pad_run(mrt_kctx *c) {
  return mrt_is_packed(mrt_in(c, 0)) ? mrt_run_unpacked(c, pad_bytes) : pad_bytes(c);
}

static const mrt_op_version versions[] = {{1, pad_up}, {2, pad_up}, {11}, {13}, {18}, {19},
                                          {21},        {23},        {24}, {25}, {0}};
MRT_OP(Pad) = {.domain = "",
               .name = "Pad",
               .doc = "adds (or cuts) borders",
               .in = "data:T, pads:int64, constant_value:T?, axes:I?",
               .out = "output:T",
               .types = "T=" MRT_T_ANY ";I=int32,int64",
               .attrs = "mode:string=constant",
               .versions = versions,
               .infer = pad_infer,
               .run = pad_run};
