/* Every instruction on vectors, written once over a dozen primitives that the including file
 * defines: vf, vi, vm           float vector, int32 vector, mask; VW lanes v_set v_load v_store
 * v_load_n v_store_n (n < VW) v_fma v_min v_max (return the second operand if either is NaN) v_sqrt
 * v_round v_floor v_ceil v_lt v_le v_eq v_sel(m, if true, if false) v_cast_i v_cast_f (bits) v_to_i
 * (nearest) v_to_f v_ldexp(x, n) with n an integral float in [-160, 160]
 * + - * / work on vf, + - & | ^ << >> on vi. Polynomials are least maximum error fits. */

#define FN(id) INLINE vf op_##id(vf a, vf b, vf c, vf p0, vf p1)
#define UNUSED (void)a, (void)b, (void)c, (void)p0, (void)p1

INLINE vf v_abs(vf x) { return v_cast_f(v_cast_i(x) & v_seti(0x7fffffff)); }
INLINE vf v_neg(vf x) { return v_cast_f(v_cast_i(x) ^ v_seti((int)0x80000000)); }
/* |x| of the first, sign of the second. */
INLINE vf v_copysign(vf x, vf s) {
  return v_cast_f((v_cast_i(x) & v_seti(0x7fffffff)) | (v_cast_i(s) & v_seti((int)0x80000000)));
}
INLINE vf v_clamp(vf x, float lo, float hi) { return v_min(v_set(hi), v_max(v_set(lo), x)); }

/* x = n ln 2 + r, |r| <= ln 2 / 2; gives r and n. */
INLINE vf reduce_ln2(vf x, vf *n) {
  *n = v_round(x * v_set(1.44269504f));
  vf r = v_fma(*n, v_set(-0.693359375f), x);
  return v_fma(*n, v_set(2.12194440e-4f), r);
}
/* e^r - 1 for |r| <= 0.35. */
INLINE vf expm1_poly(vf r) {
  vf q = v_set(0.0013950532302260399f);
  q = v_fma(q, r, v_set(0.008368918672204018f));
  q = v_fma(q, r, v_set(0.04166620597243309f));
  q = v_fma(q, r, v_set(0.166665181517601f));
  q = v_fma(q, r, v_set(0.5f));
  return v_fma(q, r * r, r);
}
INLINE vf v_exp(vf x) {
  vf n, r = reduce_ln2(v_clamp(x, -104.0f, 89.0f), &n);
  return v_ldexp(expm1_poly(r) + v_set(1.0f), n);
}
/* With s = 2^(n-1): 2 (s expm1(r) + (s - 1/2)), which neither cancels nor overflows early. */
INLINE vf v_expm1(vf x) {
  vf n, r = reduce_ln2(v_clamp(x, -20.0f, 89.0f), &n);
  vf s = v_ldexp(v_set(0.5f), n), e = expm1_poly(r);
  vf y = v_fma(s, e, s - v_set(0.5f));
  /* n = 0: e itself, whose last bits (s - 1/2) + s e would round away; -0 stays -0. */
  return v_sel(v_eq(n, v_set(0.0f)), v_sel(v_eq(x, v_set(0.0f)), x, e), y + y);
}
/* fdlibm's scheme: x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2, s = f / (2 + f). `extra` is added
 * to the small part: log1p's rounding correction. */
