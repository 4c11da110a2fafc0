/* The tile loops of gemm_split.h, on the macros of amx/tile.h: included by the kernels for real
 * tiles and by their model, which define what is done between products (SPLIT_STEP: some of the
 * next slice of B) and before sums are stored (SPLIT_OWN: a store to a line that L1 lost would
 * stall). Tiles 0-3 hold the 32 x 32 block, 4-5 rows of A, 6-7 columns of B. */
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/gemm/gemm_split_rows.inl"

#define BETWEEN(parts)                                                                    \
  do {                                                                                    \
    SPLIT_STEP(next, parts);                                                              \
    if (next.late && next.late->row < next.late->rows) late(next.late, next.late->burst); \
  } while (0)

/* Products of one part of A with one part of B. Loads stand as late as possible: each hides behind
 * the products before it, and so do the sums of before (`opens`: the first products of a block) and
 * the stores (`closes`: the last). NEXT_AB loads both, NEXT_A and NEXT_B keep the other. Rows of
 * one part are read once for many groups of B that stay in L1: they must not push them out. */
#define A_PART(p, half) (a + (p)*1024 + (half)*512)
#define B_PART(p, half) (b + (p)*1024 + (half)*512)
#define LOAD_A(t, p)          \
  do {                        \
    if (parts == 1)           \
      MRT_AMX_ONCE(t, p, 64); \
    else                      \
      MRT_AMX_LOAD(t, p, 64); \
  } while (0)
#define SUMS(t) (acc + (t) / 2 * 512 + (t) % 2 * 16)
#define TILE(t, x, y, opens, closes)            \
  do {                                          \
    if (opens) {                                \
      if (load)                                 \
        MRT_AMX_LOAD(t, SUMS(t), 128);          \
      else                                      \
        MRT_AMX_ZERO(t);                        \
    }                                           \
    MRT_AMX_BF16(t, x, y);                      \
    if (closes) MRT_AMX_STORE(t, SUMS(t), 128); \
  } while (0)
#define PRODUCTS(load_a, pa, load_b, pb, opens, closes) \
  do {                                                  \
    if (load_a) LOAD_A(4, A_PART(pa, 0));               \
    if (load_b) MRT_AMX_LOAD(6, B_PART(pb, 0), 64);     \
    TILE(0, 4, 6, opens, closes);                       \
    if (two_cols) {                                     \
      if (load_b) MRT_AMX_LOAD(7, B_PART(pb, 1), 64);   \
      TILE(1, 4, 7, opens, closes);                     \
    }                                                   \
    if (two_rows) {                                     \
      if (load_a) LOAD_A(5, A_PART(pa, 1));             \
      TILE(2, 5, 6, opens, closes);                     \
      if (two_cols) TILE(3, 5, 7, opens, closes);       \
    }                                                   \
  } while (0)
#define NEXT_AB(pa, pb, opens, closes) PRODUCTS(true, pa, true, pb, opens, closes)
#define NEXT_A(pa, closes)             PRODUCTS(true, pa, false, 0, false, closes)
#define NEXT_B(pb)                     PRODUCTS(false, 0, true, pb, false, false)

INLINE void block(const uint16_t *a, const uint16_t *b, int64_t groups, const int parts,
                  const bool two_rows, const bool two_cols, bool load, float *acc,
                  mrt_split_ahead *ahead) {
  mrt_split_ahead next = *ahead;
  const int64_t own = groups > 2 ? groups - 2 : 0;
  for (int64_t g = 0; g < groups; ++g, a += parts * 1024, b += parts * 1024) {
    const bool first = g == 0, last = g + 1 == groups;
    if (parts > 1 && g == own) {
      SPLIT_OWN(acc, two_rows);
    }
    if (parts == 1) {
      NEXT_AB(0, 0, first, last);
      BETWEEN(parts);
    } else if (parts == 2) {
      NEXT_AB(0, 1, first, false);
      BETWEEN(parts);
      NEXT_B(0);
      BETWEEN(parts);
      NEXT_A(1, last);
      BETWEEN(parts);
    } else {
      NEXT_AB(0, 2, first, false);
      BETWEEN(parts);
      NEXT_B(1);
      BETWEEN(parts);
      NEXT_A(1, false);
      BETWEEN(parts);
      NEXT_B(0);
      BETWEEN(parts);
      NEXT_A(2, false);
      BETWEEN(parts);
      NEXT_A(0, last);
      BETWEEN(parts);
    }
  }
  ahead->at = next.at;
}

#define CASE(parts, rows, cols)                                         \
  case parts * 4 + rows * 2 + cols:                                     \
    block(a, b, groups, parts, rows != 0, cols != 0, load, acc, ahead); \
    break
static void multiply_ahead(const uint16_t *a, const uint16_t *b, int64_t groups, int parts,
                           int rows, int cols, bool load, float *acc, mrt_split_ahead *ahead) {
  switch (parts * 4 + (rows > 16) * 2 + (cols > 16)) {
    CASE(1, 0, 0);
    CASE(1, 0, 1);
    CASE(1, 1, 0);
    CASE(1, 1, 1);
    CASE(2, 0, 0);
    CASE(2, 0, 1);
    CASE(2, 1, 0);
    CASE(2, 1, 1);
    CASE(3, 0, 0);
    CASE(3, 0, 1);
    CASE(3, 1, 0);
    CASE(3, 1, 1);
  }
}

static void multiply(const uint16_t *a, const uint16_t *b, int64_t groups, int parts, int rows,
                     int cols, bool load, float *acc) {
  mrt_split_ahead none = {.burst = 0};
  multiply_ahead(a, b, groups, parts, rows, cols, load, acc, &none);
}

static void begin(void) { MRT_AMX_BEGIN(); }
static void end(void) { MRT_AMX_END(); }
