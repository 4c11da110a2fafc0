/* Gelu: x * Phi(x), exact or by the tanh approximation (arXiv 1606.08415). */
#include "ops/common.h"

#define SQRT_HALF   0.70710678118654752440
#define SQRT_2_PI   0.79788456080286535588 /* sqrt(2 / pi) */
#define CUBIC_COEFF 0.044715

static void exact_f32(const float *x, float *y, int64_t n, const double *p) {
  (void)p;
  for (int64_t i = 0; i < n; ++i) y[i] = 0.5f * x[i] * (1 + erff(x[i] * (float)SQRT_HALF));
}
static void exact_f64(const double *x, double *y, int64_t n, const double *p) {
  (void)p;
  for (int64_t i = 0; i < n; ++i) y[i] = 0.5 * x[i] * (1 + erf(x[i] * SQRT_HALF));
}
static void tanh_f32(const float *x, float *y, int64_t n, const double *p) {
  (void)p;
  for (int64_t i = 0; i < n; ++i) {
    float v = x[i], inner = (float)SQRT_2_PI * (v + (float)CUBIC_COEFF * v * v * v);
    y[i] = 0.5f * v * (1 + tanhf(inner));
  }
}
static void tanh_f64(const double *x, double *y, int64_t n, const double *p) {
  (void)p;
  for (int64_t i = 0; i < n; ++i) {
    double v = x[i];
    y[i] = 0.5 * v * (1 + tanh(SQRT_2_PI * (v + CUBIC_COEFF * v * v * v)));
  }
}
static mrt_status *gelu_run(mrt_kctx *c) {
  const char *how = mrt_node_str(c->node, "approximate");
  if (strcmp(how, "tanh") == 0) return mrt_run_map(c, tanh_f32, tanh_f64, NULL);
  if (strcmp(how, "none") == 0) return mrt_run_map(c, exact_f32, exact_f64, NULL);
  return MRT_ERR(MRT_INVALID_ARGUMENT, "Gelu: approximate = '%s'", how);
}
static const mrt_op_version gelu_v[] = {{20}, {0}};
MRT_OP(Gelu) = {.domain = "",
                .name = "Gelu",
                .doc = "x * Phi(x)",
                .in = "X:T",
                .out = "Y:T",
                .types = "T=" MRT_T_FLOATS,
                .attrs = "approximate:string=none",
                .versions = gelu_v,
                .flags = MRT_OP_ELEMENTWISE,
                .inplace = {{1, 0}},
                .infer = mrt_infer_same_shape,
                .run = gelu_run};
