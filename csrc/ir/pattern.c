/* The matcher walks pattern text and graph together, with a trail of bindings that is cut back when
 * an order of operands fails. Patterns are a line long and fail at their first word mostly, so the
 * text itself is the compiled form. */
#include "ir/pattern.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGS 8

static const char *skip(const char *p) {
  while (*p == ' ') ++p;
  return p;
}
static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '|';
}
static size_t word_len(const char *p) {
  size_t n = 0;
  while (is_word(p[n])) ++n;
  return n;
}

/* The end of one operand: the comma or parenthesis behind it. */
static const char *operand_end(const char *p) {
  for (int depth = 0; *p; ++p) {
    if (*p == '(') ++depth;
    if (*p == ')' && depth-- == 0) return p;
    if (*p == ',' && depth == 0) return p;
  }
  return p;
}

static bool bind(mrt_match *m, const char *name, size_t len, mrt_var *v, mrt_node *n) {
  for (int i = 0; i < m->n_names; ++i)
    if (m->names[i].len == len && memcmp(m->names[i].name, name, len) == 0)
      return m->names[i].var == v && m->names[i].node == n;
  if (m->n_names == MRT_PATTERN_MAX) return false;
  m->names[m->n_names++] = (struct mrt_match_name){name, len, v, n};
  return true;
}

static bool is_number(const mrt_var *v, double want) {
  const mrt_tensor *t = v ? v->constant : NULL;
  if (!t || mrt_tensor_count(t) != 1 || !mrt_device_is_host(t->device) || t->dtype == MRT_STRING ||
      t->dtype == MRT_COMPLEX64 || t->dtype == MRT_COMPLEX128)
    return false;
  double got = mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, 0);
  return got == want || fabs(got - want) <= 1e-6 * fabs(want);
}

/* "Relu|Clip" or "com.microsoft.Gelu" against the node's operator. */
static bool is_operator(const char *names, size_t len, const mrt_node *n) {
  for (size_t at = 0; at < len;) {
    size_t end = at, dot = SIZE_MAX;
    for (; end < len && names[end] != '|'; ++end)
      if (names[end] == '.') dot = end;
    const char *op = dot == SIZE_MAX ? names + at : names + dot + 1;
    size_t op_len = (size_t)(names + end - op), domain_len = dot == SIZE_MAX ? 0 : dot - at;
    if (strlen(n->op_type) == op_len && memcmp(n->op_type, op, op_len) == 0 &&
        strlen(n->domain) == domain_len && memcmp(n->domain, names + at, domain_len) == 0)
      return true;
    at = end + 1;
  }
  return false;
}

static bool private_value(const mrt_node *n) {
  for (int i = 0; i < n->n_out; ++i) {
    const mrt_var *v = n->out[i];
    if (v && (v->n_graph_outputs || v->n_uses > (i == 0 ? 1 : 0))) return false;
  }
  return true;
}

static bool match_value(mrt_match *m, const char *p, mrt_var *v, const mrt_node *root);

/* Operand texts args[n] (and `...`: rest) against the node's inputs. */
static bool match_inputs(mrt_match *m, mrt_node *n, const char *const *args, int n_args, bool rest,
                         const mrt_node *root) {
  int n_in = n->n_in;
  while (n_in > 0 && !n->in[n_in - 1].var) --n_in;
  if (n_in > n_args && !rest) return false;
  for (int i = 0; i < n_args; ++i)
    if (!match_value(m, args[i], i < n->n_in ? n->in[i].var : NULL, root)) return false;
  return true;
}

/* p: behind the operator's name, at its parenthesis. */
static bool match_args(mrt_match *m, const char *p, mrt_node *n, const mrt_node *root) {
  const char *args[MAX_ARGS], *swapped[2];
  int n_args = 0;
  bool rest = false;
  p = skip(p);
  assert(*p == '(');
  for (p = skip(p + 1); *p && *p != ')'; p = skip(p + 1)) {
    if (strncmp(p, "...", 3) == 0)
      rest = true;
    else if (n_args == MAX_ARGS)
      return false;
    else
      args[n_args++] = p;
    p = operand_end(p);
    if (*p != ',') break;
  }
  mrt_match before = *m;
  if (match_inputs(m, n, args, n_args, rest, root)) return true;
  if (n_args != 2 || !n->def || !(n->def->flags & MRT_OP_COMMUTATIVE)) return false;
  *m = before;
  swapped[0] = args[1];
  swapped[1] = args[0];
  return match_inputs(m, n, swapped, 2, rest, root);
}

static bool match_node(mrt_match *m, const char *p, mrt_node *n, const mrt_node *root) {
  size_t len;
  bool shared = false;
  for (;; p = skip(p)) { /* "name=" and "!" in front, in any order */
    len = word_len(p);
    if (*p == '!') {
      shared = true;
      ++p;
    } else if (len && p[len] == '=') {
      if (!bind(m, p, len, NULL, n)) return false;
      p += len + 1;
    } else {
      break;
    }
  }
  if (!is_operator(p, len, n) || (n != root && !shared && !private_value(n))) return false;
  if (n->graph != root->graph || m->n_nodes == MRT_PATTERN_MAX) return false;
  m->nodes[m->n_nodes++] = n;
  return match_args(m, p + len, n, root);
}

/* Is an operator written here, perhaps with a name or a mark in front? */
static bool operator_text(const char *p) {
  for (;; p = skip(p)) {
    size_t len = word_len(p);
    if (*p == '!')
      ++p;
    else if (len && p[len] == '=')
      p += len + 1;
    else
      return len && *skip(p + len) == '(';
  }
}

static bool match_value(mrt_match *m, const char *p, mrt_var *v, const mrt_node *root) {
  p = skip(p);
  size_t len = word_len(p);
  char *end;
  if (*p == '_' && len == 1) return true;
  if (!v) return false;
  if (operator_text(p))
    return v->producer && v->out_index == 0 && match_node(m, p, v->producer, root);
  if ((*p >= '0' && *p <= '9') || *p == '-') {
    double want = strtod(p, &end);
    return is_number(v, want);
  }
  assert(len > 0);
  if (strncmp(p + len, ":const", 6) == 0 && !v->constant) return false;
  return bind(m, p, len, v, NULL);
}

bool mrt_pattern_match(const char *pattern, mrt_node *root, mrt_match *out) {
  out->n_names = out->n_nodes = 0;
  return match_node(out, skip(pattern), root, root);
}

static const struct mrt_match_name *find(const mrt_match *m, const char *name) {
  size_t len = strlen(name);
  for (int i = 0; i < m->n_names; ++i)
    if (m->names[i].len == len && memcmp(m->names[i].name, name, len) == 0) return &m->names[i];
  return NULL;
}
mrt_var *mrt_match_var(const mrt_match *m, const char *name) {
  const struct mrt_match_name *n = find(m, name);
  return n ? n->var : NULL;
}
mrt_node *mrt_match_node(const mrt_match *m, const char *name) {
  const struct mrt_match_name *n = find(m, name);
  return n ? n->node : NULL;
}

void mrt_match_remove(const mrt_match *m) {
  for (int i = 0; i < m->n_nodes; ++i) {
    bool again = false; /* a shared node may stand in the tree twice, or have other users */
    for (int k = 0; k < i && !again; ++k) again = m->nodes[k] == m->nodes[i];
    const mrt_var *v = m->nodes[i]->n_out ? m->nodes[i]->out[0] : NULL;
    if (!again && v && !v->n_uses && !v->n_graph_outputs) mrt_node_remove(m->nodes[i]);
  }
}
