/* DFT and STFT. Complex numbers are pairs along the last dim; a last dim of 1 holds real ones. */
#include "ops/fft.h"

typedef struct dft_job {
  const mrt_tensor *x, *window;
  mrt_tensor *y;
  mrt_fft fft;
  bool inverse, onesided;
  int64_t in_len, out_len, inner, parts_in, parts_out; /* lengths along the axis */
  int64_t frames, step, frame_len;                     /* STFT */
  int64_t units, chunks;
  double *buffer; /* one per chunk */
} dft_job;
static double get(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}
/* Number k of a row of n_in numbers, 0 past its end; base, stride: elements. */
static void load(const dft_job *j, int64_t k, int64_t n_in, int64_t base, int64_t stride,
                 double *out) {
  out[0] = k < n_in ? get(j->x, base + k * stride) : 0;
  out[1] = k < n_in && j->parts_in == 2 ? get(j->x, base + k * stride + 1) : 0;
}
static void store(const dft_job *j, int64_t base, int64_t stride, const double *v, double scale) {
  mrt_dtype t = (mrt_dtype)j->y->dtype;
  for (int64_t k = 0; k < j->out_len; ++k)
    for (int64_t p = 0; p < j->parts_out; ++p)
      mrt_elem_set_f64(t, j->y->data, base + k * stride + p, v[2 * k + p] * scale);
}
static double *chunk_buffer(const dft_job *j, int64_t chunk) {
  return j->buffer + chunk * (2 * j->fft.n + mrt_fft_scratch(&j->fft));
}
static mrt_status *open(mrt_kctx *c, dft_job *j, int64_t n) {
  int64_t total;
  MRT_TRY(mrt_fft_plan(c, n, &j->fft));
  j->chunks = mrt_par_chunks(j->units, (double)j->units * (double)j->fft.m * 40);
  if (!mrt_i64_mul(j->chunks, 2 * n + mrt_fft_scratch(&j->fft), &total))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the transform is too long");
  return mrt_scratch_array(c, total, sizeof *j->buffer, &j->buffer);
}

