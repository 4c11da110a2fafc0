/* See qdepth.h. */
#include "provider/cpu/qgemm/qdepth.h"

#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/qplanes.h"

enum { MAX_TAPS = 128, MAX_PERIOD = 128, BLOCK = 64 };

static inline int64_t round64(int64_t n) { return (n + 63) / 64 * 64; }

/* Rows of the image that a pair of output rows needs; or the rows of a plane. */
static int64_t window_rows(const mrt_qconv *p) {
  return mrt_qplanes_fits(p) ? MRT_QPLANES_ROWS : (p->kh - 1) * p->dil_h + 1 + p->stride_h;
}
static int64_t quads_of(const mrt_qconv *p) { return (window_rows(p) * p->kw + 3) / 4; }
/* Output rows whose weights are kept. In planes the second row's are the first's, one row down. */
static int64_t rows_kept(const mrt_qconv *p) { return mrt_qplanes_fits(p) ? 1 : 2; }
static int64_t period_of(const mrt_qconv *p) {
  int64_t common = 64;
  while (p->cout % common) common /= 2;
  return p->cout / common;
}
/* Pixels of one phase in a copied row, and bytes of the row with what blocks read behind it. */
static int64_t phase_pixels(const mrt_qconv *p, int64_t ow) {
  return ow + (p->kw - 1) * p->dil_w / p->stride_w;
}
static int64_t row_bytes(const mrt_qconv *p, int64_t ow) {
  return round64(p->stride_w * phase_pixels(p, ow) * p->cout) + BLOCK;
}

bool mrt_qdepth_fits(const mrt_qconv *p) {
  bool machine = mrt_qplanes_fits(p) && mrt_qplanes_machine();
#ifdef MRT_HAVE_AVX512VNNI
  machine = machine || (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI);
#endif
  return machine && p->depthwise && window_rows(p) * p->kw <= MAX_TAPS &&
         period_of(p) <= MAX_PERIOD;
}

/* ---- weights ---- */
static int64_t weights_bytes(const mrt_qconv *p) {
  return period_of(p) * quads_of(p) * rows_kept(p) * 4 * BLOCK;
}
size_t mrt_qdepth_packed_size(const mrt_qconv *p) { return (size_t)weights_bytes(p); }

/* Channel (of lcm(channels, 64)) that int32 number i of a block's 64 belongs to. */
static int64_t channel_at(const mrt_qconv *p, int64_t block, int64_t i) {
  const int64_t v = i / 16, lane = i % 16 / 4, in = i % 4;
  return (block * BLOCK + lane * 16 + v * 4 + in) % p->cout;
}

/* Tap number t of a table for the first or second output row: where its weight lies, -1: it is 0.
 */
static int64_t tap_at(const mrt_qconv *p, int64_t t, int64_t second) {
  const int64_t rows = window_rows(p), x = t / rows, y = t % rows - second * p->stride_h;
  if (x >= p->kw || y < 0 || y % p->dil_h || y / p->dil_h >= p->kh) return -1;
  return y / p->dil_h * p->kw + x;
}

/* The weights of a channel less their zero point. false: one is no int8. */
static bool spread(const mrt_qconv *p, const uint8_t *w, const int32_t *w_zero, int64_t c,
                   int8_t *to) {
  const int64_t taps = p->kh * p->kw;
  const int32_t zero = w_zero ? w_zero[c] : 0;
  for (int64_t t = 0; t < taps; ++t) {
    const uint8_t raw = w[c * taps + t];
    const int32_t v = (p->w_signed ? (int8_t)raw : raw) - zero;
    if (v < -128 || v > 127) return false;
    to[t] = (int8_t)v;
  }
  return true;
}

bool mrt_qdepth_pack(const mrt_qconv *p, const uint8_t *w, const int32_t *w_zero, void *dst) {
  const int64_t quads = quads_of(p), kept = rows_kept(p);
  int8_t *to = dst, of[BLOCK][MAX_TAPS];
  for (int64_t b = 0; b < period_of(p); ++b) {
    for (int64_t i = 0; i < BLOCK; ++i)
      if (!spread(p, w, w_zero, channel_at(p, b, i), of[i])) return false;
    for (int64_t q = 0; q < quads; ++q)
      for (int64_t second = 0; second < kept; ++second, to += 4 * BLOCK)
        for (int64_t k = 0; k < 4; ++k) {
          const int64_t at = tap_at(p, 4 * q + k, second);
          for (int64_t i = 0; i < BLOCK; ++i) to[i * 4 + k] = at < 0 ? 0 : of[i][at];
        }
  }
  return true;
}

/* ---- tables ---- */
/* col, scale; whether col is shifted. */
size_t mrt_qdepth_tables_size(const mrt_qconv *p) {
  return (size_t)(period_of(p) * BLOCK * 8 + BLOCK);
}
static int64_t shifted_at(const mrt_qconv *p) { return period_of(p) * BLOCK * 8; }

