/* Row kernels over primitives of the including file: vf of VW lanes, v_set v_load v_store v_fma
 * v_max v_min (both give the second operand if either is NaN). A pixel is 16 / VW vectors. PIXELS
 * output pixels are kept in registers while their taps are read. */

enum { PARTS = 16 / VW };

/* One more value of a maximum (NaN stays if it came first) or of a sum. */
INLINE vf join(vf acc, vf x, const int is_max) {
  if (is_max) return v_max(x, acc);
  return acc + x;
}

/* What comes after the sums of n pixels from i on. */
INLINE void depthwise_finish(const mrt_pixel_row *r, vf *acc, int64_t i, const int n,
                             const int lane) {
  float *out = r->out + i * 16 + lane;
  if (r->residual)
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) acc[k] = acc[k] + v_load(r->residual + (i + k) * 16 + lane);
  if (r->clip) {
    const vf lo = v_set(r->lo), hi = v_set(r->hi);
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) acc[k] = v_min(hi, v_max(lo, acc[k]));
  }
#pragma GCC unroll 14
  for (int k = 0; k < n; ++k) v_store(out + k * 16, acc[k]);
}

/* Any list of taps. */
INLINE void depthwise_block(const mrt_pixel_row *r, int64_t i, const int n, const int lane) {
  vf acc[PIXELS];
  const float *in = r->in + i * r->step + lane;
  const vf start = r->bias ? v_load(r->bias + lane) : v_set(0.0f);
#pragma GCC unroll 14
  for (int k = 0; k < n; ++k) acc[k] = start;
  for (int t = 0; t < r->n_taps; ++t) {
    const vf w = v_load(r->weights + r->taps[t].w * 16 + lane);
    const float *x = in + r->taps[t].off;
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) acc[k] = v_fma(v_load(x + k * r->step), w, acc[k]);
  }
  depthwise_finish(r, acc, i, n, lane);
}

/* Whole window rows of kw neighbours: each input pixel is loaded once and used by all outputs that
 * it belongs to, `s` pixels apart. */
INLINE void depthwise_window(const mrt_pixel_row *r, int64_t i, const int n, const int lane,
                             const int kw, const int s) {
  vf acc[PIXELS];
  const vf start = r->bias ? v_load(r->bias + lane) : v_set(0.0f);
#pragma GCC unroll 14
  for (int k = 0; k < n; ++k) acc[k] = start;
  for (int t = 0; t < r->n_taps; t += kw) {
    const float *x = r->in + i * s * 16 + lane + r->taps[t].off;
    const float *w = r->weights + r->taps[t].w * 16 + lane;
    vf wt[5];
#pragma GCC unroll 5
    for (int c = 0; c < kw; ++c) wt[c] = v_load(w + c * 16);
#pragma GCC unroll 32
    for (int j = 0; j < (n - 1) * s + kw; ++j) {
      const vf v = v_load(x + j * 16);
#pragma GCC unroll 14
      for (int k = 0; k < n; ++k)
        if (j - k * s >= 0 && j - k * s < kw) acc[k] = v_fma(v, wt[j - k * s], acc[k]);
    }
  }
  depthwise_finish(r, acc, i, n, lane);
}

/* Exactly n pixels, n <= PIXELS: one body for each n, so that a row ends without single steps. */
INLINE void depthwise_pixels(const mrt_pixel_row *r, int64_t i, int64_t n, const int lane,
                             const int kw, const int s) {
  switch (n) {
#define CASE(k)                                                 \
  case k:                                                       \
    if (kw)                                                     \
      depthwise_window(r, i, k <= PIXELS ? k : 1, lane, kw, s); \
    else                                                        \
      depthwise_block(r, i, k <= PIXELS ? k : 1, lane);         \
    break;
    /* The formatter cannot agree with itself on lists of macros. */
    /* clang-format off */
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
    CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
    /* clang-format on */
#undef CASE
  }
}

