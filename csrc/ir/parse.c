/* Parses the text form of ir/text.h by recursive descent. Names are bound as they are read: an
 * operand that no earlier line defines is an error that gives its line. */
#include <stdlib.h>
#include <string.h>

#include "ir/lexer.h"
#include "ir/text.h"

#define MAX_DEPTH    64
#define MAX_OPERANDS 4096

typedef struct parser {
  mrt_lexer x;
  mrt_model *model;
  const mrt_op_table *ops;
  int depth;
} parser;

static const char *text(const parser *p) { return mrt_str_cstr(&p->x.text); }
static const char *keep(parser *p) {
  return mrt_arena_strndup(p->model->arena, text(p), p->x.text.len);
}

/* ---- dims ---- */
static mrt_status *parse_sum(parser *p, const mrt_expr **out);

static mrt_status *parse_call(parser *p, int fn, const mrt_expr **out) {
  const mrt_expr *(*const make[])(mrt_symtab *, const mrt_expr *, const mrt_expr *) = {
      mrt_expr_floordiv, mrt_expr_ceildiv, mrt_expr_min, mrt_expr_max};
  const mrt_expr *a, *b;
  MRT_TRY(mrt_lex_next(&p->x));
  MRT_TRY(mrt_lex_expect(&p->x, "("));
  MRT_TRY(parse_sum(p, &a));
  MRT_TRY(mrt_lex_expect(&p->x, ","));
  MRT_TRY(parse_sum(p, &b));
  *out = make[fn](p->model->sym, a, b);
  return mrt_lex_expect(&p->x, ")");
}

static mrt_status *parse_int(parser *p, int64_t *out) {
  char *end;
  if (p->x.tok != MRT_TOK_NUMBER) return mrt_lex_error(&p->x, "an integer");
  *out = strtoll(text(p), &end, 10);
  if (*end) return mrt_lex_error(&p->x, "an integer");
  return mrt_lex_next(&p->x);
}

static mrt_status *parse_atom(parser *p, const mrt_expr **out) {
  static const char *const fns[] = {"floordiv", "ceildiv", "min", "max"};
  int64_t n;
  *out = NULL;
  if (p->x.tok == MRT_TOK_NUMBER) {
    MRT_TRY(parse_int(p, &n));
    *out = mrt_expr_const(p->model->sym, n);
    return NULL;
  }
  for (int i = 0; i < 4; ++i)
    if (mrt_lex_is(&p->x, fns[i])) return parse_call(p, i, out);
  if (p->x.tok != MRT_TOK_WORD && p->x.tok != MRT_TOK_SYMBOL) return mrt_lex_error(&p->x, "a dim");
  const mrt_expr *e = mrt_expr_symbol(p->model->sym, text(p));
  MRT_TRY(mrt_lex_next(&p->x));
  bool power;
  MRT_TRY(mrt_lex_accept(&p->x, "^", &power));
  *out = e;
  if (!power) return NULL;
  MRT_TRY(parse_int(p, &n));
  for (; n > 1 && *out; --n) *out = mrt_expr_mul(p->model->sym, *out, e);
  return NULL;
}

static mrt_status *parse_sum(parser *p, const mrt_expr **out) {
  bool more = true;
  *out = NULL;
  if (++p->depth > MAX_DEPTH) return mrt_lex_error(&p->x, "less nesting");
  for (const mrt_expr *sum = NULL; more;) {
    const mrt_expr *term, *factor;
    MRT_TRY(parse_atom(p, &term));
    for (;;) {
      MRT_TRY(mrt_lex_accept(&p->x, "*", &more));
      if (!more) break;
      MRT_TRY(parse_atom(p, &factor));
      term = mrt_expr_mul(p->model->sym, term, factor);
    }
    *out = sum = *out ? mrt_expr_add(p->model->sym, sum, term) : term;
    MRT_TRY(mrt_lex_accept(&p->x, "+", &more));
  }
  --p->depth;
  return mrt_symtab_check(p->model->sym);
}

