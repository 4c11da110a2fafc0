/* Prints the text form of ir/text.h. */
#include "ir/text.h"

#include <math.h>
#include <string.h>

typedef struct printer {
  const mrt_symtab *sym;
  int64_t max_elems;
  mrt_str *out;
} printer;

static void print_quoted(const char *s, size_t n, mrt_str *out) {
  mrt_str_add(out, "\"");
  for (size_t i = 0; i < n; ++i) {
    unsigned char c = (unsigned char)s[i];
    if (c == '"' || c == '\\')
      mrt_str_addf(out, "\\%c", c);
    else if (c == '\n')
      mrt_str_add(out, "\\n");
    else if (c < 32 || c == 127)
      mrt_str_addf(out, "\\x%02x", c);
    else
      mrt_str_addn(out, s + i, 1);
  }
  mrt_str_add(out, "\"");
}

static void print_name(const char *s, mrt_str *out) {
  bool plain = *s != 0;
  for (const char *p = s; *p && plain; ++p)
    plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
            strchr("_./:-", *p);
  if (plain)
    mrt_str_add(out, s);
  else
    print_quoted(s, strlen(s), out);
}

static void print_type(const printer *p, const mrt_type *t) {
  static const char *const names[] = {"?", "", "seq", "map", "optional", "sparse"};
  if (!t || t->kind == MRT_KIND_NONE) {
    mrt_str_add(p->out, "?");
    return;
  }
  if (t->kind == MRT_KIND_SEQUENCE || t->kind == MRT_KIND_OPTIONAL) {
    mrt_str_addf(p->out, "%s(", names[t->kind]);
    print_type(p, t->elem);
    mrt_str_add(p->out, ")");
    return;
  }
  if (t->kind == MRT_KIND_MAP) {
    mrt_str_addf(p->out, "map(%s, %s)", mrt_dtype_name(t->key_dtype), mrt_dtype_name(t->dtype));
    return;
  }
  mrt_str_addf(p->out, "%s%s[", t->kind == MRT_KIND_SPARSE ? "sparse " : "",
               mrt_dtype_name(t->dtype));
  if (t->rank < 0) mrt_str_add(p->out, "*");
  for (int i = 0; i < t->rank; ++i) {
    if (i) mrt_str_add(p->out, ", ");
    mrt_expr_format(p->sym, t->dims[i], p->out);
  }
  mrt_str_add(p->out, "]");
}

static void print_double(double v, int digits, mrt_str *out) {
  if (isnan(v))
    mrt_str_add(out, "nan");
  else if (isinf(v))
    mrt_str_add(out, v < 0 ? "-inf" : "inf");
  else
    mrt_str_addf(out, "%.*g", digits, v);
}

static void print_element(const mrt_tensor *t, int64_t i, mrt_str *out) {
  mrt_dtype d = (mrt_dtype)t->dtype;
  if (d == MRT_STRING) {
    const mrt_string *s = ((mrt_string *const *)t->data)[i];
    print_quoted(mrt_string_bytes(s), mrt_string_len(s), out);
  } else if (d == MRT_UINT64) {
    mrt_str_addf(out, "%llu", (unsigned long long)((const uint64_t *)t->data)[i]);
  } else if (d == MRT_BOOL) {
    mrt_str_add(out, ((const uint8_t *)t->data)[i] ? "true" : "false");
  } else if (mrt_dtype_is_int(d)) {
    mrt_str_addf(out, "%lld", (long long)mrt_elem_get_i64(d, t->data, i));
  } else {
    print_double(mrt_elem_get_f64(d, t->data, i), d == MRT_DOUBLE ? 17 : 9, out);
  }
}

/* "[1, 2, 3]", or "..." for what is too long, complex, given up, or on another device. */
static void print_contents(const printer *p, const mrt_tensor *t) {
  mrt_dtype d = (mrt_dtype)t->dtype;
  int64_t n = mrt_tensor_count(t);
  if ((p->max_elems >= 0 && n > p->max_elems) || d == MRT_COMPLEX64 || d == MRT_COMPLEX128 ||
      !mrt_device_is_host(t->device) || t->strided || mrt_tensor_is_forgotten(t)) {
    mrt_str_add(p->out, "...");
    return;
  }
  mrt_str_add(p->out, "[");
  for (int64_t i = 0; i < n; ++i) {
    if (i) mrt_str_add(p->out, ", ");
    print_element(t, i, p->out);
  }
  mrt_str_add(p->out, "]");
}

static void print_tensor(const printer *p, const mrt_tensor *t) {
  mrt_str_addf(p->out, "%s[", mrt_dtype_name((mrt_dtype)t->dtype));
  for (int i = 0; i < t->rank; ++i)
    mrt_str_addf(p->out, "%s%lld", i ? ", " : "", (long long)t->dims[i]);
  mrt_str_add(p->out, "] ");
  print_contents(p, t);
}

static void print_graph(const printer *p, const mrt_graph *g, int indent);

static void print_list(const printer *p, const mrt_attr *a) {
  mrt_str_add(p->out, a->kind == MRT_ATTR_INTS     ? "ints["
                      : a->kind == MRT_ATTR_FLOATS ? "floats["
                                                   : "strings[");
  for (size_t i = 0; i < a->n; ++i) {
    if (i) mrt_str_add(p->out, ", ");
    if (a->kind == MRT_ATTR_INTS) {
      mrt_str_addf(p->out, "%lld", (long long)a->ints[i]);
    } else if (a->kind == MRT_ATTR_FLOATS) {
      print_double((double)a->floats[i], 9, p->out);
      mrt_str_add(p->out, "f");
    } else {
      print_quoted(a->strings[i], a->string_lens[i], p->out);
    }
  }
  mrt_str_add(p->out, "]");
}

