/* Models, graphs, vars: life and building. Everything but tensors lives in the model's arena. */
#include <string.h>

#include "ir/model_internal.h"
#include "ir/op.h"

typedef mrt_model_state state;

mrt_status *mrt_model_create(const mrt_alloc *alloc, mrt_model **out) {
  mrt_model *m = NULL;
  mrt_status *st = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *m, (void **)&m));
  m->alloc = alloc;
  m->producer_name = m->producer_version = m->domain = m->doc = m->path = "";
  MRT_TRY_GOTO(st, fail, mrt_mem_new_zero(alloc, sizeof(state), &m->private_state));
  MRT_TRY_GOTO(st, fail, mrt_arena_create(alloc, &m->arena));
  MRT_TRY_GOTO(st, fail, mrt_symtab_create(alloc, &m->sym));
  *out = m;
  return NULL;
fail:
  mrt_model_destroy(m);
  return st;
}

void mrt_model_destroy(mrt_model *m) {
  if (!m) return;
  state *s = m->private_state;
  if (s) {
    for (size_t i = 0; i < s->n; ++i) mrt_value_release(s->owned[i]);
    for (size_t i = 0; i < s->n_graphs; ++i) mrt_graph_free_arrays(s->graphs[i]);
    mrt_mem_free(m->alloc, s->owned);
    mrt_mem_free(m->alloc, s->graphs);
    mrt_mem_free(m->alloc, s);
  }
  mrt_symtab_destroy(m->sym);
  mrt_arena_destroy(m->arena);
  mrt_arena_destroy(m->lasting);
  mrt_mem_free(m->alloc, m);
}

void mrt_graph_free_arrays(mrt_graph *g) {
  const mrt_alloc *alloc = g->model->alloc;
  for (size_t k = 0; k < g->n_vars; ++k) mrt_mem_free(alloc, g->vars[k]->uses);
  mrt_mem_free(alloc, g->vars);
  mrt_mem_free(alloc, g->inputs);
  mrt_mem_free(alloc, g->outputs);
  mrt_map_deinit(&g->by_name);
}

void *mrt_model_lasting(mrt_model *m, size_t size) {
  if (!m->lasting) {
    mrt_status *st = mrt_arena_create(m->alloc, &m->lasting);
    mrt_status_free(st);
    if (st) return NULL;
  }
  return mrt_arena_alloc(m->lasting, size);
}

mrt_status *mrt_model_check(const mrt_model *m) {
  return m->failed ? mrt_status_oom() : mrt_symtab_check(m->sym);
}

mrt_status *mrt_model_own(mrt_model *m, mrt_value *take) {
  state *s = m->private_state;
  mrt_status *st = mrt_mem_grow(m->alloc, (void **)&s->owned, &s->cap, s->n + 1, sizeof *s->owned);
  if (st) {
    mrt_value_release(take);
    return st;
  }
  s->owned[s->n++] = take;
  return NULL;
}

mrt_status *mrt_model_own_once(mrt_model *m) {
  state *s = m->private_state;
  mrt_status *st = NULL;
  size_t n = 0;
  mrt_map seen; /* its keys are the entries of `owned`: the list is closed up at the end */
  mrt_map_init(&seen, m->alloc);
  for (size_t i = 0; i < s->n && !st; ++i) {
    mrt_value **v = &s->owned[i];
    if (atomic_load(&(*v)->refs) == 1) continue;
    if (!mrt_map_getn(&seen, v, sizeof *v)) {
      st = mrt_map_setn(&seen, v, sizeof *v, v);
    } else {
      mrt_value_release(*v);
      *v = NULL;
    }
  }
  mrt_map_deinit(&seen);
  for (size_t i = 0; i < s->n; ++i)
    if (s->owned[i]) s->owned[n++] = s->owned[i];
  s->n = n;
  return st;
}

mrt_value *const *mrt_model_owned(const mrt_model *m, size_t *n) {
  const state *s = m->private_state;
  *n = s->n;
  return s->owned;
}

