/* Attention of one query row at a time for one floating type T. */

static T NAME(product)(const T *a, const T *b, int64_t n) {
  T s[8] = {0}, t = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) s[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) t += a[i] * b[i];
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])) + t;
}
/* What is added to score j of row i: the mask, -inf past its end, in the future or in padding. */
static void NAME(add_bias)(const mrt_attn *a, int64_t b, int64_t h, int64_t i, T *score) {
  const T minus = -(T)INFINITY;
  const T *mask =
      a->mask ? (const T *)a->mask + b * a->mask_b + h * a->mask_h + i * a->mask_l : NULL;
  int64_t valid = a->valid ? a->valid[b] : a->total;
  for (int64_t j = 0; j < a->total; ++j) {
    bool hidden = j >= valid || (a->causal && j > i + a->past) || (mask && j >= a->mask_len);
    score[j] = hidden ? minus : mask ? score[j] + mask[j] : score[j];
  }
}
/* Probabilities in place; a row that is masked everywhere gives zeros. */
static void NAME(softmax_row)(T *score, int64_t n) {
  T top = -(T)INFINITY, sum = 0;
  for (int64_t j = 0; j < n; ++j)
    if (score[j] > top || score[j] != score[j]) top = score[j];
  if (top == -(T)INFINITY) {
    memset(score, 0, (size_t)n * sizeof(T));
    return;
  }
  for (int64_t j = 0; j < n; ++j) sum += score[j] = NAME(exponential)(score[j] - top);
  for (int64_t j = 0; j < n; ++j) score[j] /= sum;
}
/* Units are query rows (b, head, i); each chunk has one row of scores as scratch. */
static void NAME(attend)(void *arg, int64_t chunk, int worker) {
  const mrt_attn *a = arg;
  int64_t begin = mrt_par_begin(a->units, a->chunks, chunk),
          end = mrt_par_begin(a->units, a->chunks, chunk + 1);
  T *score = (T *)a->scores + chunk * a->total;
  (void)worker;
  size_t row = (size_t)a->total * sizeof(T);
  for (int64_t u = begin; u < end; ++u) {
    int64_t i = u % a->q_len, h = u / a->q_len % a->q_heads, b = u / a->q_len / a->q_heads;
    int64_t kv = b * a->kv_heads + h / (a->q_heads / a->kv_heads);
    const T *q = (const T *)a->q + b * a->q_b + h * a->q_h + i * a->q_l;
    const T *k = (const T *)a->k + kv * a->total * a->head,
            *v = (const T *)a->v + kv * a->total * a->v_head;
    T *y = (T *)a->y + b * a->y_b + h * a->y_h + i * a->y_l;
    T *keep = a->qk ? (T *)a->qk + u * a->total : NULL;
    for (int64_t j = 0; j < a->total; ++j)
      score[j] = NAME(product)(q, k + j * a->head, a->head) * (T)a->scale;
    if (keep && a->qk_mode == 0) memcpy(keep, score, row);
    if (a->softcap > 0)
      for (int64_t j = 0; j < a->total; ++j)
        score[j] = NAME(hyperbolic)(score[j] / (T)a->softcap) * (T)a->softcap;
    if (keep && a->qk_mode == 1) memcpy(keep, score, row);
    if (a->mask || a->causal || a->valid) NAME(add_bias)(a, b, h, i, score);
    if (keep && a->qk_mode == 2) memcpy(keep, score, row);
    if (a->total > 0) NAME(softmax_row)(score, a->total);
    if (keep && a->qk_mode == 3) memcpy(keep, score, row);
    if (!a->y) continue;
    memset(y, 0, (size_t)a->v_head * sizeof(T));
    for (int64_t j = 0; j < a->total; ++j) {
      T p = score[j];
      if (p == 0) continue;
      for (int64_t d = 0; d < a->v_head; ++d) y[d] += p * v[j * a->v_head + d];
    }
  }
}
