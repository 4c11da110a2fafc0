/* Inner loops of strided copies for one element size; strides in bytes. An element may be several
 * small ones that were merged, so nothing is known of its alignment. */
static void NAME(row)(char *dst, int64_t ds, const char *src, int64_t ss, int64_t n) {
  const int64_t size = (int64_t)sizeof(T);
  if (ss == 0) { /* one value repeated */
    T v;
    memcpy(&v, src, sizeof v);
    for (int64_t i = 0; i < n; ++i) memcpy(dst + i * ds, &v, sizeof v);
  } else if (ds == size) {
    for (int64_t i = 0; i < n; ++i) memcpy(dst + i * size, src + i * ss, sizeof(T));
  } else {
    for (int64_t i = 0; i < n; ++i) memcpy(dst + i * ds, src + i * ss, sizeof(T));
  }
}
/* A tile of h x w: dst rows `dr` apart hold what src holds in columns, `sc` apart. */
static void NAME(tile)(char *dst, int64_t dr, const char *src, int64_t sc, int64_t h, int64_t w) {
  const int64_t size = (int64_t)sizeof(T);
  if (size == 4) {
    mrt_transpose_tile4(dst, dr, src, sc, h, w);
    return;
  }
  for (int64_t k = 0; k < h; ++k)
    for (int64_t l = 0; l < w; ++l)
      memcpy(dst + k * dr + l * size, src + l * sc + k * size, sizeof(T));
}