static void print_attr(const printer *p, const mrt_attr *a, int indent) {
  switch (a->kind) {
    case MRT_ATTR_FLOAT:
      print_double((double)a->f, 9, p->out);
      mrt_str_add(p->out, "f");
      break;
    case MRT_ATTR_INT: mrt_str_addf(p->out, "%lld", (long long)a->i); break;
    case MRT_ATTR_STRING: print_quoted(a->s, a->n, p->out); break;
    case MRT_ATTR_TENSOR:
      mrt_str_add(p->out, "tensor ");
      print_tensor(p, a->tensor);
      break;
    case MRT_ATTR_GRAPH: print_graph(p, a->graph, indent); break;
    case MRT_ATTR_TYPE:
      mrt_str_add(p->out, "type ");
      print_type(p, a->type);
      break;
    case MRT_ATTR_INTS:
    case MRT_ATTR_FLOATS:
    case MRT_ATTR_STRINGS: print_list(p, a); break;
    default: mrt_str_add(p->out, "..."); /* tensors, graphs, sparse, references: shown as elided */
  }
}

static void print_var(const printer *p, const mrt_var *v) {
  mrt_str_add(p->out, !v ? "_" : v->constant ? "@" : "%");
  if (v) print_name(v->name, p->out);
}

static void print_node(const printer *p, const mrt_node *n, int indent) {
  mrt_str_addf(p->out, "%*s", indent, "");
  for (int i = 0; i < n->n_out; ++i) {
    if (i) mrt_str_add(p->out, ", ");
    print_var(p, n->out[i]);
    if (!n->out[i]) continue;
    mrt_str_add(p->out, ": ");
    print_type(p, n->out[i]->type);
  }
  mrt_str_addf(p->out, " = %s%s%s(", n->domain, *n->domain ? "." : "", n->op_type);
  for (int i = 0; i < n->n_in; ++i) {
    if (i) mrt_str_add(p->out, ", ");
    print_var(p, n->in[i].var);
  }
  mrt_str_add(p->out, ")");
  int shown = 0;
  for (int i = 0; i < n->n_attrs; ++i) {
    if (n->attrs[i].is_default) continue;
    mrt_str_addf(p->out, "%s%s = ", shown++ ? ", " : " {", n->attrs[i].name);
    print_attr(p, &n->attrs[i], indent + 2);
  }
  if (shown) mrt_str_add(p->out, "}");
  if (*n->name) {
    mrt_str_add(p->out, " ");
    print_quoted(n->name, strlen(n->name), p->out);
  }
  mrt_str_add(p->out, "\n");
}

static void print_constants(const printer *p, const mrt_graph *g, int indent) {
  for (size_t i = 0; i < g->n_vars; ++i) {
    const mrt_var *v = g->vars[i];
    if (!v->constant || v->is_input || (!v->n_uses && !v->n_graph_outputs)) continue;
    mrt_str_addf(p->out, "%*s@", indent, "");
    print_name(v->name, p->out);
    mrt_str_add(p->out, ": ");
    mrt_str_addf(p->out, "%s[", mrt_dtype_name((mrt_dtype)v->constant->dtype));
    for (int k = 0; k < v->constant->rank; ++k)
      mrt_str_addf(p->out, "%s%lld", k ? ", " : "", (long long)v->constant->dims[k]);
    mrt_str_add(p->out, "] = ");
    print_contents(p, v->constant);
    mrt_str_add(p->out, "\n");
  }
}

/* Starts in the current line, ends with the closing brace. */
static void print_graph(const printer *p, const mrt_graph *g, int indent) {
  if (indent > 200) { /* deeper than the loader allows */
    mrt_str_add(p->out, "...");
    return;
  }
  mrt_str_add(p->out, "graph ");
  print_name(g->name, p->out);
  mrt_str_add(p->out, "(");
  for (int i = 0; i < g->n_inputs; ++i) {
    if (i) mrt_str_add(p->out, ", ");
    mrt_str_add(p->out, "%");
    print_name(g->inputs[i]->name, p->out);
    mrt_str_add(p->out, ": ");
    print_type(p, g->inputs[i]->type);
  }
  mrt_str_add(p->out, ") {\n");
  print_constants(p, g, indent + 2);
  for (const mrt_node *n = g->first; n; n = n->next) print_node(p, n, indent + 2);
  mrt_str_addf(p->out, "%*s  return", indent, "");
  for (int i = 0; i < g->n_outputs; ++i) {
    mrt_str_add(p->out, i ? ", " : " ");
    print_var(p, g->outputs[i]);
  }
  mrt_str_addf(p->out, "\n%*s}", indent, "");
}

mrt_status *mrt_model_print(const mrt_model *model, int64_t max_elems, mrt_str *out) {
  printer p = {model->sym, max_elems, out};
  mrt_str_add(out, "model opset ");
  for (int i = 0; i < model->n_opsets; ++i)
    mrt_str_addf(out, "%s%s%s%lld", i ? ", " : "", model->opsets[i].domain,
                 *model->opsets[i].domain ? " " : "", (long long)model->opsets[i].version);
  mrt_str_add(out, "\n");
  print_graph(&p, model->graph, 0);
  mrt_str_add(out, "\n");
  return mrt_str_check(out);
}