mrt_status *mrt_graph_create(mrt_model *m, mrt_graph *parent, const char *name, mrt_graph **out) {
  state *s = m->private_state;
  *out = NULL;
  MRT_TRY(mrt_mem_grow(m->alloc, (void **)&s->graphs, &s->cap_graphs, s->n_graphs + 1,
                       sizeof *s->graphs));
  mrt_graph *g = mrt_model_lasting(m, sizeof *g);
  char *copy = mrt_arena_strdup(m->arena, name ? name : "");
  if (!g || !copy) return mrt_status_oom();
  g->model = m;
  g->parent = parent;
  g->name = copy;
  g->doc = "";
  mrt_map_init(&g->by_name, m->alloc);
  s->graphs[s->n_graphs++] = g;
  *out = g;
  return NULL;
}

int64_t mrt_model_opset(const mrt_model *m, const char *domain) {
  if (strcmp(domain, "ai.onnx") == 0) domain = "";
  for (int i = 0; i < m->n_opsets; ++i)
    if (strcmp(m->opsets[i].domain, domain) == 0) return m->opsets[i].version;
  return 0;
}

mrt_status *mrt_model_set_opset(mrt_model *m, const char *domain, int64_t version) {
  if (strcmp(domain, "ai.onnx") == 0) domain = "";
  for (int i = 0; i < m->n_opsets; ++i)
    if (strcmp(m->opsets[i].domain, domain) == 0) {
      m->opsets[i].version = version;
      return NULL;
    }
  mrt_opset *all = mrt_arena_alloc(m->arena, ((size_t)m->n_opsets + 1) * sizeof *all);
  char *copy = mrt_arena_strdup(m->arena, domain);
  if (!all || !copy) return mrt_status_oom();
  if (m->n_opsets) memcpy(all, m->opsets, (size_t)m->n_opsets * sizeof *all);
  all[m->n_opsets++] = (mrt_opset){copy, version};
  m->opsets = all;
  return NULL;
}

/* --- types --- */
const mrt_type *mrt_type_tensor(mrt_model *m, mrt_dtype dtype, int rank,
                                const mrt_expr *const *dims) {
  size_t n = rank > 0 ? (size_t)rank : 0;
  mrt_type *t = mrt_arena_alloc(m->arena, sizeof *t + n * sizeof *dims);
  if (!t) {
    m->failed = true;
    return NULL;
  }
  t->kind = MRT_KIND_TENSOR;
  t->dtype = dtype;
  t->rank = rank;
  const mrt_expr **copy = (const mrt_expr **)(t + 1);
  if (n && dims) memcpy(copy, dims, n * sizeof *dims);
  t->dims = copy;
  return t;
}

const mrt_type *mrt_type_of_kind(mrt_model *m, mrt_kind kind, const mrt_type *elem) {
  mrt_type *t = mrt_arena_alloc(m->arena, sizeof *t);
  if (!t) {
    m->failed = true;
    return NULL;
  }
  t->kind = kind;
  t->elem = elem;
  t->rank = -1;
  return t;
}

const mrt_type *mrt_type_map(mrt_model *m, mrt_dtype key, mrt_dtype value) {
  mrt_type *t = (mrt_type *)mrt_type_of_kind(m, MRT_KIND_MAP, NULL);
  if (t) {
    t->key_dtype = key;
    t->dtype = value;
  }
  return t;
}

