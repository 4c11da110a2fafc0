/* Mish: x * tanh(softplus(x)) (arXiv 1908.08681). This file is the template of
 * docs/add-an-operator.md: it is compiled with everything else, so that it stays true, and not
 * registered, since the name of the file starts with an underscore. */
#include "ops/common.h"

/* softplus without overflow: log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
static void mish_f32(const float *x, float *y, int64_t n, const double *p) {
  (void)p;
  for (int64_t i = 0; i < n; ++i)
    y[i] = x[i] * tanhf(fmaxf(x[i], 0.0f) + log1pf(expf(-fabsf(x[i]))));
}
static void mish_f64(const double *x, double *y, int64_t n, const double *p) {
  (void)p;
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * tanh(fmax(x[i], 0.0) + log1p(exp(-fabs(x[i]))));
}
static mrt_status *mish_run(mrt_kctx *c) { return mrt_run_map(c, mish_f32, mish_f64, NULL); }

static const mrt_op_version mish_versions[] = {{18}, {22}, {0}};
MRT_OP(Mish) = {.domain = "",
                .name = "Mish",
                .doc = "x * tanh(log(1 + exp(x)))",
                .in = "X:T",
                .out = "Y:T",
                .types = "T=" MRT_T_FLOATS,
                .versions = mish_versions,
                .flags = MRT_OP_ELEMENTWISE,
                .inplace = {{1, 0}},
                .infer = mrt_infer_same_shape,
                .run = mish_run};
