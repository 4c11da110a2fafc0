/* ScatterElements (and Scatter, its first name), ScatterND, TensorScatter: a copy of the data with
 * updates written or combined at indices. Updates are applied in their order, so duplicates have
 * one meaning. */
#include "ops/common.h"

enum { SCATTER_NONE, SCATTER_ADD, SCATTER_MUL, SCATTER_MIN, SCATTER_MAX };

#define MRT_TEMPLATE "ops/scatter.inl"
#include "tensor/each_number.h"

#define MRT_TEMPLATE "ops/scatter_move.inl"
#include "tensor/each_size.h"

typedef void (*row_fn)(void *y, const void *u, const mrt_tensor *idx, int64_t first, int64_t n,
                       int64_t dim, int64_t stride, bool along, int kind);
static const row_fn move_row[17] = {
    [1] = scatter_1, [2] = scatter_2, [4] = scatter_4, [8] = scatter_8, [16] = scatter_16};
static const row_fn combine_row[MRT_DTYPE_COUNT] = {
    [MRT_FLOAT] = scatter_f32,  [MRT_DOUBLE] = scatter_f64, [MRT_INT8] = scatter_i8,
    [MRT_INT16] = scatter_i16,  [MRT_INT32] = scatter_i32,  [MRT_INT64] = scatter_i64,
    [MRT_UINT8] = scatter_u8,   [MRT_UINT16] = scatter_u16, [MRT_UINT32] = scatter_u32,
    [MRT_UINT64] = scatter_u64, [MRT_BOOL] = scatter_u8};
typedef void (*combine_fn)(void *y, const void *u, int64_t n, int kind);
static const combine_fn table[MRT_DTYPE_COUNT] = {
    [MRT_FLOAT] = combine_f32,  [MRT_DOUBLE] = combine_f64, [MRT_INT8] = combine_i8,
    [MRT_INT16] = combine_i16,  [MRT_INT32] = combine_i32,  [MRT_INT64] = combine_i64,
    [MRT_UINT8] = combine_u8,   [MRT_UINT16] = combine_u16, [MRT_UINT32] = combine_u32,
    [MRT_UINT64] = combine_u64, [MRT_BOOL] = combine_u8};

typedef struct scatter {
  mrt_dtype dtype;
  size_t size;
  int kind;
} scatter;

/* Writes or combines a run of n elements. Strings: counted. */
static void put(const scatter *s, char *y, const char *u, int64_t n) {
  if (s->dtype == MRT_STRING) {
    mrt_string **to = (mrt_string **)(void *)y, *const *from = (mrt_string *const *)(const void *)u;
    for (int64_t i = 0; i < n; ++i) {
      mrt_string *old = to[i];
      to[i] = mrt_string_retain(from[i]);
      mrt_string_release(old);
    }
  } else if (s->kind == SCATTER_NONE) {
    memcpy(y, u, (size_t)n * s->size);
  } else if (s->dtype == MRT_FLOAT16 || s->dtype == MRT_BFLOAT16) {
    float a[64], b[64];
    for (int64_t i = 0; i < n; i += 64) {
      int64_t k = n - i < 64 ? n - i : 64;
      mrt_convert_to_f32(s->dtype, y, i, k, a);
      mrt_convert_to_f32(s->dtype, u, i, k, b);
      combine_f32(a, b, k, s->kind);
      mrt_convert_from_f32(s->dtype, y, i, k, a);
    }
  } else {
    table[s->dtype](y, u, n, s->kind);
  }
}

static mrt_status *setup(mrt_kctx *c, scatter *s) {
  static const char *const names[] = {"none", "add", "mul", "min", "max"};
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  const char *r = mrt_node_str(c->node, "reduction");
  *s = (scatter){.dtype = (mrt_dtype)x->dtype, .kind = -1};
  for (int i = 0; i < 5; ++i)
    if (strcmp(r, names[i]) == 0 || (!i && !*r)) s->kind = i;
  if (s->kind < 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "reduction '%s' is not known", r);
  MRT_TRY(mrt_elem_size(c, x, &s->size));
  bool half = s->dtype == MRT_FLOAT16 || s->dtype == MRT_BFLOAT16;
  if (s->kind && !half && !table[s->dtype]) return mrt_no_type(c->node->op_type, s->dtype);
  if (s->dtype == MRT_BOOL && s->kind) /* or, and */
    s->kind = s->kind == SCATTER_ADD || s->kind == SCATTER_MAX ? SCATTER_MAX : SCATTER_MIN;
  return y->data == x->data ? NULL : mrt_tensor_copy_into(y, x);
}