/* ---- types ---- */
/* "[N, 4]", "[*]"; what stands before it has been read. */
static mrt_status *parse_dims(parser *p, int *rank, const mrt_expr **dims) {
  bool found;
  *rank = 0;
  MRT_TRY(mrt_lex_expect(&p->x, "["));
  MRT_TRY(mrt_lex_accept(&p->x, "*", &found));
  if (found) *rank = -1;
  while (!mrt_lex_is(&p->x, "]")) {
    if (*rank < 0 || *rank == MRT_MAX_RANK) return mrt_lex_error(&p->x, "']'");
    if (*rank) MRT_TRY(mrt_lex_expect(&p->x, ","));
    MRT_TRY(mrt_lex_accept(&p->x, "?", &found));
    dims[*rank] = NULL;
    if (!found) MRT_TRY(parse_sum(p, &dims[*rank]));
    ++*rank;
  }
  return mrt_lex_next(&p->x);
}

static mrt_status *parse_dtype(parser *p, mrt_dtype *out) {
  *out = mrt_dtype_from_name(text(p), p->x.text.len);
  if (p->x.tok != MRT_TOK_WORD || (!*out && !mrt_lex_is(&p->x, "undefined")))
    return mrt_lex_error(&p->x, "an element type");
  return mrt_lex_next(&p->x);
}

static mrt_status *parse_type(parser *p, const mrt_type **out) {
  const mrt_expr *dims[MRT_MAX_RANK];
  const mrt_type *elem;
  mrt_dtype key, dtype;
  int rank;
  bool found, sequence = mrt_lex_is(&p->x, "seq");
  *out = NULL;
  if (++p->depth > MAX_DEPTH) return mrt_lex_error(&p->x, "less nesting");
  MRT_TRY(mrt_lex_accept(&p->x, "?", &found));
  if (found) {
    --p->depth;
    return NULL;
  }
  if (sequence || mrt_lex_is(&p->x, "optional")) {
    MRT_TRY(mrt_lex_next(&p->x));
    MRT_TRY(mrt_lex_expect(&p->x, "("));
    MRT_TRY(parse_type(p, &elem));
    *out = mrt_type_of_kind(p->model, sequence ? MRT_KIND_SEQUENCE : MRT_KIND_OPTIONAL, elem);
    MRT_TRY(mrt_lex_expect(&p->x, ")"));
  } else if (mrt_lex_is(&p->x, "map")) {
    MRT_TRY(mrt_lex_next(&p->x));
    MRT_TRY(mrt_lex_expect(&p->x, "("));
    MRT_TRY(parse_dtype(p, &key));
    MRT_TRY(mrt_lex_expect(&p->x, ","));
    MRT_TRY(parse_dtype(p, &dtype));
    *out = mrt_type_map(p->model, key, dtype);
    MRT_TRY(mrt_lex_expect(&p->x, ")"));
  } else {
    bool sparse;
    MRT_TRY(mrt_lex_accept(&p->x, "sparse", &sparse));
    MRT_TRY(parse_dtype(p, &dtype));
    MRT_TRY(parse_dims(p, &rank, dims));
    mrt_type *t = (mrt_type *)mrt_type_tensor(p->model, dtype, rank, dims);
    if (t && sparse) t->kind = MRT_KIND_SPARSE;
    *out = t;
  }
  --p->depth;
  return mrt_model_check(p->model);
}

/* ---- tensors ---- */
static mrt_status *parse_element(parser *p, mrt_tensor *t, int64_t i) {
  mrt_dtype d = (mrt_dtype)t->dtype;
  char *end = NULL;
  if (d == MRT_STRING) {
    if (p->x.tok != MRT_TOK_STRING) return mrt_lex_error(&p->x, "a string");
    MRT_TRY(
        mrt_string_create(p->model->alloc, text(p), p->x.text.len, &((mrt_string **)t->data)[i]));
  } else if (d == MRT_BOOL) {
    if (!mrt_lex_is(&p->x, "true") && !mrt_lex_is(&p->x, "false"))
      return mrt_lex_error(&p->x, "true or false");
    ((uint8_t *)t->data)[i] = mrt_lex_is(&p->x, "true");
  } else if (d == MRT_UINT64) {
    ((uint64_t *)t->data)[i] = strtoull(text(p), &end, 10);
  } else if (mrt_dtype_is_int(d)) {
    mrt_elem_set_i64(d, t->data, i, strtoll(text(p), &end, 10));
  } else {
    mrt_elem_set_f64(d, t->data, i, strtod(text(p), &end));
  }
  if (end && (*end || end == text(p))) return mrt_lex_error(&p->x, "a number");
  return mrt_lex_next(&p->x);
}

