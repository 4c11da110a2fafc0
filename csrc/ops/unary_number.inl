/* Functions of one tensor that exist for every number type. */
static void NAME(relu)(const T *x, T *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] > 0 ? x[i] : x[i] != x[i] ? x[i] : 0;
}
static void NAME(neg)(const T *x, T *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = (T)-x[i];
}
static void NAME(absolute)(const T *x, T *y, int64_t n) {
  const T zero = 0;
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] < zero ? (T)-x[i] : x[i] == zero ? zero : x[i];
}
static void NAME(sign)(const T *x, T *y, int64_t n) {
  const T zero = 0;
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] != x[i] ? x[i] : (T)((x[i] > zero) - (x[i] < zero));
}
