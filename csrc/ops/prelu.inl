/* Rows of PRelu for one number type. */
static void NAME(prelu)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    T x = a[i * sa];
    out[i] = x < 0 ? (T)(x * b[i * sb]) : x;
  }
}