static void shift(const mrt_qconv *p, const mrt_qgemm_epilogue *e, int32_t *col,
                  const float *scale) {
  const int32_t most = (1 << 23) - (int32_t)(p->kh * p->kw) * 255 * 128;
  bool fits = mrt_qplanes_fits(p) && e->out_zero == (e->out == MRT_Q_S8 ? -128 : 0);
  for (int64_t i = 0; i < period_of(p) * BLOCK; ++i)
    fits = fits && scale[i] >= 0 && col[i] < most && col[i] > -most;
  *((bool *)col + shifted_at(p)) = fits;
  for (int64_t i = 0; fits && i < period_of(p) * BLOCK; ++i) col[i] += MRT_QSHIFT;
}

/* Of the weights of number i of all blocks. */
static int32_t sum_at(const mrt_qconv *p, const int8_t *w, int64_t i) {
  const int64_t step = rows_kept(p) * 4 * BLOCK;
  int32_t sum = 0;
  w += i / BLOCK * quads_of(p) * step + i % BLOCK * 4;
  for (int64_t q = 0; q < quads_of(p); ++q, w += step) sum += w[0] + w[1] + w[2] + w[3];
  return sum;
}

bool mrt_qdepth_tables(const mrt_qconv *p, const mrt_qconv_args *a, void *at) {
  const mrt_qgemm_epilogue *e = a->epi;
  const int64_t blocks = period_of(p);
  int32_t *col = at;
  float *scale = (float *)(col + blocks * BLOCK);
  const int32_t xz = a->x_zero + (a->x_signed ? 128 : 0);
  bool fits = true;
  for (int64_t i = 0; i < blocks * BLOCK; ++i) {
    const int64_t c = channel_at(p, i / BLOCK, i % BLOCK);
    const uint32_t bias = e->bias_s32 ? (uint32_t)e->bias_s32[c] : 0;
    col[i] = (int32_t)(bias - (uint32_t)xz * (uint32_t)sum_at(p, a->packed, i));
    scale[i] = e->scale[e->scale_per_col ? c : 0] / e->out_scale;
    fits = fits && __builtin_fabsf(scale[i]) < 0.9f;
  }
  shift(p, e, col, scale);
  return fits;
}

/* ---- a run ---- */
typedef struct depth_job {
  const mrt_qconv *p;
  const mrt_qconv_args *a;
  mrt_qdepth_rows r;
  int64_t rows, row_bytes, worker_bytes, pairs, chunks;
  uint8_t *workers;
  void (*copy)(uint8_t *dst, const uint8_t *src, int64_t pixels, int64_t c, int64_t step,
               uint8_t flip);
} depth_job;

static int64_t worker_bytes(const mrt_qconv *p, int64_t ow) {
  if (mrt_qplanes_fits(p)) return (int64_t)mrt_worker_pitch(mrt_qplanes_worker_bytes(p, ow));
  return (int64_t)mrt_worker_pitch(
      (size_t)(window_rows(p) * row_bytes(p, ow) + round64(ow * p->cout)));
}
size_t mrt_qdepth_scratch(const mrt_par *par, const mrt_qconv *p, int64_t ow) {
  return (size_t)(worker_bytes(p, ow) * mrt_par_workers(par) + MRT_WORKER_PAGE);
}

/* Image row iy (maybe outside) as the ring holds it. */
static void copy_row(const depth_job *j, int64_t image, int64_t iy, uint8_t *dst) {
  const mrt_qconv *p = j->p;
  const mrt_qconv_args *a = j->a;
  const int64_t c = p->cout, s = p->stride_w, per = phase_pixels(p, a->ow);
  const uint8_t flip = a->x_signed ? 0x80 : 0, pad = (uint8_t)a->x_zero ^ flip;
  if (iy < 0 || iy >= a->h) {
    memset(dst, pad, (size_t)(s * per * c));
    return;
  }
  const uint8_t *row = a->x + (image * a->h + iy) * a->w * c;
  for (int64_t phase = 0; phase < s; ++phase, dst += per * c) {
    int64_t i = 0, x = phase - p->pad_left;
    for (; i < per && x < 0; ++i, x += s) memset(dst + i * c, pad, (size_t)c);
    if (s == 1) {
      const int64_t n = per - i < a->w - x ? per - i : a->w - x;
      if (n > 0) {
        j->copy(dst + i * c, row + x * c, n, c, c, flip);
        i += n;
      }
    } else {
      const int64_t left = (a->w - x + s - 1) / s, n = per - i < left ? per - i : left;
      if (n > 0) {
        j->copy(dst + i * c, row + x * c, n, c, s * c, flip);
        i += n;
      }
    }
    memset(dst + i * c, pad, (size_t)((per - i) * c));
  }
}

