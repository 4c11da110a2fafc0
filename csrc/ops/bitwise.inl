/* Bit operations on rows, for one integer type. */
#define ROW(name, expr)                                                                       \
  static void NAME(name)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) { \
    for (int64_t i = 0; i < n; ++i) {                                                         \
      T x = a[i * sa], y = b[i * sb];                                                         \
      out[i] = (T)(expr);                                                                     \
    }                                                                                         \
  }
ROW(band, x &y)
ROW(bor, x | y)
ROW(bxor, x ^ y)
/* A shift by the width or more leaves nothing. */
ROW(lshift, (uint64_t)y < 8 * sizeof(T) ? (uint64_t)x << y : 0)
ROW(rshift, (uint64_t)y < 8 * sizeof(T) ? (uint64_t)x >> y : 0)
#undef ROW
