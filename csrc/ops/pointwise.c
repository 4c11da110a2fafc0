/* macart.Pointwise: its attributes, what they mean as ONNX nodes, and the reading of ONNX nodes. */
#include "ops/pointwise.h"

#include "ops/common.h"

static const mrt_pw_row rows[] = {
#define MRT_PW(op, least, most, attr0, attr1, ew) {#op, least, most, {attr0, attr1}},
#include "ops/pointwise.def"
#undef MRT_PW
};
enum { N_ROWS = sizeof rows / sizeof *rows };

const mrt_pw_row *mrt_pw_rows(int *n) {
  *n = N_ROWS;
  return rows;
}

static int find_row(const char *op) {
  for (int i = 0; i < N_ROWS; ++i)
    if (strcmp(rows[i].op, op) == 0) return i;
  return -1;
}

static bool is_f32(const mrt_var *v) {
  return v && v->type && v->type->kind == MRT_KIND_TENSOR && v->type->dtype == MRT_FLOAT;
}

/* A bound of Clip: absent, or a constant scalar. */
static bool clip_bound(const mrt_node *n, int i, float *out) {
  if (i >= n->n_in || !n->in[i].var) return true;
  const mrt_tensor *t = n->in[i].var->constant;
  if (!t || t->dtype != MRT_FLOAT || t->strided || mrt_tensor_count(t) != 1) return false;
  *out = *(const float *)t->data;
  return true;
}

bool mrt_pw_step_of(const mrt_node *n, mrt_pw_step *s) {
  const int row = *n->domain ? -1 : find_row(n->op_type);
  if (row < 0 || n->n_out < 1 || !is_f32(n->out[0])) return false;
  *s = (mrt_pw_step){.row = row, .n_args = n->n_in};
  if (strcmp(n->op_type, "Clip") == 0) {
    s->n_args = 1;
    s->p[0] = -INFINITY;
    s->p[1] = INFINITY;
    if (!clip_bound(n, 1, &s->p[0]) || !clip_bound(n, 2, &s->p[1])) return false;
  }
  if (strcmp(n->op_type, "Gelu") == 0)
    s->p[0] = strcmp(mrt_node_str(n, "approximate"), "tanh") == 0;
  if (s->n_args < rows[row].min_args || s->n_args > rows[row].max_args) return false;
  for (int i = 0; i < s->n_args; ++i) {
    if (!is_f32(n->in[i].var)) return false;
    s->args[i] = i;
  }
  for (int k = 0; k < 2; ++k)
    if (rows[row].attr[k]) s->p[k] = mrt_node_float(n, rows[row].attr[k]);
  return true;
}

mrt_status *mrt_pw_read(const mrt_node *node, mrt_pw_step *steps, int *n_steps) {
  const mrt_attr *ops = mrt_node_attr(node, "ops");
  int n_counts, n_args, n_params, at = 0;
  const int64_t *counts = mrt_node_ints(node, "counts", &n_counts),
                *args = mrt_node_ints(node, "args", &n_args);
  const float *params = mrt_node_floats(node, "params", &n_params);
  *n_steps = ops ? (int)ops->n : 0;
  if (!ops || ops->kind != MRT_ATTR_STRINGS || *n_steps < 1 || *n_steps > MRT_PW_MAX_STEPS ||
      n_counts != *n_steps || n_params != 2 * *n_steps)
    return MRT_ERR(MRT_INVALID_GRAPH, "Pointwise: attributes do not fit together");
  for (int i = 0; i < *n_steps; ++i) {
    mrt_pw_step *s = &steps[i];
    *s = (mrt_pw_step){.row = find_row(ops->strings[i]),
                       .n_args = (int)counts[i],
                       .p = {params[2 * i], params[2 * i + 1]}};
    if (s->row < 0 || counts[i] < rows[s->row].min_args || counts[i] > rows[s->row].max_args ||
        counts[i] > n_args - at)
      return MRT_ERR(MRT_INVALID_GRAPH, "Pointwise: step %d", i);
    for (int k = 0; k < s->n_args; ++k) {
      const int64_t v = args[at++];
      if (v < 0 || v >= node->n_in + i)
        return MRT_ERR(MRT_INVALID_GRAPH, "Pointwise: step %d reads value %lld", i, (long long)v);
      s->args[k] = (int)v;
    }
  }
  return NULL;
}

