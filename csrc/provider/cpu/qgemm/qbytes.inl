/* Bodies of mrt_qbytes for one instruction set: plain loops over blocks, which compilers vectorise.
 * TABLE: the name of the set. */
enum { BLOCK = 64 };
#define INLINE static inline __attribute__((always_inline))

INLINE void depth_block(const mrt_qdepth *d, int64_t c0, const int n) {
  int32_t acc[BLOCK];
  for (int c = 0; c < n; ++c) acc[c] = d->col[c0 + c];
  for (int64_t t = 0; t < d->taps; ++t) {
    const uint8_t *x = d->tap[t] + c0;
    const int16_t *w = d->w + t * d->channels + c0;
    const uint8_t flip = d->flip;
    for (int c = 0; c < n; ++c) acc[c] += (int32_t)(uint8_t)(x[c] ^ flip) * w[c];
  }
  if (d->out == MRT_Q_S32) {
    for (int c = 0; c < n; ++c) ((int32_t *)d->y)[c0 + c] = acc[c];
    return;
  }
  uint8_t *y = (uint8_t *)d->y + c0;
  const float *scale = d->scale + c0, lo = d->lo, hi = d->hi;
  const int32_t zero = d->zero;
  for (int c = 0; c < n; ++c) {
    float v = (float)acc[c] * scale[c];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    acc[c] = (int32_t)__builtin_rintf(v) + zero;
  }
  for (int c = 0; c < n; ++c) y[c] = (uint8_t)acc[c];
}
static void depth(const mrt_qdepth *d) {
  int64_t c = 0;
  for (; c + BLOCK <= d->channels; c += BLOCK) depth_block(d, c, BLOCK);
  for (; c + 16 <= d->channels; c += 16) depth_block(d, c, 16);
  if (c < d->channels) depth_block(d, c, (int)(d->channels - c));
}

INLINE void binary_block(const mrt_qbinary *p, int64_t at, const int n, const bool mul,
                         const bool one, const bool swapped) {
  int32_t out[BLOCK];
  const uint8_t *a = p->a + at, *b = one ? p->b : p->b + at, flip = p->flip;
  uint8_t *y = p->y + at;
  const int32_t az = p->az, bz = p->bz, zero = p->zero;
  const float ra = p->ra, rb = p->rb, lo = p->lo, hi = p->hi;
  for (int i = 0; i < n; ++i) {
    const float x = (float)((int32_t)(uint8_t)(a[i] ^ flip) - az),
                z = (float)((int32_t)(uint8_t)((one ? b[0] : b[i]) ^ flip) - bz);
    float v = mul ? x * z * ra : swapped ? mrt_qsum(z, rb, x, ra) : mrt_qsum(x, ra, z, rb);
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    out[i] = (int32_t)__builtin_rintf(v) + zero;
  }
  for (int i = 0; i < n; ++i) y[i] = (uint8_t)out[i];
}
INLINE void binary(const mrt_qbinary *p, const bool mul, const bool one, const bool swapped) {
  int64_t i = 0;
  for (; i + BLOCK <= p->n; i += BLOCK) binary_block(p, i, BLOCK, mul, one, swapped);
  for (; i + 16 <= p->n; i += 16) binary_block(p, i, 16, mul, one, swapped);
  if (i < p->n) binary_block(p, i, (int)(p->n - i), mul, one, swapped);
}
static void add(const mrt_qbinary *p) {
  if (p->b_one && p->swapped)
    binary(p, false, true, true);
  else if (p->b_one)
    binary(p, false, true, false);
  else
    binary(p, false, false, false);
}
static void multiply(const mrt_qbinary *p) {
  if (p->b_one)
    binary(p, true, true, false);
  else
    binary(p, true, false, false);
}

/* Vectors of the compiler's own: it cuts them into what the instruction set has. */
typedef uint8_t bytes __attribute__((vector_size(BLOCK), aligned(1), may_alias));
typedef int8_t mask __attribute__((vector_size(BLOCK), aligned(1), may_alias));
INLINE void max_block(const uint8_t *const *tap, int64_t taps, int64_t at, uint8_t flip,
                      uint8_t *y) {
  bytes best = *(const bytes *)(tap[0] + at) ^ flip;
  for (int64_t t = 1; t < taps; ++t) {
    const bytes x = *(const bytes *)(tap[t] + at) ^ flip;
    const bytes more = (bytes)(mask)(x > best);
    best = (x & more) | (best & ~more);
  }
  *(bytes *)y = best ^ flip;
}
static void largest(const uint8_t *const *tap, int64_t taps, int64_t n, uint8_t flip, uint8_t *y) {
  int64_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) max_block(tap, taps, i, flip, y + i);
  for (; i < n; ++i) {
    uint8_t best = tap[0][i] ^ flip;
    for (int64_t t = 1; t < taps; ++t) {
      const uint8_t x = tap[t][i] ^ flip;
      best = x > best ? x : best;
    }
    y[i] = best ^ flip;
  }
}

/* Sums of one block stay in registers over the rows. */
INLINE void sum_block(const uint8_t *x, int64_t rows, int64_t pitch, uint8_t flip, int32_t *sum) {
  int32_t acc[BLOCK];
  for (int k = 0; k < BLOCK; ++k) acc[k] = sum[k];
  for (int64_t r = 0; r < rows; ++r, x += pitch)
    for (int k = 0; k < BLOCK; ++k) acc[k] += (int32_t)(uint8_t)(x[k] ^ flip);
  for (int k = 0; k < BLOCK; ++k) sum[k] = acc[k];
}
static void sums(const uint8_t *x, int64_t rows, int64_t pitch, int64_t n, uint8_t flip,
                 int32_t *sum) {
  int64_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) sum_block(x + i, rows, pitch, flip, sum + i);
  for (; i < n; ++i)
    for (int64_t r = 0; r < rows; ++r) sum[i] += (int32_t)(uint8_t)(x[r * pitch + i] ^ flip);
}

static void widen(const int8_t *q, int64_t rows, const float *scale, float *out) {
  for (int64_t i = 0; i < rows; ++i, q += 32, out += 32)
    for (int j = 0; j < 32; ++j) out[j] = (float)q[j] * scale[j];
}

/* The last vector of a pixel ends with it, over the one before. */
INLINE void copy_pixel(uint8_t *dst, const uint8_t *src, int64_t c, uint8_t flip) {
  typedef uint8_t half __attribute__((vector_size(16), aligned(1), may_alias));
  int64_t i = 0;
  for (; i + BLOCK <= c; i += BLOCK) *(bytes *)(dst + i) = *(const bytes *)(src + i) ^ flip;
  if (i < c && c >= BLOCK) {
    *(bytes *)(dst + c - BLOCK) = *(const bytes *)(src + c - BLOCK) ^ flip;
    return;
  }
  for (; i + 16 <= c; i += 16) *(half *)(dst + i) = *(const half *)(src + i) ^ flip;
  for (; i < c; ++i) dst[i] = src[i] ^ flip;
}
static void copy(uint8_t *dst, const uint8_t *src, int64_t pixels, int64_t c, int64_t step,
                 uint8_t flip) {
  if (step == c) c *= pixels, pixels = pixels > 0;
  for (int64_t p = 0; p < pixels; ++p) copy_pixel(dst + p * c, src + p * step, c, flip);
}

const mrt_qbytes TABLE = {.depth = depth,
                          .add = add,
                          .mul = multiply,
                          .max = largest,
                          .sum = sums,
                          .widen = widen,
                          .copy = copy};
