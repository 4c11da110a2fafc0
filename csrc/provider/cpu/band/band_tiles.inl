/* The loop of band_tiles.h, on the macros of amx/tile.h: included by the kernel for real tiles and
 * by its model, after INLINE, FETCH1(address) and FETCH2(address) (into L1, L2), `finisher` with
 * finisher_of(t), finish_row(t, finisher *, acc, acc16, pixel, two) and finisher_done(t, finisher
 * *), and split_pair(raw, split, pair). Tiles 0-3 hold a block, 4-5 pixels, 6-7 weights. */

/* The block that waits to be finished. */
typedef struct late {
  const float *acc;
  int64_t acc16, pixel;
  int row, rows, step;
} late;

/* What stands between two products of parts. */
INLINE void beside(mrt_band_tiles *t, late *l, finisher *f, const bool two, const uint16_t *next,
                   const int step) {
  const uint16_t *fetch = next + step / 2 * t->part + step % 2 * 512;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) FETCH1(fetch + i * 32);
  if (l->row < l->rows) {
    int end = l->row + l->step;
    if (end > l->rows) end = l->rows;
    for (; l->row < end; ++l->row)
      finish_row(t, f, l->acc + l->row * 16, l->acc16, l->pixel + l->row, two);
  }
  if (t->pair < t->pair_end) {
    int64_t end = t->pair + t->pair_step;
    if (end > t->pair_end) end = t->pair_end;
    for (; t->pair < end; ++t->pair) split_pair(t->raw, t->split, t->pair);
  }
  for (int64_t i = 0; i < t->ahead_lines; ++i, t->ahead += 64) FETCH2(t->ahead);
}

/* Products of one part of A with one part of B. */
#define A_PART(p, half) (a + (p)*t->part + (half)*512)
#define B_PART(p, half) (b + (p)*1024 + (half)*512)
#define PRODUCTS(load_a, pa, load_b, pb)              \
  do {                                                \
    if (load_a) MRT_AMX_LOAD(4, A_PART(pa, 0), 64);   \
    if (load_b) MRT_AMX_LOAD(6, B_PART(pb, 0), 64);   \
    MRT_AMX_BF16(0, 4, 6);                            \
    if (two_cols) {                                   \
      if (load_b) MRT_AMX_LOAD(7, B_PART(pb, 1), 64); \
      MRT_AMX_BF16(1, 4, 7);                          \
    }                                                 \
    if (two_rows) {                                   \
      if (load_a) MRT_AMX_LOAD(5, A_PART(pa, 1), 64); \
      MRT_AMX_BF16(2, 5, 6);                          \
      if (two_cols) MRT_AMX_BF16(3, 5, 7);            \
    }                                                 \
  } while (0)

/* next: the pixels after this block; acc16: floats from columns 0 .. 15 of acc to the others. */
INLINE void block(mrt_band_tiles *t, const uint16_t *pixels, const uint16_t *next, float *acc,
                  int64_t acc16, const bool two_rows, const bool two_cols, late *l, finisher *f) {
  const uint16_t *b = t->b;
  if (t->load) {
    MRT_AMX_LOAD(0, acc, 64);
    if (two_cols) MRT_AMX_LOAD(1, acc + acc16, 64);
    if (two_rows) MRT_AMX_LOAD(2, acc + 256, 64);
    if (two_rows && two_cols) MRT_AMX_LOAD(3, acc + acc16 + 256, 64);
  } else {
    MRT_AMX_ZERO(0);
    MRT_AMX_ZERO(1);
    MRT_AMX_ZERO(2);
    MRT_AMX_ZERO(3);
  }
  for (int64_t g = 0; g < t->groups; ++g, b += 3 * 1024) {
    const uint16_t *a = pixels + t->offsets[g];
    const uint16_t *fetch = g + 1 < t->groups ? pixels + t->offsets[g + 1] : next + t->offsets[0];
    PRODUCTS(true, 0, true, 2);
    beside(t, l, f, two_cols, fetch, 0);
    PRODUCTS(false, 0, true, 1);
    beside(t, l, f, two_cols, fetch, 1);
    PRODUCTS(true, 1, false, 1);
    beside(t, l, f, two_cols, fetch, 2);
    PRODUCTS(false, 1, true, 0);
    beside(t, l, f, two_cols, fetch, 3);
    PRODUCTS(true, 2, false, 0);
    beside(t, l, f, two_cols, fetch, 4);
    PRODUCTS(true, 0, false, 0);
    beside(t, l, f, two_cols, fetch, 5);
  }
  MRT_AMX_STORE(0, acc, 64);
  if (two_cols) MRT_AMX_STORE(1, acc + acc16, 64);
  if (two_rows) MRT_AMX_STORE(2, acc + 256, 64);
  if (two_rows && two_cols) MRT_AMX_STORE(3, acc + acc16 + 256, 64);
}

INLINE void all_blocks(mrt_band_tiles *t, const bool two_cols) {
  finisher f = finisher_of(t);
  const int steps = (int)t->groups * 6;
  late l = {.step = (MRT_BAND_TILE + steps - 1) / steps};
  for (int64_t i = 0; i * MRT_BAND_TILE < t->pixels; ++i) {
    const int64_t left = t->pixels - i * MRT_BAND_TILE;
    const uint16_t *a = t->a + i * MRT_BAND_TILE * 32;
    const bool in_place = t->sums && left >= MRT_BAND_TILE;
    float *acc = in_place ? t->sums + i * MRT_BAND_TILE * 16
                          : t->acc + (t->sums ? 0 : (i & 1) * MRT_BAND_SUMS);
    const int64_t acc16 = in_place ? t->col16 : MRT_BAND_SUMS / 2;
    const uint16_t *next = left > MRT_BAND_TILE ? a + MRT_BAND_TILE * 32 : a;
    if (left > MRT_BAND_TILE / 2)
      block(t, a, next, acc, acc16, true, two_cols, &l, &f);
    else
      block(t, a, next, acc, acc16, false, two_cols, &l, &f);
    for (; l.row < l.rows; ++l.row)
      finish_row(t, &f, l.acc + l.row * 16, l.acc16, l.pixel + l.row, two_cols);
    if (!t->out) continue;
    l.acc = acc;
    l.acc16 = acc16;
    l.pixel = i * MRT_BAND_TILE;
    l.row = 0;
    l.rows = left < MRT_BAND_TILE ? (int)left : MRT_BAND_TILE;
  }
  for (; l.row < l.rows; ++l.row)
    finish_row(t, &f, l.acc + l.row * 16, l.acc16, l.pixel + l.row, two_cols);
  finisher_done(t, &f);
}
