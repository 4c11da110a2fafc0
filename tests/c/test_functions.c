/* Operators that are defined by a function: the pass `expand`, with an operator table of its own.
 */
#include "check.h"
#include "pass/pass.h"

/* Cube(x) = Square(x) * x, Square(x) = x * x: the second is a function too. */
static mrt_status *product(mrt_node *n, const mrt_op_table *ops, mrt_var *a) {
  mrt_var *in[2] = {a, n->in[0].var}, *out;
  MRT_TRY(mrt_graph_insert(n->graph, n, ops, "", "Mul", 2, in, NULL, NULL, &out));
  MRT_TRY(mrt_var_replace(n->out[0], out));
  mrt_node_remove(n);
  return NULL;
}
static mrt_status *expand_square(mrt_node *n, const mrt_op_table *ops) {
  return product(n, ops, n->in[0].var);
}
static mrt_status *expand_cube(mrt_node *n, const mrt_op_table *ops) {
  mrt_var *in = n->in[0].var, *out;
  MRT_TRY(mrt_graph_insert(n->graph, n, ops, "t", "Square", 1, &in, NULL, NULL, &out));
  return product(n, ops, out);
}
static mrt_status *expand_endless(mrt_node *n, const mrt_op_table *ops) {
  mrt_var *in = n->in[0].var, *out;
  MRT_TRY(mrt_graph_insert(n->graph, n, ops, "t", "Endless", 1, &in, NULL, NULL, &out));
  return product(n, ops, out);
}
static const mrt_op_version versions[] = {{1}, {0}};
#define ROW(id, fn)                                                                        \
  {                                                                                        \
    .domain = "t", .name = id, .in = "x:T", .out = "y:T", .types = "T=float", .attrs = "", \
    .versions = versions, .expand = fn                                                     \
  }
static const mrt_op_def rows[] = {ROW("Cube", expand_cube), ROW("Endless", expand_endless),
                                  ROW("Square", expand_square)};
static const mrt_op_def *const list[] = {&rows[0], &rows[1], &rows[2]};

static mrt_status *run_expand(const char *op, mrt_model *m, int *fired) {
  mrt_op_table table = {mrt_ops_builtin(), list, 3};
  mrt_pass_ctx ctx = {.model = m, .ops = &table, .level = 0};
  mrt_var *x, *y;
  mrt_node *n;
  MRT_TRY(mrt_model_set_opset(m, "", 21));
  MRT_TRY(mrt_model_set_opset(m, "t", 1));
  MRT_TRY(mrt_graph_create(m, NULL, "g", &m->graph));
  MRT_TRY(mrt_graph_add_var(m->graph, "x", mrt_type_tensor(m, MRT_FLOAT, -1, NULL), &x));
  MRT_TRY(mrt_graph_add_input(m->graph, x));
  MRT_TRY(mrt_graph_add_var(m->graph, "y", NULL, &y));
  MRT_TRY(mrt_graph_add_output(m->graph, y));
  MRT_TRY(mrt_graph_add_node(m->graph, NULL, "t", op, "n", 1, &x, 1, &y, &n));
  MRT_TRY(mrt_node_resolve(n, &table));
  return mrt_pass_run(&ctx, mrt_pass_find("expand"), m->graph, fired);
}

int main(void) {
  int64_t live = mrt_alloc_live_bytes();
  mrt_model *m = NULL;
  int fired = 0;
  CHECK_OK(mrt_model_create(mrt_alloc_default(), &m));
  CHECK_OK(run_expand("Cube", m, &fired));
  CHECK_EQ_I(fired, 2);
  CHECK_EQ_I(m->graph->n_nodes, 2);
  for (mrt_node *n = m->graph->first; n; n = n->next) CHECK_STR(n->op_type, "Mul");
  CHECK_STR(m->graph->outputs[0]->name, "y");
  CHECK_OK(mrt_graph_verify(m->graph));
  mrt_model_destroy(m);
  CHECK_OK(mrt_model_create(mrt_alloc_default(), &m));
  mrt_status *st = run_expand("Endless", m, &fired);
  CHECK_EQ_I(mrt_status_code(st), MRT_FAIL);
  mrt_status_free(st);
  mrt_model_destroy(m);
  CHECK_EQ_I(mrt_alloc_live_bytes(), live);
  return CHECK_DONE();
}
