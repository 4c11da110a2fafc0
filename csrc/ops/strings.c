/* StringConcat and StringSplit. */
#include "base/str.h"
#include "ops/common.h"

/* ---- StringConcat ---- */
typedef struct concat {
  mrt_string *const *a, *const *b;
  mrt_string **y;
  const mrt_bcast *bc;
  mrt_status *st;
} concat;
static mrt_status *join(const mrt_string *a, const mrt_string *b, mrt_string **out) {
  size_t n = mrt_string_len(a), m = mrt_string_len(b), total;
  mrt_string *s;
  if (!mrt_size_add(n, m, &total)) return mrt_status_oom();
  if (!n || !m) {
    *out = mrt_string_retain((mrt_string *)(n ? a : b));
    return NULL;
  }
  /* Made with the right length, then filled: nobody else sees it yet. */
  mrt_str text;
  mrt_str_init(&text, mrt_alloc_default());
  mrt_str_addn(&text, mrt_string_bytes(a), n);
  mrt_str_addn(&text, mrt_string_bytes(b), m);
  mrt_status *st = mrt_str_check(&text);
  if (!st) st = mrt_string_create(NULL, text.data, total, &s);
  mrt_str_deinit(&text);
  if (!st) *out = s;
  return st;
}
static void concat_row(void *arg, const int64_t *off, int64_t out, int64_t n) {
  concat *j = arg;
  int last = j->bc->rank - 1;
  for (int64_t i = 0; i < n && !j->st; ++i)
    j->st = join(j->a[off[0] + i * j->bc->strides[0][last]],
                 j->b[off[1] + i * j->bc->strides[1][last]], &j->y[out + i]);
}
static mrt_status *concat_run(mrt_kctx *c) {
  const mrt_tensor *in[2] = {mrt_in(c, 0), mrt_in(c, 1)};
  mrt_tensor *y = mrt_out(c, 0);
  mrt_bcast bc;
  if (!y) return NULL;
  MRT_TRY(mrt_bcast_init(&bc, 2, in, y->rank, y->dims));
  concat j = {in[0]->data, in[1]->data, y->data, &bc, NULL};
  mrt_bcast_each_row(&bc, concat_row, &j);
  return j.st;
}

/* ---- StringSplit ---- */
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next piece of s from *at; false at the end. `left`: splits still allowed (negative: any). */
static bool next_piece(const char *s, size_t n, const char *by, size_t nb, int64_t left, size_t *at,
                       size_t *begin, size_t *end) {
  size_t i = *at;
  if (nb == 0) {
    while (i < n && is_space(s[i])) ++i;
    if (i >= n) return false;
    *begin = i;
    if (left == 0) {
      i = n;
      while (is_space(s[i - 1])) --i; /* the rest, without what trails */
      *end = i;
      *at = n;
      return true;
    }
    while (i < n && !is_space(s[i])) ++i;
    *end = *at = i;
    return true;
  }
  if (i > n) return false;
  *begin = i;
  while (left != 0 && i + nb <= n && memcmp(s + i, by, nb) != 0) ++i;
  bool found = left != 0 && i + nb <= n;
  *end = found ? i : n;
  *at = found ? i + nb : n + 1;
  return true;
}

typedef struct splitter {
  const char *by;
  size_t nb;
  int64_t max; /* -1: no limit */
} splitter;
/* Number of pieces; with `out`, makes them. */
static mrt_status *split_one(const splitter *p, const mrt_string *x, mrt_string **out,
                             int64_t *count) {
  size_t n = mrt_string_len(x), at = 0, b, e;
  const char *s = mrt_string_bytes(x);
  *count = 0;
  if (!n) return NULL; /* as ONNX Runtime: no piece, where Python's split gives one empty one */
  while (next_piece(s, n, p->by, p->nb, p->max < 0 ? -1 : p->max - *count, &at, &b, &e)) {
    if (out) MRT_TRY(mrt_string_create(NULL, s + b, e - b, &out[*count]));
    ++*count;
  }
  return NULL;
}

static mrt_status *split_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK + 1];
  MRT_TRY(mrt_infer_out_like(c, 1, 0, MRT_INT64));
  if (rank < 0) return mrt_infer_out(c, 0, MRT_STRING, -1, NULL);
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  dims[rank] = NULL;
  return mrt_infer_out(c, 0, MRT_STRING, rank + 1, dims);
}
static mrt_status *split_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  const mrt_attr *by = mrt_node_attr(c->node, "delimiter");
  splitter p = {by ? by->s : "", by ? by->n : 0,
                mrt_node_attr(c->node, "maxsplit") ? mrt_node_int(c->node, "maxsplit") : -1};
  int64_t n = mrt_tensor_count(x), dims[MRT_MAX_RANK + 1], most = 0, *counts, k;
  mrt_tensor *y = NULL, *z = NULL;
  mrt_string *const *in = x->data;
  if (x->rank + 1 > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", x->rank + 1);
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *counts, (void **)&counts));
  for (int64_t i = 0; i < n; ++i) {
    MRT_TRY(split_one(&p, in[i], NULL, &counts[i]));
    if (counts[i] > most) most = counts[i];
  }
  memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
  dims[x->rank] = most;
  if (mrt_out_wanted(c, 1)) {
    MRT_TRY(mrt_out_alloc(c, 1, MRT_INT64, x->rank, dims, &z));
    if (n) memcpy(z->data, counts, (size_t)n * sizeof *counts);
  }
  if (!mrt_out_wanted(c, 0)) return NULL;
  MRT_TRY(mrt_out_alloc(c, 0, MRT_STRING, x->rank + 1, dims, &y));
  for (int64_t i = 0; i < n; ++i)
    MRT_TRY(split_one(&p, in[i], (mrt_string **)y->data + i * most, &k));
  return NULL;
}

static const mrt_op_version versions[] = {{20}, {0}};
MRT_OP(StringConcat) = {.domain = "",
                        .name = "StringConcat",
                        .doc = "strings joined, with broadcasting",
                        .in = "X:T, Y:T",
                        .out = "Z:T",
                        .types = "T=string",
                        .versions = versions,
                        .infer = mrt_infer_elementwise,
                        .run = concat_run};
MRT_OP(StringSplit) = {.domain = "",
                       .name = "StringSplit",
                       .doc = "strings cut at a delimiter",
                       .in = "X:T",
                       .out = "Y:T, Z:int64",
                       .types = "T=string",
                       .attrs = "delimiter:string maxsplit:int",
                       .versions = versions,
                       .flags = MRT_OP_DYNAMIC,
                       .infer = split_infer,
                       .run = split_run};
