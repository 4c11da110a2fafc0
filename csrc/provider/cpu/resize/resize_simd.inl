/* The loops of resize.h in blocks of 16 floats, which the compiler turns into the vectors of the
 * file's instruction set. */

static void rows(const float *restrict x, int64_t step, const float *w, int64_t taps, int64_t n,
                 float *restrict y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    float acc[16];
    for (int l = 0; l < 16; ++l) acc[l] = w[0] * x[i + l];
    for (int64_t k = 1; k < taps; ++k)
      for (int l = 0; l < 16; ++l) acc[l] += w[k] * x[k * step + i + l];
    for (int l = 0; l < 16; ++l) y[i + l] = acc[l];
  }
  for (; i < n; ++i) {
    float acc = w[0] * x[i];
    for (int64_t k = 1; k < taps; ++k) acc += w[k] * x[k * step + i];
    y[i] = acc;
  }
}

static void pixels16(const resize_axis *a, const float *restrict x, float fill, float *restrict y) {
  for (int64_t o = 0; o < a->out; ++o, y += 16) {
    const float *p = x + a->start[o] * 16, *w = (const float *)a->weight + o * a->taps;
    float acc[16];
    if (a->count[o] < 0) {
      for (int l = 0; l < 16; ++l) y[l] = fill;
      continue;
    }
    for (int l = 0; l < 16; ++l) acc[l] = w[0] * p[l];
    for (int32_t k = 1; k < a->count[o]; ++k)
      for (int l = 0; l < 16; ++l) acc[l] += w[k] * p[k * 16 + l];
    for (int l = 0; l < 16; ++l) y[l] = acc[l];
  }
}

static void pixels1(const resize_axis *a, const float *restrict x, float fill, float *restrict y) {
  for (int64_t o = 0; o < a->out; ++o) {
    const float *p = x + a->start[o], *w = (const float *)a->weight + o * a->taps;
    float acc = a->count[o] < 0 ? fill : w[0] * p[0];
    for (int32_t k = 1; k < a->count[o]; ++k) acc += w[k] * p[k];
    y[o] = acc;
  }
}
