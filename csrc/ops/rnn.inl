/* The recurrences for one floating type T. Rows of weights are walked contiguously. */

static T NAME(activate)(const rnn_act *a, T v) {
  T alpha = (T)a->alpha, beta = (T)a->beta;
  switch (a->kind) {
    case ACT_SIGMOID: return 1 / (1 + (T)NAME(exponential)(-v));
    case ACT_TANH: return NAME(hyperbolic)(v);
    case ACT_RELU: return v > 0 ? v : v != v ? v : 0;
    case ACT_AFFINE: return alpha * v + beta;
    case ACT_LEAKY: return v >= 0 ? v : alpha * v;
    case ACT_THRESHOLDED: return v >= alpha ? v : 0;
    case ACT_SCALED_TANH: return alpha * NAME(hyperbolic)(beta * v);
    case ACT_HARD_SIGMOID: v = alpha * v + beta; return v < 0 ? 0 : v > 1 ? 1 : v;
    case ACT_ELU: return v >= 0 ? v : alpha * (NAME(exponential)(v) - 1);
    case ACT_SOFTSIGN: return v / (1 + (v < 0 ? -v : v));
    default: /* softplus, without forming e^|v| */
      return (v > 0 ? v : 0) + (T)log1p((double)NAME(exponential)(v < 0 ? v : -v));
  }
}
static T NAME(clipped)(const rnn *q, T v) {
  T c = (T)q->clip;
  return c > 0 ? (v > c ? c : v < -c ? -c : v) : v;
}
/* Eight partial sums: the compiler vectorises them, the order is fixed. */
static T NAME(dot)(const T *a, const T *b, int64_t n) {
  T s[8] = {0}, t = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) s[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) t += a[i] * b[i];
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])) + t;
}

/* One step of each cell: g is scratch of gates * hidden (and 2 * hidden more). */
static void NAME(lstm_step)(const rnn *q, int64_t d, const T *x, T *h, T *cell, T *g) {
  int64_t H = q->hidden;
  const T *w = (const T *)q->w + d * 4 * H * q->in, *r = (const T *)q->r + d * 4 * H * H,
          *b = q->b ? (const T *)q->b + d * 8 * H : NULL,
          *p = q->p ? (const T *)q->p + d * 3 * H : NULL;
  const rnn_act *act = q->act + d * q->acts;
  for (int64_t k = 0; k < 4 * H; ++k)
    g[k] = NAME(dot)(w + k * q->in, x, q->in) + NAME(dot)(r + k * H, h, H) +
           (b ? b[k] + b[4 * H + k] : 0);
  for (int64_t k = 0; k < H; ++k) {
    T i = NAME(activate)(&act[0], NAME(clipped)(q, g[k] + (p ? p[k] * cell[k] : 0))),
      f = q->input_forget
              ? 1 - i
              : NAME(activate)(&act[0],
                               NAME(clipped)(q, g[2 * H + k] + (p ? p[2 * H + k] * cell[k] : 0)));
    cell[k] = f * cell[k] + i * NAME(activate)(&act[1], NAME(clipped)(q, g[3 * H + k]));
    T o = NAME(activate)(&act[0], NAME(clipped)(q, g[H + k] + (p ? p[H + k] * cell[k] : 0)));
    h[k] = o * NAME(activate)(&act[2], cell[k]);
  }
}
static void NAME(gru_step)(const rnn *q, int64_t d, const T *x, T *h, T *g) {
  int64_t H = q->hidden;
  const T *w = (const T *)q->w + d * 3 * H * q->in, *r = (const T *)q->r + d * 3 * H * H,
          *b = q->b ? (const T *)q->b + d * 6 * H : NULL;
  const rnn_act *act = q->act + d * q->acts;
  T *rh = g + 3 * H, *next = rh + H;
  for (int64_t k = 0; k < 3 * H; ++k) g[k] = NAME(dot)(w + k * q->in, x, q->in) + (b ? b[k] : 0);
  for (int64_t k = 0; k < 2 * H; ++k)
    g[k] = NAME(activate)(
        &act[0], NAME(clipped)(q, g[k] + NAME(dot)(r + k * H, h, H) + (b ? b[3 * H + k] : 0)));
  for (int64_t k = 0; k < H; ++k) rh[k] = g[H + k] * h[k];
  for (int64_t k = 0; k < H; ++k) {
    const T *row = r + (2 * H + k) * H;
    T rb = b ? b[5 * H + k] : 0, rest = q->linear_before_reset
                                            ? g[H + k] * (NAME(dot)(row, h, H) + rb)
                                            : NAME(dot)(row, rh, H) + rb;
    next[k] =
        (1 - g[k]) * NAME(activate)(&act[1], NAME(clipped)(q, g[2 * H + k] + rest)) + g[k] * h[k];
  }
  memcpy(h, next, (size_t)H * sizeof(T));
}
static void NAME(rnn_step)(const rnn *q, int64_t d, const T *x, T *h, T *g) {
  int64_t H = q->hidden;
  const T *w = (const T *)q->w + d * H * q->in, *r = (const T *)q->r + d * H * H,
          *b = q->b ? (const T *)q->b + d * 2 * H : NULL;
  for (int64_t k = 0; k < H; ++k)
    g[k] =
        NAME(activate)(&q->act[d * q->acts], NAME(clipped)(q, NAME(dot)(w + k * q->in, x, q->in) +
                                                                  NAME(dot)(r + k * H, h, H) +
                                                                  (b ? b[k] + b[H + k] : 0)));
  memcpy(h, g, (size_t)H * sizeof(T));
}

/* Whole sequences; a unit is one direction of one batch entry. */
static void NAME(sequences)(void *arg, int64_t begin, int64_t end) {
  const rnn *q = arg;
  int64_t H = q->hidden;
  size_t row = (size_t)H * sizeof(T);
  for (int64_t u = begin; u < end; ++u) {
    int64_t d = u / q->batch, n = u % q->batch, len = q->lens ? q->lens[n] : q->seq;
    int64_t state = (q->batch_first ? n * q->dirs + d : u) * H;
    T *h = (T *)q->scratch + u * SCRATCH * H, *cell = h + H, *g = cell + H;
    bool back = q->reverse_only || d == 1;
    memset(h, 0, 2 * row);
    if (q->h0) memcpy(h, (const T *)q->h0 + state, row);
    if (q->c0) memcpy(cell, (const T *)q->c0 + state, row);
    for (int64_t s = 0; s < len; ++s) {
      int64_t t = back ? len - 1 - s : s;
      const T *x = (const T *)q->x + (q->batch_first ? n * q->seq + t : t * q->batch + n) * q->in;
      if (q->gates == 4)
        NAME(lstm_step)(q, d, x, h, cell, g);
      else if (q->gates == 3)
        NAME(gru_step)(q, d, x, h, g);
      else
        NAME(rnn_step)(q, d, x, h, g);
      int64_t at =
          q->batch_first ? (n * q->seq + t) * q->dirs + d : (t * q->dirs + d) * q->batch + n;
      if (q->y) memcpy((T *)q->y + at * H, h, row);
    }
    if (q->yh) memcpy((T *)q->yh + state, h, row);
    if (q->yc) memcpy((T *)q->yc + state, cell, row);
  }
}