/* ---- ScatterElements ---- */
static mrt_status *elements_infer(mrt_infer *c) {
  int axis, rank = mrt_infer_rank(c, 0);
  if (rank >= 0) MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  return mrt_infer_same_shape(c);
}
static mrt_status *elements_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *idx = mrt_in(c, 1), *u = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t strides[MRT_MAX_RANK], index[MRT_MAX_RANK] = {0}, step = 1;
  scatter s;
  int axis;
  if (!y) return NULL;
  if (x->rank < 1 || idx->rank != x->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Indices and input must have the same rank");
  if (!mrt_shape_equal(idx->rank, idx->dims, u->rank, u->dims))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Indices vs updates dimensions differs");
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  for (int d = x->rank - 1; d >= 0; --d) {
    if (d != axis && idx->dims[d] > x->dims[d])
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "Indices dim=%lld at pos=%d is greater than input dim=%lld",
                     (long long)idx->dims[d], d, (long long)x->dims[d]);
    strides[d] = step;
    step *= x->dims[d];
  }
  MRT_TRY(mrt_check_indices(idx, x->dims[axis]));
  MRT_TRY(setup(c, &s));
  int last = x->rank - 1;
  int64_t total = mrt_tensor_count(idx), dim = x->dims[axis], n = idx->dims[last];
  row_fn fn = s.dtype == MRT_STRING ? NULL : s.kind ? combine_row[s.dtype] : move_row[s.size];
  for (int64_t r = 0; total && r < total / n; ++r) {
    int64_t base = 0;
    for (int d = 0; d < last; ++d) base += d == axis ? 0 : index[d] * strides[d];
    char *to = (char *)y->data + (size_t)base * s.size;
    const char *from = (const char *)u->data + (size_t)(r * n) * s.size;
    if (fn) fn(to, from, idx, r * n, n, dim, strides[axis], axis == last, s.kind);
    for (int64_t i = 0; i < n && !fn; ++i) {
      int64_t v = mrt_index_at(idx, r * n + i);
      int64_t at = (v < 0 ? v + dim : v) * strides[axis] + (axis == last ? 0 : i);
      put(&s, to + at * (int64_t)s.size, from + i * (int64_t)s.size, 1);
    }
    mrt_next_index(last, idx->dims, index);
  }
  return NULL;
}
static mrt_status *scatter_up(mrt_node *node) {
  MRT_TRY(mrt_node_set_op(node, "", "ScatterElements"));
  node->version = 11;
  return NULL;
}

/* ---- ScatterND ---- */
static mrt_status *nd_infer(mrt_infer *c) {
  int64_t k;
  int rank = mrt_infer_rank(c, 0), ri = mrt_infer_rank(c, 1);
  if (ri == 0 || rank == 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "input tensor and indices tensor must has rank larger than 0.");
  if (rank > 0 && ri > 0 && mrt_expr_is_const(mrt_infer_dim(c, 1, ri - 1), &k) && k > rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "last dimension of indices must not be larger than rank of input tensor");
  return mrt_infer_same_shape(c);
}
static mrt_status *nd_check(const mrt_tensor *x, const mrt_tensor *idx, const mrt_tensor *u) {
  if (x->rank < 1 || idx->rank < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "input tensor and indices tensor must has rank larger than 0.");
  int64_t k = idx->dims[idx->rank - 1];
  if (k > x->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "last dimension of indices must not be larger than rank of input tensor");
  bool fits = u->rank == idx->rank - 1 + x->rank - (int)k;
  for (int i = 0; fits && i < u->rank; ++i)
    fits = u->dims[i] == (i < idx->rank - 1 ? idx->dims[i] : x->dims[(int)k + i - (idx->rank - 1)]);
  if (!fits)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "updates tensor should have shape equal to indices.shape[:-1] + "
                   "data.shape[indices.shape[-1]:].");
  int64_t n = mrt_tensor_count(idx);
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = mrt_index_at(idx, i), d = x->dims[i % k];
    if (v < -d || v >= d)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "invalid indice found, indice = %lld", (long long)v);
  }
  return NULL;
}
static mrt_status *nd_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *idx = mrt_in(c, 1), *u = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  scatter s;
  if (!y) return NULL;
  MRT_TRY(nd_check(x, idx, u));
  MRT_TRY(setup(c, &s));
  int k = (int)idx->dims[idx->rank - 1];
  int64_t rows = mrt_dims_product(idx->dims, 0, idx->rank - 1),
          inner = mrt_dims_product(x->dims, k, x->rank);
  for (int64_t i = 0; i < rows && inner; ++i) {
    int64_t at = 0;
    for (int j = 0; j < k; ++j) {
      int64_t v = mrt_index_at(idx, i * k + j);
      at = at * x->dims[j] + (v < 0 ? v + x->dims[j] : v);
    }
    put(&s, (char *)y->data + (size_t)(at * inner) * s.size,
        (const char *)u->data + (size_t)(i * inner) * s.size, inner);
  }
  return NULL;
}

