/* Builds a plan: slots for all values, steps, lifetimes, aliases and in-place successors, segments.
 * One forward walk decides what each value is; a second one merges in-place pairs, since that needs
 * all lifetimes. Children (subgraphs) are planned while their parent's slot numbers are known. */
#include <string.h>

#include "plan/plan.h"

static atomic_llong n_builds;
int64_t mrt_plan_build_count(void) { return atomic_load(&n_builds); }

typedef struct builder {
  mrt_plan *plan;
  struct builder *parent;
  mrt_provider *const *providers;
  const mrt_guards *guards;
  mrt_map captured; /* var pointer -> slot + 1 */
  int *bound;       /* [n_symbols]: segment from which the symbol is known; -1 not known */
  int segment, step;
  size_t cap_refs, cap_dims;
  int depth;
} builder;

static mrt_status *new_array(builder *b, size_t n, size_t size, void *out) {
  void *p = mrt_arena_alloc(b->plan->arena, (n ? n : 1) * size);
  *(void **)out = p;
  return p ? NULL : mrt_status_oom();
}

static int slot_of(const builder *b, const mrt_var *v) {
  if (v->graph == b->plan->graph) return v->id;
  return (int)(intptr_t)mrt_map_getn(&b->captured, &v, sizeof v) - 1;
}

static mrt_status *add_ref(builder *b, int slot) {
  mrt_plan *p = b->plan;
  MRT_TRY(mrt_mem_grow(p->alloc, (void **)&p->refs, &b->cap_refs, (size_t)p->n_refs + 1,
                       sizeof *p->refs));
  p->refs[p->n_refs++] = slot;
  return NULL;
}

static void need_bound(void *arg, int symbol) {
  int *const *pair = arg;
  if (pair[0][symbol] < 0) *pair[1] = 0;
}

/* Can this type's bytes be computed from symbols known in the current segment? */
static bool sizable(const builder *b, const mrt_type *t) {
  int ok = 1;
  int *pair[2] = {b->bound, &ok};
  if (!t || t->kind != MRT_KIND_TENSOR || !t->dtype || t->dtype == MRT_STRING || t->rank < 0)
    return false;
  for (int i = 0; i < t->rank && ok; ++i) {
    if (!t->dims[i]) return false;
    mrt_expr_symbols(t->dims[i], need_bound, pair);
  }
  return ok != 0;
}

static mrt_status *add_dims(builder *b, mrt_slot_info *s) {
  mrt_plan *p = b->plan;
  const mrt_type *t = s->var->type;
  s->dims = p->n_dims;
  s->memory = 1 + mrt_provider_of_device(p->providers, p->n_providers, s->var->device);
  MRT_TRY(mrt_mem_grow(p->alloc, (void **)&p->dims, &b->cap_dims, (size_t)(p->n_dims + t->rank + 1),
                       sizeof *p->dims));
  for (int i = 0; i < t->rank; ++i) p->dims[p->n_dims++] = t->dims[i];
  return NULL;
}

/* Symbols that stand alone as a dim become known when the value exists. true: something new. */
static bool bind_type(builder *b, const mrt_type *t, int segment) {
  bool news = false;
  int symbol;
  if (!t || t->kind != MRT_KIND_TENSOR) return false;
  for (int i = 0; i < t->rank; ++i)
    if (t->dims[i] && mrt_expr_is_symbol(t->dims[i], &symbol) && b->bound[symbol] < 0) {
      b->bound[symbol] = segment;
      news = true;
    }
  return news;
}

static int find_root(const mrt_plan *p, int slot) {
  while (p->slots[slot].root != slot) slot = p->slots[slot].root;
  return slot;
}

static void use(builder *b, int slot) {
  if (slot < 0) return;
  int root = find_root(b->plan, slot);
  if (b->plan->slots[slot].last < b->step) b->plan->slots[slot].last = b->step;
  if (b->plan->slots[root].last < b->step) b->plan->slots[root].last = b->step;
}

static mrt_slot_info *init_slot(builder *b, int slot, mrt_slot_kind kind, const mrt_var *v) {
  mrt_slot_info *s = &b->plan->slots[slot];
  *s = (mrt_slot_info){.kind = kind,
                       .var = v,
                       .root = slot,
                       .segment = b->segment,
                       .first = b->step,
                       .last = b->step,
                       .dims = -1,
                       .index = -1,
                       .is_graph_output = v->n_graph_outputs > 0};
  return s;
}

