/* float32 convolutions of ResNet-50, MobileNetV2 and a UNet beside the FMA peak.
 * Arguments: threads (default 1); "high": Winograd F(4x4, 3x3) where it pays. */
#include "bench.h"

#include "provider/cpu/conv/conv.h"

typedef struct job {
  mrt_par par;
  mrt_conv p;
  mrt_conv_args a;
  void *scratch;
} job;
static bool four;

static void run(void *arg) {
  job *j = arg;
  mrt_conv_run(&j->par, &j->p, &j->a, j->scratch);
}

/* Returns the median in microseconds. */
static double layer(int threads, int64_t h, int64_t cin, int64_t cout, int64_t k, int64_t stride,
                    int64_t groups) {
  job j = {.par = {.threads = threads}};
  j.p = (mrt_conv){.cin = cin,
                   .cout = cout,
                   .groups = groups,
                   .kh = k,
                   .kw = k,
                   .stride_h = stride,
                   .stride_w = stride,
                   .dil_h = 1,
                   .dil_w = 1,
                   .pad_top = k / 2,
                   .pad_left = k / 2,
                   .pad_bottom = k / 2,
                   .pad_right = k / 2,
                   .input_nchw = cin == 3};
  const int64_t o = mrt_conv_out(h, k, stride, 1, k / 2, k / 2);
  float *in = bench_floats((size_t)mrt_c16_size(1, cin, h, h));
  float *w = bench_floats((size_t)(cout * cin / groups * k * k)),
        *bias = bench_floats((size_t)cout);
  float *out = bench_floats((size_t)mrt_c16_size(1, cout, o, o));
  if (mrt_conv_winograd_ok(&j.p, w)) j.p.winograd = mrt_conv_winograd_pays(&j.p, h, h, four);
  float *packed = aligned_alloc(64, mrt_conv_packed_size(&j.p) + 64);
  mrt_conv_pack(&j.par, &j.p, w, packed);
  j.scratch = aligned_alloc(64, mrt_conv_scratch_size(&j.par, &j.p, h, h) / 64 * 64 + 64);
  j.a = (mrt_conv_args){.n = 1,
                        .h = h,
                        .w = h,
                        .input = in,
                        .weights = packed,
                        .bias = bias,
                        .act = {.op = MRT_EW_RELU},
                        .output = out};
  mrt_threads_run_begin(&j.par);
  const bench_result r = bench_run(run, &j, 0.1, 0);
  mrt_threads_run_end(&j.par);
  char name[80];
  snprintf(name, sizeof name, "%lldx%lld s%lld %lld>%lld @%lld%s%s", (long long)k, (long long)k,
           (long long)stride, (long long)cin, (long long)cout, (long long)h,
           groups > 1 ? " depthwise" : "",
           j.p.winograd == 4 ? " F(4,3)"
           : j.p.winograd    ? " F(2,3)"
                             : "");
  bench_print(name, 2.0 * (double)(o * o * cout * cin / groups * k * k), r, threads);
  free(in), free(w), free(bias), free(out), free(packed), free(j.scratch);
  return r.median * 1e6;
}

int main(int argc, char **argv) {
  const int t = argc > 1 ? atoi(argv[1]) : 1;
  four = argc > 2 && !strcmp(argv[2], "high");
  static const int64_t resnet[][6] = {
      /* h, cin, cout, k, stride, how often */
      {224, 3, 64, 7, 2, 1},    {56, 64, 64, 1, 1, 1},     {56, 64, 64, 3, 1, 3},
      {56, 64, 256, 1, 1, 4},   {56, 256, 64, 1, 1, 2},    {56, 256, 128, 1, 1, 1},
      {56, 128, 128, 3, 2, 1},  {56, 256, 512, 1, 2, 1},   {28, 128, 512, 1, 1, 4},
      {28, 512, 128, 1, 1, 3},  {28, 128, 128, 3, 1, 3},   {28, 512, 256, 1, 1, 1},
      {28, 256, 256, 3, 2, 1},  {28, 512, 1024, 1, 2, 1},  {14, 256, 1024, 1, 1, 6},
      {14, 1024, 256, 1, 1, 5}, {14, 256, 256, 3, 1, 5},   {14, 1024, 512, 1, 1, 1},
      {14, 512, 512, 3, 2, 1},  {14, 1024, 2048, 1, 2, 1}, {7, 512, 2048, 1, 1, 3},
      {7, 2048, 512, 1, 1, 2},  {7, 512, 512, 3, 1, 2}};
  double total = 0;
  for (size_t i = 0; i < sizeof resnet / sizeof *resnet; ++i)
    total += (double)resnet[i][5] *
             layer(t, resnet[i][0], resnet[i][1], resnet[i][2], resnet[i][3], resnet[i][4], 1);
  printf("ResNet-50 convolutions: %.2f ms (medians)\n", total * 1e-3);
  static const int64_t mobile[][5] = {
      {224, 3, 32, 3, 2},  {112, 32, 16, 1, 1}, {112, 16, 96, 1, 1},
      {56, 24, 144, 1, 1}, {56, 144, 24, 1, 1}, {14, 64, 384, 1, 1},
      {14, 384, 64, 1, 1}, {7, 160, 960, 1, 1}, {7, 320, 1280, 1, 1}};
  for (size_t i = 0; i < sizeof mobile / sizeof *mobile; ++i)
    layer(t, mobile[i][0], mobile[i][1], mobile[i][2], mobile[i][3], mobile[i][4], 1);
  static const int64_t depth[][3] = {{112, 32, 1}, {112, 96, 2}, {56, 144, 1},
                                     {28, 192, 1}, {14, 384, 1}, {7, 960, 1}};
  for (size_t i = 0; i < sizeof depth / sizeof *depth; ++i)
    layer(t, depth[i][0], depth[i][1], depth[i][1], 3, depth[i][2], depth[i][1]);
  static const int64_t unet[][3] = {
      {256, 32, 32}, {128, 64, 64}, {64, 128, 128}, {32, 256, 256}, {16, 512, 512}};
  for (size_t i = 0; i < sizeof unet / sizeof *unet; ++i)
    layer(t, unet[i][0], unet[i][1], unet[i][2], 3, 1, 1);
  return 0;
}
