/* Up to 32 rows x 32 columns on eight tiles: 0 1 / 2 3 are the sums, 4 5 hold A (rows 0-15 and
 * 16-31), 6 7 hold B. Loads beyond the last row of A make sums that nobody stores; beyond the last
 * k A is zero. FINISH(t, rows, sums): what becomes of sums [rows][32]. */
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"

static void begin(void) { MRT_AMX_BEGIN(); }
static void end(void) { MRT_AMX_END(); }

static inline __attribute__((always_inline)) void tile(const mrt_qtile *t, const int rows,
                                                       const int high, const int nv) {
  int32_t sums[32][32] __attribute__((aligned(64)));
  const int8_t *b = t->b;
  MRT_AMX_ZERO(0);
  MRT_AMX_ZERO(1);
  MRT_AMX_ZERO(2);
  MRT_AMX_ZERO(3);
  for (int64_t kb = 0; kb < t->n_blocks; ++kb, b += 16 * 128) {
    MRT_AMX_LOAD(4, t->a + t->blocks[kb].off, t->a_row);
    MRT_AMX_LOAD(6, b, 128);
    MRT_AMX_U8S8(0, 4, 6);
    if (nv > 1) {
      MRT_AMX_LOAD(7, b + 64, 128);
      MRT_AMX_U8S8(1, 4, 7);
    }
    if (!high) continue;
    MRT_AMX_LOAD(5, t->a_hi + t->blocks[kb].off, t->a_row);
    MRT_AMX_U8S8(2, 5, 6);
    if (nv > 1) MRT_AMX_U8S8(3, 5, 7);
  }
  MRT_AMX_STORE(0, sums[0], 128);
  if (nv > 1) MRT_AMX_STORE(1, sums[0] + 16, 128);
  if (high) {
    MRT_AMX_STORE(2, sums[16], 128);
    if (nv > 1) MRT_AMX_STORE(3, sums[16] + 16, 128);
  }
  FINISH(t, rows, sums[0]);
}

#define TILES(n)                                                      \
  static void wide_##n(const mrt_qtile *t) { tile(t, n, n > 16, 2); } \
  static void narrow_##n(const mrt_qtile *t) { tile(t, n, n > 16, 1); }
/* The formatter cannot agree with itself on lists of macros. */
/* clang-format off */
#define EACH(F)                                                                    \
  F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15) \
  F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28)    \
  F(29) F(30) F(31) F(32)
/* clang-format on */
EACH(TILES)
#define WIDE(n)   [n] = wide_##n,
#define NARROW(n) [n] = narrow_##n,
