/* Loop: a body run up to M times or until it says stop. The body reads (iteration, condition,
 * state...) and gives (condition, state..., scan outputs...); scan outputs are stacked. State may
 * be of any kind and may change its shape from one iteration to the next. */
#include "ops/control.h"

static mrt_status *check_body(const mrt_node *node, mrt_graph *g, int *n_state, int *n_scan) {
  *n_state = node->n_in > 2 ? node->n_in - 2 : 0;
  *n_scan = g->n_outputs - 1 - *n_state;
  if (g->n_inputs != *n_state + 2 || *n_scan < 0 || node->n_out > *n_state + *n_scan)
    return MRT_ERR(MRT_INVALID_GRAPH,
                   "Loop body has %d inputs and %d outputs for %d carried values and %d outputs",
                   g->n_inputs, g->n_outputs, *n_state, node->n_out);
  return NULL;
}

static mrt_status *loop_infer(mrt_infer *c) {
  mrt_graph *g = mrt_node_graph(c->node, "body");
  int n_state, n_scan;
  MRT_TRY(check_body(c->node, g, &n_state, &n_scan));
  if (!c->subgraph) return NULL;
  const mrt_type **in = mrt_infer_alloc(c, ((size_t)n_state + 3) * sizeof *in),
                 **out = mrt_infer_alloc(c, ((size_t)g->n_outputs + 1) * sizeof *out);
  if (!in || !out) return mrt_status_oom();
  for (int i = 0; i < n_state; ++i) in[2 + i] = c->in_types[2 + i];
  MRT_TRY(mrt_infer_carried(c, g, n_state + 2, in, 2, n_state, 1, out));
  for (int i = 0; i < n_state; ++i)
    MRT_TRY(mrt_infer_out_type(c, i, in[2 + i] ? in[2 + i] : out[1 + i]));
  for (int i = 0; i < n_scan; ++i) {
    const mrt_type *t;
    MRT_TRY(mrt_type_stacked(c, out[1 + n_state + i], 0, NULL, &t));
    MRT_TRY(mrt_infer_out_type(c, n_state + i, t));
  }
  return NULL;
}

typedef struct loop {
  mrt_graph *body;
  int n_state, n_scan;
  mrt_value **in;   /* [2 + n_state] of the next iteration */
  uint8_t *owned;   /* [n_state]: in[2 + i] is our reference */
  mrt_value **out;  /* [1 + n_state + n_scan] */
  mrt_value **made; /* [trips][n_scan]: results so far */
  size_t n_made, cap_made;
} loop;

static int declared_rank(const mrt_graph *g, int input) {
  const mrt_type *t = g->inputs[input]->type;
  return t && t->kind == MRT_KIND_TENSOR && t->rank == 1 ? 1 : 0;
}

/* One iteration: runs the body, moves its results into the state and the list of scan outputs. */
static mrt_status *iterate(mrt_kctx *c, loop *l, bool *go_on) {
  int n_out = 1 + l->n_state + l->n_scan;
  MRT_TRY(mrt_run_subgraph(c, 0, 2 + l->n_state, l->in, n_out, l->out));
  mrt_status *st = NULL;
  const mrt_tensor *cond = mrt_value_tensor(l->out[0]);
  if (!cond || cond->dtype != MRT_BOOL || mrt_tensor_count(cond) != 1)
    st = MRT_ERR(MRT_INVALID_ARGUMENT, "the condition that the body gives must be one bool");
  else
    *go_on = *(const uint8_t *)cond->data != 0;
  mrt_value_release(l->out[0]);
  for (int i = 0; i < l->n_state; ++i) {
    if (l->owned[i]) mrt_value_release(l->in[2 + i]);
    l->in[2 + i] = l->out[1 + i];
    l->owned[i] = 1;
  }
  if (!st)
    st = mrt_mem_grow(c->alloc, (void **)&l->made, &l->cap_made, l->n_made + (size_t)l->n_scan,
                      sizeof *l->made);
  for (int i = 0; i < l->n_scan; ++i) {
    mrt_value *v = l->out[1 + l->n_state + i];
    if (!st)
      l->made[l->n_made++] = v;
    else
      mrt_value_release(v);
  }
  return st;
}

/* Shape of a scan output when the body never ran: what is declared, 0 for what is not known. */
static mrt_status *empty_scan(mrt_kctx *c, const loop *l, int i) {
  const mrt_type *t = l->body->outputs[1 + l->n_state + i]->type;
  int64_t dims[MRT_MAX_RANK + 1] = {0};
  mrt_tensor *y;
  if (!t || t->kind != MRT_KIND_TENSOR || !t->dtype)
    return MRT_ERR(MRT_FAIL, "the type of scan output %d is not known", i);
  int rank = t->rank < 0 ? 0 : t->rank;
  for (int d = 0; d < rank; ++d)
    if (!mrt_expr_is_const(t->dims[d], &dims[d + 1])) dims[d + 1] = 0;
  return mrt_out_alloc(c, l->n_state + i, t->dtype, rank + 1, dims, &y);
}

