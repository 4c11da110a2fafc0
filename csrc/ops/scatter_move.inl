/* Rows of ScatterElements that only write, for one element size. */
static void NAME(scatter)(void *yv, const void *uv, const mrt_tensor *idx, int64_t first, int64_t n,
                          int64_t dim, int64_t stride, bool along, int kind) {
  T *y = yv;
  const T *u = uv;
  (void)kind;
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = mrt_index_at(idx, first + i);
    y[(v < 0 ? v + dim : v) * stride + (along ? 0 : i)] = u[i];
  }
}
