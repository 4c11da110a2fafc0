/* The tile loop of conv_split.h, on the macros of amx/tile.h: included by the kernels for real
 * tiles and by their model, after INLINE, FETCH(address), finish_rows(out, row, end) and
 * split_pair(raw, f16, split, pair). Tiles 0-3 hold the 32 x 32 block, 4-5 pixels, 6-7 columns of
 * weights. */

/* Products of one part of A with one part of B. Loads stand as late as possible: each hides behind
 * the products before it. */
#define A_PART(p, half) (a + (p)*part + (half)*512)
#define B_PART(p, half) (b + (p)*1024 + (half)*512)
#define A_LOAD(tile, from)          \
  do {                              \
    if (once)                       \
      MRT_AMX_ONCE(tile, from, 64); \
    else                            \
      MRT_AMX_LOAD(tile, from, 64); \
  } while (0)
#define PRODUCTS(load_a, pa, load_b, pb)              \
  do {                                                \
    if (load_a) A_LOAD(4, A_PART(pa, 0));             \
    if (load_b) MRT_AMX_LOAD(6, B_PART(pb, 0), 64);   \
    MRT_AMX_BF16(0, 4, 6);                            \
    if (two_cols) {                                   \
      if (load_b) MRT_AMX_LOAD(7, B_PART(pb, 1), 64); \
      MRT_AMX_BF16(1, 4, 7);                          \
    }                                                 \
    if (two_rows) {                                   \
      if (load_a) A_LOAD(5, A_PART(pa, 1));           \
      MRT_AMX_BF16(2, 5, 6);                          \
      if (two_cols) MRT_AMX_BF16(3, 5, 7);            \
    }                                                 \
  } while (0)

/* What is done beside each product of parts: some rows of the block before, some weights of a slice
 * to come. */
typedef struct beside {
  mrt_split_out *out;
  int row, step, lines;
  const char *ahead;
  int64_t line, turns;
  const void *raw;
  bool f16;
  uint16_t *split;
  int64_t pair, pair_end, pair_step;
} beside;

INLINE beside beside_of(const mrt_split_block *t, int products, mrt_split_out *before) {
  const int64_t steps = t->groups * products;
  /* Several rows at a time have less to prepare; products of one part have no time for them. */
  const int step = (int)((MRT_STRIP + steps - 1) / steps), least = products > 1 ? 4 : 1;
  return (beside){.out = before,
                  .row = before ? 0 : MRT_STRIP,
                  .step = step < least ? least : step,
                  .lines = t->ahead_lines,
                  .ahead = t->ahead,
                  .line = t->ahead_line,
                  .turns = t->ahead_turns,
                  .raw = t->raw,
                  .f16 = t->raw_f16,
                  .split = t->split,
                  .pair = t->pair,
                  .pair_end = t->pair_end,
                  .pair_step = (t->pair_end - t->pair + steps - 1) / steps};
}

static void split_pairs(const void *raw, bool f16, uint16_t *dst, int64_t pair, int64_t pair_end) {
  if (f16)
    for (; pair < pair_end; ++pair) split_pair(raw, true, dst, pair);
  else
    for (; pair < pair_end; ++pair) split_pair(raw, false, dst, pair);
}

/* Not inlined: the loop of tiles has few registers, this has none across it. */
__attribute__((noinline)) static void work_beside(beside *w) {
  const int64_t line = w->line, end_line = line + w->lines;
  for (int64_t l = line; l < end_line; ++l) FETCH(mrt_split_fetch_at(w->ahead, l, w->turns));
  w->line = end_line;
  if (w->pair < w->pair_end) {
    const int64_t end = w->pair + w->pair_step < w->pair_end ? w->pair + w->pair_step : w->pair_end;
    split_pairs(w->raw, w->f16, w->split, w->pair, end);
    w->pair = end;
  }
  if (w->row >= MRT_STRIP) return;
  const int end = w->row + w->step < MRT_STRIP ? w->row + w->step : MRT_STRIP;
  finish_rows(w->out, w->row, end);
  w->row = end;
}