INLINE vf log_parts(vf x, vf extra) {
  const vm tiny = v_lt(x, v_set(1.17549435e-38f));
  x = v_sel(tiny, x * v_set(8388608.0f), x);
  vi bits = v_cast_i(x) - v_seti(0x3f3504f3);
  vf k = v_to_f(bits >> 23) - v_sel(tiny, v_set(23.0f), v_set(0.0f));
  vf f = v_cast_f((bits & v_seti(0x007fffff)) + v_seti(0x3f3504f3)) - v_set(1.0f);
  vf s = f / (v_set(2.0f) + f), z = s * s;
  vf R = v_fma(z, v_set(0.24279078841f), v_set(0.28498786688f));
  R = v_fma(z, R, v_set(0.40000972152f));
  R = z * v_fma(z, R, v_set(0.66666662693f));
  vf half = v_set(0.5f) * f * f;
  vf small = v_fma(s, half + R, v_fma(k, v_set(9.0580006145e-6f), extra));
  return v_fma(k, v_set(0.69313812256f), f - (half - small));
}
INLINE vf v_log(vf x) {
  vf y = log_parts(x, v_set(0.0f));
  y = v_sel(v_eq(x, v_set(INFINITY)), x, y);
  y = v_sel(v_lt(x, v_set(0.0f)), v_set(NAN), y);
  y = v_sel(v_eq(x, v_set(0.0f)), v_set(-INFINITY), y);
  return v_sel(v_eq(x, x), y, x);
}
INLINE vf v_log1p(vf x) {
  vf u = x + v_set(1.0f);
  vf lost = (v_sel(v_lt(v_set(1.0f), v_abs(x)), v_set(1.0f) - (u - x), x - (u - v_set(1.0f)))) / u;
  vf y = log_parts(u, lost);
  y = v_sel(v_lt(v_abs(x), v_set(1e-7f)), x, y);
  y = v_sel(v_eq(x, v_set(INFINITY)), x, y);
  y = v_sel(v_lt(x, v_set(-1.0f)), v_set(NAN), y);
  y = v_sel(v_eq(x, v_set(-1.0f)), v_set(-INFINITY), y);
  return v_sel(v_eq(x, x), y, x);
}
INLINE vf v_tanh(vf x) {
  vf e = v_expm1(v_set(2.0f) * v_min(v_set(10.0f), v_abs(x)));
  return v_copysign(e / (e + v_set(2.0f)), x);
}
/* Below 1 an odd polynomial; above, 1 - e^P(|x|) with P a fit of log(erfc). */
INLINE vf v_erf(vf x) {
  vf ax = v_min(v_set(4.0f), v_abs(x)), z = ax * ax;
  vf p = v_set(7.853847637306899e-05f);
  p = v_fma(p, z, v_set(-0.0008010189631022513f));
  p = v_fma(p, z, v_set(0.00518832728266716f));
  p = v_fma(p, z, v_set(-0.026853810995817184f));
  p = v_fma(p, z, v_set(0.1128358542919159f));
  p = v_fma(p, z, v_set(-0.3761262595653534f));
  p = v_fma(p, z, v_set(0.1283791065216064f));
  vf low = v_fma(p, ax, ax);
  vf q = v_set(-2.168708306271583e-05f);
  q = v_fma(q, ax, v_set(0.00044133924529887736f));
  q = v_fma(q, ax, v_set(-0.0042045763693749905f));
  q = v_fma(q, ax, v_set(0.02520829811692238f));
  q = v_fma(q, ax, v_set(-0.10841864347457886f));
  q = v_fma(q, ax, v_set(-0.633219838142395f));
  q = v_fma(q, ax, v_set(-1.1295784711837769f));
  q = v_fma(q, ax, v_set(0.0001880479248939082f));
  vf high = v_set(1.0f) - v_exp(q);
  return v_copysign(v_sel(v_lt(ax, v_set(1.0f)), low, high), x);
}
INLINE vf v_sigmoid(vf x) { return v_set(1.0f) / (v_set(1.0f) + v_exp(v_neg(x))); }

/* x - n pi/2 in three parts, good to |x| of some 10^4; then a sine or cosine polynomial by
 * quadrant. */
INLINE vf v_sincos(vf x, int quarter) {
  vf n = v_round(x * v_set(0.63661977f));
  vf r = v_fma(n, v_set(-1.5707964f), x);
  r = v_fma(n, v_set(4.3711388e-8f), r);
  r = v_fma(n, v_set(1.7151245e-15f), r);
  vi q = v_to_i(n) + v_seti(quarter);
  vf z = r * r;
  vf s = v_fma(z, v_set(-2.4758790573287115e-08f), v_set(2.7555317956284853e-06f));
  s = v_fma(z, s, v_set(-0.00019841264293063432f));
  s = v_fma(z, s, v_set(0.008333333767950535f));
  s = v_fma(z, s, v_set(-0.1666666716337204f));
  s = v_fma(s * z, r, r);
  vf c = v_fma(z, v_set(-2.720678082823724e-07f), v_set(2.4799479433568195e-05f));
  c = v_fma(z, c, v_set(-0.0013888883404433727f));
  c = v_fma(z, c, v_set(0.0416666679084301f));
  c = v_fma(c, z * z, v_fma(z, v_set(-0.5f), v_set(1.0f)));
  vf odd = v_to_f(q & v_seti(1));
  vf y = v_sel(v_eq(odd, v_set(0.0f)), s, c);
  return v_cast_f(v_cast_i(y) ^ ((q & v_seti(2)) << 30));
}

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
  return v_set(0.5f) * a * (v_set(1.0f) + v_erf(a * v_set(0.70710678f)));
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