/* ---- DFT ---- */
static mrt_status *dft_axis(mrt_infer *c, int rank, int *axis) {
  int64_t a = -2;
  int n;
  *axis = -1;
  if (mrt_infer_has(c, 2) && !mrt_infer_const_ints(c, 2, 1, &a, &n)) return NULL;
  MRT_TRY(mrt_infer_axis(c, a, rank, axis));
  if (*axis == rank - 1) return MRT_ERR(MRT_FAIL, "axis must not be the last one");
  return NULL;
}
static mrt_status *dft_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis, n;
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL};
  bool inverse = mrt_node_int(c->node, "inverse") != 0,
       onesided = mrt_node_int(c->node, "onesided") != 0;
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank < 2) return MRT_ERR(MRT_FAIL, "input of rank %d, at least 2 is needed", rank);
  MRT_TRY(dft_axis(c, rank, &axis));
  if (axis < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  const mrt_expr *one = mrt_expr_const(c->sym, 1), *two = mrt_expr_const(c->sym, 2);
  if (mrt_infer_has(c, 1)) {
    const mrt_expr *const *e = mrt_infer_ints(c, 1, &n);
    dims[axis] = e && n == 1 ? e[0] : NULL;
  } else if (inverse && onesided) {
    dims[axis] = mrt_expr_mul(c->sym, two, mrt_expr_sub(c->sym, dims[axis], one));
  }
  if (onesided && !inverse)
    dims[axis] = mrt_expr_add(c->sym, mrt_expr_floordiv(c->sym, dims[axis], two), one);
  dims[rank - 1] = onesided && inverse ? one : two;
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static void dft_rows(void *arg, int64_t chunk, int worker) {
  const dft_job *j = arg;
  double *v = chunk_buffer(j, chunk), scale = j->inverse ? 1 / (double)j->fft.n : 1;
  int64_t n = j->fft.n, end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  (void)worker;
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    int64_t outer = u / j->inner, inner = u % j->inner, half = n / 2 + 1;
    int64_t base = (outer * j->in_len * j->inner + inner) * j->parts_in;
    if (j->inverse && j->onesided) { /* the other half is the conjugate */
      for (int64_t k = 0; k < half; ++k) {
        load(j, k, j->in_len, base, j->inner * j->parts_in, v + 2 * k);
        if (k == 0 || 2 * k == n) v[2 * k + 1] = 0;
        if (k) v[2 * (n - k)] = v[2 * k], v[2 * (n - k) + 1] = -v[2 * k + 1];
      }
      if (n % 2 == 0 && n > 1) v[n + 1] = 0;
    } else {
      for (int64_t k = 0; k < n; ++k)
        load(j, k, j->in_len, base, j->inner * j->parts_in, v + 2 * k);
    }
    mrt_fft_run(&j->fft, v, v + 2 * n, j->inverse);
    store(j, (outer * j->out_len * j->inner + inner) * j->parts_out, j->inner * j->parts_out, v,
          scale);
  }
}
static mrt_status *dft_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  int64_t length[1], given[1] = {-2};
  int axis, n_length, n_axis;
  dft_job j = {.x = x,
               .y = mrt_out(c, 0),
               .inverse = mrt_node_int(c->node, "inverse") != 0,
               .onesided = mrt_node_int(c->node, "onesided") != 0};
  if (!j.y) return NULL;
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), 1, length, &n_length, "dft_length"));
  MRT_TRY(mrt_read_ints(mrt_in(c, 2), 1, given, &n_axis, "axis"));
  MRT_TRY(mrt_fix_axis(given[0], x->rank, &axis));
  j.parts_in = x->dims[x->rank - 1];
  j.parts_out = j.y->dims[x->rank - 1];
  if (axis == x->rank - 1 || (j.parts_in != 1 && j.parts_in != 2))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "DFT: the last dim must hold 1 or 2 parts, not %lld",
                   (long long)j.parts_in);
  j.in_len = x->dims[axis];
  j.out_len = j.y->dims[axis];
  j.inner = mrt_dims_product(x->dims, axis + 1, x->rank - 1);
  j.units = mrt_dims_product(x->dims, 0, axis) * j.inner;
  if (mrt_tensor_count(j.y) == 0) return NULL;
  int64_t n = n_length ? length[0] : j.inverse && j.onesided ? 2 * (j.in_len - 1) : j.in_len;
  MRT_TRY(open(c, &j, n));
  mrt_par_run(&c->par, j.chunks, dft_rows, &j);
  return NULL;
}
static mrt_status *dft_up17(mrt_node *node) { /* axis was an attribute, 1 by default */
  if (!mrt_node_attr(node, "axis")) MRT_TRY(mrt_node_set_int(node, "axis", 1));
  return mrt_node_attr_to_input(node, "axis", 2);
}

