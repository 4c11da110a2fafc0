/* Rows of GatherElements for one element size. */
static void NAME(gather)(const void *src, void *dst, const mrt_tensor *idx, int64_t first,
                         int64_t n, int64_t dim, int64_t stride, bool along) {
  const T *x = src;
  T *y = dst;
  for (int64_t i = 0; i < n; ++i) {
    int64_t v = mrt_index_at(idx, first + i);
    if (v < 0) v += dim;
    y[i] = x[v * stride + (along ? 0 : i)];
  }
}
