/* Inner loops of strided copies for one element size; strides in bytes. */
static void NAME(row)(char *dst, int64_t ds, const char *src, int64_t ss, int64_t n) {
  if (ss == 0 && ds == (int64_t)sizeof(T)) { /* one value repeated */
    T v = *(const T *)(const void *)src, *d = (T *)(void *)dst;
    for (int64_t i = 0; i < n; ++i) d[i] = v;
  } else if (ds == (int64_t)sizeof(T)) {
    T *d = (T *)(void *)dst;
    for (int64_t i = 0; i < n; ++i) d[i] = *(const T *)(const void *)(src + i * ss);
  } else {
    for (int64_t i = 0; i < n; ++i)
      *(T *)(void *)(dst + i * ds) = *(const T *)(const void *)(src + i * ss);
  }
}
/* A tile of h x w: dst rows `dr` apart hold what src holds in columns, `sc` apart. */
static void NAME(tile)(char *dst, int64_t dr, const char *src, int64_t sc, int64_t h, int64_t w) {
  for (int64_t k = 0; k < h; ++k) {
    T *d = (T *)(void *)(dst + k * dr);
    const char *s = src + k * (int64_t)sizeof(T);
    for (int64_t l = 0; l < w; ++l) d[l] = *(const T *)(const void *)(s + l * sc);
  }
}