/* "float[2] = [1, 2]" or, in attributes, "float[2] [1, 2]". */
static mrt_status *parse_tensor(parser *p, mrt_tensor **out) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int64_t sizes[MRT_MAX_RANK];
  mrt_dtype dtype;
  int rank;
  bool found;
  mrt_tensor *t = NULL;
  mrt_status *st = NULL;
  *out = NULL;
  MRT_TRY(parse_dtype(p, &dtype));
  MRT_TRY(parse_dims(p, &rank, dims));
  MRT_TRY(mrt_lex_accept(&p->x, "=", &found));
  if (mrt_lex_is(&p->x, "..."))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "line %d: the constant's contents were elided", p->x.line);
  for (int i = 0; i < rank; ++i)
    if (!mrt_expr_is_const(dims[i], &sizes[i]))
      return mrt_lex_error(&p->x, "a constant of known shape");
  if (rank < 0) return mrt_lex_error(&p->x, "a constant of known shape");
  MRT_TRY(mrt_lex_expect(&p->x, "["));
  MRT_TRY(mrt_tensor_create(p->model->alloc, dtype, rank, sizes, &t));
  memset(t->data, 0, t->bytes);
  int64_t n = mrt_tensor_count(t);
  for (int64_t i = 0; i < n; ++i) {
    if (i) MRT_TRY_GOTO(st, fail, mrt_lex_expect(&p->x, ","));
    MRT_TRY_GOTO(st, fail, parse_element(p, t, i));
  }
  MRT_TRY_GOTO(st, fail, mrt_lex_expect(&p->x, "]"));
  *out = t;
  return NULL;
fail:
  mrt_tensor_release(t);
  return st;
}

/* ---- attributes ---- */
static mrt_status *parse_graph(parser *p, mrt_graph *parent, mrt_graph **out);

static mrt_status *parse_float(parser *p, float *out) {
  char *end;
  bool word = p->x.tok == MRT_TOK_WORD && (text(p)[0] == 'i' || text(p)[0] == 'n');
  if (p->x.tok != MRT_TOK_NUMBER && !word) return mrt_lex_error(&p->x, "a float");
  *out = strtof(text(p), &end);
  if (strcmp(end, "f") != 0) return mrt_lex_error(&p->x, "a float like 1.5f");
  return mrt_lex_next(&p->x);
}

