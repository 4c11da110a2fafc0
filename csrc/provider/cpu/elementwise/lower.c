/* Lowering: steps become instructions over numbered values, then values get registers. A value is
 * an input, a result, or a known scalar that no register holds until an instruction needs one. */
#include "provider/cpu/elementwise/lower.h"

#include <math.h>
#include <string.h>

#include "ops/pointwise.h"

enum { MAX_INSTRS = 256, MAX_VALUES = MRT_PW_MAX_INPUTS + 2 + MRT_PW_MAX_STEPS };

static const mrt_ew_op row_ops[] = {
#define MRT_PW(op, least, most, attr0, attr1, ew) MRT_EW_##ew,
#include "ops/pointwise.def"
#undef MRT_PW
};

typedef struct vinstr { /* over virtual registers: inputs first, then one per instruction */
  mrt_ew_op op;
  int a[3];
  float p[2];
} vinstr;

typedef struct lowering {
  const mrt_node *node;
  int n_in, n;
  vinstr v[MAX_INSTRS];
  int value[MAX_VALUES]; /* virtual register of each step's value */
  bool overflow;
} lowering;

/* A constant scalar input: its value. */
static bool scalar(const lowering *l, int value, float *out) {
  const mrt_var *v = value < l->n_in ? l->node->in[value].var : NULL;
  const mrt_tensor *t = v ? v->constant : NULL;
  if (!t || t->dtype != MRT_FLOAT || t->strided || mrt_tensor_count(t) != 1) return false;
  *out = *(const float *)t->data;
  return true;
}

static int emit(lowering *l, mrt_ew_op op, int a, int b, float p0, float p1) {
  if (l->n >= MAX_INSTRS) {
    l->overflow = true;
    return 0;
  }
  l->v[l->n] = (vinstr){.op = op, .a = {a, b, 0}, .p = {p0, p1}};
  return l->n_in + l->n++;
}

static int reg_of(const lowering *l, int value) {
  return value < l->n_in ? value : l->value[value - l->n_in];
}

/* a op c with a known c; -1: no instruction says it exactly. */
static int with_constant(lowering *l, mrt_ew_op op, int a, float c) {
  int e;
  switch (op) {
    case MRT_EW_ADD: return emit(l, MRT_EW_ADD_C, a, 0, c, 0);
    case MRT_EW_SUB: return emit(l, MRT_EW_ADD_C, a, 0, -c, 0);
    case MRT_EW_MUL: return emit(l, MRT_EW_MUL_C, a, 0, c, 0);
    case MRT_EW_DIV: /* exact for powers of two whose inverse is a normal number */
      if (fabsf(frexpf(c, &e)) == 0.5f && e > -120 && e < 120)
        return emit(l, MRT_EW_MUL_C, a, 0, 1.0f / c, 0);
      return emit(l, MRT_EW_DIV_C, a, 0, c, 0);
    case MRT_EW_POW:
      if (c == 2.0f) return emit(l, MRT_EW_SQUARE, a, 0, 0, 0);
      if (c == 3.0f) return emit(l, MRT_EW_CUBE, a, 0, 0, 0);
      return c == 1.0f ? a : -1;
    case MRT_EW_PRELU: return emit(l, MRT_EW_LEAKY_RELU, a, 0, c, 0);
    default: return -1;
  }
}

static int binary(lowering *l, mrt_ew_op op, int value_a, int value_b, int a, int b) {
  float c;
  int r = -1;
  if (value_b >= 0 && scalar(l, value_b, &c)) r = with_constant(l, op, a, c);
  if (r < 0 && value_a >= 0 && (op == MRT_EW_ADD || op == MRT_EW_MUL) && scalar(l, value_a, &c))
    r = with_constant(l, op, b, c);
  return r >= 0 ? r : emit(l, op, a, b, 0, 0);
}

