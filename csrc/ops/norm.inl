/* Loops of the normalizations for one floating type; sums are kept in double. */

/* Mean and shifted sum of squares / n of a contiguous run. */
static void NAME(moments)(const T *x, int64_t n, double *mean, double *var) {
  double sum = 0, sq = 0;
  for (int64_t i = 0; i < n; ++i) sum += (double)x[i];
  *mean = sum / (double)n;
  for (int64_t i = 0; i < n; ++i) {
    double v = (double)x[i] - *mean;
    sq += v * v;
  }
  *var = sq / (double)n;
}
/* Groups of `per` channels, each with its own statistics: InstanceNormalization has per = 1. */
static void NAME(groups)(void *arg, int64_t begin, int64_t end) {
  const norm_job *j = arg;
  int64_t groups = j->channels / j->per, size = j->per * j->inner;
  const T *scale = j->scale->data, *bias = j->bias->data;
  for (int64_t p = begin; p < end; ++p) { /* p: (n, group) */
    const T *x = (const T *)j->x->data + p * size;
    T *y = (T *)j->y->data + p * size;
    double mean, var;
    NAME(moments)(x, size, &mean, &var);
    double inv = 1 / sqrt(var + j->eps);
    for (int64_t k = 0; k < j->per; ++k) {
      int64_t g = p % groups, at = j->per_group ? g : g * j->per + k;
      double s = inv * (double)scale[at], b = (double)bias[at] - mean * s;
      for (int64_t i = k * j->inner; i < (k + 1) * j->inner; ++i) y[i] = (T)((double)x[i] * s + b);
    }
  }
}
/* x / sqrt(mean(x^2) + epsilon) over rows of `inner` elements. */
static void NAME(rms)(void *arg, int64_t begin, int64_t end) {
  const norm_job *j = arg;
  for (int64_t p = begin; p < end; ++p) {
    const T *x = (const T *)j->x->data + p * j->inner;
    T *y = (T *)j->y->data + p * j->inner;
    double sq = 0;
    for (int64_t i = 0; i < j->inner; ++i) sq += (double)x[i] * (double)x[i];
    double inv = 1 / sqrt(sq / (double)j->inner + j->eps);
    for (int64_t i = 0; i < j->inner; ++i) y[i] = (T)((double)x[i] * inv);
  }
}
static void NAME(scale_row)(void *arg, const int64_t *offsets, int64_t out, int64_t n) {
  const norm_job *j = arg;
  const T *s = (const T *)j->scale->data + offsets[0];
  T *y = (T *)j->y->data + out;
  int64_t step = j->bcast->strides[0][j->bcast->rank - 1];
  for (int64_t i = 0; i < n; ++i) y[i] *= s[i * step];
}
/* x / norm along an axis; 0 where the norm is 0. */
static void NAME(lp)(void *arg, int64_t begin, int64_t end) {
  const norm_job *j = arg;
  for (int64_t o = begin; o < end; ++o) {
    int64_t base = o / j->inner * j->per * j->inner + o % j->inner;
    const T *x = (const T *)j->x->data + base;
    T *y = (T *)j->y->data + base;
    double sum = 0;
    for (int64_t i = 0; i < j->per; ++i) {
      double v = (double)x[i * j->inner];
      sum += j->p == 1 ? fabs(v) : v * v;
    }
    if (j->p == 2) sum = sqrt(sum);
    for (int64_t i = 0; i < j->per; ++i)
      y[i * j->inner] = sum == 0 ? 0 : (T)((double)x[i * j->inner] / sum);
  }
}
/* One image of LRN: x / (bias + alpha / size * sum of squares over neighbour channels) ^ beta. */
static void NAME(lrn)(void *arg, int64_t begin, int64_t end) {
  const norm_job *j = arg;
  int64_t below = (j->per - 1) / 2, above = j->per - 1 - below;
  for (int64_t p = begin; p < end; ++p) { /* p: (n, channel) */
    int64_t c = p % j->channels, lo = c - below, hi = c + above;
    const T *x = (const T *)j->x->data + p * j->inner;
    T *y = (T *)j->y->data + p * j->inner;
    if (lo < 0) lo = 0;
    if (hi > j->channels - 1) hi = j->channels - 1;
    for (int64_t i = 0; i < j->inner; ++i) {
      double sum = 0;
      for (int64_t k = lo; k <= hi; ++k) {
        double v = (double)x[(k - c) * j->inner + i];
        sum += v * v;
      }
      double base = j->k + j->alpha / (double)j->per * sum;
      y[i] = (T)((double)x[i] *
                 (j->beta == 0.75 ? 1 / (sqrt(base) * sqrt(sqrt(base))) : pow(base, -j->beta)));
    }
  }
}
