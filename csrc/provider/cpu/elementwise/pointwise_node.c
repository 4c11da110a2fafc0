/* Kernels of point-wise float32 nodes: one ONNX operator, or a group (macart.Pointwise). The
 * program is made once; a run only works out strides. */
#include <string.h>

#include "ops/pointwise.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/elementwise/lower.h"

enum { SMALL = 1024 }; /* elements that one thread does without cutting */

typedef struct pointwise_kernel {
  mrt_kernel k;
  mrt_ew_program prog;
  int input[MRT_EW_MAX_IO];
  mrt_ew_fn one; /* of a program of one instruction without broadcasting */
  mrt_ew_instr instrs[];
} pointwise_kernel;

static mrt_status *strides_of(const mrt_tensor *t, const mrt_tensor *y, int64_t *strides) {
  int64_t step = 1;
  for (int i = y->rank - 1; i >= 0; --i) {
    const int k = i - (y->rank - t->rank);
    const int64_t d = k < 0 ? 1 : t->dims[k];
    if (d != 1 && d != y->dims[i]) {
      char a[160], b[160];
      return MRT_ERR(MRT_INVALID_ARGUMENT, "%s does not broadcast to %s",
                     mrt_shape_format(a, sizeof a, t->rank, t->dims),
                     mrt_shape_format(b, sizeof b, y->rank, y->dims));
    }
    strides[i] = d == 1 ? 0 : step;
    step *= d;
  }
  return NULL;
}

/* No broadcasting: the arrays are lines. */
static bool all_lines(const pointwise_kernel *q, const mrt_kctx *c, const mrt_tensor *y) {
  for (int i = 0; i < q->prog.n_inputs; ++i)
    if (mrt_in(c, q->input[i])->bytes != y->bytes) return false;
  return true;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const pointwise_kernel *q = (const pointwise_kernel *)k;
  mrt_tensor *y = mrt_out(c, 0);
  mrt_ew_array io[MRT_EW_MAX_IO];
  void *scratch;
  if (!y || !y->bytes) return NULL;
  const int n = q->prog.n_inputs;
  const bool lines = all_lines(q, c, y);
  const int64_t count = (int64_t)(y->bytes / sizeof(float));
  if (q->one && lines && count <= SMALL) {
    const float *in[3] = {NULL, NULL, NULL};
    for (int i = 0; i < n; ++i) in[i] = mrt_in(c, q->input[i])->data;
    const mrt_ew_instr *s = &q->instrs[0];
    q->one(y->data, in[s->a], in[s->b], in[s->c], s->p, count);
    return NULL;
  }
  const int rank = lines ? 1 : y->rank;
  if (rank > MRT_EW_MAX_RANK)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "point-wise broadcasting over %d dims; at most %d", rank,
                   MRT_EW_MAX_RANK);
  for (int i = 0; i <= n; ++i) {
    const mrt_tensor *t = i < n ? mrt_in(c, q->input[i]) : y;
    io[i].data = t->data;
    io[i].strides[0] = 1;
    if (!lines) MRT_TRY(strides_of(t, y, io[i].strides));
  }
  const size_t bytes = mrt_ew_scratch_size(&c->par, &q->prog);
  MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_ew_run(&c->par, &q->prog, rank, lines ? &count : y->dims, io, scratch);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  mrt_pw_step step;
  (void)p;
  return mrt_pw_step_of(node, &step) && mrt_node_out_dtype(node, 0) == MRT_FLOAT &&
         node->out[0]->type->rank <= MRT_EW_MAX_RANK && node->out[0]->type->rank >= 0;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  pointwise_kernel *q;
  mrt_ew_built built;
  *out = NULL;
  MRT_TRY(mrt_ew_lower(node, &built));
  const size_t bytes = (size_t)built.prog.n_instrs * sizeof(mrt_ew_instr);
  const char *name = *node->domain ? "pointwise_f32" : "elementwise_f32";
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q + bytes, name, run, NULL, &q));
  memcpy(q->instrs, built.instrs, bytes);
  memcpy(q->input, built.input, sizeof q->input);
  q->prog = built.prog;
  q->prog.instrs = q->instrs;
  if (q->prog.n_instrs == 1) q->one = mrt_ew_find((mrt_ew_op)q->instrs[0].op);
  *out = &q->k;
  return NULL;
}

#define ROW .match = match, .create = create, .domain = ""
MRT_CPU_KERNEL(pointwise) = {.domain = "macart", .op = "Pointwise", .create = create};
MRT_CPU_KERNEL(ew_relu) = {ROW, .op = "Relu"};
MRT_CPU_KERNEL(ew_sigmoid) = {ROW, .op = "Sigmoid"};
MRT_CPU_KERNEL(ew_tanh) = {ROW, .op = "Tanh"};
MRT_CPU_KERNEL(ew_erf) = {ROW, .op = "Erf"};
MRT_CPU_KERNEL(ew_exp) = {ROW, .op = "Exp"};
MRT_CPU_KERNEL(ew_log) = {ROW, .op = "Log"};
MRT_CPU_KERNEL(ew_sqrt) = {ROW, .op = "Sqrt"};
MRT_CPU_KERNEL(ew_neg) = {ROW, .op = "Neg"};
MRT_CPU_KERNEL(ew_abs) = {ROW, .op = "Abs"};
MRT_CPU_KERNEL(ew_floor) = {ROW, .op = "Floor"};
MRT_CPU_KERNEL(ew_ceil) = {ROW, .op = "Ceil"};
MRT_CPU_KERNEL(ew_round) = {ROW, .op = "Round"};
MRT_CPU_KERNEL(ew_sign) = {ROW, .op = "Sign"};
MRT_CPU_KERNEL(ew_reciprocal) = {ROW, .op = "Reciprocal"};
MRT_CPU_KERNEL(ew_softplus) = {ROW, .op = "Softplus"};
MRT_CPU_KERNEL(ew_softsign) = {ROW, .op = "Softsign"};
MRT_CPU_KERNEL(ew_mish) = {ROW, .op = "Mish"};
MRT_CPU_KERNEL(ew_hardswish) = {ROW, .op = "HardSwish"};
MRT_CPU_KERNEL(ew_leakyrelu) = {ROW, .op = "LeakyRelu"};
MRT_CPU_KERNEL(ew_elu) = {ROW, .op = "Elu"};
MRT_CPU_KERNEL(ew_selu) = {ROW, .op = "Selu"};
MRT_CPU_KERNEL(ew_hardsigmoid) = {ROW, .op = "HardSigmoid"};
MRT_CPU_KERNEL(ew_swish) = {ROW, .op = "Swish"};
MRT_CPU_KERNEL(ew_gelu) = {ROW, .op = "Gelu"};
MRT_CPU_KERNEL(ew_clip) = {ROW, .op = "Clip"};
MRT_CPU_KERNEL(ew_add) = {ROW, .op = "Add"};
MRT_CPU_KERNEL(ew_sub) = {ROW, .op = "Sub"};
MRT_CPU_KERNEL(ew_mul) = {ROW, .op = "Mul"};
MRT_CPU_KERNEL(ew_div) = {ROW, .op = "Div"};
MRT_CPU_KERNEL(ew_pow) = {ROW, .op = "Pow"};
MRT_CPU_KERNEL(ew_prelu) = {ROW, .op = "PRelu"};
MRT_CPU_KERNEL(ew_min) = {ROW, .op = "Min"};
MRT_CPU_KERNEL(ew_max) = {ROW, .op = "Max"};
MRT_CPU_KERNEL(ew_sum) = {ROW, .op = "Sum"};
