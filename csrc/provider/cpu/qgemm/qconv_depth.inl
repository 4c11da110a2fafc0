/* Body of mrt_qdepth for one instruction set: plain loops over blocks of channels, which compilers
 * vectorise. FN: the function's name. */
enum { BLOCK = 64 };

static inline __attribute__((always_inline)) void depth_block(const mrt_qdepth *d, int64_t c0,
                                                              const int n) {
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

void FN(const mrt_qdepth *d) {
  int64_t c = 0;
  for (; c + BLOCK <= d->channels; c += BLOCK) depth_block(d, c, BLOCK);
  for (; c + 16 <= d->channels; c += 16) depth_block(d, c, 16);
  if (c < d->channels) depth_block(d, c, (int)(d->channels - c));
}
