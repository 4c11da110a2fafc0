/* Interpolation at free coordinates for one floating type T. */

static T NAME(denormalize)(T v, int64_t length, bool align) {
  T n = (T)length;
  return align ? (v + 1) / 2 * (n - 1) : ((v + 1) * n - 1) / 2;
}
/* Reflects x between lo and hi until it lies inside. */
static T NAME(reflect)(T x, T lo, T hi) {
  T range = hi - lo;
  if (range <= 0) return lo;
  T away = x < lo ? lo - x : x > hi ? x - hi : 0;
  if (away == 0) return x;
  T turns = NAME(floor_of)(away / range), rest = away - turns * range;
  bool even = turns - 2 * NAME(floor_of)(turns / 2) == 0;
  return (x < lo) == even ? lo + rest : hi - rest;
}
/* Index of a tap along a dim of that length; -1: reads as 0. */
static int64_t NAME(tap)(const grid_job *j, int64_t i, int64_t length) {
  if (i >= 0 && i < length) return i;
  if (j->padding == PAD_ZEROS) return -1;
  if (j->padding == PAD_BORDER) return i < 0 ? 0 : length - 1;
  T half = (T)(j->align ? 0 : 0.5);
  int64_t at = (int64_t)NAME(reflect)((T)i, -half, (T)(length - 1) + half);
  return at < 0 ? 0 : at > length - 1 ? length - 1 : at;
}
static void NAME(weights)(grid_mode mode, T f, T *w) {
  const T a = (T)-0.75; /* cubic convolution, Keys 1981 */
  if (mode == GRID_LINEAR) {
    w[0] = 1 - f;
    w[1] = f;
    return;
  }
  T g = f + 1, h = 1 - f, k = 2 - f;
  w[0] = ((a * g - 5 * a) * g + 8 * a) * g - 4 * a;
  w[1] = ((a + 2) * f - (a + 3)) * f * f + 1;
  w[2] = ((a + 2) * h - (a + 3)) * h * h + 1;
  w[3] = ((a * k - 5 * a) * k + 8 * a) * k - 4 * a;
}
/* Taps of one grid point: indices and weights per dim (nearest: one tap of weight 1). */
static void NAME(locate)(const grid_job *j, const T *grid, int64_t (*index)[4], T (*w)[4]) {
  const int64_t *dims = j->x->dims + 2;
  for (int d = 0; d < j->n; ++d) {
    T x = NAME(denormalize)(grid[j->n - 1 - d], dims[d], j->align);
    T half = (T)(j->align ? 0 : 0.5), lo = -half, hi = (T)(dims[d] - 1) + half;
    if (!(x > (T)-1e9 && x < (T)1e9)) x = x > 0 ? (T)1e9 : (T)-1e9; /* NaN too */
    if (j->mode == GRID_NEAREST) x = NAME(round_of)(x);
    if (j->mode != GRID_CUBIC && (x < lo || x > hi)) { /* cubic: tap by tap */
      if (j->padding == PAD_BORDER) x = x < 0 ? 0 : (T)(dims[d] - 1);
      if (j->padding == PAD_REFLECTION) x = NAME(reflect)(x, lo, hi);
    }
    T base = NAME(floor_of)(x);
    int64_t at = (int64_t)base;
    if (j->mode == GRID_NEAREST) {
      index[d][0] = NAME(tap)(j, (int64_t)x, dims[d]);
      w[d][0] = 1;
      continue;
    }
    if (j->mode == GRID_CUBIC) --at;
    NAME(weights)(j->mode, x - base, w[d]);
    for (int k = 0; k < j->taps; ++k) index[d][k] = NAME(tap)(j, at + k, dims[d]);
  }
}
/* Units: (batch, output position); all channels of one. */
static void NAME(sample)(void *arg, int64_t begin, int64_t end) {
  const grid_job *j = arg;
  int64_t combos = 1;
  for (int d = 0; d < j->n; ++d) combos *= j->taps;
  for (int64_t u = begin; u < end; ++u) {
    int64_t b = u / j->points, p = u % j->points, index[MAX_DIMS][4];
    T w[MAX_DIMS][4];
    NAME(locate)(j, (const T *)j->grid->data + u * j->n, index, w);
    for (int64_t c = 0; c < j->channels; ++c) {
      int64_t plane = b * j->channels + c;
      const T *x = (const T *)j->x->data + plane * j->in_size;
      T sum = 0;
      for (int64_t q = 0; q < combos; ++q) {
        int64_t at = 0, rest = q, step = 1;
        T weight = 1;
        for (int d = j->n - 1; d >= 0; --d) {
          int k = (int)(rest % j->taps);
          rest /= j->taps;
          if (index[d][k] < 0) at = -1;
          if (at >= 0) at += index[d][k] * step;
          step *= j->x->dims[d + 2];
          weight *= w[d][k];
        }
        if (at >= 0) sum += weight * x[at];
      }
      ((T *)j->y->data)[plane * j->points + p] = sum;
    }
  }
}
