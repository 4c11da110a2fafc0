/* The integer tile of qgemm_amx.c on the model of the tiles: what tests run where there are none.
 * Never picked for work. */
#define MRT_AMX_MODEL
#define FINISH(t, sums) mrt_qtile_finish(t, sums, 32)
#include "provider/cpu/qgemm/qgemm_amx.inl"

static void quantize(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                     uint8_t *y) {
  mrt_quantize_loop(x, n, scale, zero, is_signed, y);
}
static void dequantize(const uint8_t *x, int64_t n, float scale, int32_t zero, bool is_signed,
                       float *y) {
  mrt_dequantize_loop(x, n, scale, zero, is_signed, y);
}
static void range(const float *x, int64_t n, float *io_min, float *io_max) {
  mrt_range_loop(x, n, io_min, io_max);
}

extern const mrt_qgemm_kernels mrt_qgemm_model;
const mrt_qgemm_kernels mrt_qgemm_model = {.name = "model",
                                           .macs_per_ns = 1,
                                           .shifts = true,
                                           .max_rows = 32,
                                           .nr = 32,
                                           .split = 16,
                                           .reads_s8 = true,
                                           .by_sixteen = true,
                                           .wide = WIDE,
                                           .narrow = NARROW,
                                           .begin = begin,
                                           .end = end,
                                           .quantize = quantize,
                                           .dequantize = dequantize,
                                           .range = range};
