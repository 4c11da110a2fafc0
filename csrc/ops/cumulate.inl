/* Running sums and products along the middle of [outer, n, inner], for one number type. With inner
 * > 1 whole rows are folded into the row before, so that memory is read in order. */
static void NAME(cumulate)(const void *xv, void *yv, int64_t n, int64_t inner, bool prod,
                           bool exclusive, bool reverse) {
  const T *x = xv;
  T *y = yv;
  for (int64_t s = 0; s < n; ++s) {
    int64_t i = reverse ? n - 1 - s : s, before = reverse ? i + 1 : i - 1;
    const T *add = exclusive ? (s ? x + before * inner : NULL) : x + i * inner;
    const T *sum = s ? y + before * inner : NULL;
    T *out = y + i * inner;
    if (!add) {
      for (int64_t k = 0; k < inner; ++k) out[k] = prod ? 1 : 0;
    } else if (!sum) {
      for (int64_t k = 0; k < inner; ++k) out[k] = add[k];
    } else if (prod) {
      for (int64_t k = 0; k < inner; ++k) out[k] = (T)(sum[k] * add[k]);
    } else {
      for (int64_t k = 0; k < inner; ++k) out[k] = (T)(sum[k] + add[k]);
    }
  }
}
