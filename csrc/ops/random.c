/* RandomNormal, RandomUniform and their Like forms, Bernoulli, Multinomial. The generator is
 * counter based (ops/random.h): values differ from other engines', their distribution does not. */
#include "ops/random.h"

#include <stdatomic.h>
#include <time.h>

static atomic_ullong runs; /* 0: not started */

void mrt_random_seed(int64_t seed) {
  atomic_store(&runs, mrt_random_bits(0x5eedf00d, (uint64_t)seed) | 1);
}

uint64_t mrt_random_key(mrt_kctx *c) {
  const mrt_attr *a = mrt_node_attr(c->node, "seed");
  if (a) {
    uint32_t bits = (uint32_t)a->i;
    if (a->kind == MRT_ATTR_FLOAT) memcpy(&bits, &a->f, sizeof bits);
    const uint64_t run = c->draws ? atomic_fetch_add(c->draws, 1) : 0;
    const uint64_t key = mrt_random_bits(0x5eed, bits);
    return run ? mrt_random_bits(key, run) : key;
  }
  if (!atomic_load(&runs)) {
    struct timespec t;
    unsigned long long zero = 0;
    timespec_get(&t, TIME_UTC);
    uint64_t start = mrt_random_bits((uint64_t)t.tv_sec, (uint64_t)t.tv_nsec) | 1;
    atomic_compare_exchange_strong(&runs, &zero, start);
  }
  return mrt_random_bits(0xf4ee, atomic_fetch_add(&runs, 1));
}
double mrt_random_normal(uint64_t key, uint64_t i) {
  double u = 1 - mrt_random_unit(key, 2 * i), v = mrt_random_unit(key, 2 * i + 1); /* u > 0 */
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* ---- the filling ones ---- */
typedef struct fill_job {
  mrt_tensor *y;
  const mrt_tensor *p; /* Bernoulli: probabilities */
  uint64_t key;
  double a, b; /* mean and scale, or low and high */
  bool normal;
} fill_job;
static void fill_part(void *arg, int64_t begin, int64_t end) {
  const fill_job *j = arg;
  for (int64_t i = begin; i < end; ++i) {
    double v;
    if (j->p)
      v = mrt_random_unit(j->key, (uint64_t)i) <
          mrt_elem_get_f64((mrt_dtype)j->p->dtype, j->p->data, i);
    else if (j->normal)
      v = j->a + j->b * mrt_random_normal(j->key, (uint64_t)i);
    else
      v = j->a + (j->b - j->a) * mrt_random_unit(j->key, (uint64_t)i);
    if (j->y->dtype == MRT_FLOAT)
      ((float *)j->y->data)[i] = (float)v;
    else
      mrt_elem_set_f64((mrt_dtype)j->y->dtype, j->y->data, i, v);
  }
}
static mrt_status *fill(mrt_kctx *c, bool normal, const mrt_tensor *p) {
  fill_job j = {.y = mrt_out(c, 0), .p = p, .normal = normal};
  if (!j.y) return NULL;
  j.key = mrt_random_key(c);
  j.a = mrt_node_float(c->node, normal ? "mean" : "low");
  j.b = mrt_node_float(c->node, normal ? "scale" : "high");
  mrt_par_range(&c->par, mrt_tensor_count(j.y), normal ? 30 : 4, fill_part, &j);
  return NULL;
}
static mrt_status *normal_run(mrt_kctx *c) { return fill(c, true, NULL); }
static mrt_status *uniform_run(mrt_kctx *c) { return fill(c, false, NULL); }
static mrt_status *bernoulli_run(mrt_kctx *c) { return fill(c, false, mrt_in(c, 0)); }

static mrt_status *out_dtype(const mrt_infer *c, bool floats, mrt_dtype *out) {
  bool given = mrt_node_attr(c->node, "dtype") != NULL;
  int64_t d = given ? mrt_node_int(c->node, "dtype") : mrt_infer_dtype(c, 0);
  bool ok = d > 0 && d < MRT_DTYPE_COUNT && mrt_dtype_valid((int)d) && d != MRT_STRING &&
            (!floats || d == MRT_FLOAT || d == MRT_DOUBLE || d == MRT_FLOAT16 || d == MRT_BFLOAT16);
  *out = ok ? (mrt_dtype)d : MRT_UNDEFINED;
  if (!ok && (given || d))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Output type not supported in this build: %lld",
                   (long long)d);
  return NULL;
}
static mrt_status *shape_infer(mrt_infer *c) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int n;
  mrt_dtype d;
  const int64_t *shape = mrt_node_ints(c->node, "shape", &n);
  MRT_TRY(out_dtype(c, true, &d));
  if (n > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", n);
  for (int i = 0; i < n; ++i) dims[i] = mrt_expr_const(c->sym, shape[i]);
  return mrt_infer_out(c, 0, d, n, dims);
}
static mrt_status *like_infer(mrt_infer *c) {
  mrt_dtype d;
  MRT_TRY(out_dtype(c, true, &d));
  return mrt_infer_out_like(c, 0, 0, d);
}
static mrt_status *bernoulli_infer(mrt_infer *c) {
  mrt_dtype d;
  MRT_TRY(out_dtype(c, false, &d));
  return mrt_infer_out_like(c, 0, 0, d);
}

