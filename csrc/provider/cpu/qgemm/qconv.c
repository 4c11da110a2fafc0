/* Which way a convolution goes. Behind the packing GEMM the window of every output pixel becomes a
 * row of A, gathered while A is packed: so the matrix of all windows exists only in pieces that
 * stay in cache. A row is [kh][kw][cin]. */
#include "provider/cpu/qgemm/qconv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/qgemm/qdepth.h"
#include "provider/cpu/qgemm/qdirect.h"
#include "provider/cpu/qgemm/qfold.h"

enum { PIECE = 4 << 20, MIN_ROWS = 256, DEPTH_TAPS = 128 };
static const int64_t WINDOW = 1 << 28; /* bytes that the window of a row may span */

static inline int64_t round64(int64_t n) { return (n + 63) / 64 * 64; }
static int64_t taps_of(const mrt_qconv *p) { return p->kh * p->kw; }

void mrt_qconv_plan(mrt_qconv *p, const int32_t *w_zero) {
  p->depthwise = p->cin == 1 && p->cout == p->groups && p->groups > 1 && taps_of(p) <= DEPTH_TAPS;
  p->direct = !p->depthwise && p->w_signed && !w_zero;
  p->folds = p->direct && p->groups == 1 && p->dil_w == 1 && mrt_qfold_pays(p->kh, p->kw, p->cin);
}
bool mrt_qconv_has_dots(const mrt_qconv *p) { return p->depthwise && mrt_qdepth_fits(p); }

static int64_t run_of(const mrt_qconv *p) {
  if (p->halves) return MRT_QPACK_HALVES;
  return p->direct && !p->folds ? mrt_qdirect_run(p->cin, p->kw, p->dil_w) : p->cin * taps_of(p);
}

/* ---- packing ---- */
static size_t group_size(const mrt_qconv *p) {
  return (size_t)round64(
      (int64_t)mrt_qpack_size(p->cout / p->groups, p->cin * taps_of(p), run_of(p)));
}
/* Weights of the depthwise loops; then a flag, 64 bytes on the weights of qdepth.h. */
static int64_t loops_size(const mrt_qconv *p) {
  if (p->dots_only) return 0;
  return round64(round64(taps_of(p) * p->cout * 2) + p->cout * 4);
}
size_t mrt_qconv_packed_size(const mrt_qconv *p) {
  int64_t k, all; /* a run may grow to 64 */
  size_t bytes;
  if (!mrt_i64_mul(p->kh, p->kw, &k) || !mrt_i64_mul(k, p->cin, &k) ||
      !mrt_i64_mul(k, p->cout + 32 * p->groups, &all) || all > INT64_MAX / 512)
    return 0;
  if (p->depthwise) {
    bytes = (size_t)(loops_size(p) + 64);
    return mrt_qdepth_fits(p) ? bytes + mrt_qdepth_packed_size(p) : bytes;
  }
  return mrt_size_mul(group_size(p), (size_t)p->groups, &bytes) ? bytes : 0;
}

static void pack_depthwise(const mrt_qconv *p, const uint8_t *w, const int32_t *w_zero, void *dst) {
  const int64_t taps = taps_of(p), c = p->cout;
  int16_t *out = dst;
  int32_t *sum = (int32_t *)((uint8_t *)dst + round64(taps * c * 2));
  for (int64_t m = 0; m < c; ++m) {
    sum[m] = 0;
    for (int64_t t = 0; t < taps; ++t) {
      const uint8_t raw = w[m * taps + t];
      const int32_t v = (p->w_signed ? (int8_t)raw : raw) - (w_zero ? w_zero[m] : 0);
      out[t * c + m] = (int16_t)v;
      sum[m] += v;
    }
  }
}

/* [cin][kh][kw] to [kw][kh][cin]. */
static void fold_weights(const mrt_qconv *p, const uint8_t *w, uint8_t *to) {
  for (int64_t m = 0; m < p->cout; ++m, w += p->cin * taps_of(p))
    for (int64_t x = 0; x < p->kw; ++x)
      for (int64_t y = 0; y < p->kh; ++y)
        for (int64_t c = 0; c < p->cin; ++c) *to++ = w[(c * p->kh + y) * p->kw + x];
}

