/* Operator rows: look-up, signature strings, resolving nodes against their row. */
#include "ir/op.h"

#include <stdlib.h>
#include <string.h>

static int compare(const char *domain, const char *name, const mrt_op_def *d) {
  int c = strcmp(domain, d->domain);
  return c ? c : strcmp(name, d->name);
}

const mrt_op_def *mrt_op_find(const mrt_op_table *table, const char *domain, const char *name) {
  for (; table; table = table->next) {
    size_t lo = 0, hi = table->n_rows;
    while (lo < hi) {
      size_t mid = (lo + hi) / 2;
      int c = compare(domain, name, table->rows[mid]);
      if (!c) return table->rows[mid];
      if (c < 0)
        hi = mid;
      else
        lo = mid + 1;
    }
  }
  return NULL;
}

/* ---- signatures ---- */
static const char *skip(const char *p, const char *set) { return p + strspn(p, set); }

bool mrt_sig_param(const char *sig, int k, mrt_param *out) {
  const char *p = sig;
  for (int i = 0; p && *(p = skip(p, ", ")); ++i) {
    mrt_param x = {.name = p};
    x.name_len = strcspn(p, ":,");
    p += x.name_len;
    if (*p == ':') ++p;
    x.type = p;
    x.type_len = strcspn(p, "?*, ");
    p += x.type_len;
    x.optional = *p == '?';
    if (x.optional) ++p;
    x.variadic = *p == '*';
    x.heterogeneous = x.variadic && p[1] == '*';
    p = skip(p, "?*");
    if (i == k || (x.variadic && i <= k)) {
      *out = x;
      return true;
    }
  }
  return false;
}

void mrt_sig_arity(const char *sig, int *min, int *max) {
  mrt_param p;
  *min = *max = 0;
  for (int k = 0; mrt_sig_param(sig, k, &p); ++k) {
    if (p.variadic) {
      if (!p.optional) *min = k + 1;
      *max = -1;
      return;
    }
    *max = k + 1;
    if (!p.optional) *min = k + 1;
  }
}

static bool in_list(const char *list, size_t len, const char *word) {
  size_t n = strlen(word);
  for (const char *p = list; p < list + len;) {
    p = skip(p, ", ");
    size_t k = strcspn(p, ", ;");
    if (k == n && memcmp(p, word, n) == 0) return true;
    if (!k) break;
    p += k;
  }
  return false;
}

bool mrt_sig_allows(const mrt_op_def *def, const char *type, size_t len, mrt_dtype dtype) {
  if (len > 4 && (memcmp(type, "seq(", 4) == 0 || memcmp(type, "opt(", 4) == 0)) {
    type += 4;
    len -= 5;
  }
  if (len == 3 && memcmp(type, "any", 3) == 0) return true;
  for (const char *p = def->types; p && *p;) {
    p = skip(p, "; ");
    size_t n = strcspn(p, "=");
    size_t all = strcspn(p, ";");
    if (n == len && memcmp(p, type, n) == 0)
      return in_list(p + n + 1, all - n - 1, mrt_dtype_name(dtype));
    p += all;
  }
  return mrt_dtype_from_name(type, len) == dtype;
}

static const struct {
  const char *word;
  mrt_attr_kind kind;
} attr_words[] = {
    {"float", MRT_ATTR_FLOAT},   {"int", MRT_ATTR_INT},         {"string", MRT_ATTR_STRING},
    {"tensor", MRT_ATTR_TENSOR}, {"graph", MRT_ATTR_GRAPH},     {"floats", MRT_ATTR_FLOATS},
    {"ints", MRT_ATTR_INTS},     {"strings", MRT_ATTR_STRINGS}, {"tensors", MRT_ATTR_TENSORS},
    {"graphs", MRT_ATTR_GRAPHS}, {"sparse", MRT_ATTR_SPARSE},   {"type", MRT_ATTR_TYPE}};

bool mrt_sig_attr(const char *attrs, int k, mrt_attr_spec *out) {
  const char *p = attrs;
  for (int i = 0; p && *(p = skip(p, " ")); ++i) {
    mrt_attr_spec s = {.name = p};
    s.name_len = strcspn(p, ": ");
    p += s.name_len + (p[s.name_len] == ':');
    size_t n = strcspn(p, "!= ");
    for (size_t w = 0; w < sizeof attr_words / sizeof *attr_words; ++w)
      if (strlen(attr_words[w].word) == n && memcmp(attr_words[w].word, p, n) == 0)
        s.kind = attr_words[w].kind;
    p += n;
    s.required = *p == '!';
    if (*p == '!') ++p;
    if (*p == '=') {
      s.has_default = true;
      s.def_text = ++p;
      s.def_len = strcspn(p, " ");
      p += s.def_len;
    }
    if (i == k) {
      *out = s;
      return true;
    }
  }
  return false;
}

