/* The split product of one part by bf16 dot products (vdpbf16ps), for CPUs without tiles: twice the
 * rate of multiply-adds on Zen 4. Nothing runs beside the products, so what tiles do in their
 * shadow comes first: the end of the block before, the next slice of B. */
#include "provider/cpu/gemm/gemm_split_simd.inl"
#include "provider/cpu/simd/dot_tile.inl"

static void multiply_ahead(const uint16_t *a, const uint16_t *b, int64_t groups, int parts,
                           int rows, int cols, bool load, float *acc, mrt_split_ahead *ahead) {
  (void)parts;
  dot_block t = {.a = a, .b = b, .groups = groups, .acc = acc, .load = load};
  if (ahead->late) late(ahead->late, MRT_STRIP);
  if (ahead->panel) {
    for (int64_t g = 0; g < groups; ++g) split_step(ahead, 1);
  } else if (ahead->fetch && ahead->at < ahead->end) {
    const int tiles = dot_tiles(rows);
    t.fetch = ahead->fetch;
    t.line = ahead->at * ahead->lines + ahead->first;
    t.whole = ahead->whole;
    t.lines = (ahead->burst * ahead->lines + tiles - 1) / tiles;
    ahead->at += groups * ahead->burst;
    if (ahead->at > ahead->end) ahead->at = ahead->end;
  }
  dot_multiply(t, rows, cols);
}

static void multiply(const uint16_t *a, const uint16_t *b, int64_t groups, int parts, int rows,
                     int cols, bool load, float *acc) {
  mrt_split_ahead none = {.burst = 0};
  multiply_ahead(a, b, groups, parts, rows, cols, load, acc, &none);
}

static void begin(void) {}
static void end(void) {}

const mrt_split_kernels mrt_gemm_split_dot = {
    .name = "avx512bf16",
    .most_parts = 1,
    /* From cycles: a product every cycle at 92 %, half of what an FMA tile takes. */
    .costs = {.product = {0, 150, 450, 900},
              .split_b = {0, 30, 30, 30},
              .split_a = {0, 25, 25, 25},
              .block = 110,
              .rows = 1},
    .split_a = split_a,
    .split_b = split_b,
    .multiply = multiply,
    .multiply_ahead = multiply_ahead,
    .suspicious = suspicious,
    .finish = finish,
    .late = late,
    .begin = begin,
    .end = end,
};
