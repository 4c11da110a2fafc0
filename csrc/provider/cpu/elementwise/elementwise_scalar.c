/* What every instruction means, in libm's words: the specification of the vector tables. */
#include "provider/cpu/elementwise/elementwise_kernel.h"

#include <math.h>

#define FN(id) static inline float op_##id(float a, float b, float c, float p0, float p1)
#define UNUSED (void)a, (void)b, (void)c, (void)p0, (void)p1

static float sigmoidf(float x) { return 1.0f / (1.0f + expf(-x)); }
static float clampf(float x, float lo, float hi) {
  x = x < lo ? lo : x; /* false for NaN */
  return x > hi ? hi : x;
}

FN(COPY) {
  UNUSED;
  return a;
}
FN(RELU) {
  UNUSED;
  return a < 0.0f ? 0.0f : a;
}
FN(CLIP) {
  UNUSED;
  return clampf(a, p0, p1);
}
FN(LEAKY_RELU) {
  UNUSED;
  return a < 0.0f ? p0 * a : a;
}
FN(SIGMOID) {
  UNUSED;
  return sigmoidf(a);
}
FN(TANH) {
  UNUSED;
  return tanhf(a);
}
FN(GELU) {
  UNUSED;
  return 0.5f * a * (1.0f + erff(a * 0.70710678118654752f));
}
/* (1 + tanh u) / 2 is sigmoid(2 u), which does not cancel for negative u. */
FN(GELU_TANH) {
  UNUSED;
  return a * sigmoidf(1.5957691216057308f * (a + 0.044715f * a * a * a));
}
FN(QUICK_GELU) {
  UNUSED;
  return a * sigmoidf(p0 * a);
}
FN(SILU) {
  UNUSED;
  return a * sigmoidf(a);
}
FN(HARD_SIGMOID) {
  UNUSED;
  return clampf(p0 * a + p1, 0.0f, 1.0f);
}
FN(HARD_SWISH) {
  UNUSED;
  return a * clampf(a * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f);
}
FN(HARD_SWISH_AB) {
  UNUSED;
  return p0 * (a * clampf(a * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f)) + p1;
}
FN(ELU) {
  UNUSED;
  return a < 0.0f ? p0 * expm1f(a) : a;
}
FN(SELU) {
  UNUSED;
  return p1 * (a > 0.0f ? a : p0 * expm1f(a));
}
FN(SOFTPLUS) {
  UNUSED;
  return fmaxf(a, 0.0f) + log1pf(expf(-fabsf(a))) + (a != a ? a : 0.0f);
}
FN(SOFTSIGN) {
  UNUSED;
  return a / (1.0f + fabsf(a));
}
FN(MISH) {
  UNUSED;
  return a * tanhf(log1pf(expf(a)));
}
FN(NEG) {
  UNUSED;
  return -a;
}
FN(ABS) {
  UNUSED;
  return fabsf(a);
}
FN(SQRT) {
  UNUSED;
  return sqrtf(a);
}
FN(RSQRT) {
  UNUSED;
  return 1.0f / sqrtf(a);
}
FN(RECIP) {
  UNUSED;
  return 1.0f / a;
}
FN(SQUARE) {
  UNUSED;
  return a * a;
}
FN(CUBE) {
  UNUSED;
  return a * a * a;
}
FN(EXP) {
  UNUSED;
  return expf(a);
}
FN(EXPM1) {
  UNUSED;
  return expm1f(a);
}
FN(LOG) {
  UNUSED;
  return logf(a);
}
FN(LOG1P) {
  UNUSED;
  return log1pf(a);
}
FN(ERF) {
  UNUSED;
  return erff(a);
}
FN(FLOOR) {
  UNUSED;
  return floorf(a);
}
FN(CEIL) {
  UNUSED;
  return ceilf(a);
}
FN(ROUND) {
  UNUSED;
  return rintf(a);
}
FN(SIGN) {
  UNUSED;
  return a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : a;
}
FN(AFFINE) {
  UNUSED;
  return p0 * a + p1;
}
FN(ADD_C) {
  UNUSED;
  return a + p0;
}
FN(MUL_C) {
  UNUSED;
  return a * p0;
}
FN(DIV_C) {
  UNUSED;
  return a / p0;
}
FN(SIN) {
  UNUSED;
  return sinf(a);
}
FN(COS) {
  UNUSED;
  return cosf(a);
}
FN(NOT) {
  UNUSED;
  return a == 0.0f ? 1.0f : 0.0f;
}
FN(IS_NAN) {
  UNUSED;
  return a != a ? 1.0f : 0.0f;
}
FN(ADD) {
  UNUSED;
  return a + b;
}
FN(SUB) {
  UNUSED;
  return a - b;
}
FN(MUL) {
  UNUSED;
  return a * b;
}
FN(DIV) {
  UNUSED;
  return a / b;
}
FN(MIN) {
  UNUSED;
  return a != a || a < b ? a : b;
}
FN(MAX) {
  UNUSED;
  return a != a || a > b ? a : b;
}
FN(POW) {
  UNUSED;
  return powf(a, b);
}
FN(PRELU) {
  UNUSED;
  return a < 0.0f ? b * a : a;
}
FN(EQ) {
  UNUSED;
  return a == b ? 1.0f : 0.0f;
}
FN(LT) {
  UNUSED;
  return a < b ? 1.0f : 0.0f;
}
FN(LE) {
  UNUSED;
  return a <= b ? 1.0f : 0.0f;
}
FN(GT) {
  UNUSED;
  return a > b ? 1.0f : 0.0f;
}
FN(GE) {
  UNUSED;
  return a >= b ? 1.0f : 0.0f;
}
FN(FMA) {
  UNUSED;
  return a * b + c;
}
FN(WHERE) {
  UNUSED;
  return a != 0.0f ? b : c;
}

#define ARG(i, ptr) ((arity) >= (i) ? (ptr)[k] : 0.0f)
#define MRT_EW_OP(id, arity_, params, doc)                                                       \
  static void run_##id(float *y, const float *a, const float *b, const float *c, const float *p, \
                       int64_t n) {                                                              \
    enum { arity = arity_ };                                                                     \
    const float p0 = (params) > 0 ? p[0] : 0.0f, p1 = (params) > 1 ? p[1] : 0.0f;                \
    for (int64_t k = 0; k < n; ++k) y[k] = op_##id(a[k], ARG(2, b), ARG(3, c), p0, p1);          \
  }
#include "provider/cpu/elementwise/elementwise_ops.def"
#undef MRT_EW_OP

const mrt_ew_kernels mrt_ew_f32_scalar = {.name = "scalar",
                                          .fn = {
#define MRT_EW_OP(id, arity, params, doc) [MRT_EW_##id] = run_##id,
#include "provider/cpu/elementwise/elementwise_ops.def"
#undef MRT_EW_OP
                                          }};
