/* Unique: the distinct elements, or distinct slices along an axis, with first positions, the map
 * back, and counts. Items are sorted by index (a stable merge sort), equal ones stand together, and
 * the groups are then put in order of value or of first appearance. */
#include "ops/common.h"

typedef struct items {
  const mrt_tensor *x;
  int64_t n;             /* items */
  int64_t outer, stride; /* an item is `outer` runs of `inner` elements, `stride` apart */
  int64_t inner;
  mrt_dtype dtype;
} items;

static int compare_f64(double a, double b) { /* NaN is above everything and equal to NaN */
  bool na = a != a, nb = b != b;
  if (na || nb) return na - nb;
  return (a > b) - (a < b);
}
static int compare_elem(const items *s, int64_t a, int64_t b) {
  const void *p = s->x->data;
  int64_t x, y;
  switch (s->dtype) {
    case MRT_STRING: {
      const mrt_string *u = ((mrt_string *const *)p)[a], *v = ((mrt_string *const *)p)[b];
      size_t lu = mrt_string_len(u), lv = mrt_string_len(v), n = lu < lv ? lu : lv;
      int c = n ? memcmp(mrt_string_bytes(u), mrt_string_bytes(v), n) : 0;
      return c ? c : (lu > lv) - (lu < lv);
    }
    case MRT_UINT64: {
      uint64_t u = ((const uint64_t *)p)[a], v = ((const uint64_t *)p)[b];
      return (u > v) - (u < v);
    }
    case MRT_COMPLEX64: {
      const float *f = p;
      int c = compare_f64(f[2 * a], f[2 * b]);
      return c ? c : compare_f64(f[2 * a + 1], f[2 * b + 1]);
    }
    case MRT_COMPLEX128: {
      const double *f = p;
      int c = compare_f64(f[2 * a], f[2 * b]);
      return c ? c : compare_f64(f[2 * a + 1], f[2 * b + 1]);
    }
    default:
      if (mrt_dtype_is_float(s->dtype))
        return compare_f64(mrt_elem_get_f64(s->dtype, p, a), mrt_elem_get_f64(s->dtype, p, b));
      x = mrt_elem_get_i64(s->dtype, p, a);
      y = mrt_elem_get_i64(s->dtype, p, b);
      return (x > y) - (x < y);
  }
}
static int compare(const items *s, int64_t a, int64_t b) {
  for (int64_t o = 0; o < s->outer; ++o)
    for (int64_t i = 0; i < s->inner; ++i) {
      int64_t at = o * s->stride + i;
      int c = compare_elem(s, at + a * s->inner, at + b * s->inner);
      if (c) return c;
    }
  return 0;
}

/* Stable: equal items keep their order. tmp: as long as order. */
static void sort(const items *s, int64_t *order, int64_t *tmp) {
  for (int64_t i = 0; i < s->n; ++i) order[i] = i;
  for (int64_t w = 1; w < s->n; w *= 2) {
    for (int64_t lo = 0; lo < s->n; lo += 2 * w) {
      int64_t mid = lo + w < s->n ? lo + w : s->n, hi = mid + w < s->n ? mid + w : s->n;
      int64_t i = lo, j = mid, k = lo;
      while (i < mid && j < hi)
        tmp[k++] = compare(s, order[j], order[i]) < 0 ? order[j++] : order[i++];
      while (i < mid) tmp[k++] = order[i++];
      while (j < hi) tmp[k++] = order[j++];
    }
    memcpy(order, tmp, (size_t)s->n * sizeof *order);
  }
}

static mrt_status *infer(mrt_infer *c) {
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL}, *none[1] = {NULL};
  int rank = mrt_infer_rank(c, 0), axis;
  for (int i = 1; i < 4; ++i) MRT_TRY(mrt_infer_out(c, i, MRT_INT64, 1, none));
  if (!mrt_node_attr(c->node, "axis")) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 1, none);
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int i = 0; i < rank; ++i) dims[i] = i == axis ? NULL : mrt_infer_dim(c, 0, i);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

/* Numbers as integers of the same order; one zero, one NaN (above all). */
static uint64_t order_key(mrt_dtype d, const void *data, int64_t i) {
  const uint64_t sign = 1ull << 63;
  uint64_t bits;
  if (d == MRT_UINT64) return ((const uint64_t *)data)[i];
  if (!mrt_dtype_is_float(d)) return (uint64_t)mrt_elem_get_i64(d, data, i) ^ sign;
  double v = mrt_elem_get_f64(d, data, i);
  if (v != v) return UINT64_MAX;
  if (v == 0) v = 0;
  memcpy(&bits, &v, sizeof bits);
  return bits & sign ? ~bits : bits | sign;
}
/* Radix sort by bytes from the low end: stable; bytes that all keys share cost one count. */
static void sort_keys(uint64_t *keys, uint64_t *k2, int64_t *order, int64_t *tmp, int64_t n) {
  for (int shift = 0; shift < 64; shift += 8) {
    int64_t at[257] = {0};
    for (int64_t i = 0; i < n; ++i) ++at[(keys[i] >> shift & 255) + 1];
    if (n && at[(keys[0] >> shift & 255) + 1] == n) continue;
    for (int b = 0; b < 256; ++b) at[b + 1] += at[b];
    for (int64_t i = 0; i < n; ++i) {
      int64_t to = at[keys[i] >> shift & 255]++;
      k2[to] = keys[i];
      tmp[to] = order[i];
    }
    memcpy(keys, k2, (size_t)n * sizeof *keys);
    memcpy(order, tmp, (size_t)n * sizeof *order);
  }
}

typedef struct groups {
  int64_t n, *first, *count, *of; /* of[item] = its group, in output order */
} groups;

