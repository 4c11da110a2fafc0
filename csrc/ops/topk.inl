/* The k best of n for one number type: a heap whose root is the worst kept item, emptied from the
 * end, which leaves it sorted best first. Equal values: the lower index is better. */
typedef struct NAME(item) {
  T v;
  int64_t i;
} NAME(item);
static bool NAME(better)(NAME(item) a, NAME(item) b, bool largest) {
  if (a.v != b.v) return largest ? a.v > b.v : a.v < b.v;
  return a.i < b.i;
}
static void NAME(sift)(NAME(item) * h, int64_t at, int64_t n, bool largest) {
  NAME(item) x = h[at];
  for (;;) {
    int64_t k = 2 * at + 1;
    if (k >= n) break;
    if (k + 1 < n && NAME(better)(h[k], h[k + 1], largest)) ++k;
    if (!NAME(better)(x, h[k], largest)) break;
    h[at] = h[k];
    at = k;
  }
  h[at] = x;
}
static void NAME(topk)(const void *xv, int64_t n, int64_t stride, int64_t k, bool largest,
                       void *heap, void *values, int64_t *index) {
  const T *x = xv;
  T *y = values;
  NAME(item) *h = heap;
  for (int64_t i = 0; i < k; ++i) h[i] = (NAME(item)){x[i * stride], i};
  for (int64_t i = k / 2 - 1; i >= 0; --i) NAME(sift)(h, i, k, largest);
  for (int64_t i = k; i < n && k; ++i) { /* an equal one that comes later is never better */
    T v = x[i * stride];
    if (largest ? !(v > h[0].v) : !(v < h[0].v)) continue;
    h[0] = (NAME(item)){v, i};
    NAME(sift)(h, 0, k, largest);
  }
  for (int64_t end = k - 1; end > 0; --end) {
    NAME(item) worst = h[0];
    h[0] = h[end];
    h[end] = worst;
    NAME(sift)(h, 0, end, largest);
  }
  for (int64_t i = 0; i < k; ++i) {
    if (y) y[i * stride] = h[i].v;
    if (index) index[i * stride] = h[i].i;
  }
}
