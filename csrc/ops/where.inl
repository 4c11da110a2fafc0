/* Rows of Where for one element size; sc, sa, sb: steps in elements, mostly 0 or 1. Bits are picked
 * by a mask, without branches: conditions are seldom predictable. */
static inline T NAME(pick)(uint8_t c, T a, T b) {
  T mask = (T)(0 - (T)(c != 0));
  return (T)((a & mask) | (b & (T)~mask));
}
static void NAME(where)(const uint8_t *c, int64_t sc, const char *av, int64_t sa, const char *bv,
                        int64_t sb, char *out, int64_t n) {
  const T *a = (const T *)(const void *)av, *b = (const T *)(const void *)bv;
  T *y = (T *)(void *)out;
  if (sc == 0) {
    const T *from = *c ? a : b;
    int64_t s = *c ? sa : sb;
    for (int64_t i = 0; i < n; ++i) y[i] = from[i * s];
  } else if (sc == 1 && sa == 1 && sb == 0) {
    T v = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = NAME(pick)(c[i], a[i], v);
  } else if (sc == 1 && sa == 0 && sb == 1) {
    T v = *a;
    for (int64_t i = 0; i < n; ++i) y[i] = NAME(pick)(c[i], v, b[i]);
  } else if (sc == 1 && sa == 1 && sb == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = NAME(pick)(c[i], a[i], b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = NAME(pick)(c[i * sc], a[i * sa], b[i * sb]);
  }
}