/* Numbers all vars of the graph and of its captures. */
static mrt_status *make_slots(builder *b) {
  mrt_plan *p = b->plan;
  mrt_graph *g = p->graph;
  mrt_var **caps = NULL;
  int n_caps = 0;
  if (b->parent) MRT_TRY(mrt_graph_captures(g, &caps, &n_caps));
  p->n_slots = (int)g->n_vars + n_caps;
  MRT_TRY(new_array(b, (size_t)p->n_slots, sizeof *p->slots, &p->slots));
  for (size_t i = 0; i < g->n_vars; ++i) {
    mrt_var *v = g->vars[i];
    v->id = (int)i;
    if (v->constant && v->n_graph_outputs && mrt_tensor_is_forgotten(v->constant))
      MRT_TRY(mrt_var_align(v)); /* no kernel makes it */
    init_slot(b, v->id, v->constant ? MRT_SLOT_CONST : MRT_SLOT_DYNAMIC, v);
  }
  p->n_captures = n_caps;
  MRT_TRY(new_array(b, (size_t)n_caps, sizeof *p->captures, &p->captures));
  MRT_TRY(new_array(b, (size_t)n_caps, sizeof *p->capture_from, &p->capture_from));
  for (int i = 0; i < n_caps; ++i) {
    int slot = (int)g->n_vars + i;
    init_slot(b, slot, caps[i]->constant ? MRT_SLOT_CONST : MRT_SLOT_CAPTURE, caps[i]);
    p->slots[slot].is_graph_output = false;
    MRT_TRY(mrt_map_setn(&b->captured, &caps[i], sizeof caps[i], (void *)(intptr_t)(slot + 1)));
    p->captures[i] = slot;
    p->capture_from[i] = slot_of(b->parent, caps[i]);
  }
  p->n_inputs = g->n_inputs;
  MRT_TRY(new_array(b, (size_t)g->n_inputs, sizeof *p->inputs, &p->inputs));
  for (int i = 0; i < g->n_inputs; ++i) {
    p->inputs[i] = g->inputs[i]->id;
    p->slots[g->inputs[i]->id].kind = MRT_SLOT_INPUT;
    bind_type(b, g->inputs[i]->type, 0);
  }
  return NULL;
}

/* Decides what each output of the node is. */
static mrt_status *make_outputs(builder *b, mrt_step *s, const mrt_node *node) {
  mrt_plan *p = b->plan;
  bool own = !node->def || !node->def->infer || (node->def->flags & MRT_OP_DYNAMIC);
  s->out = p->n_refs;
  s->n_out = node->n_out;
  for (int i = 0; i < node->n_out; ++i) {
    mrt_var *v = node->out[i];
    MRT_TRY(add_ref(b, v ? v->id : -1));
    if (!v) continue;
    mrt_slot_info *slot = init_slot(b, v->id, MRT_SLOT_DYNAMIC, v);
    if (own || !sizable(b, v->type)) {
      s->check = true;
      s->concrete = s->concrete || !own;
      continue;
    }
    slot->kind = slot->is_graph_output ? MRT_SLOT_OUTPUT : MRT_SLOT_PLANNED;
    MRT_TRY(add_dims(b, slot));
    int from = node->n_in > 0 && node->in[0].var ? slot_of(b, node->in[0].var) : -1;
    if (i == 0 && (node->def->flags & MRT_OP_VIEW) && slot->kind == MRT_SLOT_PLANNED && from >= 0 &&
        v->layout == MRT_LAYOUT_PLAIN && node->in[0].var->layout == MRT_LAYOUT_PLAIN &&
        mrt_device_same(v->device, node->in[0].var->device)) {
      slot->kind = MRT_SLOT_ALIAS;
      slot->root = find_root(p, from);
      s->alias = true;
    }
  }
  return NULL;
}

static mrt_status *build(const mrt_alloc *alloc, mrt_graph *g, builder *parent,
                         mrt_provider *const *providers, int n_providers, const mrt_guards *guards,
                         mrt_plan **out);

