/* Every instruction on vectors, over the primitives and functions of provider/cpu/simd. */

#define FN(id) INLINE vf op_##id(vf a, vf b, vf c, vf p0, vf p1)
#define UNUSED (void)a, (void)b, (void)c, (void)p0, (void)p1

FN(COPY) {
  UNUSED;
  return a;
}
FN(RELU) {
  UNUSED;
  return v_max(v_set(0.0f), a);
}
FN(CLIP) {
  UNUSED;
  return v_min(p1, v_max(p0, a));
}
FN(LEAKY_RELU) {
  UNUSED;
  return v_sel(v_lt(a, v_set(0.0f)), p0 * a, a);
}
FN(SIGMOID) {
  UNUSED;
  return v_sigmoid(a);
}
FN(TANH) {
  UNUSED;
  return v_tanh(a);
}
FN(GELU) {
  UNUSED;
  return v_gelu(a);
}
FN(GELU_TANH) {
  UNUSED;
  vf u = v_fma(v_set(0.044715f) * a, a * a, a);
  return a * v_sigmoid(v_set(1.5957691216f) * u);
}
FN(QUICK_GELU) {
  UNUSED;
  return a * v_sigmoid(p0 * a);
}
FN(SILU) {
  UNUSED;
  return a * v_sigmoid(a);
}
FN(HARD_SIGMOID) {
  UNUSED;
  return v_clamp(v_fma(p0, a, p1), 0.0f, 1.0f);
}
FN(HARD_SWISH) {
  UNUSED;
  return a * v_clamp(v_fma(a, v_set(1.0f / 6.0f), v_set(0.5f)), 0.0f, 1.0f);
}
FN(HARD_SWISH_AB) {
  UNUSED;
  return v_fma(p0, a * v_clamp(v_fma(a, v_set(1.0f / 6.0f), v_set(0.5f)), 0.0f, 1.0f), p1);
}
FN(ELU) {
  UNUSED;
  return v_sel(v_lt(a, v_set(0.0f)), p0 * v_expm1(a), a);
}
FN(SELU) {
  UNUSED;
  return p1 * v_sel(v_lt(v_set(0.0f), a), a, p0 * v_expm1(a));
}
FN(SOFTPLUS) {
  UNUSED;
  return v_max(v_set(0.0f), a) + v_log1p(v_exp(v_neg(v_abs(a))));
}
FN(SOFTSIGN) {
  UNUSED;
  return a / (v_set(1.0f) + v_abs(a));
}
/* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2) */
FN(MISH) {
  UNUSED;
  vf e = v_exp(v_min(v_set(30.0f), a)), w = v_fma(e, e, e + e);
  return a * (w / (w + v_set(2.0f)));
}
FN(NEG) {
  UNUSED;
  return v_neg(a);
}
FN(ABS) {
  UNUSED;
  return v_abs(a);
}
FN(SQRT) {
  UNUSED;
  return v_sqrt(a);
}
FN(RSQRT) {
  UNUSED;
  return v_set(1.0f) / v_sqrt(a);
}
FN(RECIP) {
  UNUSED;
  return v_set(1.0f) / a;
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
  return v_exp(a);
}
FN(EXPM1) {
  UNUSED;
  return v_expm1(a);
}
FN(LOG) {
  UNUSED;
  return v_log(a);
}
FN(LOG1P) {
  UNUSED;
  return v_log1p(a);
}
FN(ERF) {
  UNUSED;
  return v_erf(a);
}
FN(FLOOR) {
  UNUSED;
  return v_floor(a);
}
FN(CEIL) {
  UNUSED;
  return v_ceil(a);
}
FN(ROUND) {
  UNUSED;
  return v_round(a);
}
FN(SIGN) {
  UNUSED;
  vf one = v_copysign(v_set(1.0f), a);
  return v_sel(v_lt(v_set(0.0f), v_abs(a)), one, a);
}
FN(AFFINE) {
  UNUSED;
  return v_fma(p0, a, p1);
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
  return v_sincos(a, 0);
}
FN(COS) {
  UNUSED;
  return v_sincos(a, 1);
}
FN(NOT) {
  UNUSED;
  return v_sel(v_eq(a, v_set(0.0f)), v_set(1.0f), v_set(0.0f));
}
FN(IS_NAN) {
  UNUSED;
  return v_sel(v_eq(a, a), v_set(0.0f), v_set(1.0f));
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
/* v_min(a, b) is b when either is NaN: right unless only a is. */
FN(MIN) {
  UNUSED;
  return v_sel(v_eq(a, a), v_min(a, b), a);
}
FN(MAX) {
  UNUSED;
  return v_sel(v_eq(a, a), v_max(a, b), a);
}
FN(PRELU) {
  UNUSED;
  return v_sel(v_lt(a, v_set(0.0f)), b * a, a);
}
FN(EQ) {
  UNUSED;
  return v_sel(v_eq(a, b), v_set(1.0f), v_set(0.0f));
}
FN(LT) {
  UNUSED;
  return v_sel(v_lt(a, b), v_set(1.0f), v_set(0.0f));
}
FN(LE) {
  UNUSED;
  return v_sel(v_le(a, b), v_set(1.0f), v_set(0.0f));
}
FN(GT) {
  UNUSED;
  return v_sel(v_lt(b, a), v_set(1.0f), v_set(0.0f));
}
FN(GE) {
  UNUSED;
  return v_sel(v_le(b, a), v_set(1.0f), v_set(0.0f));
}
FN(FMA) {
  UNUSED;
  return v_fma(a, b, c);
}
FN(WHERE) {
  UNUSED;
  return v_sel(v_eq(a, v_set(0.0f)), c, b);
}
/* exp(b log a) in float32 loses digits in proportion to |b log a|: libm, lane by lane. */
FN(POW) {
  UNUSED;
  float x[VW], y[VW];
  v_store(x, a);
  v_store(y, b);
  for (int i = 0; i < VW; ++i) x[i] = powf(x[i], y[i]);
  return v_load(x);
}

#define MRT_EW_OP(id, arity, params, doc)                                                        \
  static void run_##id(float *y, const float *a, const float *b, const float *c, const float *p, \
                       int64_t n) {                                                              \
    const vf p0 = v_set((params) > 0 ? p[0] : 0.0f), p1 = v_set((params) > 1 ? p[1] : 0.0f);     \
    int64_t i = 0;                                                                               \
    for (; i + VW <= n; i += VW)                                                                 \
      v_store(y + i, op_##id(v_load(a + i), (arity) > 1 ? v_load(b + i) : p0,                    \
                             (arity) > 2 ? v_load(c + i) : p0, p0, p1));                         \
    const int r = (int)(n - i);                                                                  \
    if (r)                                                                                       \
      v_store_n(y + i,                                                                           \
                op_##id(v_load_n(a + i, r), (arity) > 1 ? v_load_n(b + i, r) : p0,               \
                        (arity) > 2 ? v_load_n(c + i, r) : p0, p0, p1),                          \
                r);                                                                              \
  }
#include "provider/cpu/elementwise/elementwise_ops.def"
#undef MRT_EW_OP

const mrt_ew_kernels TABLE = {.name = TABLE_NAME,
                              .fn = {
#define MRT_EW_OP(id, arity, params, doc) [MRT_EW_##id] = run_##id,
#include "provider/cpu/elementwise/elementwise_ops.def"
#undef MRT_EW_OP
                              }};
