/* Position of the first maximum of n elements `step` apart. */
static int64_t NAME(first_max)(const T *x, int64_t n, int64_t step) {
  int64_t at = 0;
  T best = x[0];
  for (int64_t i = 1; i < n; ++i)
    if (x[i * step] > best) {
      best = x[i * step];
      at = i;
    }
  return at;
}
