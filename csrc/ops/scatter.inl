/* Combining updates into a tensor, for one number type. kind: SCATTER_. */
#define IS_NAN(x) ((x) != (x))
static T NAME(combine_one)(T a, T b, int kind) {
  switch (kind) {
    case SCATTER_ADD: return (T)(a + b);
    case SCATTER_MUL: return (T)(a * b);
    case SCATTER_MIN: return IS_NAN(a) ? a : IS_NAN(b) ? b : b < a ? b : a;
    case SCATTER_MAX: return IS_NAN(a) ? a : IS_NAN(b) ? b : b > a ? b : a;
    default: return b;
  }
}
/* y[i] = y[i] op u[i] for a run. */
static void NAME(combine)(void *yv, const void *uv, int64_t n, int kind) {
  T *y = yv;
  const T *u = uv;
  for (int64_t i = 0; i < n; ++i) y[i] = NAME(combine_one)(y[i], u[i], kind);
}
/* A row of ScatterElements: y[index * stride (+ i)] op= u[i]. */
static void NAME(scatter)(void *yv, const void *uv, const mrt_tensor *idx, int64_t first, int64_t n,
                          int64_t dim, int64_t stride, bool along, int kind) {
  T *y = yv;
  const T *u = uv;
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = mrt_index_at(idx, first + i);
    T *to = y + (v < 0 ? v + dim : v) * stride + (along ? 0 : i);
    *to = NAME(combine_one)(*to, u[i], kind);
  }
}
#undef IS_NAN
