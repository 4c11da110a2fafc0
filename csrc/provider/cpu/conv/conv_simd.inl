/* Row kernels over primitives of the including file: vf of VW lanes, v_set v_load v_store v_fma
 * v_max v_min (both give the second operand if either is NaN), v_mask v_mask_of v_load_if (zero if
 * not, without a read), KEEP (the compiler must have it in a register now). A pixel is 16 / VW
 * vectors. PIXELS output pixels are kept in registers while their taps are read. */

enum { PARTS = 16 / VW };

/* One more value of a maximum (NaN stays if it came first) or of a sum. */
INLINE vf join(vf acc, vf x, const int is_max) {
  if (is_max) return v_max(x, acc);
  return acc + x;
}

/* What comes after the sums of n pixels: residual, clip, store. */
INLINE void depthwise_finish(vf *acc, const int n, const float *residual, bool clip, float low,
                             float high, float *out) {
  if (residual)
#pragma GCC unroll 14
    for (int k = 0; k < n; ++k) acc[k] = acc[k] + v_load(residual + k * 16);
  if (clip) {
    const vf lo = v_set(low), hi = v_set(high);
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
  const int64_t at = i * 16 + lane;
  depthwise_finish(acc, n, r->residual ? r->residual + at : NULL, r->clip, r->lo, r->hi,
                   r->out + at);
}

static void depthwise(const mrt_pixel_row *r) {
  for (int part = 0; part < PARTS; ++part) {
    int64_t i = 0;
    for (; i + PIXELS <= r->count; i += PIXELS) depthwise_block(r, i, PIXELS, part * VW);
    for (; i < r->count; ++i) depthwise_block(r, i, 1, part * VW);
  }
}

/* n output pixels from i on, all window rows: each input pixel is loaded once and used by all
 * outputs that it belongs to, s pixels apart. edge: some of them lie outside and count as zero;
 * since padding is narrower than the window, these are among the first or last kw - 1. */
INLINE void window_block(const mrt_dw_row *r, int64_t i, const int n, const int lane, const int kw,
                         const int s, const int edge) {
  vf acc[PIXELS];
  const vf start = r->bias ? v_load(r->bias + lane) : v_set(0.0f);
  const int64_t x0 = i * s - r->pad;
  const float *w = r->weights + lane;
  v_mask inside[32];
#pragma GCC unroll 32
  for (int j = 0; j < (n - 1) * s + kw; ++j)
    inside[j] = v_mask_of((uint64_t)(x0 + j) < (uint64_t)r->w);
#pragma GCC unroll 14
  for (int k = 0; k < n; ++k) acc[k] = start;
  for (int t = 0; t < r->n_rows; ++t, w += kw * 16) {
    const float *x = r->rows[t] + x0 * 16 + lane;
    vf wt[7];
#pragma GCC unroll 7
    for (int c = 0; c < kw; ++c) wt[c] = v_load(w + c * 16);
#pragma GCC unroll 32
    for (int j = 0; j < (n - 1) * s + kw; ++j) {
      const bool sure = !edge || (j >= kw - 1 && j <= (n - 1) * s);
      vf v = sure ? v_load(x + j * 16) : v_load_if(inside[j], x + j * 16);
      KEEP(v); /* in a register: else each product loads it again */
#pragma GCC unroll 14
      for (int k = 0; k < n; ++k)
        if (j - k * s >= 0 && j - k * s < kw) acc[k] = v_fma(v, wt[j - k * s], acc[k]);
    }
  }
  const int64_t at = i * 16 + lane;
  depthwise_finish(acc, n, r->residual ? r->residual + at : NULL, r->clip, r->lo, r->hi,
                   r->out + at);
}

/* Exactly n pixels, n <= PIXELS: one body for each n, so that a row ends without single steps. */
INLINE void window_edge(const mrt_dw_row *r, int64_t i, int64_t n, const int lane, const int kw,
                        const int s) {
  switch (n) {
#define CASE(k) \
  case k: window_block(r, i, k <= PIXELS ? k : 1, lane, kw, s, true); break;
    /* The formatter cannot agree with itself on lists of macros. */
    /* clang-format off */
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
    CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
    /* clang-format on */
#undef CASE
  }
}

INLINE void window_row(const mrt_dw_row *r, const int kw, const int s) {
  for (int part = 0; part < PARTS; ++part) {
    int64_t i = 0, left = r->ow;
    while (left > 0) { /* the last two blocks are nearly equal */
      const int64_t n = left >= 2 * PIXELS || left == PIXELS ? PIXELS
                        : left > PIXELS                      ? (left + 1) / 2
                                                             : left;
      const int64_t x0 = i * s - r->pad;
      if (n == PIXELS && x0 >= 0 && x0 + (PIXELS - 1) * s + kw <= r->w)
        window_block(r, i, PIXELS, part * VW, kw, s, false);
      else
        window_edge(r, i, n, part * VW, kw, s);
      i += n, left -= n;
    }
  }
}

static void window_3_1(const mrt_dw_row *r) { window_row(r, 3, 1); }
static void window_3_2(const mrt_dw_row *r) { window_row(r, 3, 2); }
static void window_5_1(const mrt_dw_row *r) { window_row(r, 5, 1); }
static void window_5_2(const mrt_dw_row *r) { window_row(r, 5, 2); }
static void window_7_1(const mrt_dw_row *r) { window_row(r, 7, 1); }

static mrt_dw_fn depthwise_row(int64_t kw, int64_t stride) {
  if (stride < 1 || stride > 2) return NULL;
  if (kw == 3) return stride == 1 ? window_3_1 : window_3_2;
  if (kw == 5) return stride == 1 ? window_5_1 : window_5_2;
  return kw == 7 && stride == 1 ? window_7_1 : NULL;
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