void mrt_qconv_pack(const mrt_par *par, const mrt_qconv *p, const uint8_t *w, const int32_t *w_zero,
                    uint8_t *tmp, void *dst) {
  const int64_t per = p->cout / p->groups, k = p->cin * taps_of(p);
  if (p->depthwise) {
    uint8_t *dots = (uint8_t *)dst + loops_size(p);
    if (!p->dots_only) pack_depthwise(p, w, w_zero, dst);
    *dots = mrt_qdepth_fits(p) && mrt_qdepth_pack(p, w, w_zero, dots + 64);
    return;
  }
  if (p->folds)
    fold_weights(p, w, tmp);
  else /* [cin][taps] to [taps][cin] */
    mrt_bytes_transpose(par, w, p->cout, p->cin, taps_of(p), tmp);
  for (int64_t g = 0; g < p->groups; ++g)
    mrt_qpack(par, tmp + g * per * k, p->w_signed, k, true, k, per, run_of(p),
              (uint8_t *)dst + (size_t)g * group_size(p));
}

/* ---- what is known before a run ---- */
static size_t out_size(mrt_q_out out) { return out == MRT_Q_S32 || out == MRT_Q_F32 ? 4 : 1; }

/* The epilogue of group g. */
static mrt_qgemm_epilogue epilogue_of(const mrt_qconv *p, const mrt_qconv_args *a, int64_t g) {
  const int64_t first = g * (p->cout / p->groups);
  mrt_qgemm_epilogue e = *a->epi;
  if (e.scale && e.scale_per_col) e.scale += first;
  if (e.bias_s32) e.bias_s32 += first;
  if (e.add) e.add += first;
  return e;
}
static const uint8_t *weights_of(const mrt_qconv *p, const mrt_qconv_args *a, int64_t g) {
  return (const uint8_t *)a->packed + (size_t)g * group_size(p);
}
static bool dots_of(const mrt_qconv *p, const mrt_qconv_args *a) {
  return p->depthwise && ((const uint8_t *)a->packed)[loops_size(p)] &&
         out_size(a->epi->out) == 1 && !a->epi->add;
}
/* The depthwise weights of qdepth.h as its calls want them. */
static mrt_qconv_args dots_args(const mrt_qconv *p, const mrt_qconv_args *a) {
  mrt_qconv_args d = *a;
  d.packed = (const uint8_t *)a->packed + loops_size(p) + 64;
  return d;
}

const void *mrt_qconv_depth_weights(const mrt_qconv *p, const void *packed) {
  const uint8_t *dots = (const uint8_t *)packed + loops_size(p);
  return p->depthwise && *dots ? dots + 64 : NULL;
}
const mrt_qtables *mrt_qconv_tables(const void *prepared) { return prepared; }
const void *mrt_qconv_depth_tables(const void *prepared) { return (const uint8_t *)prepared + 64; }

/* A flag and qdepth.h's tables; or the tables of all groups behind their heads. */
size_t mrt_qconv_prepared_size(const mrt_qconv *p) {
  if (p->depthwise) return mrt_qdepth_fits(p) ? 64 + mrt_qdepth_tables_size(p) : 64;
  if (!p->direct) return 0;
  return (size_t)(round64(p->groups * (int64_t)sizeof(mrt_qtables)) +
                  p->groups * (int64_t)mrt_qtables_plain_size(p->cout / p->groups));
}
bool mrt_qconv_prepare(const mrt_qconv *p, const mrt_qconv_args *a, void *at) {
  const int64_t per = p->cout / p->groups;
  if (p->depthwise) {
    const mrt_qconv_args d = dots_args(p, a);
    const bool dots = dots_of(p, a) && mrt_qdepth_tables(p, &d, (uint8_t *)at + 64);
    *(uint8_t *)at = dots;
    return dots;
  }
  if (!p->direct) return false;
  mrt_qtables *heads = at;
  uint8_t *to = (uint8_t *)at + round64(p->groups * (int64_t)sizeof *heads);
  for (int64_t g = 0; g < p->groups; ++g, to += mrt_qtables_plain_size(per)) {
    const mrt_qgemm_epilogue e = epilogue_of(p, a, g);
    const mrt_qgemm m = {.n = per,
                         .k = p->cin * taps_of(p),
                         .a_signed = a->x_signed,
                         .a_zero = a->x_zero,
                         .b = weights_of(p, a, g),
                         .epi = &e};
    mrt_qtables_fill(&m, true, run_of(p), mrt_qdirect_flips(), to, &heads[g]);
  }
  return true;
}

