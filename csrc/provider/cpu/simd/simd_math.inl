/* Functions on vectors, written once over a dozen primitives that the including header defines:
 *   vf, vi, vm                 float vector, int32 vector, mask; VW lanes
 *   v_set v_load v_store v_load_n v_store_n (n < VW) v_fma
 *   v_min v_max                return the second operand if either is NaN
 *   v_sqrt v_round v_floor v_ceil v_lt v_le v_eq v_sel(m, if true, if false)
 *   v_cast_i v_cast_f (bits) v_to_i (nearest) v_to_f
 *   v_ldexp(x, n)              n an integral float in [-160, 160]
 *   v_limit(x, m)              |x| at most m, the sign of x; of NaN anything
 *   v_hsum v_hmax              over the lanes
 * + - * / work on vf, + - & | ^ << >> on vi. Polynomials are least maximum error fits. */

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
  x = v_sel(tiny, v_abs(x * v_set(8388608.0f)), x); /* no sign: the bits below would overflow */
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
/* x P(z) / Q(z) with z = x x up to a limit, past which the value grows with x: tanh, erf and the
 * normal distribution are that, cut at their last value, which comes out exactly. Coefficients from
 * tools/fit_functions.py; relative error below 3.2e-7, four fifths of it from rounding. A division
 * costs nothing beside this arithmetic: an estimate and Newton's step took as long. */
INLINE vf v_tanh(vf x) {
  const vf z = v_min(v_set(81.1801f), x * x);
  vf p = v_fma(v_set(1.34018903e-08f), z, v_set(2.06480818e-05f));
  vf q = v_fma(v_set(7.79727941e-07f), z, v_set(0.000328973634f));
  p = v_fma(p, z, v_set(0.00349820871f));
  q = v_fma(q, z, v_set(0.0258872434f));
  p = v_fma(p, z, v_set(0.133833289f));
  q = v_fma(q, z, v_set(0.467166513f));
  p = v_fma(p, z, v_set(1.0f));
  q = v_fma(q, z, v_set(1.0f));
  return v_clamp(x * (p / q), -1.0f, 1.0f);
}
INLINE vf v_erf(vf x) {
  const vf z = v_min(v_set(15.3664f), x * x);
  vf p = v_fma(v_set(1.7799191e-06f), z, v_set(0.00028657075f));
  vf q = v_fma(v_set(3.53718242e-05f), z, v_set(0.00128529628f));
  p = v_fma(p, z, v_set(0.00436416874f));
  q = v_fma(q, z, v_set(0.0161839891f));
  p = v_fma(p, z, v_set(0.0545743816f));
  q = v_fma(q, z, v_set(0.120325021f));
  p = v_fma(p, z, v_set(0.205955043f));
  q = v_fma(q, z, v_set(0.515854597f));
  p = v_fma(p, z, v_set(1.12837911f));
  q = v_fma(q, z, v_set(1.0f));
  return v_clamp(x * (p / q), -1.0f, 1.0f);
}
/* x (1/2 + phi(x)), phi the normal distribution less 1/2. */
INLINE vf v_gelu(vf x) {
  const vf z = v_min(v_set(30.5809f), x * x);
  vf p = v_fma(v_set(2.23022933e-08f), z, v_set(6.23074311e-06f));
  vf q = v_fma(v_set(1.17533807e-06f), z, v_set(7.20839598e-05f));
  p = v_fma(p, z, v_set(0.00016558182f));
  q = v_fma(q, z, v_set(0.00186650164f));
  p = v_fma(p, z, v_set(0.00465619611f));
  q = v_fma(q, z, v_set(0.0285058375f));
  p = v_fma(p, z, v_set(0.0336454287f));
  q = v_fma(q, z, v_set(0.251002908f));
  p = v_fma(p, z, v_set(0.398942262f));
  q = v_fma(q, z, v_set(1.0f));
  return v_fma(x, v_limit(x * (p / q), 0.5f), x * v_set(0.5f));
}
/* 1 / (1 + e^-x); 0 below -87.33, where the result would not be a normal number (those take a
 * hundred cycles each). Adding the magic number leaves n + 127 in the low bits, the exponent of
 * 2^n. */
INLINE vf v_sigmoid(vf x) {
  const vf magic = v_set(12583039.0f), c = v_min(v_set(87.0f), x);
  const vf t = v_fma(c, v_set(-1.44269504f), magic), n = t - magic;
  const vf r = v_fma(n, v_set(0.69314718f), c); /* e^-c = 2^n e^-r */
  vf p = v_fma(v_set(-0.00829027202f), r, v_set(0.04189816f));
  p = v_fma(p, r, v_set(-0.166676381f));
  p = v_fma(p, r, v_set(0.499991478f));
  p = v_fma(p, r, v_set(-0.999999706f));
  p = v_fma(p, r, v_set(1.0f));
  const vf d = v_fma(p, v_cast_f(v_cast_i(t) << 23), v_set(1.0f));
  return v_sel(v_lt(x, v_set(-87.33f)), v_set(0.0f), v_set(1.0f) / d);
}

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
