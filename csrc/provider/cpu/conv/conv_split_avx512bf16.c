/* Split convolution of one part by bf16 dot products (vdpbf16ps), for CPUs without tiles. The block
 * before is finished first: nothing runs beside these products. */
#include "provider/cpu/conv/conv_split_simd.inl"
#include "provider/cpu/simd/dot_tile.inl"

static void multiply(const mrt_split_block *t, int parts, mrt_split_out *before) {
  (void)parts;
  if (before) finish_rows(before, 0, MRT_STRIP);
  dot_multiply((dot_block){.a = t->a,
                           .b = t->b,
                           .offsets = t->offsets,
                           .groups = t->groups,
                           .acc = t->acc,
                           .load = t->load,
                           .fetch = t->ahead,
                           .line = t->ahead_line,
                           .whole = t->ahead_turns,
                           .lines = t->ahead ? (t->ahead_lines + 2) / dot_tiles(t->rows) : 0},
               t->rows, t->cols);
}

static void finish(mrt_split_out *o) { finish_rows(o, 0, MRT_STRIP); }

const mrt_conv_split_kernels mrt_conv_split_dot = {
    .name = "avx512bf16",
    .gemm = &mrt_gemm_split_dot,
    .few = 4,
    .product_ns = {{0},
                   {0, 178},
                   {0, 356, 534},
                   {0, 534, 890, 1068}}, /* 2 of an FMA tile's 328, at 92 % */
    .pixel_ns = {0, 2.5, 2.5, 2.5},
    .block_ns = 120,
    .split_line = split_line,
    .multiply = multiply,
    .finish = finish};
