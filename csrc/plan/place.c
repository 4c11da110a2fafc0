/* Placement: after partition every value gets a home (the memory of the provider that makes it),
 * and where a consumer reads it elsewhere a macart.Copy node is put before the first such consumer.
 *
 * Rules: control flow runs on the host, so inputs and outputs of subgraphs are host values; a graph
 * input lives where all its consumers are, if they agree, so that a feed on that device is read in
 * place; constants read on a device are copied there once, now. */
#include "plan/plan.h"

typedef struct scope {
  struct scope *outer;
  mrt_map copies; /* (var, provider) -> copied var of this graph */
} scope;

typedef struct placer {
  mrt_provider *const *providers;
  int n;
  const mrt_op_table *ops;
} placer;

typedef struct copy_key {
  const mrt_var *var;
  intptr_t to; /* provider index; -1 host */
} copy_key;

static int home(const placer *p, const mrt_var *v) {
  return mrt_provider_of_device(p->providers, p->n, v->device);
}
static mrt_device device_of(const placer *p, int index) {
  return index < 0 ? MRT_HOST : p->providers[index]->device;
}

/* Where the node's operand k lives: -1 host. */
static int wanted(const placer *p, const mrt_node *node, int k, bool output) {
  const mrt_provider *prov = p->providers[node->provider];
  if (!mrt_provider_has_memory(prov)) return -1;
  uint64_t host = prov->v->host_operands ? prov->v->host_operands(prov, node, output) : 0;
  return k < MRT_OPERANDS_MAX && (host >> k & 1) ? -1 : node->provider;
}

/* A constant in the memory of provider `to`, as a constant var of its own. */
static mrt_status *copy_constant(const placer *p, mrt_graph *g, mrt_var *v, int to, mrt_var **out) {
  mrt_tensor *t = NULL;
  if (mrt_tensor_is_forgotten(v->constant)) MRT_TRY(mrt_var_align(v));
  MRT_TRY_CTX(mrt_provider_transfer(g->model->alloc, NULL, p->providers[to], v->constant, &t),
              "constant '%s'", v->name);
  MRT_TRY(mrt_graph_add_constant(g, NULL, t, out));
  (*out)->type = v->type;
  (*out)->device = device_of(p, to);
  return NULL;
}

static mrt_status *copy_before(const placer *p, mrt_graph *g, mrt_node *before, mrt_var *v, int to,
                               mrt_var **out) {
  mrt_node *node;
  if (v->type && v->type->kind != MRT_KIND_TENSOR)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "value '%s' is no tensor and would cross devices", v->name);
  MRT_TRY(mrt_graph_insert(g, before, p->ops, "macart", "Copy", 1, &v, v->type, &node, out));
  node->provider = to < 0 ? home(p, v) : to;
  (*out)->device = device_of(p, to);
  return NULL;
}

/* The var that holds v's contents where `to` reads them. */
static mrt_status *reach(const placer *p, scope *s, mrt_graph *g, mrt_node *before, mrt_var *v,
                         int to, mrt_var **out) {
  copy_key key = {v, to};
  int from = home(p, v);
  *out = v;
  if (from == to) return NULL;
  for (const scope *k = s; k; k = k->outer)
    if ((*out = mrt_map_getn(&k->copies, &key, sizeof key))) return NULL;
  if (v->constant && to >= 0) {
    MRT_TRY(copy_constant(p, g, v, to, out));
  } else if (from >= 0 && to >= 0) { /* between devices: two copies, the first may be there */
    mrt_var *host;
    MRT_TRY(reach(p, s, g, before, v, -1, &host));
    MRT_TRY(reach(p, s, g, before, host, to, out));
  } else {
    MRT_TRY(copy_before(p, g, before, v, to, out));
  }
  /* the map borrows its keys */
  copy_key *kept = mrt_arena_memdup(g->model->arena, &key, sizeof key);
  return kept ? mrt_map_setn(&s->copies, kept, sizeof *kept, *out) : mrt_status_oom();
}

/* A main graph's input lives where all its readers are. */
static void place_input(const placer *p, mrt_var *v) {
  int at = -2;
  for (size_t i = 0; i < v->n_uses; ++i) {
    int w = wanted(p, v->uses[i].node, v->uses[i].index, false);
    if (at != -2 && at != w) at = -1;
    if (at == -2) at = w;
  }
  v->device = device_of(p, at == -2 || v->n_graph_outputs ? -1 : at);
}

static mrt_status *place_graph(const placer *p, scope *outer, mrt_graph *g, int depth);

static mrt_status *place_node(const placer *p, scope *s, mrt_node *node, int depth) {
  mrt_graph *subs[64], *g = node->graph;
  for (int i = 0; i < node->n_in; ++i) {
    mrt_var *v = node->in[i].var, *here;
    if (!v) continue;
    MRT_TRY(reach(p, s, g, node, v, wanted(p, node, i, false), &here));
    if (here != v) MRT_TRY(mrt_node_set_input(node, i, here));
  }
  for (int i = 0; i < node->n_out; ++i)
    if (node->out[i]) node->out[i]->device = device_of(p, wanted(p, node, i, true));
  int n = mrt_node_subgraphs(node, subs, 64);
  for (int i = 0; i < n && i < 64; ++i) MRT_TRY(place_graph(p, s, subs[i], depth + 1));
  return NULL;
}

static mrt_status *place_body(const placer *p, scope *s, mrt_graph *g, int depth) {
  for (size_t i = 0; i < g->n_vars; ++i) g->vars[i]->device = MRT_HOST;
  for (int i = 0; i < g->n_inputs && !g->parent; ++i) place_input(p, g->inputs[i]);
  for (mrt_node *n = g->first; n; n = n->next) {
    char buf[256];
    MRT_TRY_CTX(place_node(p, s, n, depth), "%s", mrt_node_describe(n, buf, sizeof buf));
  }
  for (int i = 0; i < g->n_outputs && g->parent; ++i) { /* results of a subgraph: host */
    mrt_var *v = g->outputs[i], *host;
    MRT_TRY(reach(p, s, g, NULL, v, -1, &host));
    if (host == v) continue;
    --v->n_graph_outputs;
    ++host->n_graph_outputs;
    g->outputs[i] = host;
  }
  return NULL;
}

static mrt_status *place_graph(const placer *p, scope *outer, mrt_graph *g, int depth) {
  if (depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  scope s = {.outer = outer};
  mrt_map_init(&s.copies, g->model->alloc);
  mrt_status *st = place_body(p, &s, g, depth);
  mrt_map_deinit(&s.copies);
  return st;
}

mrt_status *mrt_place(mrt_graph *g, mrt_provider *const *providers, int n_providers,
                      const mrt_op_table *ops) {
  bool any = false;
  for (int i = 0; i < n_providers; ++i) any = any || mrt_provider_has_memory(providers[i]);
  if (!any) return NULL;
  placer p = {providers, n_providers, ops};
  return place_graph(&p, NULL, g, 0);
}
