/* The row kernels over vector primitives. A row is walked in vectors; the tail is one masked vector
 * whose missing lanes hold the neutral element. Sums have four accumulators, so that they run at
 * the speed of loads and lose few digits. */
#include <stddef.h>

/* Lanes from n on become `other`; nothing goes through memory, which a tail would wait for. */
INLINE vf keep_n(vf x, int n, float other) {
  static const float lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const vf i = v_load(lane);
  return v_sel(v_eq(v_max(i, v_set((float)n)), i), v_set(other), x);
}
INLINE vf tail_or(const float *p, int r, float other) { return keep_n(v_load_n(p, r), r, other); }

/* max that keeps a NaN of either side. */
INLINE vf max_nan(vf a, vf b) { return v_sel(v_eq(a, a), v_max(a, b), a); }

static float row_max(const float *x, int64_t n) {
  vf m = v_set(-INFINITY);
  int64_t i = 0;
  for (; i + VW <= n; i += VW) m = max_nan(m, v_load(x + i));
  if (i < n) m = max_nan(m, tail_or(x + i, (int)(n - i), -INFINITY));
  float lanes[VW], top = -INFINITY;
  v_store(lanes, m);
  for (int k = 0; k < VW; ++k) top = lanes[k] != lanes[k] || lanes[k] > top ? lanes[k] : top;
  for (int k = 0; k < VW; ++k)
    if (lanes[k] != lanes[k]) top = lanes[k];
  return top;
}

static float row_min(const float *x, int64_t n) {
  vf m = v_set(-INFINITY); /* of the negated row */
  int64_t i = 0;
  for (; i + VW <= n; i += VW) m = max_nan(m, v_set(0.0f) - v_load(x + i));
  if (i < n) m = max_nan(m, v_set(0.0f) - tail_or(x + i, (int)(n - i), INFINITY));
  float lanes[VW], top = -INFINITY;
  v_store(lanes, m);
  for (int k = 0; k < VW; ++k) top = lanes[k] > top ? lanes[k] : top;
  for (int k = 0; k < VW; ++k)
    if (lanes[k] != lanes[k]) top = lanes[k];
  return 0.0f - top;
}

#define SUM(name, args, at, at_tail)                \
  static float name args {                          \
    vf s0 = v_set(0.0f), s1 = s0, s2 = s0, s3 = s0; \
    int64_t i = 0;                                  \
    for (; i + 4 * VW <= n; i += 4 * VW) {          \
      s0 = at(s0, i);                               \
      s1 = at(s1, i + VW);                          \
      s2 = at(s2, i + 2 * VW);                      \
      s3 = at(s3, i + 3 * VW);                      \
    }                                               \
    for (; i + VW <= n; i += VW) s0 = at(s0, i);    \
    if (i < n) s1 = at_tail(s1, i, (int)(n - i));   \
    return v_hsum((s0 + s1) + (s2 + s3));           \
  }
#define PLAIN(s, i)         (s + v_load(x + (i)))
#define PLAIN_TAIL(s, i, r) (s + v_load_n(x + (i), r))
SUM(row_sum, (const float *x, int64_t n), PLAIN, PLAIN_TAIL)
#define SQUARE(s, i)         v_fma(v_load(x + (i)), v_load(x + (i)), s)
#define SQUARE_TAIL(s, i, r) v_fma(v_load_n(x + (i), r), v_load_n(x + (i), r), s)
SUM(row_sum_square, (const float *x, int64_t n), SQUARE, SQUARE_TAIL)
#define ABS(s, i)         (s + v_abs(v_load(x + (i))))
#define ABS_TAIL(s, i, r) (s + v_abs(v_load_n(x + (i), r)))
SUM(row_sum_abs, (const float *x, int64_t n), ABS, ABS_TAIL)
#define DOT(s, i)         v_fma(v_load(a + (i)), v_load(b + (i)), s)
#define DOT_TAIL(s, i, r) v_fma(v_load_n(a + (i), r), v_load_n(b + (i), r), s)
SUM(row_dot, (const float *a, const float *b, int64_t n), DOT, DOT_TAIL)

/* Sum of squared distances from `mean`; lanes that are not there must not count. */
static float row_spread(const float *x, float mean, int64_t n) {
  const vf m = v_set(mean);
  vf s0 = v_set(0.0f), s1 = s0;
  int64_t i = 0;
  for (; i + 2 * VW <= n; i += 2 * VW) {
    const vf d0 = v_load(x + i) - m, d1 = v_load(x + i + VW) - m;
    s0 = v_fma(d0, d0, s0);
    s1 = v_fma(d1, d1, s1);
  }
  for (; i < n; i += VW) {
    const vf d = (n - i >= VW ? v_load(x + i) : tail_or(x + i, (int)(n - i), mean)) - m;
    s0 = v_fma(d, d, s0);
  }
  return v_hsum(s0 + s1);
}