static int lower_step(lowering *l, const mrt_pw_step *s) {
  mrt_ew_op op = row_ops[s->row];
  const int a = reg_of(l, s->args[0]);
  if (op == MRT_EW_GELU && s->p[0] != 0) op = MRT_EW_GELU_TANH;
  if (op == MRT_EW_QUICK_GELU && s->p[0] == 1) op = MRT_EW_SILU;
  if (s->n_args == 1) return emit(l, op, a, 0, s->p[0], s->p[1]);
  int r = binary(l, op, s->args[0], s->args[1], a, reg_of(l, s->args[1]));
  for (int k = 2; k < s->n_args; ++k) r = binary(l, op, -1, s->args[k], r, reg_of(l, s->args[k]));
  return r;
}

/* ---- what one instruction says in place of several ---- */

static const vinstr *at(const lowering *l, int reg) {
  return reg >= l->n_in ? &l->v[reg - l->n_in] : NULL;
}
static bool near(float x, float y) { return fabsf(x - y) <= 1e-6f * fabsf(y); }

/* x of 1 + erf(x / sqrt 2); -1: something else. */
static int erf_of(const lowering *l, int reg) {
  const vinstr *add = at(l, reg);
  if (!add || add->op != MRT_EW_ADD_C || add->p[0] != 1) return -1;
  const vinstr *erf = at(l, add->a[0]);
  const vinstr *arg = erf && erf->op == MRT_EW_ERF ? at(l, erf->a[0]) : NULL;
  if (!arg) return -1;
  if ((arg->op == MRT_EW_DIV_C && near(arg->p[0], 1.41421356f)) ||
      (arg->op == MRT_EW_MUL_C && near(arg->p[0], 0.70710678f)))
    return arg->a[0];
  return -1;
}

/* The operand of reg = operand / 2; -1. */
static int half_of(const lowering *l, int reg) {
  const vinstr *v = at(l, reg);
  return v && v->op == MRT_EW_MUL_C && v->p[0] == 0.5f ? v->a[0] : -1;
}

/* Is reg = u * w one of (x / 2) (1 + erf), x ((1 + erf) / 2)? Its x; -1: no. */
static int gelu_of(const lowering *l, int u, int w) {
  const int whole = erf_of(l, w), half = half_of(l, w) >= 0 ? erf_of(l, half_of(l, w)) : -1;
  if (whole >= 0 && half_of(l, u) == whole) return whole;
  return half >= 0 && half == u ? half : -1;
}

/* GELU and SiLU as exporters spell them. What they stood for goes in drop_dead. */
static void shorten(lowering *l) {
  for (int i = 0; i < l->n; ++i) {
    vinstr *v = &l->v[i];
    const vinstr *m = v->op == MRT_EW_MUL_C && v->p[0] == 0.5f ? at(l, v->a[0]) : NULL;
    int x = -1;
    for (int k = 0; k < 2 && x < 0; ++k) {
      if (v->op == MRT_EW_MUL) x = gelu_of(l, v->a[k], v->a[1 - k]);
      if (m && m->op == MRT_EW_MUL && erf_of(l, m->a[k]) == m->a[1 - k]) x = m->a[1 - k];
    }
    if (x >= 0) *v = (vinstr){.op = MRT_EW_GELU, .a = {x, 0, 0}};
    for (int k = 0; k < 2 && v->op == MRT_EW_MUL; ++k) {
      const vinstr *s = at(l, v->a[k]);
      if (s && s->op == MRT_EW_SIGMOID && s->a[0] == v->a[1 - k])
        *v = (vinstr){.op = MRT_EW_SILU, .a = {v->a[1 - k], 0, 0}};
    }
  }
}

