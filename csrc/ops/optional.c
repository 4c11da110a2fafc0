/* Optional, OptionalHasElement, OptionalGetElement. A full optional is the value itself; an empty
 * one is no value, or an optional object without an item (as a caller may feed it). */
#include "ops/common.h"

static mrt_value *element(const mrt_kctx *c) {
  mrt_value *v = mrt_in_value(c, 0);
  return v && v->kind == MRT_KIND_OPTIONAL ? ((mrt_optional *)v)->item : v;
}

static mrt_status *optional_infer(mrt_infer *c) {
  const mrt_attr *a = mrt_node_attr(c->node, "type");
  const mrt_type *t = mrt_infer_has(c, 0) ? c->in_types[0] : a ? a->type : NULL;
  if (!mrt_infer_has(c, 0) && !a)
    return MRT_ERR(MRT_FAIL,
                   "Optional is expected to have either an input or the type attribute set.");
  if (!t || t->kind == MRT_KIND_OPTIONAL) return mrt_infer_out_type(c, 0, t);
  t = mrt_type_of_kind(c->model, MRT_KIND_OPTIONAL, t);
  return t ? mrt_infer_out_type(c, 0, t) : mrt_status_oom();
}
static mrt_status *optional_run(mrt_kctx *c) {
  mrt_value *v;
  MRT_TRY(mrt_value_keep(c->alloc, element(c), &v));
  return mrt_out_set(c, 0, v);
}

static mrt_status *has_infer(mrt_infer *c) { return mrt_infer_out(c, 0, MRT_BOOL, 0, NULL); }
static mrt_status *has_run(mrt_kctx *c) {
  mrt_tensor *y;
  if (!mrt_out_wanted(c, 0)) return NULL;
  MRT_TRY(mrt_out_alloc(c, 0, MRT_BOOL, 0, NULL, &y));
  *(uint8_t *)y->data = element(c) != NULL;
  return NULL;
}

static mrt_status *get_infer(mrt_infer *c) {
  const mrt_type *t = c->in_types[0];
  return mrt_infer_out_type(c, 0, t && t->kind == MRT_KIND_OPTIONAL ? t->elem : t);
}
static mrt_status *get_run(mrt_kctx *c) {
  mrt_value *v = element(c);
  if (!v)
    return MRT_ERR(MRT_FAIL,
                   "Trying to use OptionalGetElement on an optional type OrtValue which "
                   "contains no data");
  MRT_TRY(mrt_value_keep(c->alloc, v, &v));
  return mrt_out_set(c, 0, v);
}

static const mrt_op_version optional_v[] = {{15}, {0}};
static const mrt_op_version element_v[] = {{15}, {18}, {0}};
#define COMMON .domain = "", .flags = MRT_OP_DYNAMIC
MRT_OP(Optional) = {COMMON,
                    .name = "Optional",
                    .doc = "a value that may be empty",
                    .in = "input:any?",
                    .out = "output:any",
                    .attrs = "type:type",
                    .versions = optional_v,
                    .infer = optional_infer,
                    .run = optional_run};
MRT_OP(OptionalHasElement) = {COMMON,
                              .name = "OptionalHasElement",
                              .doc = "is there a value",
                              .in = "input:any?",
                              .out = "output:bool",
                              .versions = element_v,
                              .infer = has_infer,
                              .run = has_run};
MRT_OP(OptionalGetElement) = {COMMON,
                              .name = "OptionalGetElement",
                              .doc = "the value of an optional",
                              .in = "input:any",
                              .out = "output:any",
                              .versions = element_v,
                              .infer = get_infer,
                              .run = get_run};
