/* DeformConv for one floating type: the inputs of one output position are gathered (bilinear, 0
 * outside), then multiplied with all kernels. */

static T NAME(bilinear)(const T *x, int64_t height, int64_t width, T fy, T fx) {
  if (!(fy > -1 && fx > -1 && fy < (T)height && fx < (T)width)) return 0;
  int64_t y = fy < 0 ? -1 : (int64_t)fy, x0 = fx < 0 ? -1 : (int64_t)fx;
  T wy = fy - (T)y, wx = fx - (T)x0, sum = 0;
  for (int k = 0; k < 4; ++k) {
    int64_t yy = y + k / 2, xx = x0 + k % 2;
    if (yy < 0 || yy >= height || xx < 0 || xx >= width) continue;
    sum += (k / 2 ? wy : 1 - wy) * (k % 2 ? wx : 1 - wx) * x[yy * width + xx];
  }
  return sum;
}
/* A chunk of units (batch, output row); col: in_channels * taps values of scratch. */
static void NAME(rows)(void *arg, int64_t chunk, int worker) {
  const deform *j = arg;
  int64_t begin = mrt_par_begin(j->units, j->chunks, chunk),
          end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  int64_t height = j->x->dims[2], width = j->x->dims[3], oh = j->y->dims[2], ow = j->y->dims[3],
          cin = j->x->dims[1], cout = j->y->dims[1], per = j->w->dims[1], taps = j->taps;
  T *col = (T *)j->col + chunk * cin * taps;
  (void)worker;
  for (int64_t p = begin * ow; p < end * ow; ++p) {
    int64_t n = p / ow / oh, i = p / ow % oh, o = p % ow, plane = oh * ow, cell = i * ow + o;
    for (int64_t c = 0; c < cin; ++c) {
      int64_t g = n * j->offset_groups + c / (cin / j->offset_groups);
      const T *off = (const T *)j->offset->data + g * taps * 2 * plane + cell;
      const T *mask = j->mask ? (const T *)j->mask->data + g * taps * plane + cell : NULL;
      for (int64_t k = 0; k < taps; ++k) {
        T y = (T)(i * j->win.stride[0] - j->win.begin[0] +
                  k / j->win.kernel[1] * j->win.dilation[0]) +
              off[2 * k * plane],
          x = (T)(o * j->win.stride[1] - j->win.begin[1] +
                  k % j->win.kernel[1] * j->win.dilation[1]) +
              off[(2 * k + 1) * plane];
        T v = NAME(bilinear)((const T *)j->x->data + (n * cin + c) * height * width, height, width,
                             y, x);
        col[c * taps + k] = mask ? v * mask[k * plane] : v;
      }
    }
    for (int64_t m = 0; m < cout; ++m) {
      const T *w = (const T *)j->w->data + m * per * taps,
              *v = col + m / (cout / j->group) * per * taps;
      T sum = j->b ? ((const T *)j->b->data)[m] : 0;
      for (int64_t k = 0; k < per * taps; ++k) sum += w[k] * v[k];
      ((T *)j->y->data)[(n * cout + m) * plane + cell] = sum;
    }
  }
}
