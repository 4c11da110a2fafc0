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

typedef struct loops {
  void (*fill)(const mrt_qplanes_fill *f);
  void (*dots)(const mrt_qplanes_dots *d);
} loops;
/* Only where mrt_qplanes_machine() says so. */
static loops loops_get(void) {
#ifdef MRT_HAVE_AVX512VNNI
  if (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI)
    return (loops){mrt_qplanes_fill_avx512vnni, mrt_qplanes_dots_avx512vnni};
#endif
#ifdef MRT_HAVE_AVX2
  return (loops){mrt_qplanes_fill_avx2, mrt_qplanes_dots_avx2};
#else
  return (loops){0};
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

/* Pixels of one phase of the stride that a piece reads, of any row. */
typedef struct phase {
  mrt_qplanes_fill fill; /* but for its rows */
  uint8_t *to;           /* where the first pixel is, outside of the image too, */
  int64_t lo, hi, n;     /* and which ones are inside */
  int64_t off;           /* bytes from the start of an image row */
} phase;

/* Output pixels [x0, x1) of all rows: what is the same for them. */
typedef struct piece {
  const mrt_qconv *p;
  const mrt_qplanes_image *x;
  loops run;
  cut k;
  const uint8_t *pad; /* a block of it */
  int n_phases;
  phase phases[2];
  const uint8_t *tap[MAX_TAPS];
  const mrt_qdepth_rows *r;
  mrt_qplanes_dots dots; /* but for y and tables */
  int64_t x0, x1;
} piece;

/* Blocks of whole pixels end where the image does: what is around it is filled once. */
static bool keeps_padding(const piece *e) { return e->k.c % BLOCK == 0; }

static void fill_padding(const piece *e, const phase *f) {
  const uint8_t pad = (uint8_t)e->x->zero ^ f->fill.flip;
  const int64_t c = e->k.c;
  for (int v = 0; v < MRT_QPLANES_ROWS; ++v) {
    uint8_t *to = f->to + v * e->k.plane;
    memset(to, pad, (size_t)(f->lo * c));
    memset(to + f->hi * c, pad, (size_t)((f->n - f->hi) * c));
  }
}

static void make_phase(piece *e, uint8_t *planes, int64_t which) {
  const mrt_qconv *p = e->p;
  const mrt_qplanes_image *x = e->x;
  phase *f = &e->phases[which];
  const int64_t c = e->k.c, s = p->stride_w, first = e->x0 * s + which - p->pad_left;
  f->n = e->x1 - e->x0 + (p->kw - 1 - which) / s;
  f->lo = min_i64(f->n, first < 0 ? (-first + s - 1) / s : 0);
  f->hi = max_i64(f->lo, min_i64(f->n, (x->w - first + s - 1) / s));
  f->off = (first + f->lo * s) * x->pitch;
  /* the image begins at a block */
  f->to = planes + which * MRT_QPLANES_ROWS * e->k.plane + round64(f->lo * c) - f->lo * c;
  f->fill = (mrt_qplanes_fill){.runs = f->hi - f->lo,
                               .bytes = c,
                               .step = s * x->pitch,
                               .flip = x->is_signed ? 0x80 : 0,
                               .to = f->to + f->lo * c,
                               .plane = e->k.plane};
  if (f->fill.step == c) f->fill.bytes *= f->fill.runs, f->fill.runs = 1;
  if (keeps_padding(e)) fill_padding(e, f);
}

static void make_piece(piece *e, int64_t ow, int64_t x0, uint8_t *planes) {
  const mrt_qconv *p = e->p;
  const mrt_qdepth_rows *r = e->r;
  const int64_t c = e->k.c, s = p->stride_w;
  const bool sliced = e->k.slices > 1;
  e->x0 = x0, e->x1 = min_i64(ow, x0 + e->k.pixels);
  e->n_phases = (int)min_i64(s, p->kw);
  for (int i = 0; i < e->n_phases; ++i) make_phase(e, planes, i);
  for (int64_t q = 0; q < p->kw; ++q) e->tap[q] = e->phases[q % s].to + q / s * c;
  e->dots = (mrt_qplanes_dots){.tap = e->tap,
                               .taps = p->kw,
                               .plane = e->k.plane,
                               .first = sliced ? 0 : x0 * c / BLOCK % r->period,
                               .period = sliced ? 1 : r->period,
                               .bytes = (e->x1 - x0) * c,
                               .step = sliced ? p->cout : BLOCK,
                               .zero = r->zero,
                               .lo = r->lo,
                               .hi = r->hi,
                               .is_signed = r->is_signed,
                               .shifted = r->shifted};
}

/* lines: of the image; NULL: outside. */
static void fill_rows(piece *e, phase *f, const uint8_t *const lines[], int64_t slice) {
  const int64_t off = f->off + (e->x->slice < 0 ? slice * BLOCK : 0);
  if (f->hi == f->lo) return;
  f->fill.safe = INT64_MAX;
  for (int i = 0; i < MRT_QPLANES_ROWS; ++i) {
    f->fill.row[i] = lines[i] ? lines[i] + off : e->pad;
    f->fill.mask[i] = lines[i] ? -1 : 0;
    if (lines[i]) f->fill.safe = min_i64(f->fill.safe, e->x->end - f->fill.row[i] - BLOCK);
  }
  e->run.fill(&f->fill);
}

/* y: of all pixels and channels. */
static void run_rows(piece *e, const uint8_t *const lines[], int64_t s0, int64_t s1,
                     uint8_t *const y[2]) {
  const mrt_qconv *p = e->p;
  for (int64_t slice = s0; slice < s1; ++slice) {
    for (int i = 0; i < e->n_phases; ++i) {
      fill_rows(e, &e->phases[i], lines, slice);
      if (!keeps_padding(e)) fill_padding(e, &e->phases[i]);
    }
    mrt_qplanes_dots *d = &e->dots; /* a copy read at once would wait for its stores */
    const int64_t at = e->x0 * p->cout + slice * BLOCK;
    d->w = e->r->w + slice * p->kw * 256;
    d->col = e->r->col + slice * BLOCK;
    d->scale = e->r->scale + slice * BLOCK;
    d->y[0] = y[0] + at;
    d->y[1] = y[1] ? y[1] + at : NULL;
    e->run.dots(d);
  }
}

static const uint8_t *line_at(const mrt_qplanes_image *x, int64_t row) {
  if (row < 0 || row >= x->h) return NULL;
  return x->x + (x->ring ? row % x->ring : row - x->first) * x->w * x->pitch;
}

void mrt_qplanes_run(const mrt_qconv *p, const mrt_qplanes_image *x, const mrt_qdepth_rows *r,
                     int64_t ow, int64_t y0, int64_t y1, int64_t s0, int64_t s1, uint8_t *y,
                     uint8_t *space) {
  piece e = {.p = p, .x = x, .r = r, .run = loops_get(), .k = make_cut(p, ow)};
  uint8_t *pad = space + p->stride_w * MRT_QPLANES_ROWS * e.k.plane;
  memset(pad, (uint8_t)x->zero, BLOCK);
  e.pad = pad;
  const int64_t out_line = ow * p->cout;
  for (int64_t x0 = 0; x0 < ow; x0 = e.x1) {
    make_piece(&e, ow, x0, space);
    uint8_t *to[2] = {y, NULL};
    for (int64_t row = y0, rows; row < y1; row += rows, to[0] += rows * out_line) {
      rows = p->stride_h == 1 && row + 1 < y1 ? 2 : 1;
      const int64_t top = row * p->stride_h - p->pad_top;
      const uint8_t *lines[MRT_QPLANES_ROWS];
      for (int i = 0; i < MRT_QPLANES_ROWS; ++i) /* rows of no weight: any */
        lines[i] = i < p->kh + rows - 1 ? line_at(x, top + i) : NULL;
      to[1] = rows > 1 ? to[0] + out_line : NULL;
      run_rows(&e, lines, s0, s1, to);
    }
  }
}
