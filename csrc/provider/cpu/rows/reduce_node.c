/* Reductions of float32 over dims that lie together: along rows (the last dims), or across rows
 * (dims with others behind them), which goes through the point-wise functions, block of columns by
 * block of columns. Long sums are made of parts, so that few digits are lost. What is scattered
 * over the dims is left to the reference. */
#include <math.h>
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/elementwise/elementwise.h"
#include "provider/cpu/rows/rows.h"

enum { PART = 4096, ROWS = 64, COLUMNS = 256 };

typedef enum reduction { SUM, MEAN, MAXIMUM, MINIMUM, SUM_SQUARE, L1, L2 } reduction;

typedef struct reduce_kernel {
  mrt_kernel k;
  reduction op;
  bool noop_if_empty;
} reduce_kernel;

typedef struct job {
  const mrt_row_kernels *rows;
  const float *x;
  float *y;
  reduction op;
  int64_t d, inner;
} job;

static float finish(reduction op, double v, int64_t n) {
  return op == MEAN ? (float)(v / (double)n) : op == L2 ? (float)sqrt(v) : (float)v;
}

static void along(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  for (int64_t o = begin; o < end; ++o) {
    const float *x = j->x + o * j->d;
    if (j->op == MAXIMUM || j->op == MINIMUM) {
      j->y[o] = j->op == MAXIMUM ? j->rows->max(x, j->d) : j->rows->min(x, j->d);
      continue;
    }
    float (*part)(const float *, int64_t) = j->op == SUM || j->op == MEAN ? j->rows->sum
                                            : j->op == L1                 ? j->rows->sum_abs
                                                                          : j->rows->sum_square;
    double sum = 0;
    for (int64_t i = 0; i < j->d; i += PART) sum += part(x + i, j->d - i < PART ? j->d - i : PART);
    j->y[o] = finish(j->op, sum, j->d);
  }
}

/* acc = acc op row; squares and absolute values on the way. */
static void take_row(const job *j, float *acc, const float *row, float *tmp, int64_t n) {
  static const mrt_ew_op ops[] = {
      [SUM] = MRT_EW_ADD,     [MEAN] = MRT_EW_ADD,       [MAXIMUM] = MRT_EW_MAX,
      [MINIMUM] = MRT_EW_MIN, [SUM_SQUARE] = MRT_EW_FMA, [L1] = MRT_EW_ADD,
      [L2] = MRT_EW_FMA};
  const mrt_ew_fn f = mrt_ew_find(ops[j->op]);
  if (j->op == SUM_SQUARE || j->op == L2) {
    f(acc, row, row, acc, NULL, n);
    return;
  }
  if (j->op == L1) {
    mrt_ew_find(MRT_EW_ABS)(tmp, row, NULL, NULL, NULL, n);
    row = tmp;
  }
  f(acc, acc, row, NULL, NULL, n);
}

static void across(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  const int64_t blocks = (j->inner + COLUMNS - 1) / COLUMNS;
  const bool extreme = j->op == MAXIMUM || j->op == MINIMUM;
  float acc[COLUMNS], tmp[COLUMNS];
  double sum[COLUMNS];
  for (int64_t u = begin; u < end; ++u) {
    const int64_t at = u % blocks * COLUMNS, left = j->inner - at;
    const int64_t n = left < COLUMNS ? left : COLUMNS;
    const float *x = j->x + u / blocks * j->d * j->inner + at;
    float *y = j->y + u / blocks * j->inner + at;
    for (int64_t c = 0; c < n; ++c) {
      sum[c] = 0;
      acc[c] = j->op == MAXIMUM ? -INFINITY : j->op == MINIMUM ? INFINITY : 0;
    }
    for (int64_t i = 0; i < j->d; ++i) {
      take_row(j, acc, x + i * j->inner, tmp, n);
      if (extreme || ((i + 1) % ROWS && i + 1 < j->d)) continue;
      for (int64_t c = 0; c < n; ++c) {
        sum[c] += acc[c];
        acc[c] = 0;
      }
    }
    for (int64_t c = 0; c < n; ++c) y[c] = extreme ? acc[c] : finish(j->op, sum[c], j->d);
  }
}

