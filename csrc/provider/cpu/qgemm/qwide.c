/* See qwide.h. */
#include "provider/cpu/qgemm/qwide.h"

#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/qgemm/qplanes.h"

enum { G = MRT_QWIDE_GROUP, V = MRT_QWIDE_VECTOR, TAPS = MRT_QWIDE_TAPS, PANEL = 32 };
enum { EXPAND_VECTORS = 3, FILTER_VECTORS = 2 + TAPS, BEHIND = 4 };

static inline int64_t round64(int64_t n) { return (n + 63) / 64 * 64; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Sums' length in fours, as there are loops for; the weights of what is too much are zeros. */
static int64_t units_of(const mrt_qconv *e) {
  const int64_t units = (e->cin * e->kh * e->kw + 3) / 4;
  return units == 7 ? 7 : (units + 1) / 2 * 2;
}

bool mrt_qwide_fits(const mrt_qconv *e, const mrt_qconv *d) {
  bool machine = false;
#ifdef MRT_HAVE_AVX512VNNI
  machine = (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI) != 0;
#endif
  const bool form = e->kh * e->kw == 1 ? e->cin % 8 == 0 : e->folds;
  return machine && form && 4 * units_of(e) <= MRT_QWIDE_K && e->cin > 0 && e->groups == 1 &&
         d->kw == TAPS && d->kh <= 3 && d->pad_left < TAPS && mrt_qplanes_fits(d);
}

/* ---- tables ---- */
static int64_t expand_bytes(const mrt_qconv *e) { return (EXPAND_VECTORS + units_of(e)) * V; }
static int64_t group_bytes(const mrt_qconv *e) { return expand_bytes(e) + FILTER_VECTORS * V; }

size_t mrt_qwide_tables_size(const mrt_qconv *e) {
  size_t bytes;
  return mrt_size_mul((size_t)(e->cout / G), (size_t)group_bytes(e), &bytes) ? bytes : 0;
}

/* Where qdepth.h keeps number c of all channels, in blocks of 64. */
static int64_t filter_at(int64_t c) {
  const int64_t in = c % 64;
  return c / 64 * 64 + in % 16 / 4 * 16 + in / 16 * 4 + in % 4;
}

void mrt_qwide_tables(const mrt_qconv *e, const void *packed, const mrt_qtables *t,
                      const mrt_qconv *d, const void *depth_packed, const void *depth_tables,
                      void *at) {
  mrt_qdepth_rows r;
  const mrt_qgemm_epilogue none = {.out = MRT_Q_U8};
  mrt_qdepth_rows_of(d, &none, depth_packed, depth_tables, 1, &r);
  const uint8_t *weights = packed, *dots = (const uint8_t *)r.w;
  for (int64_t c = 0; c < e->cout; ++c) {
    uint8_t *to = (uint8_t *)at + c / G * group_bytes(e) + c % G * 4;
    const int64_t from = filter_at(c), block = from / 64, in = from % 64;
    const float bias = t->shifted ? -0x1p23f * t->scale[c] : t->bias ? t->bias[c] : 0;
    memcpy(to, &t->col[c], 4);
    memcpy(to + V, &t->scale[c], 4);
    memcpy(to + 2 * V, &bias, 4);
    for (int64_t q = 0; q < units_of(e); ++q)
      memcpy(to + (EXPAND_VECTORS + q) * V,
             weights + ((c / PANEL * 16 + q) * PANEL + c % PANEL) * 4, 4);
    to += expand_bytes(e);
    memcpy(to, &r.col[from], 4);
    memcpy(to + V, &r.scale[from], 4);
    for (int64_t q = 0; q < TAPS; ++q)
      memcpy(to + (2 + q) * V, dots + ((block * TAPS + q) * 64 + in) * 4, 4);
  }
}

/* ---- rows ---- */
/* Pixels of a phase of the stride in a plane: the image, its padding, what loops read behind. */
static int64_t phase_bytes(const mrt_qconv *d, int64_t w, int64_t ow) {
  const int64_t s = d->stride_w, all = max_i64(d->pad_left + w, (ow + BEHIND - 1) * s + TAPS);
  return (all / s + 1) * V;
}
static int64_t planes_bytes(const mrt_qconv *d, int64_t w, int64_t ow) {
  return d->stride_w * phase_bytes(d, w, ow);
}
/* A pair of rows of a group: two pixels in a vector. */
static int64_t pair_bytes(int64_t w) { return (w + 1) / 2 * V; }
/* Pixels of a folded row of w windows, and its bytes with what loops write and read behind. */
static int64_t folded_pixels(const mrt_qconv *e, int64_t w) {
  return (w - 1) * e->stride_w + e->kw;
}
static int64_t folded_bytes(const mrt_qconv *e, int64_t w) {
  return round64(folded_pixels(e, w) * e->kh * e->cin) + V;
}
int64_t mrt_qwide_space(const mrt_qconv *e, const mrt_qconv *d, int64_t xw, int64_t w, int64_t ow,
                        int64_t step) {
  const int64_t at_once = mrt_qwide_step(d), rows = (step + at_once - 1) / at_once * 2,
                loops = d->cout / G * pair_bytes(w) + planes_bytes(d, w, ow);
  return e->folds ? loops + round64(xw * e->cin) + rows * folded_bytes(e, w) : loops;
}
int64_t mrt_qwide_step(const mrt_qconv *d) { return d->stride_h == 1 ? 2 : 1; }

static uint8_t *planes_of(const mrt_qwide *q) { return q->space + q->wide / G * pair_bytes(q->w); }
/* A row of padding behind them, and folded rows. */
static uint8_t *padding_of(const mrt_qwide *q) {
  return planes_of(q) + planes_bytes(q->depth, q->w, q->ow);
}
static uint8_t *folded_of(const mrt_qwide *q) {
  return padding_of(q) + round64(q->xw * q->expand->cin);
}
static const uint8_t *table_of(const mrt_qwide *q, int64_t group) {
  return (const uint8_t *)q->tables + group * group_bytes(q->expand);
}

/* The windows of row `row` as runs of bytes. */
static void fold_row(const mrt_qwide *q, int64_t row, uint8_t *to) {
  const mrt_qconv *e = q->expand;
  const uint8_t *line[MRT_QFOLD_ROWS];
  const int64_t n = folded_pixels(e, q->w), pixel = e->kh * e->cin,
                lo = min_i64(max_i64(e->pad_left, 0), n),
                hi = max_i64(lo, min_i64(n, q->xw + e->pad_left)), from = lo - e->pad_left;
  for (int64_t k = 0; k < e->kh; ++k) {
    const int64_t y = row * e->stride_h - e->pad_top + k * e->dil_h;
    line[k] = y >= 0 && y < q->xh ? q->x + (y * q->xw + from) * e->cin : padding_of(q);
  }
  memset(to, q->x_zero, (size_t)(lo * pixel));
  mrt_qfold_run(q->fold, line, hi - lo, to + lo * pixel);
  memset(to + hi * pixel, q->x_zero, (size_t)((n - hi) * pixel));
}
/* Rows [first, first + rows), as expand() finds them. */
static void fold_rows(const mrt_qwide *q, int64_t first, int64_t rows) {
  const int64_t bytes = folded_bytes(q->expand, q->w);
  for (int64_t i = 0; i < rows; ++i)
    if (first + i >= 0 && first + i < q->h) fold_row(q, first + i, folded_of(q) + i * bytes);
}

/* What is the same for all rows of an expansion; stores: to the planes with the pair before, not
 * only as the pair before the next. */
static void expand_init(const mrt_qwide *q, bool stores, mrt_qwide_expand *e) {
  const mrt_qconv *d = q->depth, *c = q->expand;
  e->pixels = q->w;
  e->units = units_of(c);
  e->pitch = q->fold ? c->stride_w * c->kh * c->cin : c->cin;
  e->shifted = q->shifted[0];
  e->zero = q->zero[0];
  e->lo = q->lo[0];
  e->hi = q->hi[0];
  e->planes[0] = e->planes[1] = NULL;
  e->step = 0;
  if (!stores) return;
  const int64_t phase = d->stride_w == 1 ? V : phase_bytes(d, q->w, q->ow), left = d->pad_left;
  for (int i = 0; i < 2; ++i)
    e->planes[i] = planes_of(q) + (d->stride_w == 1 ? (left + i) * V
                                                    : (left + i) % 2 * phase + (left + i) / 2 * V);
  e->step = d->stride_w == 1 ? 2 * V : V;
}

/* Rows `row` and row + 1 of a group. `first`: row that was folded first. */
static void expand(const mrt_qwide *q, mrt_qwide_expand *e, int64_t group, int64_t row,
                   int64_t first) {
  e->table = table_of(q, group);
  e->pairs = q->space + group * pair_bytes(q->w);
  e->keep = 0;
  for (int i = 0; i < 2; ++i) {
    const bool inside = row + i >= 0 && row + i < q->h;
    if (q->fold)
      e->row[i] = folded_of(q) + (inside ? row + i - first : 0) * folded_bytes(q->expand, q->w);
    else
      e->row[i] = inside ? q->x + (row + i) * q->w * q->expand->cin : e->pairs; /* long enough */
    e->keep |= (uint8_t)(inside << i);
  }
#ifdef MRT_HAVE_AVX512VNNI
  mrt_qwide_expand_avx512vnni(e);
#endif
}

void mrt_qwide_begin(const mrt_qwide *q, int64_t y) {
  const mrt_qconv *d = q->depth;
  const int64_t top = y * d->stride_h - d->pad_top;
  memset(planes_of(q), q->zero[0], (size_t)planes_bytes(d, q->w, q->ow));
  if (q->fold) {
    memset(padding_of(q), q->x_zero, (size_t)(q->xw * q->expand->cin));
    fold_rows(q, top, 2);
  }
  mrt_qwide_expand e;
  expand_init(q, false, &e);
  for (int64_t g = 0; g < q->wide / G; ++g) expand(q, &e, g, top, top);
}

void mrt_qwide_run(const mrt_qwide *q, int64_t y0, int64_t y1, uint8_t *out) {
  const mrt_qconv *d = q->depth;
  const int64_t s = d->stride_w, line = q->ow * q->wide, at_once = mrt_qwide_step(d),
                first = y0 * d->stride_h - d->pad_top + 2;
  mrt_qwide_dots r = {.pixels = q->ow,
                      .step = q->wide,
                      .shifted = q->shifted[1],
                      .zero = q->zero[1],
                      .lo = q->lo[1],
                      .hi = q->hi[1]};
  for (int i = 0; i < TAPS; ++i)
    r.tap[i] = planes_of(q) + i % s * phase_bytes(d, q->w, q->ow) + i / s * V;
  mrt_qwide_expand e;
  expand_init(q, true, &e);
  if (q->fold) fold_rows(q, first, (y1 - y0 + at_once - 1) / at_once * 2);
  for (int64_t g = 0; g < q->wide / G; ++g) {
    r.table = table_of(q, g) + expand_bytes(q->expand);
    r.y[0] = out + g * G;
    for (int64_t y = y0; y < y1; y += at_once, r.y[0] += at_once * line) {
      expand(q, &e, g, y * d->stride_h - d->pad_top + 2, first);
      r.y[1] = at_once > 1 && y + 1 < y1 ? r.y[0] + line : NULL;
#ifdef MRT_HAVE_AVX512VNNI
      mrt_qwide_dots_avx512vnni(&r);
#endif
    }
  }
}
