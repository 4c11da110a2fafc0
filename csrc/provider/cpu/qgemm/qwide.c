/* See qwide.h. */
#include "provider/cpu/qgemm/qwide.h"

#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/qgemm/qplanes.h"

enum { G = MRT_QWIDE_GROUP, V = MRT_QWIDE_VECTOR, TAPS = MRT_QWIDE_TAPS, PANEL = 32 };
enum { EXPAND_VECTORS = 3, FILTER_VECTORS = 2 + TAPS, BEHIND = 4 };

static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

bool mrt_qwide_fits(const mrt_qconv *e, const mrt_qconv *d) {
  bool machine = false;
#ifdef MRT_HAVE_AVX512VNNI
  machine = (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI) != 0;
#endif
  return machine && e->cin % 8 == 0 && e->cin <= MRT_QWIDE_K && e->cin > 0 && e->groups == 1 &&
         d->kw == TAPS && d->kh <= 3 && d->pad_left < TAPS && mrt_qplanes_fits(d);
}

/* ---- tables ---- */
static int64_t expand_bytes(int64_t k) { return (EXPAND_VECTORS + k / 4) * V; }
static int64_t group_bytes(int64_t k) { return expand_bytes(k) + FILTER_VECTORS * V; }

size_t mrt_qwide_tables_size(const mrt_qconv *e) {
  size_t bytes;
  return mrt_size_mul((size_t)(e->cout / G), (size_t)group_bytes(e->cin), &bytes) ? bytes : 0;
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
    uint8_t *to = (uint8_t *)at + c / G * group_bytes(e->cin) + c % G * 4;
    const int64_t from = filter_at(c), block = from / 64, in = from % 64;
    const float bias = t->shifted ? -0x1p23f * t->scale[c] : t->bias ? t->bias[c] : 0;
    memcpy(to, &t->col[c], 4);
    memcpy(to + V, &t->scale[c], 4);
    memcpy(to + 2 * V, &bias, 4);
    for (int64_t q = 0; q < e->cin / 4; ++q)
      memcpy(to + (EXPAND_VECTORS + q) * V,
             weights + ((c / PANEL * 16 + q) * PANEL + c % PANEL) * 4, 4);
    to += expand_bytes(e->cin);
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
int64_t mrt_qwide_space(const mrt_qconv *d, int64_t w, int64_t ow) {
  return d->cout / G * w * V + planes_bytes(d, w, ow);
}
int64_t mrt_qwide_step(const mrt_qconv *d) { return d->stride_h == 1 ? 2 : 1; }

static uint8_t *planes_of(const mrt_qwide *q) { return q->space + q->wide / G * q->w * V; }
static const uint8_t *table_of(const mrt_qwide *q, int64_t group) {
  return (const uint8_t *)q->tables + group * group_bytes(q->k);
}

/* Image rows `row` and row + 1 of a group: to the planes with the pair before, or only as the pair
 * before the next. */
static void expand(const mrt_qwide *q, int64_t group, int64_t row, bool stores) {
  const mrt_qconv *d = q->depth;
  mrt_qwide_expand e = {.pixels = q->w,
                        .k = q->k,
                        .table = table_of(q, group),
                        .pairs = q->space + group * q->w * V,
                        .shifted = q->shifted[0],
                        .zero = q->zero[0],
                        .lo = q->lo[0],
                        .hi = q->hi[0]};
  for (int i = 0; i < 2; ++i) {
    const bool inside = row + i >= 0 && row + i < q->h;
    e.row[i] = inside ? q->x + (row + i) * q->w * q->k : e.pairs; /* k <= V: it is long enough */
    e.keep |= (uint8_t)(inside << i);
  }
  if (stores) {
    const int64_t phase = d->stride_w == 1 ? V : phase_bytes(d, q->w, q->ow), left = d->pad_left;
    for (int i = 0; i < 2; ++i)
      e.planes[i] = planes_of(q) + (d->stride_w == 1 ? (left + i) * V
                                                     : (left + i) % 2 * phase + (left + i) / 2 * V);
    e.step = d->stride_w == 1 ? 2 * V : V;
  }
#ifdef MRT_HAVE_AVX512VNNI
  mrt_qwide_expand_avx512vnni(&e);
#endif
}

void mrt_qwide_begin(const mrt_qwide *q, int64_t y) {
  const mrt_qconv *d = q->depth;
  memset(planes_of(q), q->zero[0], (size_t)planes_bytes(d, q->w, q->ow));
  for (int64_t g = 0; g < q->wide / G; ++g) expand(q, g, y * d->stride_h - d->pad_top, false);
}

void mrt_qwide_run(const mrt_qwide *q, int64_t y, int64_t rows, uint8_t *out) {
  const mrt_qconv *d = q->depth;
  const int64_t top = y * d->stride_h - d->pad_top, s = d->stride_w;
  mrt_qwide_dots r = {.pixels = q->ow,
                      .step = q->wide,
                      .shifted = q->shifted[1],
                      .zero = q->zero[1],
                      .lo = q->lo[1],
                      .hi = q->hi[1]};
  for (int i = 0; i < TAPS; ++i)
    r.tap[i] = planes_of(q) + i % s * phase_bytes(d, q->w, q->ow) + i / s * V;
  for (int64_t g = 0; g < q->wide / G; ++g) {
    expand(q, g, top + 2, true);
    r.table = table_of(q, g) + expand_bytes(q->k);
    r.y[0] = out + g * G;
    r.y[1] = rows > 1 ? r.y[0] + q->ow * q->wide : NULL;
#ifdef MRT_HAVE_AVX512VNNI
    mrt_qwide_dots_avx512vnni(&r);
#endif
  }
}