static mrt_status *make_children(builder *b, mrt_step *s, const mrt_node *node) {
  mrt_graph *subs[64];
  int n = mrt_node_subgraphs(node, subs, 64);
  if (n <= 0) return NULL;
  if (n > 64) return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than 64 subgraphs in one node");
  MRT_TRY(new_array(b, (size_t)n, sizeof *s->children, &s->children));
  for (int i = 0; i < n; ++i) {
    mrt_var **caps;
    int n_caps;
    MRT_TRY(mrt_graph_captures(subs[i], &caps, &n_caps));
    for (int k = 0; k < n_caps; ++k) use(b, slot_of(b, caps[k]));
    MRT_TRY(build(b->plan->alloc, subs[i], b, b->providers, b->plan->n_providers, b->guards,
                  &s->children[i]));
    s->children[i]->parent = b->plan;
    s->n_children = i + 1;
  }
  return NULL;
}

static mrt_status *make_step(builder *b, mrt_node *node) {
  mrt_plan *p = b->plan;
  mrt_step *s = &p->steps[b->step];
  s->node = node;
  s->segment = b->segment;
  s->in = p->n_refs;
  s->n_in = node->n_in;
  for (int i = 0; i < node->n_in; ++i) {
    int slot = node->in[i].var ? slot_of(b, node->in[i].var) : -1;
    MRT_TRY(add_ref(b, slot));
    use(b, slot);
  }
  MRT_TRY(make_outputs(b, s, node));
  MRT_TRY(make_children(b, s, node));
  const mrt_provider *provider = b->providers[node->provider];
  if (node->def && (node->def->flags & MRT_OP_TRANSFER))
    MRT_TRY(mrt_copy_kernel_create(provider, &s->kernel));
  else
    MRT_TRY(mrt_aligned_kernel_create(provider, node, &s->kernel));
  bool news = false;
  if (s->check)
    for (int i = 0; i < node->n_out; ++i)
      if (node->out[i]) news = bind_type(b, node->out[i]->type, b->segment + 1) || news;
  if (news) ++b->segment;
  return NULL;
}

static bool same_bytes(const mrt_slot_info *a, const mrt_slot_info *b) {
  const mrt_type *x = a->var->type, *y = b->var->type;
  if (x->rank != y->rank || mrt_dtype_bits(x->dtype) != mrt_dtype_bits(y->dtype) ||
      a->var->layout != b->var->layout || !mrt_device_same(a->var->device, b->var->device))
    return false;
  for (int i = 0; i < x->rank; ++i)
    if (x->dims[i] != y->dims[i]) return false;
  return true;
}

/* Lets outputs take over the memory of inputs that die in the step. */
static void merge_inplace(mrt_plan *p, int step) {
  mrt_step *s = &p->steps[step];
  const mrt_op_def *def = s->node->def;
  if (!def || s->n_children) return;
  for (int k = 0; k < 4 && def->inplace[k].in > 0; ++k) {
    int i = def->inplace[k].in - 1, o = def->inplace[k].out;
    if (i >= s->n_in || o >= s->n_out) continue;
    int in = p->refs[s->in + i], out = p->refs[s->out + o];
    if (in < 0 || out < 0 || p->slots[out].kind != MRT_SLOT_PLANNED || p->slots[out].root != out)
      continue;
    int root = find_root(p, in);
    mrt_slot_info *r = &p->slots[root];
    if (r->kind != MRT_SLOT_PLANNED || r->last != step || r->segment != p->slots[out].segment ||
        (p->slots[in].kind != MRT_SLOT_PLANNED && p->slots[in].kind != MRT_SLOT_ALIAS) ||
        !same_bytes(&p->slots[in], &p->slots[out]))
      continue;
    bool shared = false;
    for (int j = 0; j < s->n_in; ++j)
      shared =
          shared || (j != i && p->refs[s->in + j] >= 0 && find_root(p, p->refs[s->in + j]) == root);
    for (int j = 0; j < s->n_out; ++j)
      shared = shared ||
               (j != o && p->refs[s->out + j] >= 0 && find_root(p, p->refs[s->out + j]) == root);
    if (shared) continue;
    p->slots[out].root = root;
    if (r->last < p->slots[out].last) r->last = p->slots[out].last;
  }
}

/* Can all inputs of the step die into its output? */
static bool joinable(const mrt_plan *p, int step) {
  const mrt_step *s = &p->steps[step];
  const int out = s->n_out ? p->refs[s->out] : -1;
  if (!s->kernel || !s->kernel->joins || s->n_children || out < 0) return false;
  const mrt_slot_info *o = &p->slots[out];
  if (o->kind != MRT_SLOT_PLANNED || o->root != out || o->join) return false;
  for (int i = 0; i < s->n_in; ++i) {
    const int in = p->refs[s->in + i], root = in < 0 ? -1 : find_root(p, in);
    if (in < 0) return false;
    const mrt_slot_info *r = &p->slots[root];
    if (r->kind != MRT_SLOT_PLANNED || r->last != step || r->join || r->segment != o->segment ||
        r->memory != o->memory || p->slots[in].var->layout != o->var->layout)
      return false;
    for (int k = 0; k < i; ++k)
      if (find_root(p, p->refs[s->in + k]) == root) return false;
  }
  return s->n_in > 0;
}

