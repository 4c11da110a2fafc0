/* Softmax and LogSoftmax of float32. Along the last axis a row is one call; along another one,
 * blocks of neighbouring columns go through the point-wise functions together. */
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/elementwise/elementwise.h"
#include "provider/cpu/rows/rows.h"

enum { BLOCK = 128 }; /* columns that are worked on together */

typedef struct softmax_kernel {
  mrt_kernel k;
  int64_t axis;
  bool flatten, log;
} softmax_kernel;

typedef struct job {
  const mrt_row_kernels *rows;
  const float *x;
  float *y;
  int64_t d, inner;
  bool log;
} job;

static void last_axis(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  for (int64_t o = begin; o < end; ++o) {
    const float *x = j->x + o * j->d;
    float *y = j->y + o * j->d;
    if (!j->log) {
      const float sum = j->rows->exp_sum(y, x, NULL, 1.0f, j->d);
      j->rows->scale(y, y, 1.0f / sum, j->d);
      continue;
    }
    float buf[BLOCK], sum = 0;
    const float top = j->rows->max(x, j->d);
    const float shift[2] = {-top, 0};
    const mrt_ew_fn add = mrt_ew_find(MRT_EW_ADD_C), e = mrt_ew_find(MRT_EW_EXP);
    for (int64_t i = 0; i < j->d; i += BLOCK) {
      const int64_t n = j->d - i < BLOCK ? j->d - i : BLOCK;
      add(buf, x + i, NULL, NULL, shift, n);
      e(buf, buf, NULL, NULL, NULL, n);
      sum += j->rows->sum(buf, n);
    }
    const float lse = logf(sum);
    add(y, x, NULL, NULL, shift, j->d);
    add(y, y, NULL, NULL, (const float[2]){-lse, 0}, j->d);
  }
}

/* Unit: a block of columns of one outer index. */
static void columns(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  const int64_t blocks = (j->inner + BLOCK - 1) / BLOCK;
  const mrt_ew_fn max = mrt_ew_find(MRT_EW_MAX), sub = mrt_ew_find(MRT_EW_SUB),
                  e = mrt_ew_find(MRT_EW_EXP), add = mrt_ew_find(MRT_EW_ADD),
                  mul = mrt_ew_find(MRT_EW_MUL), rec = mrt_ew_find(MRT_EW_RECIP),
                  ln = mrt_ew_find(MRT_EW_LOG);
  float top[BLOCK], sum[BLOCK], tmp[BLOCK];
  for (int64_t u = begin; u < end; ++u) {
    const int64_t at = u % blocks * BLOCK, n = j->inner - at < BLOCK ? j->inner - at : BLOCK;
    const float *x = j->x + u / blocks * j->d * j->inner + at;
    float *y = j->y + (x - j->x);
    memcpy(top, x, (size_t)n * sizeof *top);
    memset(sum, 0, sizeof sum);
    for (int64_t i = 1; i < j->d; ++i) max(top, top, x + i * j->inner, NULL, NULL, n);
    for (int64_t i = 0; i < j->d; ++i) {
      float *to = y + i * j->inner;
      sub(j->log ? tmp : to, x + i * j->inner, top, NULL, NULL, n);
      e(j->log ? tmp : to, j->log ? tmp : to, NULL, NULL, NULL, n);
      add(sum, sum, j->log ? tmp : to, NULL, NULL, n);
    }
    if (j->log)
      ln(sum, sum, NULL, NULL, NULL, n);
    else
      rec(sum, sum, NULL, NULL, NULL, n);
    for (int64_t i = 0; i < j->d; ++i) {
      float *to = y + i * j->inner;
      if (!j->log) {
        mul(to, to, sum, NULL, NULL, n);
        continue;
      }
      sub(to, x + i * j->inner, top, NULL, NULL, n);
      sub(to, to, sum, NULL, NULL, n);
    }
  }
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const softmax_kernel *q = (const softmax_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  if (!y) return NULL;
  MRT_TRY(mrt_fix_axis(q->axis, x->rank, &axis));
  job j = {mrt_row_kernels_get(), x->data, y->data, 1, 1, q->log};
  if (x->rank) {
    j.d = q->flatten ? mrt_dims_product(x->dims, axis, x->rank) : x->dims[axis];
    j.inner = q->flatten ? 1 : mrt_dims_product(x->dims, axis + 1, x->rank);
  }
  const int64_t n = mrt_tensor_count(x);
  if (!n) return NULL;
  if (j.inner == 1) {
    mrt_par_range(&c->par, n / j.d, (double)j.d * 0.6, last_axis, &j);
  } else {
    const int64_t blocks = (j.inner + BLOCK - 1) / BLOCK, outer = n / j.d / j.inner;
    mrt_par_range(&c->par, outer * blocks, (double)n / (double)(outer * blocks) * 0.8, columns, &j);
  }
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_node_in_dtype(node, 0) == MRT_FLOAT;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  softmax_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "softmax_f32", run, NULL, &q));
  q->axis = mrt_node_int(node, "axis");
  q->flatten = mrt_node_int(node, "_flatten") != 0;
  q->log = strcmp(node->op_type, "LogSoftmax") == 0;
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(softmax_f32) = {.domain = "", .op = "Softmax", .match = match, .create = create};
MRT_CPU_KERNEL(log_softmax_f32) = {
    .domain = "", .op = "LogSoftmax", .match = match, .create = create};
