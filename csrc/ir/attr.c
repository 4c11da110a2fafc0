/* Attributes of nodes. A node's list keeps the order of the source, so that subgraphs are numbered
 * the same for everybody. */
#include <string.h>

#include "ir/op.h"

const mrt_attr *mrt_node_attr(const mrt_node *node, const char *name) {
  for (int i = 0; i < node->n_attrs; ++i)
    if (strcmp(node->attrs[i].name, name) == 0) return &node->attrs[i];
  return NULL;
}
int64_t mrt_node_int(const mrt_node *node, const char *name) {
  const mrt_attr *a = mrt_node_attr(node, name);
  return a && a->kind == MRT_ATTR_INT ? a->i : 0;
}
float mrt_node_float(const mrt_node *node, const char *name) {
  const mrt_attr *a = mrt_node_attr(node, name);
  return a && a->kind == MRT_ATTR_FLOAT ? a->f : 0;
}
const char *mrt_node_str(const mrt_node *node, const char *name) {
  const mrt_attr *a = mrt_node_attr(node, name);
  return a && a->kind == MRT_ATTR_STRING ? a->s : "";
}
const int64_t *mrt_node_ints(const mrt_node *node, const char *name, int *n) {
  const mrt_attr *a = mrt_node_attr(node, name);
  *n = a && a->kind == MRT_ATTR_INTS ? (int)a->n : 0;
  return a && a->kind == MRT_ATTR_INTS ? a->ints : NULL;
}
const float *mrt_node_floats(const mrt_node *node, const char *name, int *n) {
  const mrt_attr *a = mrt_node_attr(node, name);
  *n = a && a->kind == MRT_ATTR_FLOATS ? (int)a->n : 0;
  return a && a->kind == MRT_ATTR_FLOATS ? a->floats : NULL;
}
mrt_graph *mrt_node_graph(const mrt_node *node, const char *name) {
  const mrt_attr *a = mrt_node_attr(node, name);
  return a && a->kind == MRT_ATTR_GRAPH ? a->graph : NULL;
}

void mrt_node_del_attr(mrt_node *node, const char *name) {
  for (int i = 0; i < node->n_attrs; ++i)
    if (strcmp(node->attrs[i].name, name) == 0) {
      memmove(&node->attrs[i], &node->attrs[i + 1],
              (size_t)(node->n_attrs - i - 1) * sizeof *node->attrs);
      --node->n_attrs;
      return;
    }
}

bool mrt_node_take_attr(mrt_node *node, const char *name, mrt_attr *out) {
  const mrt_attr *a = mrt_node_attr(node, name);
  if (!a) return false;
  *out = *a;
  mrt_node_del_attr(node, name);
  return true;
}

static mrt_status *copy_strings(mrt_arena *arena, mrt_attr *to, const mrt_attr *from) {
  const char **s = mrt_arena_alloc(arena, (from->n + 1) * sizeof *s);
  size_t *lens = mrt_arena_alloc(arena, (from->n + 1) * sizeof *lens);
  if (!s || !lens) return mrt_status_oom();
  for (size_t i = 0; i < from->n; ++i) {
    lens[i] = from->string_lens ? from->string_lens[i] : strlen(from->strings[i]);
    s[i] = mrt_arena_strndup(arena, from->strings[i], lens[i]);
    if (!s[i]) return mrt_status_oom();
  }
  to->strings = s;
  to->string_lens = lens;
  return NULL;
}

static mrt_status *deep_copy(mrt_model *m, mrt_arena *arena, mrt_attr *a) {
  const mrt_attr from = *a;
  a->name = mrt_arena_strdup(arena, from.name);
  if (!a->name) return mrt_status_oom();
  if (from.s) {
    a->s = mrt_arena_strndup(arena, from.s, from.kind == MRT_ATTR_STRING ? from.n : strlen(from.s));
    if (!a->s) return mrt_status_oom();
  }
  if (from.kind == MRT_ATTR_INTS && from.n)
    a->ints = mrt_arena_memdup(arena, from.ints, from.n * 8);
  if (from.kind == MRT_ATTR_FLOATS && from.n)
    a->floats = mrt_arena_memdup(arena, from.floats, from.n * 4);
  if ((from.kind == MRT_ATTR_INTS && from.n && !a->ints) ||
      (from.kind == MRT_ATTR_FLOATS && from.n && !a->floats))
    return mrt_status_oom();
  if (from.kind == MRT_ATTR_STRINGS) MRT_TRY(copy_strings(arena, a, &from));
  if (from.kind == MRT_ATTR_TENSOR && from.tensor) {
    mrt_tensor_retain(from.tensor);
    MRT_TRY(mrt_model_own(m, &from.tensor->base));
  }
  return NULL;
}

mrt_status *mrt_node_reserve_attrs(mrt_node *node, size_t n) {
  const size_t most = INT32_MAX / 2, need = n < most ? (size_t)node->n_attrs + n : most;
  if (need <= (size_t)node->cap_attrs) return NULL;
  mrt_attr *all = mrt_arena_alloc(node->graph->model->arena, need * sizeof *all);
  if (!all) return mrt_status_oom();
  if (node->n_attrs) memcpy(all, node->attrs, (size_t)node->n_attrs * sizeof *all);
  node->attrs = all;
  node->cap_attrs = (int)need;
  return NULL;
}