mrt_status *mrt_pw_write(mrt_node *node, const mrt_pw_step *steps, int n_steps) {
  const char *names[MRT_PW_MAX_STEPS];
  size_t lens[MRT_PW_MAX_STEPS];
  int64_t counts[MRT_PW_MAX_STEPS], args[MRT_PW_MAX_STEPS * MRT_PW_MAX_ARGS];
  float params[2 * MRT_PW_MAX_STEPS];
  int n_args = 0;
  for (int i = 0; i < n_steps; ++i) {
    names[i] = rows[steps[i].row].op;
    lens[i] = strlen(names[i]);
    counts[i] = steps[i].n_args;
    for (int k = 0; k < steps[i].n_args; ++k) args[n_args++] = steps[i].args[k];
    params[2 * i] = steps[i].p[0];
    params[2 * i + 1] = steps[i].p[1];
  }
  MRT_TRY(mrt_node_set_ints(node, "counts", n_steps, counts));
  MRT_TRY(mrt_node_set_ints(node, "args", n_args, args));
  const mrt_attr floats = {
      .name = "params", .kind = MRT_ATTR_FLOATS, .n = (size_t)(2 * n_steps), .floats = params};
  MRT_TRY(mrt_node_set_attr(node, &floats));
  const mrt_attr strings = {.name = "ops",
                            .kind = MRT_ATTR_STRINGS,
                            .n = (size_t)n_steps,
                            .strings = names,
                            .string_lens = lens};
  return mrt_node_set_attr(node, &strings);
}

/* Puts one step's attributes and extra inputs on the ONNX node that stands for it. */
static mrt_status *dress(mrt_node *n, const mrt_pw_step *s) {
  for (int k = 0; k < 2; ++k)
    if (rows[s->row].attr[k]) MRT_TRY(mrt_node_set_float(n, rows[s->row].attr[k], s->p[k]));
  if (strcmp(n->op_type, "Gelu") == 0 && s->p[0] != 0)
    MRT_TRY(mrt_node_set_str(n, "approximate", "tanh"));
  for (int k = 0; k < 2 && strcmp(n->op_type, "Clip") == 0; ++k) {
    mrt_var *bound;
    if (isinf(s->p[k])) continue;
    MRT_TRY(mrt_graph_const_f32(n->graph, s->p[k], &bound));
    MRT_TRY(mrt_node_set_input(n, 1 + k, bound));
  }
  return NULL;
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_pw_step steps[MRT_PW_MAX_STEPS];
  mrt_var *values[MRT_PW_MAX_STEPS];
  int n_steps;
  MRT_TRY(mrt_pw_read(node, steps, &n_steps));
  for (int i = 0; i < n_steps; ++i) {
    mrt_var *in[MRT_PW_MAX_ARGS];
    mrt_node *n;
    for (int k = 0; k < steps[i].n_args; ++k) {
      const int v = steps[i].args[k];
      in[k] = v < node->n_in ? node->in[v].var : values[v - node->n_in];
    }
    MRT_TRY(mrt_graph_insert(node->graph, node, ops, "", rows[steps[i].row].op, steps[i].n_args, in,
                             node->out[0]->type, &n, &values[i]));
    MRT_TRY(dress(n, &steps[i]));
  }
  mrt_var *out = node->out[0];
  MRT_TRY(mrt_var_replace(out, values[n_steps - 1]));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
MRT_OP_IN(mt, Pointwise) = {.domain = "macart",
                            .name = "Pointwise",
                            .doc = "a group of point-wise operators, tile by tile",
                            .in = "inputs:T*",
                            .out = "output:T",
                            .types = "T=float",
                            .attrs = "ops:strings counts:ints args:ints params:floats",
                            .versions = versions,
                            .flags = MRT_OP_ELEMENTWISE,
                            .inplace = {{1, 0}, {2, 0}, {3, 0}, {4, 0}},
                            .infer = mrt_infer_elementwise,
                            .decompose = decompose};