static void mark_join(mrt_plan *p, int step) {
  const mrt_step *s = &p->steps[step];
  if (!joinable(p, step)) return;
  p->slots[p->refs[s->out]].join = step + 1;
  for (int i = 0; i < s->n_in; ++i) p->slots[find_root(p, p->refs[s->in + i])].join = step + 1;
}

static mrt_status *make_segments(builder *b) {
  mrt_plan *p = b->plan;
  p->n_segments = b->segment + 1;
  MRT_TRY(new_array(b, (size_t)p->n_segments, sizeof *p->segments, &p->segments));
  for (int i = 0; i < p->n_steps; ++i) {
    mrt_segment *seg = &p->segments[p->steps[i].segment];
    if (!seg->n_steps++) seg->first_step = i;
    for (int k = 0; k < p->steps[i].n_out; ++k) {
      int slot = p->refs[p->steps[i].out + k];
      if (slot >= 0 && p->slots[slot].dims >= 0) ++seg->n_slots;
    }
  }
  for (int i = 0; i < p->n_segments; ++i) {
    MRT_TRY(new_array(b, (size_t)p->segments[i].n_slots, sizeof(int), &p->segments[i].slots));
    MRT_TRY(new_array(b, (size_t)p->n_guards, sizeof(int), &p->segments[i].guards));
    p->segments[i].n_slots = 0;
  }
  for (int i = 0; i < p->n_steps; ++i) {
    mrt_segment *seg = &p->segments[p->steps[i].segment];
    for (int k = 0; k < p->steps[i].n_out; ++k) {
      int slot = p->refs[p->steps[i].out + k];
      if (slot < 0 || p->slots[slot].dims < 0) continue;
      p->slots[slot].root = find_root(p, slot);
      p->slots[slot].index = seg->n_slots;
      seg->slots[seg->n_slots++] = slot;
    }
    for (int k = 0; k < p->n_guards; ++k)
      if (p->guards[k].node == p->steps[i].node) seg->guards[seg->n_guards++] = k;
  }
  return NULL;
}

/* DYNAMIC values are freed after the step that used them last. */
static mrt_status *make_releases(builder *b) {
  mrt_plan *p = b->plan;
  int *head, *next;
  MRT_TRY(new_array(b, (size_t)p->n_steps, sizeof *head, &head));
  MRT_TRY(new_array(b, (size_t)p->n_slots, sizeof *next, &next));
  for (int i = 0; i < p->n_slots; ++i) {
    const mrt_slot_info *s = &p->slots[i];
    if (s->kind != MRT_SLOT_DYNAMIC || s->root != i || s->is_graph_output || s->first < 0 ||
        !s->var->producer || s->last >= p->n_steps)
      continue;
    next[i] = head[s->last];
    head[s->last] = i + 1;
  }
  for (int i = 0; i < p->n_steps; ++i) {
    p->steps[i].release = p->n_refs;
    for (int k = head[i]; k; k = next[k - 1]) MRT_TRY(add_ref(b, k - 1));
    p->steps[i].n_release = p->n_refs - p->steps[i].release;
  }
  return NULL;
}

static void mark(void *arg, int symbol) { ((char *)arg)[symbol] = 1; }

static mrt_status *key_symbols(builder *b) {
  mrt_plan *p = b->plan;
  char *used;
  MRT_TRY(new_array(b, (size_t)p->n_symbols, 1, &used));
  for (int i = 0; i < p->n_dims; ++i) mrt_expr_symbols(p->dims[i], mark, used);
  for (int i = 0; i < p->n_guards; ++i) {
    mrt_expr_symbols(p->guards[i].a, mark, used);
    mrt_expr_symbols(p->guards[i].b, mark, used);
  }
  MRT_TRY(new_array(b, (size_t)p->n_symbols, sizeof *p->symbols, &p->symbols));
  for (int i = 0; i < p->n_symbols; ++i)
    if (used[i]) p->symbols[p->n_key_symbols++] = i;
  return NULL;
}