/* The reduced dims as one run [first, last) of dims longer than 1; false: they are scattered. */
static bool one_run(const mrt_tensor *x, const bool *reduced, int *first, int *last) {
  *first = *last = -1;
  for (int i = 0; i < x->rank; ++i) {
    if (!reduced[i] || x->dims[i] == 1) continue;
    for (int k = *last; *last >= 0 && k < i; ++k)
      if (x->dims[k] != 1) return false;
    if (*first < 0) *first = i;
    *last = i + 1;
  }
  if (*first < 0) *first = *last = x->rank; /* nothing but 1s: rows of one element */
  return true;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const reduce_kernel *q = (const reduce_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t axes[MRT_MAX_RANK];
  bool reduced[MRT_MAX_RANK];
  int n, first, last;
  if (!y || !y->bytes) return NULL;
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), MRT_MAX_RANK, axes, &n, "axes"));
  if (n == 0 && q->noop_if_empty) return c->node->def->run(c);
  for (int i = 0; i < x->rank; ++i) reduced[i] = n == 0;
  for (int i = 0; i < n; ++i) {
    int a;
    MRT_TRY(mrt_fix_axis(axes[i], x->rank, &a));
    reduced[a] = true;
  }
  if (!x->bytes || !one_run(x, reduced, &first, &last)) return c->node->def->run(c);
  const int64_t outer = mrt_dims_product(x->dims, 0, first);
  job j = {.rows = mrt_row_kernels_get(),
           .x = x->data,
           .y = y->data,
           .op = q->op,
           .d = mrt_dims_product(x->dims, first, last),
           .inner = mrt_dims_product(x->dims, last, x->rank)};
  if (j.inner == 1) {
    mrt_par_range(&c->par, outer, (double)j.d * 0.1 + 5, along, &j);
  } else {
    const int64_t blocks = (j.inner + COLUMNS - 1) / COLUMNS;
    const double width = (double)(j.inner < COLUMNS ? j.inner : COLUMNS);
    mrt_par_range(&c->par, outer * blocks, (double)j.d * (width * 0.1 + 5), across, &j);
  }
  return NULL;
}

static const struct reduce_row {
  const char *name;
  reduction op;
} names[] = {{"ReduceSum", SUM},
             {"ReduceMean", MEAN},
             {"ReduceMax", MAXIMUM},
             {"ReduceMin", MINIMUM},
             {"ReduceSumSquare", SUM_SQUARE},
             {"ReduceL1", L1},
             {"ReduceL2", L2}};

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_node_in_dtype(node, 0) == MRT_FLOAT && node->def && node->def->run;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  reduce_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "reduce_f32", run, NULL, &q));
  q->noop_if_empty = mrt_node_int(node, "noop_with_empty_axes") != 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
    if (strcmp(names[i].name, node->op_type) == 0) q->op = names[i].op;
  *out = &q->k;
  return NULL;
}

#define ROW .domain = "", .match = match, .create = create
MRT_CPU_KERNEL(reduce_sum_f32) = {ROW, .op = "ReduceSum"};
MRT_CPU_KERNEL(reduce_mean_f32) = {ROW, .op = "ReduceMean"};
MRT_CPU_KERNEL(reduce_max_f32) = {ROW, .op = "ReduceMax"};
MRT_CPU_KERNEL(reduce_min_f32) = {ROW, .op = "ReduceMin"};
MRT_CPU_KERNEL(reduce_sum_square_f32) = {ROW, .op = "ReduceSumSquare"};
MRT_CPU_KERNEL(reduce_l1_f32) = {ROW, .op = "ReduceL1"};
MRT_CPU_KERNEL(reduce_l2_f32) = {ROW, .op = "ReduceL2"};
