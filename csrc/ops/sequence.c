/* SequenceConstruct, SequenceEmpty, SequenceAt, SequenceInsert, SequenceErase, SequenceLength.
 * Sequences are immutable values: a changed one is a new list of counted references. */
#include "ops/sequence.h"

#include "ops/control.h"

mrt_status *mrt_in_sequence(const mrt_kctx *c, int i, const mrt_sequence **out) {
  const mrt_value *v = mrt_in_value(c, i);
  if (v && v->kind == MRT_KIND_OPTIONAL) v = ((const mrt_optional *)v)->item;
  *out = v && v->kind == MRT_KIND_SEQUENCE ? (const mrt_sequence *)v : NULL;
  return *out ? NULL : MRT_ERR(MRT_INVALID_ARGUMENT, "input %d is not a sequence", i);
}

mrt_status *mrt_in_position(const mrt_kctx *c, int i, size_t n, int past, size_t def, size_t *out) {
  const mrt_tensor *t = mrt_in(c, i);
  int64_t v, size = (int64_t)n;
  *out = def;
  if (!t) return NULL;
  MRT_TRY(mrt_read_int(t, "position", &v));
  if (v < -size || v > size - 1 + past)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Invalid sequence index (%lld) specified for sequence of size (%lld)",
                   (long long)v, (long long)size);
  *out = (size_t)(v < 0 ? v + size : v);
  return NULL;
}

const mrt_type *mrt_sequence_elem_type(const mrt_infer *c, int i) {
  const mrt_type *t = i < c->n_in ? c->in_types[i] : NULL;
  if (t && t->kind == MRT_KIND_OPTIONAL) t = t->elem;
  return t && t->kind == MRT_KIND_SEQUENCE ? t->elem : NULL;
}

static mrt_status *out_sequence(mrt_infer *c, const mrt_type *elem) {
  const mrt_type *t = mrt_type_of_kind(c->model, MRT_KIND_SEQUENCE, elem);
  return t ? mrt_infer_out_type(c, 0, t) : mrt_status_oom();
}
/* Nothing more than the element type. */
static const mrt_type *any_of(mrt_infer *c, const mrt_type *t) {
  return mrt_type_tensor(c->model, t ? t->dtype : MRT_UNDEFINED, -1, NULL);
}
static const mrt_type *join(mrt_infer *c, const mrt_type *a, const mrt_type *b) {
  const mrt_type *j = mrt_type_join(c, a, b);
  return j ? j : any_of(c, a ? a : b);
}

/* ---- SequenceConstruct, SequenceEmpty ---- */
static mrt_status *construct_infer(mrt_infer *c) {
  const mrt_type *t = c->in_types[0];
  for (int i = 1; i < c->n_in; ++i) t = join(c, t, c->in_types[i]);
  return out_sequence(c, t);
}
/* Appends items [from, to) of a list of values. */
static mrt_status *append(mrt_sequence *s, mrt_value *const *items, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) {
    mrt_value *v;
    MRT_TRY(mrt_value_keep(s->alloc, items[i], &v));
    MRT_TRY(mrt_sequence_append(s, v));
  }
  return NULL;
}
static mrt_status *give(mrt_kctx *c, mrt_sequence *s, mrt_status *st) {
  if (!st) return mrt_out_set(c, 0, &s->base);
  mrt_value_release(&s->base);
  return st;
}
static mrt_status *construct_run(mrt_kctx *c) {
  mrt_sequence *s;
  mrt_status *st = NULL;
  if (!mrt_in(c, 0)) return MRT_ERR(MRT_INVALID_ARGUMENT, "input 0 is not a tensor");
  MRT_TRY(mrt_sequence_create(c->alloc, (mrt_dtype)mrt_in(c, 0)->dtype, &s));
  for (int i = 0; i < c->n_in && !st; ++i) {
    mrt_value *v = mrt_in_value(c, i);
    if (!mrt_value_tensor(v) || mrt_value_tensor(v)->dtype != s->elem_dtype)
      st = MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Violation of the requirement that all input tensors must "
                   "have the same data type.");
    else
      st = append(s, &v, 0, 1);
  }
  return give(c, s, st);
}
static mrt_dtype empty_dtype(const mrt_node *n) {
  return mrt_node_attr(n, "dtype") ? (mrt_dtype)mrt_node_int(n, "dtype") : MRT_FLOAT;
}
static mrt_status *empty_infer(mrt_infer *c) {
  if (!mrt_dtype_valid((int)empty_dtype(c->node)))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "dtype %d", (int)empty_dtype(c->node));
  return out_sequence(c, mrt_type_tensor(c->model, empty_dtype(c->node), -1, NULL));
}
static mrt_status *empty_run(mrt_kctx *c) {
  mrt_sequence *s;
  MRT_TRY(mrt_sequence_create(c->alloc, empty_dtype(c->node), &s));
  return mrt_out_set(c, 0, &s->base);
}

