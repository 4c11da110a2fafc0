/* macart.MatMulQ8: A times an int8 matrix that is widened with one scale per column (or one for
 * all). The reference says what Cast, Mul and MatMul say. */
#include "ops/matmul.h"

static mrt_status *infer(mrt_infer *c) { return mrt_infer_matmul(c, 0, 1, MRT_FLOAT); }

typedef struct job {
  const float *a, *scale;
  const int8_t *b;
  float *y;
  int64_t n, k, scales;
} job;
static void rows(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  for (int64_t r = begin; r < end; ++r) {
    float *y = j->y + r * j->n;
    for (int64_t q = 0; q < j->n; ++q) y[q] = 0;
    for (int64_t k = 0; k < j->k; ++k)
      for (int64_t q = 0; q < j->n; ++q)
        y[q] += j->a[r * j->k + k] * ((float)j->b[k * j->n + q] * j->scale[j->scales == 1 ? 0 : q]);
  }
}
static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *a = mrt_in(c, 0), *b = mrt_in(c, 1), *s = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  job j = {
      .a = a->data, .b = b->data, .scale = s->data, .y = y->data, .scales = mrt_tensor_count(s)};
  if (b->rank != 2 || !a->rank || a->dims[a->rank - 1] != b->dims[0] ||
      (j.scales != 1 && j.scales != b->dims[1]))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulQ8: shapes do not fit");
  j.k = b->dims[0];
  j.n = b->dims[1];
  mrt_par_range(&c->par, j.n ? mrt_tensor_count(y) / j.n : 0, (double)(j.n * j.k) * 0.3, rows, &j);
  return NULL;
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_graph *g = node->graph;
  mrt_var *b = node->in[1].var, *out;
  mrt_node *cast;
  const mrt_attr to = {.name = "to", .kind = MRT_ATTR_INT, .i = MRT_FLOAT};
  MRT_TRY(mrt_graph_add_var(g, NULL, NULL, &out));
  MRT_TRY(mrt_graph_add_node(g, node, "", "Cast", node->name, 1, &b, 1, &out, &cast));
  MRT_TRY(mrt_node_set_attr(cast, &to));
  MRT_TRY(mrt_node_resolve(cast, ops));
  mrt_var *factors[2] = {out, node->in[2].var};
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "Mul", 2, factors, NULL, NULL, &out));
  MRT_TRY(mrt_node_set_input(node, 1, out));
  MRT_TRY(mrt_node_set_n_inputs(node, 2));
  MRT_TRY(mrt_node_set_op(node, "", "MatMul"));
  return mrt_node_resolve(node, ops);
}

static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP_IN(mt, MatMulQ8) = {.domain = "macart",
                           .name = "MatMulQ8",
                           .doc = "A * (B * scale), B of int8",
                           .in = "A:T, B:Q, scale:T",
                           .out = "Y:T",
                           .types = "T=float;Q=int8",
                           .versions = v1,
                           .infer = infer,
                           .run = run,
                           .decompose = decompose};
