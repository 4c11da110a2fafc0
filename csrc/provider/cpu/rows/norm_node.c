/* LayerNormalization and RMSNormalization of float32: the axes from `axis` on are one row. */
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/rows/rows.h"

typedef struct norm_kernel {
  mrt_kernel k;
  int64_t axis;
  float eps;
  bool rms;
} norm_kernel;

typedef struct job {
  const mrt_row_kernels *rows;
  mrt_row_norm norm;
  const float *x;
  float *y, *mean, *inv;
} job;

static void norm_rows(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  for (int64_t o = begin; o < end; ++o)
    j->rows->norm(&j->norm, j->y + o * j->norm.n, j->x + o * j->norm.n,
                  j->mean ? j->mean + o : NULL, j->inv ? j->inv + o : NULL);
}

/* Does it broadcast to the row by being the row (leading 1s apart)? */
static bool is_row(const mrt_tensor *t, const mrt_tensor *x, int axis) {
  if (!t) return true;
  if (t->rank < x->rank - axis) return false;
  for (int i = 1; i <= t->rank; ++i) {
    const int64_t want = i <= x->rank - axis ? x->dims[x->rank - i] : 1;
    if (t->dims[t->rank - i] != want) return false;
  }
  return true;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const norm_kernel *q = (const norm_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0), *g = mrt_in(c, 1), *b = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0), *mean = mrt_out(c, 1), *inv = mrt_out(c, 2);
  int axis;
  MRT_TRY(mrt_fix_axis(q->axis, x->rank, &axis));
  if (!is_row(g, x, axis) || !is_row(b, x, axis) || !y) return c->node->def->run(c);
  const int64_t d = mrt_dims_product(x->dims, axis, x->rank);
  job j = {.rows = mrt_row_kernels_get(),
           .norm = {.n = d,
                    .eps = q->eps,
                    .rms = q->rms,
                    .gain = g ? g->data : NULL,
                    .bias = b ? b->data : NULL},
           .x = x->data,
           .y = y->data,
           .mean = mean ? mean->data : NULL,
           .inv = inv ? inv->data : NULL};
  mrt_par_range(&c->par, mrt_dims_product(x->dims, 0, axis), (double)d * 0.3 + 20, norm_rows, &j);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  for (int i = 0; i < node->n_in; ++i)
    if (node->in[i].var && mrt_node_in_dtype(node, i) != MRT_FLOAT) return false;
  if (mrt_node_int(node, "stash_type") != MRT_FLOAT) return false; /* of mean and deviation */
  return node->def && node->def->run;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  norm_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "norm_f32", run, NULL, &q));
  q->axis = mrt_node_int(node, "axis");
  q->eps = mrt_node_float(node, "epsilon");
  q->rms = strcmp(node->op_type, "RMSNormalization") == 0;
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(layer_norm_f32) = {
    .domain = "", .op = "LayerNormalization", .match = match, .create = create};
MRT_CPU_KERNEL(rms_norm_f32) = {
    .domain = "", .op = "RMSNormalization", .match = match, .create = create};
