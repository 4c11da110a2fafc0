/* Text form of a graph, for MRT_PRINT_IR and tests: one node a line, types behind outputs. */
#include "ir/ir.h"

static void print_type(const mrt_type *t, mrt_str *out) {
  if (!t) {
    mrt_str_add(out, "?");
    return;
  }
  if (t->kind != MRT_KIND_TENSOR) {
    mrt_type_format(t, out);
    return;
  }
  mrt_str_addf(out, "%s", mrt_dtype_name(t->dtype));
  if (t->rank < 0) {
    mrt_str_add(out, "[*]");
    return;
  }
  mrt_str_add(out, "[");
  for (int i = 0; i < t->rank; ++i) {
    if (i) mrt_str_add(out, ", ");
    mrt_expr_format(t->dims[i], out);
  }
  mrt_str_add(out, "]");
}

static void print_graph(const mrt_graph *g, mrt_str *out, int indent) {
  mrt_str_addf(out, "%*sgraph %s(", indent, "", g->name);
  for (int i = 0; i < g->n_inputs; ++i) {
    mrt_str_addf(out, "%s%%%s: ", i ? ", " : "", g->inputs[i]->name);
    print_type(g->inputs[i]->type, out);
  }
  mrt_str_add(out, ") {\n");
  for (const mrt_node *n = g->first; n; n = n->next) {
    mrt_str_addf(out, "%*s", indent + 2, "");
    for (int i = 0; i < n->n_out; ++i) {
      mrt_str_addf(out, "%s%%%s: ", i ? ", " : "", n->out[i] ? n->out[i]->name : "_");
      print_type(n->out[i] ? n->out[i]->type : NULL, out);
    }
    mrt_str_addf(out, " = %s%s%s(", n->domain, *n->domain ? "." : "", n->op_type);
    for (int i = 0; i < n->n_in; ++i)
      mrt_str_addf(out, "%s%s%s", i ? ", " : "",
                   n->in[i].var ? n->in[i].var->constant ? "@" : "%" : "_",
                   n->in[i].var ? n->in[i].var->name : "");
    mrt_str_add(out, ")\n");
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64 && indent < 128; ++i) print_graph(subs[i], out, indent + 4);
  }
  mrt_str_addf(out, "%*s  return", indent, "");
  for (int i = 0; i < g->n_outputs; ++i)
    mrt_str_addf(out, "%s %%%s", i ? "," : "", g->outputs[i]->name);
  mrt_str_addf(out, "\n%*s}\n", indent, "");
}

mrt_status *mrt_model_print(const mrt_model *model, mrt_str *out) {
  print_graph(model->graph, out, 0);
  return mrt_str_check(out);
}