const mrt_type *mrt_type_of_value(mrt_model *m, const mrt_value *v) {
  const mrt_expr *dims[MRT_MAX_RANK];
  if (!v) return NULL;
  switch (v->kind) {
    case MRT_KIND_TENSOR: {
      const mrt_tensor *t = (const mrt_tensor *)v;
      for (int i = 0; i < t->rank; ++i) dims[i] = mrt_expr_const(m->sym, t->dims[i]);
      return mrt_type_tensor(m, (mrt_dtype)t->dtype, t->rank, dims);
    }
    case MRT_KIND_SEQUENCE: {
      const mrt_sequence *s = (const mrt_sequence *)v;
      return mrt_type_of_kind(m, MRT_KIND_SEQUENCE,
                              mrt_type_tensor(m, (mrt_dtype)s->elem_dtype, -1, NULL));
    }
    case MRT_KIND_OPTIONAL:
      return mrt_type_of_kind(m, MRT_KIND_OPTIONAL,
                              mrt_type_of_value(m, ((const mrt_optional *)v)->item));
    case MRT_KIND_MAP: {
      const mrt_mapping *p = (const mrt_mapping *)v;
      return mrt_type_map(m, (mrt_dtype)p->keys->dtype, (mrt_dtype)p->values->dtype);
    }
    default: return mrt_type_of_kind(m, (mrt_kind)v->kind, NULL);
  }
}

void mrt_type_format(const mrt_type *t, mrt_str *out) {
  if (!t) {
    mrt_str_add(out, "unknown");
    return;
  }
  switch (t->kind) {
    case MRT_KIND_TENSOR: mrt_str_addf(out, "tensor(%s)", mrt_dtype_name(t->dtype)); break;
    case MRT_KIND_SPARSE: mrt_str_addf(out, "sparse_tensor(%s)", mrt_dtype_name(t->dtype)); break;
    case MRT_KIND_MAP:
      mrt_str_addf(out, "map(%s,tensor(%s))", mrt_dtype_name(t->key_dtype),
                   mrt_dtype_name(t->dtype));
      break;
    case MRT_KIND_SEQUENCE:
    case MRT_KIND_OPTIONAL:
      mrt_str_add(out, t->kind == MRT_KIND_SEQUENCE ? "seq(" : "optional(");
      mrt_type_format(t->elem, out);
      mrt_str_add(out, ")");
      break;
    default: mrt_str_add(out, "none");
  }
}

/* --- vars --- */
mrt_status *mrt_graph_add_var(mrt_graph *g, const char *name, const mrt_type *type, mrt_var **out) {
  mrt_model *m = g->model;
  *out = NULL;
  if (name && mrt_map_get(&g->by_name, name))
    return MRT_ERR(MRT_FAIL, "This is an invalid model. Error: Duplicate definition of name (%s).",
                   name);
  char *copy = name ? mrt_arena_strdup(m->arena, name) : NULL;
  while (!copy) {
    copy = mrt_arena_printf(m->arena, "_v%llu", (unsigned long long)m->next_name++);
    if (!copy) return mrt_status_oom();
    if (mrt_graph_find_outer(g, copy)) copy = NULL;
  }
  MRT_TRY(mrt_mem_grow(m->alloc, (void **)&g->vars, &g->cap_vars, g->n_vars + 1, sizeof *g->vars));
  mrt_var *v = mrt_arena_alloc(m->arena, sizeof *v);
  if (!v) return mrt_status_oom();
  v->graph = g;
  v->name = copy;
  v->type = type;
  v->n_elems = -1;
  v->doc = "";
  MRT_TRY(mrt_map_set(&g->by_name, copy, v));
  g->vars[g->n_vars++] = v;
  *out = v;
  return NULL;
}

static mrt_status *push(mrt_graph *g, mrt_var ***list, int *n, int *cap, mrt_var *v) {
  size_t c = (size_t)*cap;
  MRT_TRY(mrt_mem_grow(g->model->alloc, (void **)list, &c, (size_t)*n + 1, sizeof **list));
  *cap = (int)c;
  (*list)[(*n)++] = v;
  return NULL;
}
mrt_status *mrt_graph_add_input(mrt_graph *g, mrt_var *v) {
  MRT_TRY(push(g, &g->inputs, &g->n_inputs, &g->cap_inputs, v));
  v->is_input = true;
  return NULL;
}
mrt_status *mrt_graph_add_output(mrt_graph *g, mrt_var *v) {
  MRT_TRY(push(g, &g->outputs, &g->n_outputs, &g->cap_outputs, v));
  ++v->n_graph_outputs;
  return NULL;
}