static mrt_qdirect direct_of(const mrt_qconv *p, const mrt_qconv_args *a) {
  return (mrt_qdirect){.n = a->n,
                       .h = a->h,
                       .w = a->w,
                       .c = p->cin,
                       .pitch = p->cin * p->groups,
                       .oh = a->oh,
                       .ow = a->ow,
                       .kh = p->kh,
                       .kw = p->kw,
                       .stride_h = p->stride_h,
                       .stride_w = p->stride_w,
                       .dil_h = p->dil_h,
                       .dil_w = p->dil_w,
                       .pad_top = p->pad_top,
                       .pad_left = p->pad_left,
                       .folds = p->folds,
                       .x_end = a->x_end,
                       .x_signed = a->x_signed,
                       .x_zero = a->x_zero,
                       .cout = p->cout / p->groups,
                       .ldy = p->cout};
}

/* ---- scratch ---- */
static int64_t piece_rows(const mrt_qconv *p) {
  const int64_t rows = PIECE / (p->cin * taps_of(p) + 1);
  return rows > MIN_ROWS ? rows : MIN_ROWS;
}

/* The window of an output row is copied where it reaches into the padding: far apart taps make that
 * more than memory has. */
static bool window_fits(const mrt_qconv *p, const mrt_qconv_args *a) {
  const int64_t channels = p->depthwise ? p->cout : p->cin;
  int64_t w, taps, bytes;
  return mrt_i64_mul(a->ow, p->stride_w, &w) && mrt_i64_mul(p->kw - 1, p->dil_w, &taps) &&
         mrt_i64_add(w, taps, &w) && mrt_i64_mul(p->kh - 1, p->dil_h, &taps) &&
         mrt_i64_mul(w, taps + 1, &bytes) && mrt_i64_mul(bytes, channels, &bytes) &&
         bytes <= WINDOW;
}

bool mrt_qconv_scratch_size(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a,
                            size_t *out) {
  int64_t rows, most;
  if (!mrt_i64_mul(a->n, a->oh, &rows) || !mrt_i64_mul(rows, a->ow, &rows) ||
      !mrt_i64_mul(rows, p->cout, &most))
    return false;
  size_t bytes = (size_t)round64((int64_t)mrt_qconv_prepared_size(p));
  if ((p->depthwise || p->direct) && !window_fits(p, a)) return false;
  if (p->depthwise) { /* col, scale, a row of zeros */
    const size_t loops = (size_t)(round64(p->cout * 4) * 2 + round64(p->cout));
    const size_t dots = mrt_qdepth_fits(p) ? mrt_qdepth_scratch(par, p, a->ow) : 0;
    bytes += loops > dots ? loops : dots;
  } else if (p->direct) {
    const mrt_qdirect d = direct_of(p, a);
    bytes += mrt_qdirect_scratch(par, &d);
  } else {
    if (rows > piece_rows(p)) rows = piece_rows(p);
    bytes += mrt_qgemm_scratch_size(par, rows, p->cout / p->groups, p->cin * taps_of(p));
  }
  *out = bytes;
  return true;
}

/* ---- rows of windows ---- */
typedef struct rows_ctx {
  const mrt_qconv *p;
  const mrt_qconv_args *a;
  int64_t first, channels; /* output pixel of row 0; channels of x */
  const uint8_t *x;        /* first channel of the group */
  uint8_t pad;
} rows_ctx;

/* One row of taps: the middle ones lie inside the image. */
static uint8_t *gather_line(const rows_ctx *r, const uint8_t *line, int64_t ix, uint8_t *dst) {
  const mrt_qconv *p = r->p;
  const int64_t w = r->a->w, bytes = p->cin;
  if (p->groups == 1 && p->dil_w == 1 && ix >= 0 && ix + p->kw <= w) {
    memcpy(dst, line + ix * bytes, (size_t)(p->kw * bytes));
    return dst + p->kw * bytes;
  }
  for (int64_t k = 0; k < p->kw; ++k, dst += bytes, ix += p->dil_w) {
    if (ix >= 0 && ix < w)
      memcpy(dst, line + ix * r->channels, (size_t)bytes);
    else
      memset(dst, r->pad, (size_t)bytes);
  }
  return dst;
}

