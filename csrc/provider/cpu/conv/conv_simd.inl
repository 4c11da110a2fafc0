/* Row kernels over primitives of the including file: vf of VW lanes, v_set v_load v_store v_fma
 * v_max v_min (both give the second operand if either is NaN). A pixel is 16 / VW vectors. PIXELS
 * output pixels are kept in registers while their taps are read. */

enum { PARTS = 16 / VW };

/* One more value of a maximum (NaN stays if it came first) or of a sum. */
INLINE vf join(vf acc, vf x, const int is_max) {
  if (is_max) return v_max(x, acc);
  return acc + x;
}

INLINE void depthwise_block(const mrt_pixel_row *r, int64_t i, const int n, const int part) {
  vf acc[PIXELS];
  const int lane = part * VW;
  const float *in = r->in + i * r->step + lane;
  const vf start = r->bias ? v_load(r->bias + lane) : v_set(0.0f);
#pragma GCC unroll 8
  for (int k = 0; k < n; ++k) acc[k] = start;
  for (int t = 0; t < r->n_taps; ++t) {
    const vf w = v_load(r->weights + r->taps[t].w * 16 + lane);
    const float *x = in + r->taps[t].off;
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k) acc[k] = v_fma(v_load(x + k * r->step), w, acc[k]);
  }
  float *out = r->out + i * 16 + lane;
  if (r->residual)
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k) acc[k] = acc[k] + v_load(r->residual + (i + k) * 16 + lane);
  if (r->clip) {
    const vf lo = v_set(r->lo), hi = v_set(r->hi);
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k) acc[k] = v_min(hi, v_max(lo, acc[k]));
  }
#pragma GCC unroll 8
  for (int k = 0; k < n; ++k) v_store(out + k * 16, acc[k]);
}

static void depthwise(const mrt_pixel_row *r) {
  for (int part = 0; part < PARTS; ++part) {
    int64_t i = 0;
    for (; i + PIXELS <= r->count; i += PIXELS) depthwise_block(r, i, PIXELS, part);
    if (i + PIXELS / 2 <= r->count) depthwise_block(r, i, PIXELS / 2, part), i += PIXELS / 2;
    for (; i < r->count; ++i) depthwise_block(r, i, 1, part);
  }
}

INLINE void pool_block(const mrt_pixel_row *r, int64_t i, const int n, const int part,
                       const int is_max) {
  vf acc[PIXELS];
  const float *in = r->in + i * r->step + part * VW;
  int t = 0;
  if (is_max && r->n_taps) {
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k) acc[k] = v_load(in + r->taps[0].off + k * r->step);
    t = 1;
  } else {
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k) acc[k] = v_set(is_max ? -__builtin_inff() : 0.0f);
  }
  for (; t < r->n_taps; ++t) {
    const float *x = in + r->taps[t].off;
#pragma GCC unroll 8
    for (int k = 0; k < n; ++k) {
      const vf v = v_load(x + k * r->step);
      acc[k] = join(acc[k], v, is_max);
    }
  }
  const vf scale = v_set(is_max ? 1.0f : r->scale);
#pragma GCC unroll 8
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