/* ---- SequenceAt, SequenceLength ---- */
static mrt_status *at_infer(mrt_infer *c) {
  return mrt_infer_out_type(c, 0, mrt_sequence_elem_type(c, 0));
}
static mrt_status *at_run(mrt_kctx *c) {
  const mrt_sequence *s;
  size_t at;
  MRT_TRY(mrt_in_sequence(c, 0, &s));
  MRT_TRY(mrt_in_position(c, 1, s->n, 0, 0, &at));
  if (!s->n) return MRT_ERR(MRT_INVALID_ARGUMENT, "the sequence is empty");
  mrt_value *v = s->items[at];
  const mrt_tensor *t = mrt_value_tensor(v);
  if (t && t->strided) { /* as the caller gave it: kernels want contiguous ones */
    mrt_tensor *copy;
    MRT_TRY(mrt_tensor_copy(c->alloc, t, &copy));
    return mrt_out_set(c, 0, &copy->base);
  }
  MRT_TRY(mrt_value_keep(c->alloc, v, &v));
  return mrt_out_set(c, 0, v);
}
static mrt_status *length_infer(mrt_infer *c) { return mrt_infer_out(c, 0, MRT_INT64, 0, NULL); }
static mrt_status *length_run(mrt_kctx *c) {
  const mrt_sequence *s;
  mrt_tensor *y;
  MRT_TRY(mrt_in_sequence(c, 0, &s));
  MRT_TRY(mrt_out_alloc(c, 0, MRT_INT64, 0, NULL, &y));
  *(int64_t *)y->data = (int64_t)s->n;
  return NULL;
}

/* ---- SequenceInsert, SequenceErase ---- */
static mrt_status *insert_infer(mrt_infer *c) {
  const mrt_type *a = mrt_sequence_elem_type(c, 0), *b = c->in_types[1];
  return a || b ? out_sequence(c, join(c, a, b)) : NULL;
}
static mrt_status *insert_run(mrt_kctx *c) {
  const mrt_sequence *s;
  mrt_sequence *y;
  mrt_value *v = mrt_in_value(c, 1);
  size_t at;
  MRT_TRY(mrt_in_sequence(c, 0, &s));
  MRT_TRY(mrt_in_position(c, 2, s->n, 1, s->n, &at));
  const mrt_tensor *t = mrt_value_tensor(v);
  /* An empty list from outside does not know its element type. */
  if (!t || (s->elem_dtype ? t->dtype != s->elem_dtype : s->n > 0))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Data type of the input tensor MUST be same as that of the input sequence.");
  MRT_TRY(mrt_sequence_create(c->alloc, (mrt_dtype)t->dtype, &y));
  mrt_status *st = append(y, s->items, 0, at);
  if (!st) st = append(y, &v, 0, 1);
  if (!st) st = append(y, s->items, at, s->n);
  return give(c, y, st);
}
static mrt_status *erase_infer(mrt_infer *c) { return mrt_infer_out_type(c, 0, c->in_types[0]); }
static mrt_status *erase_run(mrt_kctx *c) {
  const mrt_sequence *s;
  mrt_sequence *y;
  size_t at;
  MRT_TRY(mrt_in_sequence(c, 0, &s));
  if (!s->n) return MRT_ERR(MRT_INVALID_ARGUMENT, "the sequence is empty");
  MRT_TRY(mrt_in_position(c, 1, s->n, 0, s->n - 1, &at));
  MRT_TRY(mrt_sequence_create(c->alloc, (mrt_dtype)s->elem_dtype, &y));
  mrt_status *st = append(y, s->items, 0, at);
  if (!st) st = append(y, s->items, at + 1, s->n);
  return give(c, y, st);
}

static const mrt_op_version versions[] = {{11}, {0}};
#define COMMON .domain = "", .types = MRT_T_SEQUENCE, .versions = versions, .flags = MRT_OP_DYNAMIC
MRT_OP(SequenceConstruct) = {COMMON,
                             .name = "SequenceConstruct",
                             .doc = "a sequence of tensors",
                             .in = "inputs:T*",
                             .out = "output_sequence:seq(T)",
                             .infer = construct_infer,
                             .run = construct_run};
MRT_OP(SequenceEmpty) = {COMMON,
                         .name = "SequenceEmpty",
                         .doc = "an empty sequence",
                         .in = "",
                         .out = "output:seq(T)",
                         .attrs = "dtype:int",
                         .infer = empty_infer,
                         .run = empty_run};
MRT_OP(SequenceAt) = {COMMON,
                      .name = "SequenceAt",
                      .doc = "the element at a position",
                      .in = "input_sequence:seq(T), position:I",
                      .out = "tensor:T",
                      .infer = at_infer,
                      .run = at_run};
MRT_OP(SequenceLength) = {COMMON,
                          .name = "SequenceLength",
                          .doc = "the number of elements",
                          .in = "input_sequence:seq(T)",
                          .out = "length:int64",
                          .infer = length_infer,
                          .run = length_run};
MRT_OP(SequenceInsert) = {COMMON,
                          .name = "SequenceInsert",
                          .doc = "a sequence with one element more",
                          .in = "input_sequence:seq(T), tensor:T, position:I?",
                          .out = "output_sequence:seq(T)",
                          .infer = insert_infer,
                          .run = insert_run};
MRT_OP(SequenceErase) = {COMMON,
                         .name = "SequenceErase",
                         .doc = "a sequence with one element less",
                         .in = "input_sequence:seq(T), position:I?",
                         .out = "output_sequence:seq(T)",
                         .infer = erase_infer,
                         .run = erase_run};