static mrt_status *own_guards(builder *b) {
  mrt_plan *p = b->plan;
  size_t n = b->guards ? b->guards->n : 0;
  MRT_TRY(new_array(b, n, sizeof *p->guards, &p->guards));
  for (size_t i = 0; i < n; ++i)
    if (b->guards->items[i].node->graph == p->graph) p->guards[p->n_guards++] = b->guards->items[i];
  return NULL;
}

static mrt_status *fill(builder *b) {
  mrt_plan *p = b->plan;
  mrt_graph *g = p->graph;
  p->n_symbols = mrt_symtab_count(g->model->sym);
  MRT_TRY(new_array(b, (size_t)p->n_symbols, sizeof *b->bound, &b->bound));
  for (int i = 0; i < p->n_symbols; ++i)
    b->bound[i] =
        b->parent && b->parent->bound[i] >= 0 && b->parent->bound[i] <= b->parent->segment ? 0 : -1;
  MRT_TRY(make_slots(b));
  p->n_steps = (int)g->n_nodes;
  MRT_TRY(new_array(b, (size_t)p->n_steps, sizeof *p->steps, &p->steps));
  MRT_TRY(own_guards(b));
  for (mrt_node *n = g->first; n; n = n->next, ++b->step) {
    char buf[256];
    MRT_TRY_CTX(make_step(b, n), "%s", mrt_node_describe(n, buf, sizeof buf));
  }
  p->n_outputs = g->n_outputs;
  MRT_TRY(new_array(b, (size_t)g->n_outputs, sizeof *p->outputs, &p->outputs));
  for (int i = 0; i < g->n_outputs; ++i) {
    p->outputs[i] = slot_of(b, g->outputs[i]);
    use(b, p->outputs[i]); /* step == n_steps: lives to the end */
  }
  for (int i = 0; i < p->n_steps; ++i) merge_inplace(p, i);
  for (int i = 0; i < p->n_steps; ++i) mark_join(p, i);
  MRT_TRY(make_segments(b));
  MRT_TRY(make_releases(b));
  return key_symbols(b);
}

static mrt_status *build(const mrt_alloc *alloc, mrt_graph *g, builder *parent,
                         mrt_provider *const *providers, int n_providers, const mrt_guards *guards,
                         mrt_plan **out) {
  mrt_plan *p = NULL;
  *out = NULL;
  if (parent && parent->depth > 64)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *p, (void **)&p));
  p->alloc = alloc;
  p->graph = g;
  p->providers = providers;
  p->n_providers = n_providers;
  p->n_memories = 1;
  for (int i = 0; i < n_providers; ++i)
    if (mrt_provider_has_memory(providers[i])) p->n_memories = n_providers + 1;
  pthread_mutex_init(&p->lock, NULL);
  mrt_fork_guard_add(&p->guard, &p->lock);
  builder b = {.plan = p,
               .parent = parent,
               .providers = providers,
               .guards = guards,
               .depth = parent ? parent->depth + 1 : 0};
  mrt_map_init(&b.captured, alloc);
  mrt_status *st = mrt_arena_create(alloc, &p->arena);
  if (!st) st = fill(&b);
  mrt_map_deinit(&b.captured);
  if (st) {
    mrt_plan_destroy(p);
    return st;
  }
  *out = p;
  return NULL;
}

mrt_status *mrt_plan_build(const mrt_alloc *alloc, mrt_graph *g, mrt_provider *const *providers,
                           int n_providers, const mrt_guards *guards, mrt_plan **out) {
  atomic_fetch_add(&n_builds, 1);
  return build(alloc, g, NULL, providers, n_providers, guards, out);
}

void mrt_plan_destroy(mrt_plan *p) {
  if (!p) return;
  for (int i = 0; i < p->n_steps && p->steps; ++i) {
    mrt_step *s = &p->steps[i];
    for (int k = 0; k < s->n_children; ++k) mrt_plan_destroy(s->children[k]);
    if (s->kernel) s->kernel->destroy(s->kernel);
  }
  for (int i = 0; i < p->n_cache; ++i) mrt_eval_release(p->cache[i]);
  mrt_fork_guard_remove(&p->guard);
  pthread_mutex_destroy(&p->lock);
  mrt_mem_free(p->alloc, p->refs);
  mrt_mem_free(p->alloc, p->dims);
  mrt_arena_destroy(p->arena);
  mrt_mem_free(p->alloc, p);
}
