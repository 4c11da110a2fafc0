/* RegexFullMatch: does a pattern match a whole string. */
#include "ops/common.h"
#include "ops/regex.h"

static mrt_status *infer(mrt_infer *c) { return mrt_infer_out_like(c, 0, 0, MRT_BOOL); }
static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  const mrt_attr *a = mrt_node_attr(c->node, "pattern");
  mrt_regex *re;
  if (!y) return NULL;
  if (!a) return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute pattern is missing");
  MRT_TRY(mrt_regex_create(c->alloc, a->s, a->n, &re));
  mrt_string *const *s = x->data;
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n; ++i)
    ((uint8_t *)y->data)[i] =
        mrt_regex_full_match(re, mrt_string_bytes(s[i]), mrt_string_len(s[i]));
  mrt_regex_destroy(re);
  return NULL;
}
static const mrt_op_version versions[] = {{20}, {0}};
MRT_OP(RegexFullMatch) = {.domain = "",
                          .name = "RegexFullMatch",
                          .doc = "does a pattern match the whole string",
                          .in = "X:T",
                          .out = "Y:bool",
                          .types = "T=string",
                          .attrs = "pattern:string",
                          .versions = versions,
                          .infer = infer,
                          .run = run};
