/* One axis of an interpolation for one floating type. T: the type. */

/* Rows: y[outer, o, :] = sum over taps of w * x[outer, start + tap, :]. Units are (outer, o). */
static void NAME(along)(void *arg, int64_t begin, int64_t end) {
  const pass_job *j = arg;
  const resize_axis *a = j->axis;
  const T *weights = a->weight;
  for (int64_t u = begin; u < end; ++u) {
    int64_t o = u % a->out;
    const T *w = weights + o * a->taps;
    const T *x = (const T *)j->x + (u / a->out * a->in + a->start[o]) * j->inner;
    T *y = (T *)j->y + u * j->inner;
    if (a->count[o] < 0) {
      for (int64_t i = 0; i < j->inner; ++i) y[i] = (T)j->fill;
    } else if (a->count[o] == 2) { /* linear */
      T w0 = w[0], w1 = w[1];
      for (int64_t i = 0; i < j->inner; ++i) y[i] = w0 * x[i] + w1 * x[i + j->inner];
    } else {
      for (int64_t i = 0; i < j->inner; ++i) y[i] = w[0] * x[i];
      for (int64_t k = 1; k < a->count[o]; ++k)
        for (int64_t i = 0; i < j->inner; ++i) y[i] += w[k] * x[k * j->inner + i];
    }
  }
}
/* The same for the last axis: units are rows. */
static void NAME(last)(void *arg, int64_t begin, int64_t end) {
  const pass_job *j = arg;
  const resize_axis *a = j->axis;
  const T *weights = a->weight;
  for (int64_t u = begin; u < end; ++u) {
    const T *x = (const T *)j->x + u * a->in;
    T *y = (T *)j->y + u * a->out;
    for (int64_t o = 0; o < a->out; ++o) {
      const T *w = weights + o * a->taps, *p = x + a->start[o];
      if (a->count[o] == 2) {
        y[o] = w[0] * p[0] + w[1] * p[1];
        continue;
      }
      T sum = a->count[o] < 0 ? (T)j->fill : 0;
      for (int64_t k = 0; k < a->count[o]; ++k) sum += w[k] * p[k];
      y[o] = sum;
    }
  }
}