/* ints[...], floats[...], strings[...]; the word has been read. */
static mrt_status *parse_list(parser *p, mrt_attr *a) {
  size_t cap = 0;
  mrt_arena *arena = p->model->arena;
  int64_t *ints = NULL;
  float *floats = NULL;
  const char **strings = NULL;
  size_t *lens = NULL;
  MRT_TRY(mrt_lex_expect(&p->x, "["));
  for (a->n = 0; !mrt_lex_is(&p->x, "]"); ++a->n) {
    if (a->n) MRT_TRY(mrt_lex_expect(&p->x, ","));
    if (a->n == cap) { /* grows by copying in the arena: lists are short */
      size_t more = cap ? 2 * cap : 8;
      int64_t *i2 = mrt_arena_alloc(arena, more * sizeof *i2);
      float *f2 = mrt_arena_alloc(arena, more * sizeof *f2);
      const char **s2 = mrt_arena_alloc(arena, more * sizeof *s2);
      size_t *l2 = mrt_arena_alloc(arena, more * sizeof *l2);
      if (!i2 || !f2 || !s2 || !l2) return mrt_status_oom();
      if (cap) {
        memcpy(i2, ints, cap * sizeof *i2);
        memcpy(f2, floats, cap * sizeof *f2);
        memcpy(s2, strings, cap * sizeof *s2);
        memcpy(l2, lens, cap * sizeof *l2);
      }
      ints = i2, floats = f2, strings = s2, lens = l2, cap = more;
    }
    if (a->kind == MRT_ATTR_INTS) {
      MRT_TRY(parse_int(p, &ints[a->n]));
    } else if (a->kind == MRT_ATTR_FLOATS) {
      MRT_TRY(parse_float(p, &floats[a->n]));
    } else {
      if (p->x.tok != MRT_TOK_STRING) return mrt_lex_error(&p->x, "a string");
      lens[a->n] = p->x.text.len;
      if (!(strings[a->n] = keep(p))) return mrt_status_oom();
      MRT_TRY(mrt_lex_next(&p->x));
    }
  }
  a->ints = ints;
  a->floats = floats;
  a->strings = strings;
  a->string_lens = lens;
  return mrt_lex_next(&p->x);
}

static mrt_status *parse_value(parser *p, mrt_graph *g, mrt_attr *a) {
  static const char *const lists[] = {"floats", "ints", "strings"};
  for (int i = 0; i < 3; ++i)
    if (mrt_lex_is(&p->x, lists[i])) {
      a->kind = (mrt_attr_kind)(MRT_ATTR_FLOATS + i);
      MRT_TRY(mrt_lex_next(&p->x));
      return parse_list(p, a);
    }
  if (p->x.tok == MRT_TOK_STRING) {
    a->kind = MRT_ATTR_STRING;
    a->n = p->x.text.len;
    if (!(a->s = keep(p))) return mrt_status_oom();
    return mrt_lex_next(&p->x);
  }
  if (mrt_lex_is(&p->x, "graph")) {
    a->kind = MRT_ATTR_GRAPH;
    return parse_graph(p, g, &a->graph);
  }
  if (mrt_lex_is(&p->x, "tensor")) {
    a->kind = MRT_ATTR_TENSOR;
    MRT_TRY(mrt_lex_next(&p->x));
    return parse_tensor(p, &a->tensor);
  }
  if (mrt_lex_is(&p->x, "type")) {
    a->kind = MRT_ATTR_TYPE;
    MRT_TRY(mrt_lex_next(&p->x));
    return parse_type(p, &a->type);
  }
  size_t n = p->x.text.len;
  if (n && text(p)[n - 1] == 'f') {
    a->kind = MRT_ATTR_FLOAT;
    return parse_float(p, &a->f);
  }
  a->kind = MRT_ATTR_INT;
  return parse_int(p, &a->i);
}

static mrt_status *parse_attrs(parser *p, mrt_node *node) {
  bool more;
  MRT_TRY(mrt_lex_accept(&p->x, "{", &more));
  while (more) {
    mrt_attr a = {0};
    if (p->x.tok != MRT_TOK_WORD) return mrt_lex_error(&p->x, "an attribute's name");
    if (!(a.name = keep(p))) return mrt_status_oom();
    MRT_TRY(mrt_lex_next(&p->x));
    MRT_TRY(mrt_lex_expect(&p->x, "="));
    MRT_TRY(parse_value(p, node->graph, &a));
    mrt_status *st = mrt_node_set_attr(node, &a);
    mrt_tensor_release(a.tensor);
    MRT_TRY(st);
    MRT_TRY(mrt_lex_accept(&p->x, ",", &more));
    if (!more) MRT_TRY(mrt_lex_expect(&p->x, "}"));
  }
  return NULL;
}