INLINE void block(const mrt_split_block *t, const int parts, const int b_parts, const bool two_rows,
                  const bool two_cols, const bool once, mrt_split_out *before) {
  beside w = beside_of(t, mrt_split_products(parts, b_parts), before);
  float *acc = t->acc;
  if (t->load) {
    MRT_AMX_LOAD(0, acc, 128);
    if (two_cols) MRT_AMX_LOAD(1, acc + 16, 128);
    if (two_rows) MRT_AMX_LOAD(2, acc + 512, 128);
    if (two_rows && two_cols) MRT_AMX_LOAD(3, acc + 528, 128);
  } else {
    MRT_AMX_ZERO(0);
    MRT_AMX_ZERO(1);
    MRT_AMX_ZERO(2);
    MRT_AMX_ZERO(3);
  }
  const uint16_t *b = t->b;
  const int64_t part = t->part, near_end = t->groups > 2 ? t->groups - 2 : 0;
  for (int64_t g = 0; g < t->groups; ++g, b += b_parts * 1024) {
    const uint16_t *a = t->a + t->offsets[g];
    if (g == near_end) /* stores of tiles to lines that L1 has lost would take long */
      for (int i = 0; i < MRT_STRIP * MRT_STRIP; i += 16) __builtin_prefetch(acc + i, 1);
    if (parts == 1) {
      PRODUCTS(true, 0, true, 0);
    } else if (parts == 2) {
      if (b_parts > 1) {
        PRODUCTS(true, 0, true, 1);
        work_beside(&w);
      }
      PRODUCTS(b_parts == 1, 0, true, 0);
      work_beside(&w);
      PRODUCTS(true, 1, false, 0);
    } else {
      if (b_parts > 2) {
        PRODUCTS(true, 0, true, 2);
        work_beside(&w);
      }
      if (b_parts > 1) {
        PRODUCTS(b_parts == 2, 0, true, 1);
        work_beside(&w);
        PRODUCTS(true, 1, false, 1);
        work_beside(&w);
      }
      PRODUCTS(b_parts == 1, 1, true, 0);
      work_beside(&w);
      PRODUCTS(true, 2, false, 0);
      work_beside(&w);
      PRODUCTS(true, 0, false, 0);
    }
    work_beside(&w);
  }
  MRT_AMX_STORE(0, acc, 128);
  if (two_cols) MRT_AMX_STORE(1, acc + 16, 128);
  if (two_rows) MRT_AMX_STORE(2, acc + 512, 128);
  if (two_rows && two_cols) MRT_AMX_STORE(3, acc + 528, 128);
}

#define CASE(parts, b_parts, rows, cols)                           \
  case parts * 16 + b_parts * 4 + rows * 2 + cols:                 \
    block(t, parts, b_parts, rows != 0, cols != 0, false, before); \
    break
#define CASES(parts, b_parts)                              \
  CASE(parts, b_parts, 0, 0);                              \
  CASE(parts, b_parts, 0, 1);                              \
  CASE(parts, b_parts, 1, 0);                              \
  case parts * 16 + b_parts * 4 + 3:                       \
    if (t->once)                                           \
      block(t, parts, b_parts, true, true, true, before);  \
    else                                                   \
      block(t, parts, b_parts, true, true, false, before); \
    break
static void multiply(const mrt_split_block *t, int parts, mrt_split_out *before) {
  const int b_parts = t->b_parts ? t->b_parts : parts;
  switch (parts * 16 + b_parts * 4 + (t->rows > 16) * 2 + (t->cols > 16)) {
    CASES(1, 1);
    CASES(2, 1);
    CASES(2, 2);
    CASES(3, 1);
    CASES(3, 2);
    CASES(3, 3);
  }
}

static void finish(mrt_split_out *o) { finish_rows(o, 0, MRT_STRIP); }

/* Of tables: what tiles take (Sapphire Rapids). The model has the same, to choose the same ways. */
#define TILE_COSTS                                                                          \
  .product_ns = {{0}, {0, 24}, {0, 44, 64}, {0, 64, 107, 129}}, .pixel_ns = {0, 5, 7, 9.5}, \
  .block_ns = 150