/* Drops instructions whose results nothing reads; the result's new number. */
static int drop_dead(lowering *l, int result) {
  bool live[MAX_INSTRS] = {false};
  int now[MAX_INSTRS], n = 0;
  if (result >= l->n_in) live[result - l->n_in] = true;
  for (int i = l->n - 1; i >= 0; --i)
    for (int k = 0; live[i] && k < mrt_ew_op_arity(l->v[i].op); ++k)
      if (l->v[i].a[k] >= l->n_in) live[l->v[i].a[k] - l->n_in] = true;
  for (int i = 0; i < l->n; ++i) {
    if (!live[i]) continue;
    vinstr v = l->v[i];
    for (int k = 0; k < 3; ++k)
      if (v.a[k] >= l->n_in) v.a[k] = l->n_in + now[v.a[k] - l->n_in];
    now[i] = n;
    l->v[n++] = v;
  }
  l->n = n;
  return result >= l->n_in ? l->n_in + now[result - l->n_in] : result;
}

/* ---- registers ---- */

static mrt_status *too_large(const char *what) {
  return MRT_ERR(MRT_NOT_IMPLEMENTED, "point-wise program with too many %s", what);
}

static mrt_status *assign(const lowering *l, int result, mrt_ew_built *out) {
  int last[MAX_INSTRS + MRT_PW_MAX_INPUTS + 2], phys[MAX_INSTRS + MRT_PW_MAX_INPUTS + 2];
  bool busy[MRT_EW_MAX_REGS] = {false};
  memset(last, -1, sizeof last);
  memset(phys, -1, sizeof phys);
  for (int i = 0; i < l->n; ++i)
    for (int k = 0; k < mrt_ew_op_arity(l->v[i].op); ++k) last[l->v[i].a[k]] = i;
  last[result] = l->n;
  mrt_ew_program *p = &out->prog;
  *p = (mrt_ew_program){.n_instrs = l->n, .n_outputs = 1};
  for (int i = 0; i < l->n_in; ++i) {
    if (last[i] < 0) continue;
    if (p->n_inputs + 1 >= MRT_EW_MAX_IO) return too_large("inputs");
    out->input[p->n_inputs] = i;
    busy[p->n_inputs] = true;
    phys[i] = p->n_inputs++;
  }
  for (int i = 0; i < l->n; ++i) {
    const vinstr *v = &l->v[i];
    int r[3] = {0, 0, 0}, to = p->n_inputs;
    for (int k = 0; k < mrt_ew_op_arity(v->op); ++k) r[k] = phys[v->a[k]];
    for (int k = 0; k < mrt_ew_op_arity(v->op); ++k) /* functions may write over what they read */
      if (last[v->a[k]] == i && r[k] >= p->n_inputs) busy[r[k]] = false;
    while (to < MRT_EW_MAX_REGS && busy[to]) ++to;
    if (to == MRT_EW_MAX_REGS) return too_large("live values");
    if (last[l->n_in + i] >= 0) busy[to] = true;
    phys[l->n_in + i] = to;
    out->instrs[i] = (mrt_ew_instr){.op = (uint8_t)v->op,
                                    .dst = (uint8_t)to,
                                    .a = (uint8_t)r[0],
                                    .b = (uint8_t)r[1],
                                    .c = (uint8_t)r[2],
                                    .p = {v->p[0], v->p[1]}};
  }
  p->out[0] = (uint8_t)phys[result];
  return NULL;
}

mrt_status *mrt_ew_lower(const mrt_node *node, mrt_ew_built *out) {
  mrt_pw_step steps[MRT_PW_MAX_STEPS];
  lowering l = {.node = node, .n_in = node->n_in};
  int n_steps = 1;
  if (strcmp(node->domain, "macart") == 0)
    MRT_TRY(mrt_pw_read(node, steps, &n_steps));
  else if (!mrt_pw_step_of(node, &steps[0]))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "no point-wise program for %s", node->op_type);
  if (l.n_in > MRT_PW_MAX_INPUTS) return too_large("inputs");
  for (int i = 0; i < n_steps; ++i) l.value[i] = lower_step(&l, &steps[i]);
  if (l.overflow) return too_large("instructions");
  shorten(&l);
  const int result = drop_dead(&l, l.value[n_steps - 1]);
  MRT_TRY(assign(&l, result, out));
  out->prog.instrs = out->instrs;
  return mrt_ew_program_check(&out->prog);
}