/* ---- nodes and graphs ---- */
static mrt_status *parse_operand(parser *p, mrt_graph *g, mrt_var **out) {
  bool absent;
  *out = NULL;
  MRT_TRY(mrt_lex_accept(&p->x, "_", &absent));
  if (absent) return NULL;
  if (p->x.tok != MRT_TOK_VAR && p->x.tok != MRT_TOK_CONST)
    return mrt_lex_error(&p->x, "%value, @constant or _");
  *out = mrt_graph_find_outer(g, text(p));
  if (!*out)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "line %d: '%s' is not defined", p->x.line, text(p));
  return mrt_lex_next(&p->x);
}

/* "%a: float[N], _" before the equals sign. */
static mrt_status *parse_results(parser *p, mrt_graph *g, mrt_var **vars, int *n) {
  bool more = true, absent;
  for (*n = 0; more; ++*n) {
    if (*n == MAX_OPERANDS) return mrt_lex_error(&p->x, "fewer results");
    vars[*n] = NULL;
    MRT_TRY(mrt_lex_accept(&p->x, "_", &absent));
    if (!absent) {
      if (p->x.tok != MRT_TOK_VAR) return mrt_lex_error(&p->x, "%value");
      MRT_TRY_CTX(mrt_graph_add_var(g, text(p), NULL, &vars[*n]), "line %d", p->x.line);
      MRT_TRY(mrt_lex_next(&p->x));
      bool typed;
      MRT_TRY(mrt_lex_accept(&p->x, ":", &typed));
      if (typed) MRT_TRY(parse_type(p, &vars[*n]->type));
    }
    MRT_TRY(mrt_lex_accept(&p->x, ",", &more));
  }
  return NULL;
}

static mrt_status *parse_node(parser *p, mrt_graph *g) {
  mrt_var **vars = mrt_arena_alloc(p->model->arena, 2 * MAX_OPERANDS * sizeof *vars);
  mrt_var **in = vars + MAX_OPERANDS;
  int n_out, n_in = 0, line;
  mrt_node *node;
  if (!vars) return mrt_status_oom();
  MRT_TRY(parse_results(p, g, vars, &n_out));
  MRT_TRY(mrt_lex_expect(&p->x, "="));
  if (p->x.tok != MRT_TOK_WORD) return mrt_lex_error(&p->x, "an operator");
  line = p->x.line;
  char *op = (char *)keep(p);
  if (!op) return mrt_status_oom();
  MRT_TRY(mrt_lex_next(&p->x));
  MRT_TRY(mrt_lex_expect(&p->x, "("));
  for (; !mrt_lex_is(&p->x, ")"); ++n_in) {
    if (n_in == MAX_OPERANDS) return mrt_lex_error(&p->x, "fewer operands");
    if (n_in) MRT_TRY(mrt_lex_expect(&p->x, ","));
    MRT_TRY(parse_operand(p, g, &in[n_in]));
  }
  MRT_TRY(mrt_lex_next(&p->x));
  char *dot = strrchr(op, '.');
  if (dot) *dot = 0;
  MRT_TRY(mrt_graph_add_node(g, NULL, dot ? op : "", dot ? dot + 1 : op, "", n_in, in, n_out, vars,
                             &node));
  MRT_TRY(parse_attrs(p, node));
  if (p->x.tok == MRT_TOK_STRING) {
    if (!(node->name = keep(p))) return mrt_status_oom();
    MRT_TRY(mrt_lex_next(&p->x));
  }
  const mrt_op_def *def = mrt_op_find(p->ops, node->domain, node->op_type);
  for (int i = 0; def && def->versions && def->versions[i].since; ++i)
    node->version = node->orig_version = def->versions[i].since;
  MRT_TRY_CTX(mrt_node_resolve(node, p->ops), "line %d", line);
  return NULL;
}

