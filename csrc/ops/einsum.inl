/* Products of labelled operands for one accumulator type T. */

/* Gathers a view into [batch][rows][cols] (each a list of labels), summing nothing. */
static void NAME(pack)(const es_view *v, const es_split *s, const int *order, T *out) {
  int64_t total = s->size[order[0]] * s->size[order[1]] * s->size[order[2]];
  int64_t at[ES_MAX_LABELS] = {0}, offset = 0;
  int list[ES_MAX_LABELS], n = 0;
  for (int g = 0; g < 3; ++g)
    for (int i = 0; i < s->n[order[g]]; ++i) list[n++] = s->label[order[g]][i];
  for (int64_t i = 0; i < total; ++i) {
    out[i] = ((const T *)v->data)[offset];
    for (int d = n - 1; d >= 0; --d) {
      offset += v->stride[list[d]];
      if (++at[d] < s->dims[list[d]]) break;
      offset -= at[d] * v->stride[list[d]];
      at[d] = 0;
    }
  }
}
/* Rows of c = a b: units are (batch, row of a). */
static void NAME(multiply)(void *arg, int64_t begin, int64_t end) {
  const es_product *p = arg;
  for (int64_t u = begin; u < end; ++u) {
    const T *a = (const T *)p->a + u * p->k, *b = (const T *)p->b + u / p->m * p->k * p->n;
    T *c = (T *)p->c + u * p->n;
    for (int64_t j = 0; j < p->n; ++j) c[j] = 0;
    for (int64_t k = 0; k < p->k; ++k) {
      T v = a[k];
      for (int64_t j = 0; j < p->n; ++j) c[j] += v * b[k * p->n + j];
    }
  }
}
/* Sums a view over the labels that it alone has and nobody wants: out is dense over `keep`. */
static void NAME(reduce)(const es_view *v, const int64_t *dims, const int *keep, int n_keep,
                         const int *gone, int n_gone, T *out) {
  int64_t kept = 1, summed = 1;
  for (int i = 0; i < n_keep; ++i) kept *= dims[keep[i]];
  for (int i = 0; i < n_gone; ++i) summed *= dims[gone[i]];
  for (int64_t o = 0; o < kept; ++o) {
    int64_t base = 0, rest = o;
    T sum = 0;
    for (int d = n_keep - 1; d >= 0; --d) {
      base += rest % dims[keep[d]] * v->stride[keep[d]];
      rest /= dims[keep[d]];
    }
    for (int64_t i = 0; i < summed; ++i) {
      int64_t at = base, q = i;
      for (int d = n_gone - 1; d >= 0; --d) {
        at += q % dims[gone[d]] * v->stride[gone[d]];
        q /= dims[gone[d]];
      }
      sum += ((const T *)v->data)[at];
    }
    out[o] = sum;
  }
}
