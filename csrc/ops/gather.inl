/* Single elements at indices, for one element size. */
static void NAME(pick)(const char *from, char *to, const mrt_tensor *idx, int64_t begin,
                       int64_t end, int64_t dim) {
  const T *x = (const T *)(const void *)from;
  T *y = (T *)(void *)to;
  for (int64_t i = begin; i < end; ++i) {
    int64_t v = mrt_index_at(idx, i);
    y[i] = x[v < 0 ? v + dim : v];
  }
}
