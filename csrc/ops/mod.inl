/* Rows of Mod for one number type. Integers: the result has the divisor's sign, or with fmod the
 * dividend's; x mod 0 is 0 and the minimum mod -1 is 0, so that nothing traps. */
static void NAME(mod)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  const bool is_signed = (T)-1 < (T)1;
  for (int64_t i = 0; i < n; ++i) {
    T x = a[i * sa], y = b[i * sb], r = 0;
    if (y != 0 && !(is_signed && y == (T)-1)) {
      r = (T)(x % y);
      if (is_signed && r != 0 && (uint64_t)(int64_t)(r ^ y) >> 63)
        r = (T)(r + y); /* signs differ */
    }
    out[i] = r;
  }
}
static void NAME(fmod)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  const bool is_signed = (T)-1 < (T)1;
  for (int64_t i = 0; i < n; ++i) {
    T x = a[i * sa], y = b[i * sb];
    out[i] = y != 0 && !(is_signed && y == (T)-1) ? (T)(x % y) : 0;
  }
}
