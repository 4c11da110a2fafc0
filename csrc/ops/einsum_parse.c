/* Parsing of Einsum equations: "ij,jk->ik", "...ij,...jk", "ii->i". */
#include "ops/einsum.h"

#define BAD(...) MRT_ERR(MRT_INVALID_ARGUMENT, "Einsum: " __VA_ARGS__)

typedef struct term {
  int n, dots; /* labels; position of "..." among them, -1: none */
  int label[MRT_MAX_RANK];
} term;
static int label_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  return -1;
}
/* Reads up to ',', '-' or the end. */
static mrt_status *read_term(const char **p, term *t) {
  *t = (term){.dots = -1};
  for (; **p && **p != ',' && **p != '-'; ++*p) {
    if (**p == ' ') continue;
    if (**p == '.') {
      if ((*p)[1] != '.' || (*p)[2] != '.' || t->dots >= 0) return BAD("a misplaced ellipsis");
      t->dots = t->n;
      *p += 2;
      continue;
    }
    int label = label_of(**p);
    if (label < 0) return BAD("'%c' is not a label", **p);
    if (t->n == MRT_MAX_RANK) return BAD("more than %d labels", MRT_MAX_RANK);
    t->label[t->n++] = label;
  }
  return NULL;
}
/* Labels of all dims; an ellipsis of k dims takes the last k of `widest` ellipsis labels. */
static void spread(const term *t, int rank, int widest, int *out) {
  int n = 0, dots = t->dots < 0 ? 0 : rank - t->n;
  for (int i = 0; i <= t->n; ++i) {
    if (i == t->dots)
      for (int k = 0; k < dots; ++k) out[n++] = ES_ELLIPSIS + widest - dots + k;
    if (i < t->n) out[n++] = t->label[i];
  }
}
/* Without "->": the ellipsis, then the labels that occur once, in alphabetical order. */
static mrt_status *implicit_output(es_equation *eq, int widest) {
  int count[ES_MAX_LABELS] = {0};
  for (int i = 0; i < eq->n_in; ++i)
    for (int d = 0; d < eq->rank[i]; ++d) ++count[eq->in[i][d]];
  for (int k = 0; k < widest; ++k) eq->out[eq->n_out++] = ES_ELLIPSIS + k;
  for (int l = 0; l < ES_ELLIPSIS; ++l) {
    if (count[l] != 1) continue;
    if (eq->n_out == MRT_MAX_RANK) return BAD("an output of more than %d dims", MRT_MAX_RANK);
    eq->out[eq->n_out++] = l;
  }
  return NULL;
}
static mrt_status *explicit_output(es_equation *eq, const term *t, int widest) {
  int rank = t->n + (t->dots < 0 ? 0 : widest);
  bool known[ES_MAX_LABELS] = {false}, seen[ES_MAX_LABELS] = {false};
  if (rank > MRT_MAX_RANK) return BAD("an output of more than %d dims", MRT_MAX_RANK);
  for (int i = 0; i < eq->n_in; ++i)
    for (int d = 0; d < eq->rank[i]; ++d) known[eq->in[i][d]] = true;
  spread(t, rank, widest, eq->out);
  eq->n_out = rank;
  for (int d = 0; d < rank; ++d) {
    if (seen[eq->out[d]]) return BAD("an output label occurs twice");
    if (!known[eq->out[d]]) return BAD("an output label that no input has");
    seen[eq->out[d]] = true;
  }
  return NULL;
}
mrt_status *mrt_einsum_parse(const char *equation, int n_in, const int *ranks, es_equation *out) {
  term in[ES_MAX_INPUTS], result;
  const char *p = equation;
  int widest = 0;
  if (n_in > ES_MAX_INPUTS)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "Einsum of %d inputs, at most %d", n_in, ES_MAX_INPUTS);
  *out = (es_equation){.n_in = n_in};
  for (int i = 0; i < n_in; ++i) {
    MRT_TRY(read_term(&p, &in[i]));
    int dots = ranks[i] - in[i].n;
    if (dots < 0 || (dots > 0 && in[i].dots < 0))
      return BAD("input %d has %d dims, the equation says %d", i, ranks[i], in[i].n);
    if (in[i].dots >= 0 && dots > widest) widest = dots;
    if (i + 1 < n_in && *p++ != ',') return BAD("the equation has fewer terms than inputs");
  }
  if (*p == ',') return BAD("the equation has more terms than inputs");
  for (int i = 0; i < n_in; ++i) {
    out->rank[i] = ranks[i];
    spread(&in[i], ranks[i], widest, out->in[i]);
  }
  if (!*p) return implicit_output(out, widest);
  if (p[1] != '>') return BAD("'-' without '>'");
  p += 2;
  MRT_TRY(read_term(&p, &result));
  if (*p) return BAD("something follows the output");
  return explicit_output(out, &result, widest);
}
