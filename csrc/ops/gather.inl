/* Slices of sizeof(T) bytes at indices; a slice may be several small elements, so nothing is known
 * of its alignment. */
static void NAME(pick)(const char *from, char *to, const mrt_tensor *idx, int64_t begin,
                       int64_t end, int64_t dim) {
  const int64_t size = (int64_t)sizeof(T);
  for (int64_t i = begin; i < end; ++i) {
    int64_t v = mrt_index_at(idx, i);
    memcpy(to + i * size, from + (v < 0 ? v + dim : v) * size, sizeof(T));
  }
}