/* ---- resolve ---- */
static mrt_status *set_default(mrt_node *node, const mrt_attr_spec *s) {
  char name[64], text[128];
  if (s->name_len >= sizeof name || s->def_len >= sizeof text)
    return MRT_ERR(MRT_FAIL, "attribute table of %s", node->op_type);
  memcpy(name, s->name, s->name_len);
  name[s->name_len] = 0;
  memcpy(text, s->def_text, s->def_len);
  text[s->def_len] = 0;
  mrt_attr a = {.name = name, .kind = s->kind, .is_default = true};
  int64_t ints[8];
  if (s->kind == MRT_ATTR_INT) {
    a.i = strtoll(text, NULL, 10);
  } else if (s->kind == MRT_ATTR_FLOAT) {
    a.f = strtof(text, NULL);
  } else if (s->kind == MRT_ATTR_STRING) {
    a.s = text;
    a.n = s->def_len;
  } else if (s->kind == MRT_ATTR_INTS) {
    for (char *p = text; *p && a.n < 8; p += *p == ',') ints[a.n++] = strtoll(p, &p, 10);
    a.ints = ints;
  } else {
    return MRT_ERR(MRT_FAIL, "attribute table of %s: default of '%s'", node->op_type, name);
  }
  return mrt_node_set_attr(node, &a);
}

static bool has_attr(const mrt_node *node, const mrt_attr_spec *s) {
  for (int i = 0; i < node->n_attrs; ++i)
    if (strlen(node->attrs[i].name) == s->name_len &&
        memcmp(node->attrs[i].name, s->name, s->name_len) == 0)
      return true;
  return false;
}

static mrt_status *reserve_defaults(mrt_node *node, const mrt_op_def *def) {
  mrt_attr_spec s;
  size_t n = 0;
  for (int k = 0; mrt_sig_attr(def->attrs, k, &s); ++k) n += s.has_default && !has_attr(node, &s);
  return n ? mrt_node_reserve_attrs(node, n) : NULL;
}

static mrt_status *check_attrs(mrt_node *node, const mrt_op_def *def) {
  mrt_attr_spec s;
  for (int i = 0; i < node->n_attrs; ++i) {
    const mrt_attr *a = &node->attrs[i];
    bool known = a->name[0] == '_'; /* private ones, made by upgrades */
    for (int k = 0; !known && mrt_sig_attr(def->attrs, k, &s); ++k)
      known = strlen(a->name) == s.name_len && memcmp(a->name, s.name, s.name_len) == 0;
    if (!known)
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Error Unrecognized attribute: %s for operator %s",
                     a->name, node->op_type);
  }
  MRT_TRY(reserve_defaults(node, def));
  for (int k = 0; mrt_sig_attr(def->attrs, k, &s); ++k) {
    const mrt_attr *have = NULL;
    for (int i = 0; i < node->n_attrs && !have; ++i)
      if (strlen(node->attrs[i].name) == s.name_len &&
          memcmp(node->attrs[i].name, s.name, s.name_len) == 0)
        have = &node->attrs[i];
    if (have && have->kind != s.kind && have->kind != MRT_ATTR_REF)
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Mismatched attribute type in '%s : %s'", node->name,
                     have->name);
    if (!have && s.required)
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Required attribute '%.*s' is missing.",
                     (int)s.name_len, s.name);
    if (!have && s.has_default) MRT_TRY(set_default(node, &s));
  }
  return NULL;
}

mrt_status *mrt_node_resolve(mrt_node *node, const mrt_op_table *ops) {
  int min, max, n_in = node->n_in;
  const mrt_op_def *def = mrt_op_find(ops, node->domain, node->op_type);
  if (!def)
    return MRT_ERR(MRT_INVALID_GRAPH, "No Op registered for %s with domain_version of %d",
                   node->op_type, node->version);
  mrt_sig_arity(def->in, &min, &max);
  while (n_in > min && !node->in[n_in - 1].var) --n_in; /* trailing absent ones do not count */
  if (n_in < min || (max >= 0 && n_in > max))
    return MRT_ERR(
        MRT_INVALID_GRAPH,
        "This is an invalid model. Error Node(%s) with schema(%s::%s:%d) has input size %d not in "
        "range [min=%d, max=%d].",
        node->name, node->domain, node->op_type, node->version, n_in, min,
        max < 0 ? 2147483647 : max);
  for (int k = 0; k < node->n_in; ++k)
    if (!node->in[k].var) {
      mrt_param p;
      if (mrt_sig_param(def->in, k, &p) && !p.optional)
        return MRT_ERR(MRT_INVALID_GRAPH,
                       "This is an invalid model. Error Node (%s)'s input %d is marked single but "
                       "has an empty string in the graph",
                       node->name, k);
    }
  mrt_sig_arity(def->out, &min, &max);
  if (node->n_out < min || (max >= 0 && node->n_out > max))
    return MRT_ERR(
        MRT_INVALID_GRAPH,
        "This is an invalid model. Error Node(%s) with schema(%s::%s:%d) has output size %d not in "
        "range [min=%d, max=%d].",
        node->name, node->domain, node->op_type, node->version, node->n_out, min,
        max < 0 ? 2147483647 : max);
  MRT_TRY(check_attrs(node, def));
  node->def = def;
  return NULL;
}