mrt_status *mrt_var_adopt(mrt_var *v, mrt_tensor *t) {
  mrt_model *m = v->graph->model;
  v->type = mrt_type_of_value(m, &t->base);
  v->constant = t;
  v->producer = NULL;
  v->elems = NULL;
  v->n_elems = -1;
  return mrt_model_check(m);
}

mrt_status *mrt_var_set_constant(mrt_var *v, mrt_tensor *take) {
  MRT_TRY(mrt_model_own(v->graph->model, &take->base));
  return mrt_var_adopt(v, take);
}

/* An aligned copy is made again from where it lies. */
typedef struct moved {
  mrt_recipe base;
  mrt_tensor *from;
} moved;
static mrt_status *move_again(const mrt_recipe *r, const mrt_alloc *alloc, mrt_tensor **out) {
  return mrt_tensor_again(alloc, ((const moved *)r)->from, out);
}
static bool can_move(const mrt_recipe *r) { return mrt_tensor_is_intact(((const moved *)r)->from); }
static bool move_origin(const mrt_recipe *r, mrt_str *out) {
  return mrt_tensor_origin(((const moved *)r)->from, out);
}

mrt_status *mrt_var_align(mrt_var *v) {
  mrt_tensor *copy = NULL;
  mrt_model *m = v->graph->model;
  if (!v->constant || mrt_tensor_is_aligned(v->constant)) return NULL;
  if (mrt_tensor_is_forgotten(v->constant)) {
    MRT_TRY(mrt_tensor_again(m->alloc, v->constant, &copy));
    MRT_TRY(mrt_model_own(m, &copy->base));
    v->constant = copy;
    return NULL;
  }
  moved *again = mrt_model_lasting(m, sizeof *again);
  if (!again) return mrt_status_oom();
  *again =
      (moved){{move_again, can_move, 1 + mrt_tensor_steps(v->constant), move_origin}, v->constant};
  MRT_TRY(mrt_tensor_copy(m->alloc, v->constant, &copy));
  if (again->base.steps <= MRT_RECIPE_STEPS) {
    copy->recipe = &again->base;
    mrt_tensor_is_ingredient(v->constant);
  }
  mrt_tensor_drop_pages(v->constant);
  MRT_TRY(mrt_model_own(m, &copy->base));
  v->constant = copy;
  return NULL;
}

mrt_status *mrt_graph_add_constant(mrt_graph *g, const char *name, mrt_tensor *take,
                                   mrt_var **out) {
  mrt_status *st = mrt_graph_add_var(g, name, NULL, out);
  if (st) {
    mrt_tensor_release(take);
    return st;
  }
  return mrt_var_set_constant(*out, take);
}

mrt_var *mrt_graph_find(const mrt_graph *g, const char *name) {
  return mrt_map_get(&g->by_name, name);
}
mrt_var *mrt_graph_find_outer(const mrt_graph *g, const char *name) {
  mrt_var *v = NULL;
  for (; g && !v; g = g->parent) v = mrt_graph_find(g, name);
  return v;
}

mrt_status *mrt_graph_const_i64(mrt_graph *g, int n, const int64_t *v, mrt_var **out) {
  mrt_tensor *t = NULL;
  int64_t dim = n;
  *out = NULL;
  MRT_TRY(mrt_tensor_create(g->model->alloc, MRT_INT64, 1, &dim, &t));
  if (n) memcpy(t->data, v, (size_t)n * 8);
  return mrt_graph_add_constant(g, NULL, t, out);
}
mrt_status *mrt_graph_const_f32(mrt_graph *g, float v, mrt_var **out) {
  mrt_tensor *t = NULL;
  *out = NULL;
  MRT_TRY(mrt_tensor_create(g->model->alloc, MRT_FLOAT, 0, NULL, &t));
  memcpy(t->data, &v, 4);
  return mrt_graph_add_constant(g, NULL, t, out);
}