/* Groups in order of value, or of first appearance. order, tmp: [n] each, reused; keys [2 * n] for
 * single numbers, else NULL. */
static void make_groups(const items *s, bool sorted, int64_t *order, int64_t *tmp, uint64_t *keys,
                        groups *g) {
  for (int64_t i = 0; keys && i < s->n; ++i) {
    keys[i] = order_key(s->dtype, s->x->data, i);
    order[i] = i;
  }
  if (keys)
    sort_keys(keys, keys + s->n, order, tmp, s->n);
  else
    sort(s, order, tmp);
  g->n = 0;
  for (int64_t i = 0; i < s->n; ++i) {
    bool fresh =
        i == 0 || (keys ? keys[i - 1] != keys[i] : compare(s, order[i - 1], order[i]) != 0);
    if (fresh) {
      g->first[g->n] = order[i]; /* the sort is stable: the first one in the input */
      g->count[g->n++] = 0;
    }
    ++g->count[g->n - 1];
    g->of[order[i]] = g->n - 1;
  }
  if (sorted) return;
  int64_t k = 0; /* tmp[old group] = new number */
  for (int64_t i = 0; i < s->n; ++i)
    if (g->first[g->of[i]] == i) tmp[g->of[i]] = k++;
  for (int64_t i = 0; i < g->n; ++i) order[tmp[i]] = g->count[i];
  memcpy(g->count, order, (size_t)g->n * sizeof *order);
  for (int64_t i = 0; i < g->n; ++i) order[tmp[i]] = g->first[i];
  memcpy(g->first, order, (size_t)g->n * sizeof *order);
  for (int64_t i = 0; i < s->n; ++i) g->of[i] = tmp[g->of[i]];
}

static mrt_status *put_ints(mrt_kctx *c, int i, const int64_t *v, int64_t n) {
  mrt_tensor *t;
  if (!mrt_out_wanted(c, i)) return NULL;
  MRT_TRY(mrt_out_alloc(c, i, MRT_INT64, 1, &n, &t));
  if (n) memcpy(t->data, v, (size_t)n * sizeof *v);
  return NULL;
}

static mrt_status *put_values(mrt_kctx *c, const items *s, const groups *g, int axis,
                              bool has_axis) {
  int64_t dims[MRT_MAX_RANK] = {g->n};
  int rank = 1;
  size_t size;
  mrt_tensor *y;
  if (!mrt_out_wanted(c, 0)) return NULL;
  if (has_axis) {
    rank = s->x->rank;
    memcpy(dims, s->x->dims, (size_t)rank * sizeof *dims);
    dims[axis] = g->n;
  }
  MRT_TRY(mrt_elem_size(c, s->x, &size));
  MRT_TRY(mrt_out_alloc(c, 0, s->dtype, rank, dims, &y));
  size_t run = (size_t)s->inner * size;
  for (int64_t o = 0; o < s->outer && run; ++o)
    for (int64_t i = 0; i < g->n; ++i)
      memcpy((char *)y->data + (size_t)(o * g->n + i) * run,
             (const char *)s->x->data + (size_t)(o * s->stride + g->first[i] * s->inner) * size,
             run);
  mrt_tensor_retain_strings(y);
  return NULL;
}

static mrt_status *run(mrt_kctx *c) {
  items s = {.x = mrt_in(c, 0), .outer = 1, .inner = 1, .stride = 1};
  groups g = {0};
  int axis = 0;
  int64_t *order, *tmp;
  uint64_t *keys = NULL;
  bool has_axis = mrt_node_attr(c->node, "axis") != NULL;
  s.dtype = (mrt_dtype)s.x->dtype;
  s.n = mrt_tensor_count(s.x);
  if (has_axis) {
    MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), s.x->rank, &axis));
    if (!s.x->rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "Unique along an axis of a scalar");
    s.n = s.x->dims[axis];
    s.outer = mrt_dims_product(s.x->dims, 0, axis);
    s.inner = mrt_dims_product(s.x->dims, axis + 1, s.x->rank);
    s.stride = s.n * s.inner;
    if (!mrt_tensor_count(s.x)) s.n = 0;
  }
  size_t bytes;
  if (!mrt_size_mul((size_t)s.n + 1, sizeof *order, &bytes)) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, (void **)&order));
  MRT_TRY(mrt_scratch(c, bytes, (void **)&tmp));
  MRT_TRY(mrt_scratch(c, bytes, (void **)&g.first));
  MRT_TRY(mrt_scratch(c, bytes, (void **)&g.count));
  MRT_TRY(mrt_scratch(c, bytes, (void **)&g.of));
  if (!has_axis && s.dtype != MRT_STRING && s.dtype != MRT_COMPLEX64 && s.dtype != MRT_COMPLEX128) {
    if (!mrt_size_mul(bytes, 2, &bytes)) return mrt_status_oom();
    MRT_TRY(mrt_scratch(c, bytes, (void **)&keys));
  }
  make_groups(&s, mrt_node_int(c->node, "sorted") != 0, order, tmp, keys, &g);
  MRT_TRY(put_values(c, &s, &g, axis, has_axis));
  MRT_TRY(put_ints(c, 1, g.first, g.n));
  MRT_TRY(put_ints(c, 2, g.of, s.n));
  return put_ints(c, 3, g.count, g.n);
}

static const mrt_op_version versions[] = {{11}, {0}};
MRT_OP(Unique) = {.domain = "",
                  .name = "Unique",
                  .doc = "distinct elements or slices",
                  .in = "X:T",
                  .out = "Y:T, indices:int64?, inverse_indices:int64?, counts:int64?",
                  .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128",
                  .attrs = "axis:int sorted:int=1",
                  .versions = versions,
                  .flags = MRT_OP_DYNAMIC,
                  .infer = infer,
                  .run = run};