/* Element type of what stands in a tensor, sequence or optional position. */
static mrt_dtype element(const mrt_type *t) {
  while (t && (t->kind == MRT_KIND_SEQUENCE || t->kind == MRT_KIND_OPTIONAL)) t = t->elem;
  return t ? t->dtype : MRT_UNDEFINED;
}

/* Kernels trust that a tensor stands where the signature has one, not a sequence, a map or an
 * optional that may be empty. */
static mrt_status *check_kind(const mrt_node *node, int i, const mrt_param *p) {
  const mrt_type *t = node->in[i].var->type;
  mrt_kind want = MRT_KIND_TENSOR;
  if (!t || t->kind == MRT_KIND_NONE || (p->type_len == 3 && memcmp(p->type, "any", 3) == 0))
    return NULL;
  if (p->type_len > 4 && memcmp(p->type, "seq(", 4) == 0) want = MRT_KIND_SEQUENCE;
  if (p->type_len > 4 && memcmp(p->type, "opt(", 4) == 0) want = MRT_KIND_OPTIONAL;
  if (t->kind == want) return NULL;
  mrt_str name;
  mrt_str_init(&name, mrt_alloc_default());
  mrt_type_format(t, &name);
  mrt_status *st = MRT_ERR(
      MRT_INVALID_GRAPH,
      "This is an invalid model. Type Error: Type '%s' of input parameter (%s) of operator (%s) in "
      "node (%s) is invalid.",
      mrt_str_cstr(&name), node->in[i].var->name, node->op_type, node->name);
  mrt_str_deinit(&name);
  return st;
}

mrt_status *mrt_node_check_types(const mrt_node *node) {
  const mrt_op_def *def = node->def;
  struct {
    const char *name;
    size_t len;
    mrt_dtype dtype;
  } bound[8];
  int n_bound = 0;
  for (int i = 0; i < node->n_in; ++i) {
    mrt_param p;
    if (!node->in[i].var || !mrt_sig_param(def->in, i, &p) || p.heterogeneous) continue;
    MRT_TRY(check_kind(node, i, &p));
    mrt_dtype d = element(node->in[i].var->type);
    if (!d) continue;
    if (!mrt_sig_allows(def, p.type, p.type_len, d))
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Type Error: Type 'tensor(%s)' of input parameter "
                     "(%s) of operator (%s) in "
                     "node (%s) is invalid.",
                     mrt_dtype_name(d), node->in[i].var->name, node->op_type, node->name);
    size_t len = p.type_len;
    const char *name = p.type;
    if (len > 4 && name[3] == '(') {
      name += 4;
      len -= 5;
    }
    int k = 0;
    while (k < n_bound && !(bound[k].len == len && memcmp(bound[k].name, name, len) == 0)) ++k;
    if (k < n_bound && bound[k].dtype != d)
      return MRT_ERR(MRT_FAIL,
                     "Type Error: Type parameter (%.*s) of Optype (%s) bound to different types "
                     "(tensor(%s) and tensor(%s) in node (%s).",
                     (int)len, name, node->op_type, mrt_dtype_name(bound[k].dtype),
                     mrt_dtype_name(d), node->name);
    bool variable = len <= 2 && name[0] >= 'A' && name[0] <= 'Z';
    if (k == n_bound && n_bound < 8 && variable) {
      bound[n_bound].name = name;
      bound[n_bound].len = len;
      bound[n_bound++].dtype = d;
    }
  }
  return NULL;
}

/* ---- what kernels call ---- */
mrt_status *mrt_out_alloc(mrt_kctx *c, int i, mrt_dtype dtype, int rank, const int64_t *dims,
                          mrt_tensor **out) {
  return c->v->alloc_output(c, i, dtype, rank, dims, out);
}
mrt_status *mrt_out_set(mrt_kctx *c, int i, mrt_value *take) {
  return c->v->set_output(c, i, take);
}
mrt_status *mrt_scratch(mrt_kctx *c, size_t bytes, void **out) {
  return c->v->scratch(c, bytes, out);
}
mrt_status *mrt_run_subgraph(mrt_kctx *c, int which, int n_in, mrt_value *const *in, int n_out,
                             mrt_value **out) {
  if (!c->v->run_subgraph) return MRT_ERR(MRT_NOT_IMPLEMENTED, "subgraphs outside a session");
  return c->v->run_subgraph(c, which, n_in, in, n_out, out);
}
