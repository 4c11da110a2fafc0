/* Rows of element-wise functions of two tensors, for one number type. sa, sb: steps (0 or 1
 * mostly). */
/* Integers wrap: their low bits are those of uint64_t, whose overflow C defines. */
#define WRAP(x, op, y) ((T)0.5 != 0 ? (T)((x)op(y)) : (T)((uint64_t)(x)op(uint64_t)(y)))
#define ROW_LOOP(expr)              \
  for (int64_t i = 0; i < n; ++i) { \
    T x = a[i * sa], y = b[i * sb]; \
    out[i] = (expr);                \
  }
static void NAME(add)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  if (sa == 1 && sb == 1)
    for (int64_t i = 0; i < n; ++i) out[i] = WRAP(a[i], +, b[i]);
  else
    ROW_LOOP(WRAP(x, +, y))
}
static void NAME(sub)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  ROW_LOOP(WRAP(x, -, y))
}
static void NAME(mul)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  if (sa == 1 && sb == 1)
    for (int64_t i = 0; i < n; ++i) out[i] = WRAP(a[i], *, b[i]);
  else
    ROW_LOOP(WRAP(x, *, y))
}
static void NAME(divide)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  /* integers: x / 0 is 0, the minimum / -1 wraps; nothing may trap */
  const bool real = (T)0.5 != 0, is_signed = (T)-1 < (T)1;
  ROW_LOOP(real                      ? (T)(x / y)
           : y == 0                  ? 0
           : is_signed && y == (T)-1 ? (T)(0 - (uint64_t)x)
                                     : (T)(x / y))
}
static void NAME(minimum)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  ROW_LOOP(x != x ? x : y != y ? y : x < y ? x : y)
}
static void NAME(maximum)(const T *a, int64_t sa, const T *b, int64_t sb, T *out, int64_t n) {
  ROW_LOOP(x != x ? x : y != y ? y : x > y ? x : y)
}
static void NAME(equal)(const T *a, int64_t sa, const T *b, int64_t sb, uint8_t *out, int64_t n) {
  ROW_LOOP(x == y)
}
static void NAME(greater)(const T *a, int64_t sa, const T *b, int64_t sb, uint8_t *out, int64_t n) {
  ROW_LOOP(x > y)
}
static void NAME(greaterequal)(const T *a, int64_t sa, const T *b, int64_t sb, uint8_t *out,
                               int64_t n) {
  ROW_LOOP(x >= y)
}
static void NAME(less)(const T *a, int64_t sa, const T *b, int64_t sb, uint8_t *out, int64_t n) {
  ROW_LOOP(x < y)
}
static void NAME(lessequal)(const T *a, int64_t sa, const T *b, int64_t sb, uint8_t *out,
                            int64_t n) {
  ROW_LOOP(x <= y)
}
#undef ROW_LOOP
#undef WRAP
