/* Copies rows by an index map of the last axis, for one element size. */
static void NAME(rows)(void *arg, int64_t begin, int64_t end) {
  const nearest_job *j = arg;
  const resize_axis *last = &j->axes[j->rank - 1];
  T fill;
  memcpy(&fill, j->fill, sizeof fill);
  for (int64_t r = begin; r < end; ++r) {
    int64_t base = nearest_base(j, r);
    const T *x = (const T *)j->x->data + (base < 0 ? 0 : base);
    T *y = (T *)j->y->data + r * last->out;
    if (base >= 0 && last->identity)
      memcpy(y, x, (size_t)last->out * sizeof *y);
    else
      for (int64_t i = 0; i < last->out; ++i)
        y[i] = base < 0 || last->start[i] < 0 ? fill : x[last->start[i]];
  }
}