mrt_status *mrt_node_set_attr(mrt_node *node, const mrt_attr *attr) {
  mrt_model *m = node->graph->model;
  mrt_attr copy = *attr;
  MRT_TRY(deep_copy(m, m->arena, &copy));
  for (int i = 0; i < node->n_attrs; ++i)
    if (strcmp(node->attrs[i].name, copy.name) == 0) {
      node->attrs[i] = copy;
      return NULL;
    }
  if (node->n_attrs == node->cap_attrs)
    MRT_TRY(mrt_node_reserve_attrs(node, node->cap_attrs ? (size_t)node->cap_attrs : 1));
  node->attrs[node->n_attrs++] = copy;
  return NULL;
}

mrt_status *mrt_node_set_int(mrt_node *node, const char *name, int64_t v) {
  return mrt_node_set_attr(node, &(mrt_attr){.name = name, .kind = MRT_ATTR_INT, .i = v});
}
mrt_status *mrt_node_set_float(mrt_node *node, const char *name, float v) {
  return mrt_node_set_attr(node, &(mrt_attr){.name = name, .kind = MRT_ATTR_FLOAT, .f = v});
}
mrt_status *mrt_node_set_str(mrt_node *node, const char *name, const char *v) {
  return mrt_node_set_attr(
      node, &(mrt_attr){.name = name, .kind = MRT_ATTR_STRING, .s = v, .n = strlen(v)});
}
mrt_status *mrt_node_set_ints(mrt_node *node, const char *name, int n, const int64_t *v) {
  return mrt_node_set_attr(
      node, &(mrt_attr){.name = name, .kind = MRT_ATTR_INTS, .n = (size_t)n, .ints = v});
}

mrt_status *mrt_node_attr_to_input(mrt_node *node, const char *name, int index) {
  mrt_attr a;
  if (!mrt_node_take_attr(node, name, &a)) return NULL;
  mrt_var *v;
  if (a.kind == MRT_ATTR_INTS)
    MRT_TRY(mrt_graph_const_i64(node->graph, (int)a.n, a.ints, &v));
  else
    MRT_TRY(mrt_graph_const_i64(node->graph, 1, &a.i, &v));
  return mrt_node_set_input(node, index, v);
}

/* Tensors of attributes go with the graph's nodes. */
static bool can_detach(const mrt_node *n) {
  for (int i = 0; i < n->n_attrs; ++i) switch (n->attrs[i].kind) {
      case MRT_ATTR_FLOAT:
      case MRT_ATTR_INT:
      case MRT_ATTR_STRING:
      case MRT_ATTR_FLOATS:
      case MRT_ATTR_INTS:
      case MRT_ATTR_STRINGS: break;
      default: return false;
    }
  return true;
}

mrt_status *mrt_node_detached(const mrt_node *n, const mrt_node **out) {
  static mrt_var there; /* never read: an address */
  mrt_model *m = n->graph->model;
  *out = NULL;
  if (!can_detach(n)) return NULL;
  mrt_node *copy = mrt_model_lasting(m, sizeof *copy);
  mrt_operand *in = mrt_model_lasting(m, ((size_t)n->n_in + 1) * sizeof *in);
  mrt_var **results = mrt_model_lasting(m, ((size_t)n->n_out + 1) * sizeof *results);
  mrt_attr *attrs = mrt_model_lasting(m, ((size_t)n->n_attrs + 1) * sizeof *attrs);
  if (!copy || !in || !results || !attrs) return mrt_status_oom();
  *copy = (mrt_node){.graph = m->graph,
                     .name = mrt_arena_strdup(m->lasting, n->name),
                     .op_type = mrt_arena_strdup(m->lasting, n->op_type),
                     .domain = mrt_arena_strdup(m->lasting, n->domain),
                     .overload = "",
                     .doc = "",
                     .version = n->version,
                     .orig_version = n->orig_version,
                     .def = n->def,
                     .in = in,
                     .n_in = n->n_in,
                     .out = results,
                     .n_out = n->n_out,
                     .attrs = attrs,
                     .n_attrs = n->n_attrs,
                     .cap_attrs = n->n_attrs,
                     .provider = n->provider};
  if (!copy->name || !copy->op_type || !copy->domain) return mrt_status_oom();
  copy->orig_op = copy->op_type;
  for (int i = 0; i < n->n_in; ++i) in[i].var = n->in[i].var ? &there : NULL;
  for (int i = 0; i < n->n_out; ++i) results[i] = n->out[i] ? &there : NULL;
  for (int i = 0; i < n->n_attrs; ++i) {
    attrs[i] = n->attrs[i];
    MRT_TRY(deep_copy(m, m->lasting, &attrs[i]));
  }
  *out = copy;
  return NULL;
}