static void row_norm(const mrt_row_norm *r, float *y, const float *x, float *mean, float *inv) {
  const int64_t n = r->n;
  const float m = r->rms || !n ? 0.0f : row_sum(x, n) / (float)n;
  const float var = (r->rms ? row_sum_square(x, n) : row_spread(x, m, n)) / (float)(n ? n : 1);
  const float k = 1.0f / sqrtf(var + r->eps);
  const vf vm_ = v_set(m), vk = v_set(k);
  int64_t i = 0;
  for (; i + VW <= n; i += VW) {
    vf v = (v_load(x + i) - vm_) * vk;
    if (r->gain) v = v * v_load(r->gain + i);
    if (r->bias) v = v + v_load(r->bias + i);
    v_store(y + i, v);
  }
  if (i < n) {
    const int t = (int)(n - i);
    vf v = (v_load_n(x + i, t) - vm_) * vk;
    if (r->gain) v = v * v_load_n(r->gain + i, t);
    if (r->bias) v = v + v_load_n(r->bias + i, t);
    v_store_n(y + i, v, t);
  }
  if (mean) *mean = m;
  if (inv) *inv = k;
}

INLINE vf logit(const float *x, const float *mask, int64_t i, vf scale) {
  const vf v = v_load(x + i) * scale;
  if (mask) return v + v_load(mask + i);
  return v;
}
INLINE vf logit_tail(const float *x, const float *mask, int64_t i, vf scale, int r) {
  const vf v = v_load_n(x + i, r) * scale;
  if (mask) return v + v_load_n(mask + i, r);
  return v;
}

/* e^d for d <= 0. What is below e^-87 is 0: next to the 1 of the largest element it is nothing, and
 * results that are denormal take a hundred cycles each (masked elements are such). NaN stays. */
INLINE vf soft_exp(vf d) {
  const vf low = v_set(-87.0f), t = v_max(low, d);
  return v_sel(v_eq(t, low), v_set(0.0f), v_exp(t));
}

static float row_exp_sum(float *y, const float *x, const float *mask, float scale, int64_t n) {
  const vf k = v_set(scale);
  vf m0 = v_set(-INFINITY), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * VW <= n; i += 2 * VW) {
    m0 = v_max(m0, logit(x, mask, i, k));
    m1 = v_max(m1, logit(x, mask, i + VW, k));
  }
  for (; i + VW <= n; i += VW) m0 = v_max(m0, logit(x, mask, i, k));
  const int r = (int)(n - i);
  vf last = v_set(-INFINITY); /* the tail's logits, padded with what e^ turns into 0 */
  if (r) {
    last = keep_n(logit_tail(x, mask, i, k, r), r, -INFINITY);
    m1 = v_max(m1, last);
  }
  const vf m = v_set(v_hmax(v_max(m0, m1)));
  vf s0 = v_set(0.0f), s1 = s0;
  for (i = 0; i + 2 * VW <= n; i += 2 * VW) {
    const vf e0 = soft_exp(logit(x, mask, i, k) - m), e1 = soft_exp(logit(x, mask, i + VW, k) - m);
    v_store(y + i, e0);
    v_store(y + i + VW, e1);
    s0 = s0 + e0;
    s1 = s1 + e1;
  }
  for (; i + VW <= n; i += VW) {
    const vf e = soft_exp(logit(x, mask, i, k) - m);
    v_store(y + i, e);
    s0 = s0 + e;
  }
  if (r) {
    const vf e = soft_exp(last - m);
    v_store_n(y + i, e, r);
    s1 = s1 + e;
  }
  return v_hsum(s0 + s1);
}

static void row_scale(float *y, const float *x, float a, int64_t n) {
  const vf k = v_set(a);
  int64_t i = 0;
  for (; i + VW <= n; i += VW) v_store(y + i, v_load(x + i) * k);
  if (i < n) v_store_n(y + i, v_load_n(x + i, (int)(n - i)) * k, (int)(n - i));
}

static void row_axpy(float *y, float a, const float *x, int64_t n) {
  const vf k = v_set(a);
  int64_t i = 0;
  for (; i + VW <= n; i += VW) v_store(y + i, v_fma(k, v_load(x + i), v_load(y + i)));
  if (i < n) {
    const int r = (int)(n - i);
    v_store_n(y + i, v_fma(k, v_load_n(x + i, r), v_load_n(y + i, r)), r);
  }
}

/* Vector by vector: parts of a line would keep a buffer busy until all of them have come. */
static void row_copy_around(float *to, const float *from, int64_t n) {
  int64_t i = 0;
  for (; i < n && (uintptr_t)(to + i) % (VW * sizeof(float)); ++i) to[i] = from[i];
  for (; i + VW <= n; i += VW) v_stream(to + i, v_load(from + i));
  for (; i < n; ++i) to[i] = from[i];
}

const mrt_row_kernels TABLE = {.name = TABLE_NAME,
                               .exp_sum = row_exp_sum,
                               .norm = row_norm,
                               .sum = row_sum,
                               .sum_square = row_sum_square,
                               .sum_abs = row_sum_abs,
                               .max = row_max,
                               .min = row_min,
                               .scale = row_scale,
                               .dot = row_dot,
                               .axpy = row_axpy,
                               .copy_around = row_copy_around};