/* ---- STFT ---- */
static mrt_status *stft_infer(mrt_infer *c) {
  const mrt_expr *len = mrt_infer_dim(c, 0, 1), *frame = len;
  const mrt_expr *one = mrt_expr_const(c->sym, 1), *two = mrt_expr_const(c->sym, 2);
  int n, k;
  const mrt_expr *const *step = mrt_infer_ints(c, 1, &n), *const *given = mrt_infer_ints(c, 3, &k);
  if (mrt_infer_rank(c, 0) >= 0 && mrt_infer_rank(c, 0) != 3)
    return MRT_ERR(MRT_FAIL, "signal must have rank 3, not %d", mrt_infer_rank(c, 0));
  if (mrt_infer_has(c, 3))
    frame = given && k == 1 ? given[0] : NULL;
  else if (mrt_infer_has(c, 2))
    frame = mrt_infer_dim(c, 2, 0);
  const mrt_expr *hops =
      step && n == 1 ? mrt_expr_floordiv(c->sym, mrt_expr_sub(c->sym, len, frame), step[0]) : NULL;
  const mrt_expr *bins = mrt_node_int(c->node, "onesided")
                             ? mrt_expr_add(c->sym, mrt_expr_floordiv(c->sym, frame, two), one)
                             : frame;
  const mrt_expr *dims[4] = {mrt_infer_dim(c, 0, 0), mrt_expr_add(c->sym, hops, one), bins, two};
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 4, dims);
}
static void stft_rows(void *arg, int64_t chunk, int worker) {
  const dft_job *j = arg;
  double *v = chunk_buffer(j, chunk);
  int64_t n = j->fft.n, end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  (void)worker;
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    int64_t base = (u / j->frames * j->in_len + u % j->frames * j->step) * j->parts_in;
    for (int64_t k = 0; k < n; ++k) {
      double w = !j->window ? 1 : k < j->frame_len ? get(j->window, k) : 0;
      load(j, k, j->frame_len, base, j->parts_in, v + 2 * k);
      v[2 * k] *= w;
      v[2 * k + 1] *= w;
    }
    mrt_fft_run(&j->fft, v, v + 2 * n, false);
    store(j, u * j->out_len * 2, 2, v, 1);
  }
}
static mrt_status *stft_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  int64_t step[1], frame[1];
  int n_step, n_frame;
  dft_job j = {.x = x, .window = mrt_in(c, 2), .y = mrt_out(c, 0), .parts_out = 2};
  if (!j.y) return NULL;
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), 1, step, &n_step, "frame_step"));
  MRT_TRY(mrt_read_ints(mrt_in(c, 3), 1, frame, &n_frame, "frame_length"));
  j.parts_in = x->rank == 3 ? x->dims[2] : 0;
  if ((j.parts_in != 1 && j.parts_in != 2) || n_step != 1 || step[0] < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "STFT: signal must be [batch, length, 1 or 2] and "
                   "frame_step positive");
  int64_t n = n_frame ? frame[0] : j.window ? mrt_tensor_count(j.window) : x->dims[1];
  j.frame_len = j.window ? mrt_tensor_count(j.window) : n;
  if (n < 1 || n > x->dims[1] || j.frame_len > n)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "STFT: frames of %lld with a window of %lld in a signal of %lld", (long long)n,
                   (long long)j.frame_len, (long long)x->dims[1]);
  j.in_len = x->dims[1];
  j.step = step[0];
  j.frames = j.y->dims[1];
  j.out_len = j.y->dims[2];
  j.units = x->dims[0] * j.frames;
  if (mrt_tensor_count(j.y) == 0) return NULL;
  MRT_TRY(open(c, &j, n));
  mrt_par_run(&c->par, j.chunks, stft_rows, &j);
  return NULL;
}
static const mrt_op_version dft_v[] = {{17, dft_up17}, {20}, {0}};
static const mrt_op_version stft_v[] = {{17}, {0}};
#define LENGTHS "T2=int32,int64"
MRT_OP(DFT) = {.domain = "",
               .name = "DFT",
               .doc = "discrete Fourier transform",
               .in = "input:T1, dft_length:T2?, axis:int64?",
               .out = "output:T1",
               .types = "T1=" MRT_T_FLOATS ";" LENGTHS,
               .attrs = "inverse:int=0 onesided:int=0",
               .versions = dft_v,
               .infer = dft_infer,
               .run = dft_run};
MRT_OP(STFT) = {.domain = "",
                .name = "STFT",
                .doc = "Fourier transforms of sliding frames",
                .in = "signal:T1, frame_step:T2, window:T1?, frame_length:T2?",
                .out = "output:T1",
                .types = "T1=" MRT_T_FLOATS ";" LENGTHS,
                .attrs = "onesided:int=1",
                .versions = stft_v,
                .infer = stft_infer,
                .run = stft_run};
