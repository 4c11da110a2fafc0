/* Loops of Conv and ConvTranspose for one floating type: an input plane times a kernel plane is
 * added to an output plane, row by row, one tap at a time. */

static void NAME(add_plane)(const conv_job *j, const T *x, const T *k, T *y) {
  const mrt_window *w = &j->win;
  int last = w->n - 1;
  /* Conv walks output rows and gathers; ConvTranspose walks input rows and scatters. */
  const int64_t *fd = j->fine->dims + 2, *cd = j->coarse->dims + 2;
  int64_t rows = j->coarse_size / cd[last], stride = w->stride[last];
  for (int64_t tap = 0; tap < j->taps; ++tap) {
    int64_t off[MRT_MAX_SPATIAL], lo, hi;
    T v = k[tap];
    mrt_window_tap(w, tap, off);
    mrt_window_inside(off[last], stride, fd[last], cd[last], &lo, &hi);
    for (int64_t r = 0; r < rows; ++r) {
      int64_t at = 0, step = 1, q = r;
      bool ok = true;
      for (int d = last - 1; d >= 0; --d) {
        int64_t pos = q % cd[d] * w->stride[d] + off[d];
        q /= cd[d];
        ok = ok && pos >= 0 && pos < fd[d];
        at += pos * step;
        step *= fd[d];
      }
      if (!ok) continue;
      int64_t fine = at * fd[last] + off[last], coarse = r * cd[last];
      if (!j->transpose && stride == 1)
        for (int64_t i = lo; i < hi; ++i) y[coarse + i] += v * x[fine + i];
      else if (!j->transpose)
        for (int64_t i = lo; i < hi; ++i) y[coarse + i] += v * x[fine + i * stride];
      else if (stride == 1)
        for (int64_t i = lo; i < hi; ++i) y[fine + i] += v * x[coarse + i];
      else
        for (int64_t i = lo; i < hi; ++i) y[fine + i * stride] += v * x[coarse + i];
    }
  }
}

static void NAME(planes)(void *arg, int64_t begin, int64_t end) {
  const conv_job *j = arg;
  int64_t per = j->cout / j->group;
  for (int64_t p = begin; p < end; ++p) { /* p: (n, output channel) */
    int64_t n = p / j->cout, oc = p % j->cout, g = oc / per;
    T *y = (T *)j->y->data + p * j->out_size, b = j->b ? ((const T *)j->b->data)[oc] : 0;
    const T *x = (const T *)j->x->data + (n * j->group + g) * j->cin * j->in_size;
    for (int64_t i = 0; i < j->out_size; ++i) y[i] = b;
    if (!j->coarse_size) continue;
    for (int64_t ic = 0; ic < j->cin; ++ic) {
      int64_t k = j->transpose ? (g * j->cin + ic) * per + oc % per : oc * j->cin + ic;
      NAME(add_plane)(j, x + ic * j->in_size, (const T *)j->w->data + k * j->taps, y);
    }
  }
}