static void gather(const void *ctx, int64_t row, uint8_t *dst) {
  const rows_ctx *r = ctx;
  const mrt_qconv *p = r->p;
  const mrt_qconv_args *a = r->a;
  const int64_t o = r->first + row, x = o % a->ow, y = o / a->ow % a->oh, n = o / a->ow / a->oh;
  int64_t iy = y * p->stride_h - p->pad_top;
  const int64_t ix = x * p->stride_w - p->pad_left;
  for (int64_t k = 0; k < p->kh; ++k, iy += p->dil_h) {
    if (iy < 0 || iy >= a->h) {
      memset(dst, r->pad, (size_t)(p->kw * p->cin));
      dst += p->kw * p->cin;
    } else {
      dst = gather_line(r, r->x + (n * a->h + iy) * a->w * r->channels, ix, dst);
    }
  }
}

static void run_group(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a, int64_t g,
                      void *scratch) {
  const int64_t per = p->cout / p->groups, rows = a->n * a->oh * a->ow, step = piece_rows(p);
  const bool direct = taps_of(p) == 1 && p->groups == 1 && p->stride_h == 1 && p->stride_w == 1 &&
                      p->pad_top == 0 && p->pad_left == 0 && a->oh == a->h && a->ow == a->w;
  mrt_qgemm_epilogue e = epilogue_of(p, a, g);
  rows_ctx r = {.p = p,
                .a = a,
                .channels = p->cin * p->groups,
                .x = a->x + g * p->cin,
                .pad = (uint8_t)a->x_zero};
  mrt_qgemm m = {.n = per,
                 .k = p->cin * taps_of(p),
                 .lda = p->cin,
                 .a_signed = a->x_signed,
                 .a_zero = a->x_zero,
                 .b = weights_of(p, a, g),
                 .b_zero = a->w_zero ? a->w_zero + g * per : NULL,
                 .b_zero_per_col = true,
                 .ldc = p->cout,
                 .epi = &e,
                 .gather = direct ? NULL : gather,
                 .gather_ctx = &r};
  for (int64_t at = 0; at < rows; at += step) {
    r.first = at;
    m.m = rows - at < step ? rows - at : step;
    m.a = direct ? a->x + at * p->cin : NULL;
    m.c = (uint8_t *)a->y + (size_t)(at * p->cout + g * per) * out_size(e.out);
    mrt_qgemm_run(par, &m, p->w_signed, scratch);
  }
}

/* ---- depthwise ---- */
typedef struct depth_job {
  const mrt_qconv *p;
  const mrt_qconv_args *a;
  mrt_qdepth d;
  const mrt_qbytes *loops;
  const uint8_t *pad; /* a pixel of zero points */
  int64_t chunks;
} depth_job;

const mrt_qbytes *mrt_qbytes_get(void) {
  const uint32_t isa = mrt_cpu_get()->isa;
#ifdef MRT_HAVE_AVX512VNNI
  if (isa & MRT_ISA_AVX512VNNI) return &mrt_qbytes_avx512vnni;
#endif
#ifdef MRT_HAVE_AVX2
  if (isa & MRT_ISA_AVX2) return &mrt_qbytes_avx2;
#endif
  (void)isa;
  return &mrt_qbytes_scalar;
}

static void depth_line(const depth_job *j, int64_t line) {
  const mrt_qconv *p = j->p;
  const mrt_qconv_args *a = j->a;
  const uint8_t *tap[DEPTH_TAPS];
  mrt_qdepth d = j->d;
  const int64_t n = line / a->oh, y = line % a->oh, c = p->cout;
  d.tap = tap;
  for (int64_t x = 0; x < a->ow; ++x) {
    const uint8_t **t = tap;
    for (int64_t ky = 0; ky < p->kh; ++ky) {
      const int64_t iy = y * p->stride_h - p->pad_top + ky * p->dil_h;
      const bool row_in = iy >= 0 && iy < a->h;
      int64_t ix = x * p->stride_w - p->pad_left;
      for (int64_t kx = 0; kx < p->kw; ++kx, ix += p->dil_w)
        *t++ = row_in && ix >= 0 && ix < a->w ? a->x + ((n * a->h + iy) * a->w + ix) * c : j->pad;
    }
    d.y = (uint8_t *)a->y + (size_t)((line * a->ow + x) * c) * out_size(d.out);
    j->loops->depth(&d);
  }
}

