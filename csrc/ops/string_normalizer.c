/* StringNormalizer: drops stop words and changes case. Case is Unicode's simple mapping, from the C
 * library's C.UTF-8 locale (the model's own locale name makes no difference to it). */
#include <locale.h>
#include <wctype.h>

#include "base/str.h"
#include "ops/common.h"
#include "ops/utf8.h"

typedef struct normalizer {
  locale_t locale;
  const mrt_attr *stop;
  bool sensitive;
  char change; /* 'L', 'U', 'N' */
} normalizer;

static uint32_t change_case(const normalizer *z, uint32_t cp, char how) {
  if (how == 'N') return cp;
  if (cp < 0x80) {
    if (how == 'L') return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    return cp >= 'a' && cp <= 'z' ? cp - 32 : cp;
  }
  return (uint32_t)(how == 'L' ? towlower_l((wint_t)cp, z->locale)
                               : towupper_l((wint_t)cp, z->locale));
}

static bool same(const normalizer *z, const char *a, size_t na, const char *b, size_t nb) {
  if (z->sensitive) return na == nb && !memcmp(a, b, na);
  size_t i = 0, j = 0;
  while (i < na && j < nb)
    if (change_case(z, mrt_utf8_next(a, na, &i), 'L') !=
        change_case(z, mrt_utf8_next(b, nb, &j), 'L'))
      return false;
  return i == na && j == nb;
}
static bool stopped(const normalizer *z, const mrt_string *s) {
  for (size_t i = 0; z->stop && i < z->stop->n; ++i)
    if (same(z, mrt_string_bytes(s), mrt_string_len(s), z->stop->strings[i],
             z->stop->string_lens[i]))
      return true;
  return false;
}

static mrt_status *convert(const normalizer *z, mrt_string *s, mrt_string **out) {
  size_t n = mrt_string_len(s), at = 0;
  const char *p = mrt_string_bytes(s);
  mrt_str text;
  char buf[4];
  if (z->change == 'N') {
    *out = mrt_string_retain(s);
    return NULL;
  }
  mrt_str_init(&text, mrt_alloc_default());
  while (at < n)
    mrt_str_addn(&text, buf,
                 (size_t)mrt_utf8_put(change_case(z, mrt_utf8_next(p, n, &at), z->change), buf));
  mrt_status *st = mrt_str_check(&text);
  if (!st) st = mrt_string_create(NULL, text.data, text.len, out);
  mrt_str_deinit(&text);
  return st;
}

static mrt_status *infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[2] = {rank == 2 ? mrt_expr_const(c->sym, 1) : NULL, NULL};
  if (rank >= 0 && (rank < 1 || rank > 2))
    return MRT_ERR(MRT_FAIL, "Input shape must have either [C] or [1,C] dimensions where C > 0");
  return mrt_infer_out(c, 0, MRT_STRING, rank, dims);
}

static mrt_status *fill(mrt_kctx *c, const normalizer *z) {
  const mrt_tensor *x = mrt_in(c, 0);
  int64_t n = mrt_tensor_count(x), kept = 0, dims[2] = {1, 1};
  mrt_string *const *in = x->data;
  mrt_tensor *y;
  uint8_t *keep;
  MRT_TRY(mrt_scratch(c, (size_t)n + 1, (void **)&keep));
  for (int64_t i = 0; i < n; ++i) kept += keep[i] = !stopped(z, in[i]);
  dims[x->rank - 1] = kept ? kept : 1; /* nothing left: one empty string */
  MRT_TRY(mrt_out_alloc(c, 0, MRT_STRING, x->rank, dims, &y));
  mrt_string **out = y->data;
  for (int64_t i = 0; i < n; ++i)
    if (keep[i]) MRT_TRY(convert(z, in[i], out++));
  return NULL;
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  const char *how = mrt_node_str(c->node, "case_change_action");
  normalizer z = {.stop = mrt_node_attr(c->node, "stopwords"),
                  .sensitive = mrt_node_int(c->node, "is_case_sensitive") != 0};
  if (!mrt_out_wanted(c, 0)) return NULL;
  if (x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Input dimensions are either[C > 0] or [1][C > 0] allowed");
  if (strcmp(how, "LOWER") != 0 && strcmp(how, "UPPER") != 0 && strcmp(how, "NONE") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute case_change_action has invalid value");
  z.change = *how;
  z.locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  if (!z.locale) z.locale = newlocale(LC_CTYPE_MASK, "en_US.UTF-8", (locale_t)0);
  if (!z.locale)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "StringNormalizer without a UTF-8 locale (C.UTF-8)");
  mrt_status *st = fill(c, &z);
  freelocale(z.locale);
  return st;
}

static const mrt_op_version versions[] = {{10}, {0}};
MRT_OP(StringNormalizer) = {.domain = "",
                            .name = "StringNormalizer",
                            .doc = "drops stop words and changes case",
                            .in = "X:string",
                            .out = "Y:string",
                            .attrs =
                                "case_change_action:string=NONE is_case_sensitive:int=0 "
                                "locale:string stopwords:strings",
                            .versions = versions,
                            .flags = MRT_OP_DYNAMIC,
                            .infer = infer,
                            .run = run};
