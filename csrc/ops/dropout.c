/* Dropout: y = x in inference; in training mode each element is dropped with probability `ratio`
 * and the others are scaled by 1 / (1 - ratio). Forms before opset 12 only infer. */
#include "ops/random.h"

static mrt_status *infer(mrt_infer *c) {
  MRT_TRY(mrt_infer_same_shape(c));
  return mrt_infer_out_like(c, 1, 0, MRT_BOOL);
}

typedef struct job {
  const mrt_tensor *x;
  mrt_tensor *y, *mask;
  uint64_t key;
  double ratio;
} job;
static void part(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  mrt_dtype d = (mrt_dtype)j->x->dtype;
  for (int64_t i = begin; i < end; ++i) {
    bool keep = mrt_random_unit(j->key, (uint64_t)i) >= j->ratio;
    if (j->mask) ((uint8_t *)j->mask->data)[i] = keep;
    if (!j->y) continue;
    double v = mrt_elem_get_f64(d, j->x->data, i);
    mrt_elem_set_f64(d, j->y->data, i, keep ? v / (1 - j->ratio) : 0);
  }
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *ratio = mrt_in(c, 1), *mode = mrt_in(c, 2);
  job j = {.x = mrt_in(c, 0), .y = mrt_out(c, 0), .mask = mrt_out(c, 1), .ratio = 0.5};
  bool training = mode && mrt_tensor_count(mode) == 1 && *(const uint8_t *)mode->data;
  if (ratio && mrt_tensor_count(ratio) == 1)
    j.ratio = mrt_elem_get_f64((mrt_dtype)ratio->dtype, ratio->data, 0);
  if (training && !(j.ratio >= 0 && j.ratio < 1))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "ratio must be in the range [0, 1)");
  if (training && j.ratio > 0) {
    j.key = mrt_random_key(c);
    mrt_par_range(&c->par, mrt_tensor_count(j.x), 8, part, &j);
    return NULL;
  }
  if (j.mask) memset(j.mask->data, 1, j.mask->bytes);
  if (j.y && j.x->bytes && j.y->data != j.x->data) memcpy(j.y->data, j.x->data, j.x->bytes);
  return NULL;
}
static mrt_status *up(mrt_node *node) { /* ratio is meaningless in inference */
  mrt_node_del_attr(node, "ratio");
  mrt_node_del_attr(node, "is_test");
  mrt_node_del_attr(node, "consumed_inputs");
  return NULL;
}
static const mrt_op_version versions[] = {{1, up}, {6, up}, {7, up}, {10, up},
                                          {12},    {13},    {22},    {0}};
MRT_OP(Dropout) = {
    .domain = "",
    .types = "T=" MRT_T_FLOATS "," MRT_T_FLOAT8 ";B=bool;R=" MRT_T_FLOATS "," MRT_T_FLOAT8,
    .name = "Dropout",
    .doc = "y = x in inference",
    .in = "data:T, ratio:R?, training_mode:B?",
    .out = "output:T, mask:bool?",
    .attrs = "seed:int",
    .versions = versions,
    .flags = MRT_OP_RANDOM,
    .inplace = {{1, 0}},
    .infer = infer,
    .run = run};
