/* Einsum: operands are contracted from left to right, each step as batched matrix products after
 * packing: labels of a step are batch (in both and wanted), rows (left, wanted), columns (right,
 * wanted) or summed (in both, not wanted). Integers are computed modulo 2^64. */
#include "ops/einsum.h"
#include "ops/work.h"

typedef struct es_view {
  const void *data;
  bool has[ES_MAX_LABELS];
  int64_t stride[ES_MAX_LABELS]; /* 0 for labels that it lacks or that are broadcast */
} es_view;
enum { BATCH, ROWS, COLS, SUMMED };
typedef struct es_split { /* labels of one step by their role */
  int n[4], label[4][ES_MAX_LABELS];
  int64_t size[4];
  const int64_t *dims;
} es_split;
typedef struct es_product {
  const void *a, *b;
  void *c;
  int64_t m, n, k;
} es_product;

#define T       float
#define NAME(x) x##_f32
#include "ops/einsum.inl"
#undef T
#undef NAME
#define T       double
#define NAME(x) x##_f64
#include "ops/einsum.inl"
#undef T
#undef NAME
#define T       uint64_t
#define NAME(x) x##_u64
#include "ops/einsum.inl"
#undef T
#undef NAME

static mrt_status *einsum_infer(mrt_infer *c) {
  int ranks[ES_MAX_INPUTS];
  int64_t one;
  es_equation eq;
  const mrt_expr *dim[ES_MAX_LABELS] = {NULL}, *dims[MRT_MAX_RANK];
  bool seen[ES_MAX_LABELS] = {false};
  for (int i = 0; i < c->n_in && i < ES_MAX_INPUTS; ++i)
    if ((ranks[i] = mrt_infer_rank(c, i)) < 0)
      return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_einsum_parse(mrt_node_str(c->node, "equation"), c->n_in, ranks, &eq));
  for (int i = 0; i < eq.n_in; ++i)
    for (int d = 0; d < ranks[i]; ++d) {
      int l = eq.in[i][d];
      const mrt_expr *e = mrt_infer_dim(c, i, d);
      if (!seen[l] || (mrt_expr_is_const(dim[l], &one) && one == 1))
        dim[l] = e;
      else if (!(mrt_expr_is_const(e, &one) && one == 1))
        MRT_TRY(mrt_infer_same_dim(c, dim[l], e, "dims of one label", &dim[l]));
      seen[l] = true;
    }
  for (int d = 0; d < eq.n_out; ++d) dims[d] = dim[eq.out[d]];
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), eq.n_out, dims);
}

typedef struct es_run {
  mrt_kctx *c;
  es_equation eq;
  int64_t dims[ES_MAX_LABELS];
  int kind; /* 0 float, 1 double, 2 integers */
} es_run;
static size_t elem_size(const es_run *r) { return r->kind == 0 ? 4 : 8; }
/* Operand i in the accumulator's type. */
static mrt_status *open(es_run *r, int i, es_view *v) {
  const mrt_tensor *x = mrt_in(r->c, i), *t;
  mrt_tensor view;
  *v = (es_view){0};
  if (r->kind < 2) {
    MRT_TRY(mrt_work_in(r->c, x, r->kind ? MRT_DOUBLE : MRT_FLOAT, &view, &t));
    v->data = t->data;
  } else {
    int64_t *data, n = mrt_tensor_count(x);
    MRT_TRY(mrt_scratch_array(r->c, n, 8, &data));
    for (int64_t k = 0; k < n; ++k) data[k] = mrt_elem_get_i64((mrt_dtype)x->dtype, x->data, k);
    v->data = data;
  }
  int64_t step = 1;
  for (int d = x->rank - 1; d >= 0; --d) {
    int l = r->eq.in[i][d];
    v->has[l] = true;
    if (x->dims[d] != 1) v->stride[l] += step; /* a label twice: the diagonal */
    step *= x->dims[d];
  }
  return NULL;
}
/* Makes v dense over its labels that are wanted (by the other side or later); the rest is summed.
 */