/* ---- TensorScatter ---- */
static mrt_status *cache_infer(mrt_infer *c) {
  int axis, rank = mrt_infer_rank(c, 0);
  if (rank < 0) return mrt_infer_same_shape(c);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  if (axis == 0) return MRT_ERR(MRT_FAIL, "axis cannot be 0 (the batch dimension)");
  return mrt_infer_same_shape(c);
}
static mrt_status *cache_bytes(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *u = mrt_in(c, 1), *where = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  bool circular = strcmp(mrt_node_str(c->node, "mode"), "circular") == 0;
  scatter s;
  int axis;
  if (!y) return NULL;
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  bool fits = axis > 0 && u->rank == x->rank && (!where || mrt_tensor_count(where) == x->dims[0]);
  for (int d = 0; fits && d < x->rank; ++d)
    fits = d == axis ? u->dims[d] <= x->dims[d] : u->dims[d] == x->dims[d];
  if (!fits) return MRT_ERR(MRT_INVALID_ARGUMENT, "the update does not fit the cache");
  int64_t max = x->dims[axis], len = u->dims[axis],
          inner = mrt_dims_product(x->dims, axis + 1, x->rank),
          per = mrt_dims_product(x->dims, 1, axis);
  for (int64_t b = 0; b < x->dims[0] && where; ++b) {
    int64_t at = mrt_index_at(where, b);
    if (at < 0 || (circular ? at >= max : at > max - len))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "write index %lld is out of bounds", (long long)at);
  }
  MRT_TRY(setup(c, &s));
  for (int64_t o = 0; o < x->dims[0] * per && inner; ++o)
    for (int64_t i = 0; i < len; ++i) {
      int64_t at = (where ? mrt_index_at(where, o / per) : 0) + i;
      if (at >= max) at -= max;
      put(&s, (char *)y->data + (size_t)((o * max + at) * inner) * s.size,
          (const char *)u->data + (size_t)((o * len + i) * inner) * s.size, inner);
    }
  return NULL;
}
static mrt_status *cache_run(mrt_kctx *c) {
  return mrt_is_packed(mrt_in(c, 0)) ? mrt_run_unpacked(c, cache_bytes) : cache_bytes(c);
}

static const mrt_op_version scatter_v[] = {{9, scatter_up}, {0}};
static const mrt_op_version elements_v[] = {{11}, {13}, {16}, {18}, {0}};
static const mrt_op_version cache_v[] = {{24}, {0}};
#define ANY \
  .domain = "", .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128;I=int32,int64"
MRT_OP(Scatter) = {ANY,
                   .name = "Scatter",
                   .doc = "ScatterElements under its first name",
                   .in = "data:T, indices:I, updates:T",
                   .out = "output:T",
                   .attrs = "axis:int=0",
                   .versions = scatter_v,
                   .removed_in = 11};
MRT_OP(ScatterElements) = {ANY,
                           .name = "ScatterElements",
                           .doc = "updates at indices along an axis",
                           .in = "data:T, indices:I, updates:T",
                           .out = "output:T",
                           .attrs = "axis:int=0 reduction:string=none",
                           .versions = elements_v,
                           .inplace = {{1, 0}},
                           .infer = elements_infer,
                           .run = elements_run};
MRT_OP(ScatterND) = {ANY,
                     .name = "ScatterND",
                     .doc = "updates at index tuples",
                     .in = "data:T, indices:int64, updates:T",
                     .out = "output:T",
                     .attrs = "reduction:string=none",
                     .versions = elements_v,
                     .inplace = {{1, 0}},
                     .infer = nd_infer,
                     .run = nd_run};
MRT_OP(TensorScatter) = {.domain = "",
                         .types = "T=" MRT_T_ANY,
                         .name = "TensorScatter",
                         .doc = "writes an update into a cache, per batch entry",
                         .in = "past_cache:T, update:T, write_indices:int64?",
                         .out = "present_cache:T",
                         .attrs = "mode:string=linear axis:int=-2",
                         .versions = cache_v,
                         .inplace = {{1, 0}},
                         .infer = cache_infer,
                         .run = cache_run};
