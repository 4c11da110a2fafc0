/* MeanVarianceNormalization: (x - mean) / (deviation + 1e-9) over any set of axes. */
#include "ops/common.h"

typedef struct mvn_job {
  const mrt_tensor *x;
  mrt_tensor *y;
  int n_out, n_in; /* kept and reduced dims */
  int64_t out_dims[MRT_MAX_RANK], out_strides[MRT_MAX_RANK];
  int64_t in_dims[MRT_MAX_RANK], in_strides[MRT_MAX_RANK], count;
} mvn_job;

static int64_t locate(int n, const int64_t *dims, const int64_t *strides, int64_t i) {
  int64_t at = 0;
  for (int d = n - 1; d >= 0; --d) {
    at += i % dims[d] * strides[d];
    i /= dims[d];
  }
  return at;
}
static void groups(void *arg, int64_t begin, int64_t end) {
  const mvn_job *j = arg;
  mrt_dtype t = (mrt_dtype)j->x->dtype;
  for (int64_t o = begin; o < end; ++o) {
    int64_t base = locate(j->n_out, j->out_dims, j->out_strides, o);
    double sum = 0, sq = 0;
    for (int64_t i = 0; i < j->count; ++i)
      sum += mrt_elem_get_f64(t, j->x->data, base + locate(j->n_in, j->in_dims, j->in_strides, i));
    double mean = sum / (double)j->count;
    for (int64_t i = 0; i < j->count; ++i) {
      int64_t at = base + locate(j->n_in, j->in_dims, j->in_strides, i);
      double v = mrt_elem_get_f64(t, j->x->data, at) - mean;
      sq += v * v;
    }
    double deviation = sqrt(sq / (double)j->count) + 1e-9;
    for (int64_t i = 0; i < j->count; ++i) {
      int64_t at = base + locate(j->n_in, j->in_dims, j->in_strides, i);
      mrt_elem_set_f64(t, j->y->data, at, (mrt_elem_get_f64(t, j->x->data, at) - mean) / deviation);
    }
  }
}
static mrt_status *mvn_run(mrt_kctx *c) {
  static const int64_t usual[] = {0, 2, 3};
  mvn_job j = {.x = mrt_in(c, 0), .y = mrt_out(c, 0), .count = 1};
  bool red[MRT_MAX_RANK] = {false};
  int n, a;
  const int64_t *axes = mrt_node_ints(c->node, "axes", &n);
  int64_t step = 1, strides[MRT_MAX_RANK], total = 1;
  if (!j.y || mrt_tensor_count(j.x) == 0) return NULL;
  if (!axes) axes = usual, n = 3;
  for (int i = 0; i < n; ++i) {
    MRT_TRY(mrt_fix_axis(axes[i], j.x->rank, &a));
    red[a] = true;
  }
  for (int i = j.x->rank - 1; i >= 0; --i) strides[i] = step, step *= j.x->dims[i];
  for (int i = 0; i < j.x->rank; ++i) {
    int64_t d = j.x->dims[i];
    if (red[i])
      j.in_dims[j.n_in] = d, j.in_strides[j.n_in++] = strides[i], j.count *= d;
    else
      j.out_dims[j.n_out] = d, j.out_strides[j.n_out++] = strides[i], total *= d;
  }
  mrt_par_range(&c->par, total, (double)j.count * 20, groups, &j);
  return NULL;
}
static const mrt_op_version mvn_v[] = {{9}, {13}, {0}};
MRT_OP(MeanVarianceNormalization) = {.domain = "",
                                     .name = "MeanVarianceNormalization",
                                     .doc = "(x - mean) / deviation over axes",
                                     .in = "X:T",
                                     .out = "Y:T",
                                     .types = "T=" MRT_T_FLOATS,
                                     .attrs = "axes:ints",
                                     .versions = mvn_v,
                                     .infer = mrt_infer_same_shape,
                                     .run = mvn_run};