/* ---- Multinomial: rows of log-odds, drawn by inverting the running sum ---- */
static mrt_status *multinomial_infer(mrt_infer *c) {
  int64_t n = mrt_node_int(c->node, "sample_size"), d = mrt_node_int(c->node, "dtype");
  const mrt_expr *dims[2] = {mrt_infer_dim(c, 0, 0), mrt_expr_const(c->sym, n)};
  if (d != MRT_INT32 && d != MRT_INT64)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Output type must be int32 or int64");
  if (n < 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "num_samples is < 1");
  if (mrt_infer_rank(c, 0) >= 0 && mrt_infer_rank(c, 0) != 2)
    return MRT_ERR(MRT_FAIL, "Input tensor must have rank 2");
  return mrt_infer_out(c, 0, (mrt_dtype)d, 2, dims);
}
static mrt_status *multinomial_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  double *sum;
  if (!y) return NULL;
  if (x->rank != 2 || x->dims[1] < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Empty tensor not supported");
  int64_t classes = x->dims[1], n = y->dims[1];
  uint64_t key = mrt_random_key(c);
  MRT_TRY(mrt_scratch(c, (size_t)classes * sizeof *sum, (void **)&sum));
  for (int64_t b = 0; b < x->dims[0]; ++b) {
    double top = -INFINITY, total = 0;
    for (int64_t k = 0; k < classes; ++k) {
      sum[k] = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, b * classes + k);
      if (sum[k] > top && sum[k] < INFINITY) top = sum[k];
    }
    for (int64_t k = 0; k < classes; ++k) {
      double e = sum[k] < INFINITY ? exp(sum[k] - top) : 0; /* not finite: never drawn */
      sum[k] = total += e > 0 ? e : 0;
    }
    for (int64_t i = 0; i < n; ++i) {
      double u = mrt_random_unit(key, (uint64_t)(b * n + i)) * total;
      int64_t k = 0;
      while (k + 1 < classes && !(u < sum[k])) ++k;
      mrt_elem_set_i64((mrt_dtype)y->dtype, y->data, b * n + i, k);
    }
  }
  return NULL;
}

static const mrt_op_version random_v[] = {{1}, {22}, {0}};
static const mrt_op_version bernoulli_v[] = {{15}, {22}, {0}};
static const mrt_op_version multinomial_v[] = {{7}, {22}, {0}};
#define COMMON .domain = "", .flags = MRT_OP_RANDOM
#define LIKE                                                                       \
  .in = "input:T",                                                                 \
  .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128;U=" MRT_T_FLOATS, \
  .out = "output:U", .versions = random_v, .infer = like_infer
#define SHAPED                                                                   \
  .in = "", .types = "T=" MRT_T_FLOATS, .out = "output:T", .versions = random_v, \
  .infer = shape_infer
MRT_OP(RandomNormal) = {COMMON,
                        SHAPED,
                        .name = "RandomNormal",
                        .doc = "normal random numbers",
                        .attrs = "dtype:int=1 mean:float=0 scale:float=1 seed:float shape:ints!",
                        .run = normal_run};
MRT_OP(RandomUniform) = {COMMON,
                         SHAPED,
                         .name = "RandomUniform",
                         .doc = "uniform random numbers",
                         .attrs = "dtype:int=1 high:float=1 low:float=0 seed:float shape:ints!",
                         .run = uniform_run};
MRT_OP(RandomNormalLike) = {COMMON,
                            LIKE,
                            .name = "RandomNormalLike",
                            .doc = "normal random numbers in x's shape",
                            .attrs = "dtype:int mean:float=0 scale:float=1 seed:float",
                            .run = normal_run};
MRT_OP(RandomUniformLike) = {COMMON,
                             LIKE,
                             .name = "RandomUniformLike",
                             .doc = "uniform random numbers in x's shape",
                             .attrs = "dtype:int high:float=1 low:float=0 seed:float",
                             .run = uniform_run};
MRT_OP(Bernoulli) = {COMMON,
                     .name = "Bernoulli",
                     .doc = "1 with the given probability, else 0",
                     .in = "input:T",
                     .out = "output:U",
                     .types = "T=" MRT_T_FLOATS ";U=" MRT_T_NUMERIC ",bool",
                     .attrs = "dtype:int seed:float",
                     .versions = bernoulli_v,
                     .infer = bernoulli_infer,
                     .run = bernoulli_run};
MRT_OP(Multinomial) = {COMMON,
                       .name = "Multinomial",
                       .doc = "class numbers drawn from rows of log-odds",
                       .in = "input:T",
                       .out = "output:U",
                       .types = "T=" MRT_T_FLOATS ";U=int32,int64",
                       .attrs = "dtype:int=6 sample_size:int=1 seed:float",
                       .versions = multinomial_v,
                       .infer = multinomial_infer,
                       .run = multinomial_run};
