/* Up to 32 rows x 32 columns on eight tiles: 0 1 / 2 3 are the sums, 4 5 hold A (rows 0-15 and
 * 16-31), 6 7 hold B. Sixteen rows and 64 k are loaded whatever there is: rows that nobody stores,
 * and k where B is zero. FINISH(t, sums): what becomes of sums [rows][32]. */
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"

static void begin(void) { MRT_AMX_BEGIN(); }
static void end(void) { MRT_AMX_END(); }

#define STEP(MULTIPLY, LOAD_B)                              \
  MRT_AMX_LOAD(4, t->a + t->blocks[kb].off, t->a_row);      \
  LOAD_B(6, b, 128);                                        \
  MULTIPLY(0, 4, 6);                                        \
  if (nv > 1) {                                             \
    LOAD_B(7, b + 64, 128);                                 \
    MULTIPLY(1, 4, 7);                                      \
  }                                                         \
  if (high) {                                               \
    MRT_AMX_LOAD(5, t->a_hi + t->blocks[kb].off, t->a_row); \
    MULTIPLY(2, 5, 6);                                      \
    if (nv > 1) MULTIPLY(3, 5, 7);                          \
  }

static inline __attribute__((always_inline)) void tile(const mrt_qtile *t, const int high,
                                                       const int nv) {
  int32_t sums[32][32] __attribute__((aligned(64)));
  const int8_t *b = t->b;
  MRT_AMX_LOAD(0, t->col, 0); /* the same row sixteen times */
  if (nv > 1) MRT_AMX_LOAD(1, t->col + 16, 0);
  if (high) MRT_AMX_LOAD(2, t->col, 0);
  if (high && nv > 1) MRT_AMX_LOAD(3, t->col + 16, 0);
  /* Where A and B do not fit L1 together, B is loaded so that A may stay for the next panel. */
  const bool once = t->n_blocks >= 12;
  if (t->a_signed && once) {
    for (int64_t kb = 0; kb < t->n_blocks; ++kb, b += 16 * 128) {
      STEP(MRT_AMX_S8S8, MRT_AMX_ONCE)
    }
  } else if (t->a_signed) {
    for (int64_t kb = 0; kb < t->n_blocks; ++kb, b += 16 * 128) {
      STEP(MRT_AMX_S8S8, MRT_AMX_LOAD)
    }
  } else if (once) {
    for (int64_t kb = 0; kb < t->n_blocks; ++kb, b += 16 * 128) {
      STEP(MRT_AMX_U8S8, MRT_AMX_ONCE)
    }
  } else {
    for (int64_t kb = 0; kb < t->n_blocks; ++kb, b += 16 * 128) {
      STEP(MRT_AMX_U8S8, MRT_AMX_LOAD)
    }
  }
  MRT_AMX_STORE(0, sums[0], 128);
  if (nv > 1) MRT_AMX_STORE(1, sums[0] + 16, 128);
  if (high) {
    MRT_AMX_STORE(2, sums[16], 128);
    if (nv > 1) MRT_AMX_STORE(3, sums[16] + 16, 128);
  }
  FINISH(t, sums[0]);
}

static void wide_low(const mrt_qtile *t) { tile(t, 0, 2); }
static void wide_both(const mrt_qtile *t) { tile(t, 1, 2); }
static void narrow_low(const mrt_qtile *t) { tile(t, 0, 1); }
static void narrow_both(const mrt_qtile *t) { tile(t, 1, 1); }
#define WIDE \
  { 0, [1 ... 16] = wide_low, [17 ... 32] = wide_both }
#define NARROW \
  { 0, [1 ... 16] = narrow_low, [17 ... 32] = narrow_both }