static mrt_status *drop_labels(es_run *r, es_view *v, const bool *wanted) {
  int keep[ES_MAX_LABELS], gone[ES_MAX_LABELS], n_keep = 0, n_gone = 0;
  int64_t n = 1;
  void *out;
  for (int l = 0; l < ES_MAX_LABELS; ++l) {
    if (!v->has[l]) continue;
    if (wanted[l])
      keep[n_keep++] = l;
    else
      gone[n_gone++] = l;
    if (wanted[l] && !mrt_i64_mul(n, r->dims[l], &n))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: too many elements");
  }
  if (!n_gone) return NULL;
  MRT_TRY(mrt_scratch_array(r->c, n, elem_size(r), &out));
  if (r->kind == 0)
    reduce_f32(v, r->dims, keep, n_keep, gone, n_gone, out);
  else if (r->kind == 1)
    reduce_f64(v, r->dims, keep, n_keep, gone, n_gone, out);
  else
    reduce_u64(v, r->dims, keep, n_keep, gone, n_gone, out);
  *v = (es_view){.data = out};
  int64_t step = 1;
  for (int d = n_keep - 1; d >= 0; --d) {
    v->has[keep[d]] = true;
    v->stride[keep[d]] = step;
    step *= r->dims[keep[d]];
  }
  return NULL;
}
static mrt_status *pack(es_run *r, const es_view *v, const es_split *s, const int *order,
                        void **out) {
  int64_t n;
  if (!mrt_i64_mul(s->size[order[0]], s->size[order[1]], &n) ||
      !mrt_i64_mul(n, s->size[order[2]], &n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: too many elements");
  MRT_TRY(mrt_scratch_array(r->c, n, elem_size(r), out));
  if (n == 0) return NULL;
  if (r->kind == 0)
    pack_f32(v, s, order, *out);
  else if (r->kind == 1)
    pack_f64(v, s, order, *out);
  else
    pack_u64(v, s, order, *out);
  return NULL;
}
/* a = a b, dense over batch, rows and columns. wanted: labels needed afterwards. */
static mrt_status *contract(es_run *r, es_view *a, es_view *b, const bool *wanted) {
  static const int left[3] = {BATCH, ROWS, SUMMED}, right[3] = {BATCH, SUMMED, COLS},
                   both[3] = {BATCH, ROWS, COLS};
  bool need_a[ES_MAX_LABELS], need_b[ES_MAX_LABELS];
  es_split s = {.size = {1, 1, 1, 1}, .dims = r->dims};
  void *pa, *pb, *pc;
  int64_t n;
  for (int l = 0; l < ES_MAX_LABELS; ++l) {
    need_a[l] = wanted[l] || b->has[l];
    need_b[l] = wanted[l] || a->has[l];
  }
  MRT_TRY(drop_labels(r, a, need_a));
  MRT_TRY(drop_labels(r, b, need_b));
  for (int l = 0; l < ES_MAX_LABELS; ++l) {
    if (!a->has[l] && !b->has[l]) continue;
    int role = !wanted[l] ? SUMMED : a->has[l] && b->has[l] ? BATCH : a->has[l] ? ROWS : COLS;
    s.label[role][s.n[role]++] = l;
    if (!mrt_i64_mul(s.size[role], r->dims[l], &s.size[role]))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: too many elements");
  }
  MRT_TRY(pack(r, a, &s, left, &pa));
  MRT_TRY(pack(r, b, &s, right, &pb));
  if (!mrt_i64_mul(s.size[BATCH], s.size[ROWS], &n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: too many elements");
  int64_t units = n;
  if (!mrt_i64_mul(n, s.size[COLS], &n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: too many elements");
  MRT_TRY(mrt_scratch_array(r->c, n, elem_size(r), &pc));
  es_product p = {pa, pb, pc, s.size[ROWS], s.size[COLS], s.size[SUMMED]};
  mrt_par_range(&r->c->par, units, (double)(p.k * p.n) * 0.5,
                r->kind == 0   ? multiply_f32
                : r->kind == 1 ? multiply_f64
                               : multiply_u64,
                &p);
  *a = (es_view){.data = pc};
  int64_t step = 1;
  for (int g = 2; g >= 0; --g)
    for (int i = s.n[both[g]] - 1; i >= 0; --i) {
      int l = s.label[both[g]][i];
      a->has[l] = true;
      a->stride[l] = step;
      step *= r->dims[l];
    }
  return NULL;
}
/* The result in the order of the output's labels. */
static mrt_status *store(es_run *r, const es_view *a, mrt_tensor *y) {
  mrt_dtype t = (mrt_dtype)y->dtype;
  es_split s = {.size = {1, 1, 1, 1}, .dims = r->dims};
  void *flat;
  for (int d = 0; d < r->eq.n_out; ++d) {
    s.label[ROWS][s.n[ROWS]++] = r->eq.out[d];
    s.size[ROWS] *= r->dims[r->eq.out[d]];
  }
  MRT_TRY(pack(r, a, &s, (const int[]){BATCH, ROWS, COLS}, &flat));
  for (int64_t i = 0; i < s.size[ROWS]; ++i)
    if (r->kind == 2)
      mrt_elem_set_i64(t, y->data, i, ((const int64_t *)flat)[i]);
    else
      mrt_elem_set_f64(t, y->data, i,
                       r->kind ? ((const double *)flat)[i] : (double)((const float *)flat)[i]);
  return NULL;
}
static mrt_status *read_sizes(es_run *r) {
  int ranks[ES_MAX_INPUTS];
  for (int i = 0; i < r->c->n_in && i < ES_MAX_INPUTS; ++i) ranks[i] = mrt_in(r->c, i)->rank;
  MRT_TRY(mrt_einsum_parse(mrt_node_str(r->c->node, "equation"), r->c->n_in, ranks, &r->eq));
  for (int l = 0; l < ES_MAX_LABELS; ++l) r->dims[l] = 1;
  for (int i = 0; i < r->eq.n_in; ++i)
    for (int d = 0; d < ranks[i]; ++d) {
      int64_t *size = &r->dims[r->eq.in[i][d]], n = mrt_in(r->c, i)->dims[d];
      if (*size != 1 && n != 1 && *size != n)
        return MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: a label stands for sizes %lld and %lld",
                       (long long)*size, (long long)n);
      if (n != 1) *size = n;
    }
  return NULL;
}
static mrt_status *einsum_run(mrt_kctx *c) {
  static const double one_f64 = 1;
  static const float one_f32 = 1;
  static const uint64_t one_u64 = 1;
  mrt_tensor *y = mrt_out(c, 0);
  es_run r = {.c = c};
  es_view acc, next;
  if (!y) return NULL;
  mrt_dtype t = (mrt_dtype)y->dtype;
  r.kind = mrt_dtype_is_int(t) ? 2 : t == MRT_DOUBLE ? 1 : 0;
  MRT_TRY(read_sizes(&r));
  MRT_TRY(open(&r, 0, &acc));
  for (int i = 1; i < (r.eq.n_in > 1 ? r.eq.n_in : 2); ++i) {
    bool wanted[ES_MAX_LABELS] = {false};
    for (int d = 0; d < r.eq.n_out; ++d) wanted[r.eq.out[d]] = true;
    for (int k = i + 1; k < r.eq.n_in; ++k)
      for (int d = 0; d < r.eq.rank[k]; ++d) wanted[r.eq.in[k][d]] = true;
    if (i < r.eq.n_in)
      MRT_TRY(open(&r, i, &next));
    else /* a single operand times 1 */
      next = (es_view){.data = r.kind == 0   ? (const void *)&one_f32
                               : r.kind == 1 ? (const void *)&one_f64
                                             : (const void *)&one_u64};
    MRT_TRY(contract(&r, &acc, &next, wanted));
  }
  return store(&r, &acc, y);
}
static const mrt_op_version einsum_v[] = {{12}, {0}};
MRT_OP(Einsum) = {.domain = "",
                  .name = "Einsum",
                  .doc = "sum of products over labelled dims",
                  .in = "Inputs:T*",
                  .out = "Output:T",
                  .types = "T=" MRT_T_NUMERIC,
                  .attrs = "equation:string!",
                  .versions = einsum_v,
                  .infer = einsum_infer,
                  .run = einsum_run};
