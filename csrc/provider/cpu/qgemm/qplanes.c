/* See qplanes.h. */
#include "provider/cpu/qgemm/qplanes.h"

#include <string.h>

#include "base/cpu.h"

enum { BLOCK = 64, MAX_TAPS = MRT_QPLANES_TAPS, SPACE = 20 << 10, SLACK = 2 * BLOCK };

static inline int64_t round64(int64_t n) { return (n + 63) / 64 * 64; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

bool mrt_qplanes_fits(const mrt_qconv *p) {
  return p->cout % 16 == 0 && p->kh <= 3 && p->kw <= MAX_TAPS && p->dil_h == 1 && p->dil_w == 1 &&
         p->stride_h == p->stride_w && p->stride_w <= 2;
}

bool mrt_qplanes_machine(void) { return (mrt_cpu_get()->isa & MRT_ISA_AVX2) != 0; }

/* Only where mrt_qplanes_machine() says so. */
static void run_fill(const mrt_qplanes_fill *f) {
#ifdef MRT_HAVE_AVX512VNNI
  if (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI) {
    mrt_qplanes_fill_avx512vnni(f);
    return;
  }
#endif
#ifdef MRT_HAVE_AVX2
  mrt_qplanes_fill_avx2(f);
#else
  (void)f;
#endif
}
static void run_dots(const mrt_qplanes_dots *d) {
#ifdef MRT_HAVE_AVX512VNNI
  if (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI) {
    mrt_qplanes_dots_avx512vnni(d);
    return;
  }
#endif
#ifdef MRT_HAVE_AVX2
  mrt_qplanes_dots_avx2(d);
#else
  (void)d;
#endif
}

/* How a row is cut: slices of 64 channels or none, pieces of output pixels. */
typedef struct cut {
  int64_t slices, c; /* channels of a slice */
  int64_t pixels;    /* of output in a piece, whole blocks of 64 bytes */
  int64_t plane;     /* bytes */
} cut;

static cut make_cut(const mrt_qconv *p, int64_t ow) {
  cut k = {.slices = 1, .c = p->cout};
  if (p->cout % BLOCK == 0) k.slices = p->cout / BLOCK, k.c = BLOCK;
  const int64_t most = SPACE / (MRT_QPLANES_ROWS * p->stride_w * k.c);
  k.pixels = min_i64((ow + 3) / 4 * 4, max_i64(8, most / 4 * 4));
  k.plane = round64((k.pixels + p->kw) * k.c) + SLACK;
  return k;
}

/* Planes of each phase of the stride, a block of padding. */
size_t mrt_qplanes_worker_bytes(const mrt_qconv *p, int64_t ow) {
  const cut k = make_cut(p, ow);
  return (size_t)(p->stride_w * MRT_QPLANES_ROWS * k.plane + BLOCK);
}

int64_t mrt_qplanes_slices(const mrt_qconv *p) {
  return p->cout % BLOCK == 0 ? p->cout / BLOCK : 1;
}

typedef struct piece {
  const mrt_qconv *p;
  const mrt_qplanes_image *x;
  const mrt_qdepth_rows *r;
  cut k;
  uint8_t *planes;
  const uint8_t *pad;                    /* a block of it */
  const uint8_t *line[MRT_QPLANES_ROWS]; /* of the image; NULL: outside */
  int64_t slice, x0, x1;
} piece;

/* Pixels of the image in phase `phase` of the stride that output pixels x0 to x1 read. Returns
 * where the first one is. */
static uint8_t *fill_phase(const piece *e, int64_t phase) {
  const mrt_qconv *p = e->p;
  const mrt_qplanes_image *x = e->x;
  const int64_t c = e->k.c, s = p->stride_w, plane = e->k.plane,
                n = e->x1 - e->x0 + (p->kw - 1 - phase) / s,
                first = e->x0 * s + phase - p->pad_left;
  const int64_t lo = min_i64(n, first < 0 ? (-first + s - 1) / s : 0),
                hi = max_i64(lo, min_i64(n, (x->w - first + s - 1) / s));
  /* the image begins at a block */
  uint8_t *to = e->planes + phase * MRT_QPLANES_ROWS * plane + round64(lo * c) - lo * c;
  mrt_qplanes_fill f = {.runs = hi - lo,
                        .bytes = c,
                        .step = s * x->pitch,
                        .flip = x->is_signed ? 0x80 : 0,
                        .to = to + lo * c,
                        .plane = plane,
                        .safe = INT64_MAX};
  const int64_t off = (first + lo * s) * x->pitch + (x->slice < 0 ? e->slice * BLOCK : 0);
  for (int i = 0; i < MRT_QPLANES_ROWS; ++i) {
    f.row[i] = e->line[i] ? e->line[i] + off : e->pad;
    f.mask[i] = e->line[i] ? -1 : 0;
    if (e->line[i]) f.safe = min_i64(f.safe, x->end - f.row[i] - BLOCK);
  }
  if (f.step == f.bytes) f.bytes *= f.runs, f.runs = 1;
  if (hi > lo) run_fill(&f);
  const uint8_t pad = (uint8_t)x->zero ^ f.flip;
  for (int v = 0; v < MRT_QPLANES_ROWS; ++v) {
    memset(to + v * plane, pad, (size_t)(lo * c));
    memset(to + v * plane + hi * c, pad, (size_t)((n - hi) * c));
  }
  return to;
}

/* y: of all pixels and channels. */
static void run_piece(const piece *e, uint8_t *const y[2]) {
  const mrt_qconv *p = e->p;
  const int64_t c = e->k.c, s = p->stride_w;
  const uint8_t *from[2] = {NULL, NULL}, *tap[MAX_TAPS];
  for (int64_t phase = 0; phase < s && phase < p->kw; ++phase) from[phase] = fill_phase(e, phase);
  for (int64_t q = 0; q < p->kw; ++q) tap[q] = from[q % s] + q / s * c;
  const bool sliced = e->k.slices > 1;
  const int64_t at = e->x0 * p->cout + e->slice * BLOCK;
  mrt_qplanes_dots d = {.tap = tap,
                        .taps = p->kw,
                        .plane = e->k.plane,
                        .w = e->r->w,
                        .col = e->r->col,
                        .scale = e->r->scale,
                        .first = sliced ? 0 : e->x0 * c / BLOCK % e->r->period,
                        .period = sliced ? 1 : e->r->period,
                        .bytes = (e->x1 - e->x0) * c,
                        .step = sliced ? p->cout : BLOCK,
                        .y = {y[0] + at, y[1] ? y[1] + at : NULL},
                        .zero = e->r->zero,
                        .lo = e->r->lo,
                        .hi = e->r->hi,
                        .is_signed = e->r->is_signed,
                        .shifted = e->r->shifted};
  if (sliced) {
    d.w += e->slice * p->kw * 256;
    d.col += e->slice * BLOCK;
    d.scale += e->slice * BLOCK;
  }
  run_dots(&d);
}

static const uint8_t *line_at(const mrt_qplanes_image *x, int64_t row) {
  if (row < 0 || row >= x->h) return NULL;
  return x->x + (x->ring ? row % x->ring : row - x->first) * x->w * x->pitch;
}

void mrt_qplanes_run(const mrt_qconv *p, const mrt_qplanes_image *x, const mrt_qdepth_rows *r,
                     int64_t ow, int64_t y0, int64_t y1, int64_t s0, int64_t s1, uint8_t *y,
                     uint8_t *space) {
  piece e = {.p = p, .x = x, .r = r, .k = make_cut(p, ow), .planes = space};
  uint8_t *pad = space + p->stride_w * MRT_QPLANES_ROWS * e.k.plane;
  memset(pad, (uint8_t)x->zero, BLOCK);
  e.pad = pad;
  const int64_t out_line = ow * p->cout;
  for (int64_t row = y0, rows; row < y1; row += rows, y += rows * out_line) {
    rows = p->stride_h == 1 && row + 1 < y1 ? 2 : 1;
    const int64_t top = row * p->stride_h - p->pad_top;
    for (int64_t i = 0; i < MRT_QPLANES_ROWS; ++i) /* rows of no weight: any */
      e.line[i] = i < p->kh + rows - 1 ? line_at(x, top + i) : NULL;
    uint8_t *const to[2] = {y, rows > 1 ? y + out_line : NULL};
    for (e.slice = s0; e.slice < s1; ++e.slice)
      for (e.x0 = 0; e.x0 < ow; e.x0 = e.x1) {
        e.x1 = min_i64(ow, e.x0 + e.k.pixels);
        run_piece(&e, to);
      }
  }
}
