/* The loops of resize.def: every instruction set against sums in double, at tail sizes, within
 * guard bytes. */
#include "kernels.h"
#include "provider/cpu/resize/resize.h"

typedef struct entry {
  uint32_t isa;
  const mrt_resize_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/resize/resize.def"
#undef MRT_KERNEL
};

static void check_rows(const mrt_resize_kernels *k, int64_t taps, int64_t n, size_t misalign) {
  guarded gx, gw, gy;
  const int64_t step = n + 3;
  float *x = guarded_floats(&gx, step * (taps - 1) + n, misalign),
        *w = guarded_floats(&gw, taps, 0), *y = guarded_floats(&gy, n, misalign);
  k->rows(x, step, w, taps, n, y);
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t t = 0; t < taps; ++t) sum += (double)w[t] * x[t * step + i];
    CHECK(fabs(sum - y[i]) < 1e-5 * (double)taps);
  }
  CHECK(guarded_done(&gx) && guarded_done(&gw) && guarded_done(&gy));
}

static void check_pixels(const mrt_resize_kernels *k, int64_t taps, int64_t in, int64_t out,
                         int64_t lanes) {
  guarded gx, gw, gy;
  float *x = guarded_floats(&gx, in * lanes, 4), *w = guarded_floats(&gw, out * taps, 4),
        *y = guarded_floats(&gy, out * lanes, 4);
  int64_t start[64];
  int32_t count[64];
  for (int64_t o = 0; o < out; ++o) {
    count[o] = rng_below(5) == 0 ? -1 : (int32_t)(1 + rng_below(taps));
    start[o] = rng_below(in - taps + 1);
  }
  resize_axis a = {.in = in, .out = out, .taps = taps, .start = start, .count = count, .weight = w};
  (lanes == 16 ? k->pixels16 : k->pixels1)(&a, x, 7, y);
  for (int64_t i = 0; i < out * lanes; ++i) {
    const int64_t o = i / lanes;
    double sum = count[o] < 0 ? 7 : 0;
    for (int32_t t = 0; t < count[o]; ++t)
      sum += (double)w[o * taps + t] * x[(start[o] + t) * lanes + i % lanes];
    CHECK(fabs(sum - y[i]) < 1e-5 * (double)taps);
  }
  CHECK(guarded_done(&gx) && guarded_done(&gw) && guarded_done(&gy));
}

int main(void) {
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t e = 0; e < sizeof entries / sizeof *entries; ++e) {
    if ((have & entries[e].isa) != entries[e].isa) continue;
    for (int64_t taps = 1; taps <= 5; ++taps) {
      for (int64_t n = 1; n <= 67; n += 3)
        check_rows(entries[e].kern, taps, n, (size_t)(n % 4) * 4);
      for (int64_t out = 1; out <= 33; out += 4) {
        check_pixels(entries[e].kern, taps, 9, out, 1);
        check_pixels(entries[e].kern, taps, 9, out, 16);
      }
    }
  }
  return CHECK_DONE();
}