static mrt_status *parse_body(parser *p, mrt_graph *g) {
  bool more;
  while (!mrt_lex_is(&p->x, "return")) {
    if (p->x.tok == MRT_TOK_CONST) {
      mrt_tensor *t;
      mrt_var *v;
      const char *name = keep(p);
      if (!name) return mrt_status_oom();
      MRT_TRY(mrt_lex_next(&p->x));
      MRT_TRY(mrt_lex_expect(&p->x, ":"));
      MRT_TRY(parse_tensor(p, &t));
      MRT_TRY_CTX(mrt_graph_add_constant(g, name, t, &v), "line %d", p->x.line);
    } else if (p->x.tok == MRT_TOK_VAR || mrt_lex_is(&p->x, "_")) {
      MRT_TRY(parse_node(p, g));
    } else {
      return mrt_lex_error(&p->x, "a node, a constant or 'return'");
    }
  }
  MRT_TRY(mrt_lex_next(&p->x));
  for (more = !mrt_lex_is(&p->x, "}"); more;) {
    mrt_var *v;
    MRT_TRY(parse_operand(p, g, &v));
    if (!v) return mrt_lex_error(&p->x, "%value");
    MRT_TRY(mrt_graph_add_output(g, v));
    MRT_TRY(mrt_lex_accept(&p->x, ",", &more));
  }
  return mrt_lex_expect(&p->x, "}");
}

static mrt_status *parse_graph(parser *p, mrt_graph *parent, mrt_graph **out) {
  mrt_graph *g;
  if (++p->depth > MAX_DEPTH) return mrt_lex_error(&p->x, "less nesting");
  MRT_TRY(mrt_lex_expect(&p->x, "graph"));
  bool named = p->x.tok == MRT_TOK_WORD || p->x.tok == MRT_TOK_STRING;
  MRT_TRY(mrt_graph_create(p->model, parent, named ? text(p) : "", &g));
  *out = g;
  if (!parent) p->model->graph = g;
  if (named) MRT_TRY(mrt_lex_next(&p->x));
  MRT_TRY(mrt_lex_expect(&p->x, "("));
  for (int i = 0; !mrt_lex_is(&p->x, ")"); ++i) {
    mrt_var *v;
    if (i) MRT_TRY(mrt_lex_expect(&p->x, ","));
    if (p->x.tok != MRT_TOK_VAR) return mrt_lex_error(&p->x, "%value");
    MRT_TRY_CTX(mrt_graph_add_var(g, text(p), NULL, &v), "line %d", p->x.line);
    MRT_TRY(mrt_lex_next(&p->x));
    MRT_TRY(mrt_lex_expect(&p->x, ":"));
    MRT_TRY(parse_type(p, &v->type));
    MRT_TRY(mrt_graph_add_input(g, v));
  }
  MRT_TRY(mrt_lex_next(&p->x));
  MRT_TRY(mrt_lex_expect(&p->x, "{"));
  --p->depth;
  return parse_body(p, g);
}

static mrt_status *parse_model(parser *p) {
  bool more;
  mrt_graph *g;
  MRT_TRY(mrt_lex_expect(&p->x, "model"));
  MRT_TRY(mrt_lex_expect(&p->x, "opset"));
  for (more = p->x.tok != MRT_TOK_END && !mrt_lex_is(&p->x, "graph"); more;) {
    const char *domain = "";
    int64_t version;
    if (p->x.tok == MRT_TOK_WORD) {
      if (!(domain = keep(p))) return mrt_status_oom();
      MRT_TRY(mrt_lex_next(&p->x));
    }
    MRT_TRY(parse_int(p, &version));
    MRT_TRY(mrt_model_set_opset(p->model, domain, version));
    MRT_TRY(mrt_lex_accept(&p->x, ",", &more));
  }
  MRT_TRY(parse_graph(p, NULL, &g));
  if (p->x.tok != MRT_TOK_END) return mrt_lex_error(&p->x, "end of text");
  return mrt_graph_verify(g);
}

mrt_status *mrt_model_parse(const mrt_alloc *alloc, const mrt_op_table *ops, const char *source,
                            mrt_model **out) {
  parser p = {.ops = ops};
  *out = NULL;
  MRT_TRY(mrt_model_create(alloc, &p.model));
  mrt_status *st = mrt_lex_init(&p.x, alloc, source);
  if (!st) st = parse_model(&p);
  mrt_lex_deinit(&p.x);
  if (st) {
    mrt_model_destroy(p.model);
    return st;
  }
  *out = p.model;
  return NULL;
}