/* Pairs of output rows [pair, end) of one image; the ring holds row iy at iy % rows. */
static void some_pairs(const depth_job *j, int64_t image, int64_t pair, int64_t end,
                       uint8_t *space) {
  const mrt_qconv *p = j->p;
  const mrt_qconv_args *a = j->a;
  const uint8_t *tap[MAX_TAPS + 4];
  uint8_t *sink = space + j->rows * j->row_bytes;
  const int64_t per = phase_pixels(p, a->ow) * p->cout;
  mrt_qdepth_rows r = j->r;
  r.tap = tap;
  int64_t have = INT64_MIN;
  for (; pair < end; ++pair) {
    const int64_t y = pair * 2, top = y * p->stride_h - p->pad_top;
    for (int64_t iy = have > top ? have : top; iy < top + j->rows; ++iy)
      copy_row(j, image, iy, space + (iy + p->pad_top) % j->rows * j->row_bytes);
    have = top + j->rows;
    for (int64_t t = 0; t < r.quads * 4; ++t) {
      int64_t x = t / j->rows * p->dil_w;
      const int64_t row = (top + t % j->rows + p->pad_top) % j->rows;
      if (t / j->rows >= p->kw) x = 0; /* fills a quad, with weights of 0 */
      tap[t] = space + row * j->row_bytes + x % p->stride_w * per + x / p->stride_w * p->cout;
    }
    r.y[0] = (uint8_t *)a->y + (image * a->oh + y) * r.bytes;
    r.y[1] = y + 1 < a->oh ? r.y[0] + r.bytes : sink;
#ifdef MRT_HAVE_AVX512VNNI
    mrt_qdepth_rows_avx512vnni(&r);
#endif
  }
}

static void plane_chunk(void *arg, int64_t index, int worker) {
  const depth_job *j = arg;
  const int64_t oh = j->a->oh, all = j->a->n * oh, end = all * (index + 1) / j->chunks;
  for (int64_t u = all * index / j->chunks; u < end;) {
    const int64_t y = u % oh, n = end - u < oh - y ? end - u : oh - y;
    const mrt_qconv_args *a = j->a;
    const mrt_qplanes_image x = {.x = a->x + u / oh * a->h * a->w * j->p->cout,
                                 .end = a->x_end,
                                 .h = a->h,
                                 .w = a->w,
                                 .pitch = j->p->cout,
                                 .slice = -1,
                                 .is_signed = a->x_signed,
                                 .zero = a->x_zero};
    mrt_qplanes_run(j->p, &x, &j->r, a->ow, y, y + n, 0, mrt_qplanes_slices(j->p),
                    (uint8_t *)a->y + u * j->r.bytes, j->workers + worker * j->worker_bytes);
    u += n;
  }
}

static void chunk(void *arg, int64_t index, int worker) {
  const depth_job *j = arg;
  /* halves fall on halves whatever the number of chunks is, as in qdirect.c */
  const int64_t all = j->a->n * j->pairs, end = all * (index + 1) / j->chunks;
  for (int64_t u = all * index / j->chunks; u < end;) {
    const int64_t image = u / j->pairs, first = u % j->pairs,
                  n = end - u < j->pairs - first ? end - u : j->pairs - first;
    some_pairs(j, image, first, first + n, j->workers + worker * j->worker_bytes);
    u += n;
  }
}

void mrt_qdepth_rows_of(const mrt_qconv *p, const mrt_qgemm_epilogue *e, const void *packed,
                        const void *tables, int64_t ow, mrt_qdepth_rows *out) {
  const bool s8 = e->out == MRT_Q_S8;
  *out = (mrt_qdepth_rows){.quads = quads_of(p),
                           .period = period_of(p),
                           .w = packed,
                           .col = tables,
                           .scale = tables ? (const float *)tables + period_of(p) * BLOCK : NULL,
                           .bytes = ow * p->cout,
                           .zero = e->out_zero,
                           .lo = s8 ? -128 : 0,
                           .hi = s8 ? 127 : 255,
                           .is_signed = s8,
                           .shifted = tables && *((const bool *)tables + shifted_at(p))};
  if (e->act.op != MRT_EW_CLIP) return;
  const int32_t lo = (int32_t)e->act.p[0] + e->out_zero, hi = (int32_t)e->act.p[1] + e->out_zero;
  out->lo = lo > out->lo ? lo : out->lo;
  out->hi = hi < out->hi ? hi : out->hi;
}

void mrt_qdepth_run(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a,
                    const void *packed, const void *tables, void *scratch) {
  depth_job j = {.p = p,
                 .a = a,
                 .rows = window_rows(p),
                 .row_bytes = row_bytes(p, a->ow),
                 .worker_bytes = worker_bytes(p, a->ow),
                 .pairs = (a->oh + 1) / 2,
                 .workers = mrt_worker_first(scratch),
                 .copy = mrt_qbytes_get()->copy};
  mrt_qdepth_rows_of(p, a->epi, packed, tables, a->ow, &j.r);
  const int64_t units = a->n * j.pairs;
  const double cost = (double)(units * 2 * j.r.bytes) * (0.08 + 0.03 * (double)j.r.quads);
  j.chunks = mrt_even_chunks(mrt_par_chunks(units, cost));
  if (j.chunks < 2 && cost > 2000 && units > 1) j.chunks = 2;
  mrt_par_run(par, j.chunks, mrt_qplanes_fits(p) ? plane_chunk : chunk, &j);
}