static mrt_status *stack(mrt_kctx *c, const loop *l, int i) {
  int64_t trips = (int64_t)(l->n_made / (size_t)l->n_scan), dims[MRT_MAX_RANK + 1];
  if (!trips) return empty_scan(c, l, i);
  mrt_tensor *y, *first = mrt_value_tensor(l->made[i]);
  if (!first) return MRT_ERR(MRT_INVALID_ARGUMENT, "scan output %d is not a tensor", i);
  dims[0] = trips;
  memcpy(dims + 1, first->dims, (size_t)first->rank * sizeof *dims);
  MRT_TRY(mrt_out_alloc(c, l->n_state + i, (mrt_dtype)first->dtype, first->rank + 1, dims, &y));
  if (mrt_dtype_bits((mrt_dtype)y->dtype) < 8) return mrt_no_type("Loop", y->dtype);
  for (int64_t k = 0; k < trips; ++k) {
    const mrt_tensor *t = mrt_value_tensor(l->made[(size_t)k * (size_t)l->n_scan + (size_t)i]);
    if (!t || t->dtype != y->dtype ||
        !mrt_shape_equal(t->rank, t->dims, first->rank, first->dims)) {
      char a[160], b[160];
      return MRT_ERR(MRT_FAIL, "Inconsistent shape in loop output for output.  Expected:%s Got:%s",
                     mrt_shape_format(a, sizeof a, first->rank, first->dims),
                     mrt_shape_format(b, sizeof b, t ? t->rank : 0, t ? t->dims : NULL));
    }
    mrt_tensor part; /* a view of row k */
    mrt_tensor_init_view(&part, (mrt_dtype)y->dtype, first->rank, first->dims,
                         (char *)y->data + (size_t)k * first->bytes, first->bytes, MRT_HOST);
    MRT_TRY(mrt_tensor_copy_into(&part, t));
  }
  return NULL;
}

static mrt_status *deliver(mrt_kctx *c, loop *l) {
  for (int i = 0; i < l->n_state; ++i) {
    mrt_value *v = l->in[2 + i];
    if (!l->owned[i]) MRT_TRY(mrt_value_keep(c->alloc, v, &v));
    l->owned[i] = 0;
    MRT_TRY(mrt_out_set(c, i, v));
  }
  for (int i = 0; i < l->n_scan; ++i)
    if (mrt_out_wanted(c, l->n_state + i)) MRT_TRY(stack(c, l, i));
  return NULL;
}

static mrt_status *setup(mrt_kctx *c, loop *l, int64_t *trips, bool *go_on) {
  const mrt_tensor *m = mrt_in(c, 0), *cond = mrt_in(c, 1);
  l->body = mrt_node_graph(c->node, "body");
  MRT_TRY(check_body(c->node, l->body, &l->n_state, &l->n_scan));
  *trips = INT64_MAX;
  if (m) MRT_TRY(mrt_read_int(m, "M", trips));
  if (cond && mrt_tensor_count(cond) != 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "cond must have one element");
  *go_on = !cond || *(const uint8_t *)cond->data;
  size_t n = (size_t)(l->n_state + l->n_scan + 2);
  MRT_TRY(mrt_scratch(c, n * sizeof *l->in, (void **)&l->in));
  MRT_TRY(mrt_scratch(c, n * sizeof *l->out, (void **)&l->out));
  MRT_TRY(mrt_scratch(c, n, (void **)&l->owned));
  for (int i = 0; i < l->n_state; ++i) {
    l->in[2 + i] = mrt_in_value(c, 2 + i);
    l->owned[i] = 0;
  }
  return NULL;
}

static mrt_status *loop_run(mrt_kctx *c) {
  loop l = {0};
  int64_t trips = 0, number = 0, one = 1;
  bool go_on = false;
  uint8_t flag = 0;
  mrt_tensor iter, cond;
  MRT_TRY(setup(c, &l, &trips, &go_on));
  mrt_tensor_init_view(&iter, MRT_INT64, declared_rank(l.body, 0), &one, &number, 8, MRT_HOST);
  mrt_tensor_init_view(&cond, MRT_BOOL, declared_rank(l.body, 1), &one, &flag, 1, MRT_HOST);
  l.in[0] = &iter.base;
  l.in[1] = &cond.base;
  mrt_status *st = NULL;
  for (; number < trips && go_on && !st; ++number) {
    flag = go_on;
    if (mrt_cancelled(&c->par))
      st = MRT_ERR(MRT_CANCELLED, "Exiting due to terminate flag being set to true.");
    else
      st = iterate(c, &l, &go_on);
  }
  if (!st) st = deliver(c, &l);
  for (int i = 0; i < l.n_state; ++i)
    if (l.owned[i]) mrt_value_release(l.in[2 + i]);
  for (size_t i = 0; i < l.n_made; ++i) mrt_value_release(l.made[i]);
  mrt_mem_free(c->alloc, l.made);
  return st;
}

static const mrt_op_version versions[] = {{1}, {11}, {13}, {16}, {19}, {21}, {23}, {24}, {25}, {0}};
MRT_OP(Loop) = {.domain = "",
                .name = "Loop",
                .doc = "a body run until a count or a condition",
                .in = "M:int64?, cond:bool?, v_initial:any?**",
                .out = "v_final_and_scan_outputs:any**",
                .attrs = "body:graph!",
                .versions = versions,
                .flags = MRT_OP_DYNAMIC | MRT_OP_CONTROL,
                .infer = loop_infer,
                .run = loop_run};