static void depth_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const depth_job *j = arg;
  const int64_t lines = j->a->n * j->a->oh, end = mrt_par_begin(lines, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(lines, j->chunks, chunk); i < end; ++i) depth_line(j, i);
}

static void run_depthwise(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a,
                          void *scratch) {
  const int64_t c = p->cout, taps = taps_of(p);
  const mrt_qgemm_epilogue *e = a->epi;
  int32_t *col = scratch;
  float *scale = (float *)((uint8_t *)scratch + round64(c * 4));
  uint8_t *pad = (uint8_t *)scratch + round64(c * 4) * 2;
  const int32_t *sum = (const int32_t *)((const uint8_t *)a->packed + round64(taps * c * 2));
  const int32_t xz = a->x_zero + (a->x_signed ? 128 : 0);
  memset(pad, (uint8_t)a->x_zero, (size_t)c);
  for (int64_t i = 0; i < c; ++i) {
    col[i] =
        (int32_t)((e->bias_s32 ? (uint32_t)e->bias_s32[i] : 0) - (uint32_t)xz * (uint32_t)sum[i]);
    scale[i] = e->scale ? e->scale[e->scale_per_col ? i : 0] / e->out_scale : 0;
  }
  const bool s8 = e->out == MRT_Q_S8;
  depth_job j = {.p = p, .a = a, .loops = mrt_qbytes_get(), .pad = pad};
  j.d = (mrt_qdepth){.w = a->packed,
                     .taps = taps,
                     .channels = c,
                     .col = col,
                     .scale = scale,
                     .out = e->out,
                     .flip = a->x_signed ? 0x80 : 0,
                     .lo = (float)((s8 ? -128 : 0) - e->out_zero),
                     .hi = (float)((s8 ? 127 : 255) - e->out_zero),
                     .zero = e->out_zero};
  if (e->act.op == MRT_EW_CLIP) {
    if (e->act.p[0] > j.d.lo) j.d.lo = e->act.p[0];
    if (e->act.p[1] < j.d.hi) j.d.hi = e->act.p[1];
  }
  j.chunks = mrt_par_chunks(a->n * a->oh, (double)(a->n * a->oh * a->ow * c * (taps + 2)) * 0.15);
  mrt_par_run(par, j.chunks, depth_chunk, &j);
}

static void run_direct(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a,
                       const mrt_qtables *tables, void *scratch) {
  const int64_t per = p->cout / p->groups;
  mrt_qdirect d = direct_of(p, a);
  for (int64_t g = 0; g < p->groups; ++g) {
    const mrt_qgemm_epilogue e = epilogue_of(p, a, g);
    d.x = a->x + g * p->cin;
    d.packed = weights_of(p, a, g);
    d.tables = &tables[g];
    d.y = (uint8_t *)a->y + (size_t)(g * per) * out_size(e.out);
    d.epi = &e;
    mrt_qdirect_go(par, &d, scratch);
  }
}

void mrt_qconv_run(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a, void *scratch) {
  if (a->n * a->oh * a->ow <= 0) return;
  const void *prepared = a->prepared;
  uint8_t *rest = scratch;
  if (!prepared && mrt_qconv_prepared_size(p)) {
    mrt_qconv_prepare(p, a, scratch);
    prepared = scratch;
    rest += round64((int64_t)mrt_qconv_prepared_size(p));
  }
  if (p->direct) {
    run_direct(par, p, a, prepared, rest);
  } else if (p->depthwise && *(const uint8_t *)prepared) {
    const mrt_qconv_args d = dots_args(p, a);
    mrt_qdepth_run(par, p, &d, d.packed, (const uint8_t *)prepared + 64, rest);
  } else if (p->depthwise) {
    run_depthwise(par, p, a, rest);
  } else {
    for (int64_t g = 0; g < p->groups; ++g) run_group(par, p, a, g, rest);
  }
}