INLINE void depthwise_row(const mrt_pixel_row *r, const int kw, const int s) {
  for (int part = 0; part < PARTS; ++part) {
    int64_t i = 0, left = r->count;
    while (left > PIXELS) { /* the last two blocks are nearly equal */
      const int64_t n = left >= 2 * PIXELS ? PIXELS : (left + 1) / 2;
      depthwise_pixels(r, i, n, part * VW, kw, s);
      i += n, left -= n;
    }
    depthwise_pixels(r, i, left, part * VW, kw, s);
  }
}

static void depthwise_3(const mrt_pixel_row *r) { depthwise_row(r, 3, 1); }
static void depthwise_3_2(const mrt_pixel_row *r) { depthwise_row(r, 3, 2); }
static void depthwise_5(const mrt_pixel_row *r) { depthwise_row(r, 5, 1); }
static void depthwise_5_2(const mrt_pixel_row *r) { depthwise_row(r, 5, 2); }
static void depthwise_any(const mrt_pixel_row *r) { depthwise_row(r, 0, 0); }

static void depthwise(const mrt_pixel_row *r) {
  if (r->kw == 3 && r->step == 16)
    depthwise_3(r);
  else if (r->kw == 3 && r->step == 32)
    depthwise_3_2(r);
  else if (r->kw == 5 && r->step == 16)
    depthwise_5(r);
  else if (r->kw == 5 && r->step == 32)
    depthwise_5_2(r);
  else
    depthwise_any(r);
}

INLINE void pool_block(const mrt_pixel_row *r, int64_t i, const int n, const int part,
                       const int is_max) {
  vf acc[PIXELS];
  const float *in = r->in + i * r->step + part * VW;
  int t = 0;
  if (is_max && r->n_taps) {
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) acc[k] = v_load(in + r->taps[0].off + k * r->step);
    t = 1;
  } else {
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) acc[k] = v_set(is_max ? -__builtin_inff() : 0.0f);
  }
  for (; t < r->n_taps; ++t) {
    const float *x = in + r->taps[t].off;
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) {
      const vf v = v_load(x + k * r->step);
      acc[k] = join(acc[k], v, is_max);
    }
  }
  const vf scale = v_set(is_max ? 1.0f : r->scale);
#pragma GCC unroll 14
  for (int k = 0; k < n; ++k) v_store(r->out + (i + k) * 16 + part * VW, acc[k] * scale);
}

INLINE void pool_row(const mrt_pixel_row *r, const int is_max) {
  for (int part = 0; part < PARTS; ++part) {
    int64_t i = 0;
    for (; i + PIXELS <= r->count; i += PIXELS) pool_block(r, i, PIXELS, part, is_max);
    for (; i < r->count; ++i) pool_block(r, i, 1, part, is_max);
  }
}
static void max(const mrt_pixel_row *r) { pool_row(r, 1); }
static void mean(const mrt_pixel_row *r) { pool_row(r, 0); }

/* Four partial results, so that latency does not bound the loop. */
INLINE void reduce(const float *in, int64_t count, float *out, const int is_max) {
  for (int part = 0; part < PARTS; ++part, in += VW, out += VW) {
    vf acc[4];
    for (int k = 0; k < 4; ++k)
      acc[k] = is_max ? (count ? v_load(in) : v_set(-__builtin_inff())) : v_set(0.0f);
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const vf v = v_load(in + (i + k) * 16);
        acc[k] = join(acc[k], v, is_max);
      }
    for (; i < count; ++i) acc[0] = join(acc[0], v_load(in + i * 16), is_max);
    for (int k = 1; k < 4; ++k) acc[0] = join(acc[0], acc[k], is_max);
    v_store(out, acc[0]);
  }
}
static void reduce_max(const float *in, int64_t count, float *out) { reduce(in, count, out, 1); }
static void reduce_sum(const float *in, int64_t count, float *out) { reduce(in, count, out, 0); }
