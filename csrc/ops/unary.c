/* Element-wise functions of one floating tensor: y[i] = f(x[i]). float and double are native, the
 * other types go through float. Attributes become the parameters p[]. */
#include "ops/work.h"

/* A pair of loops for one formula in v and p; three lines, so that the table below stays a table.
 */
#define MAP(name, f, d)                                                            \
  static void name##_f32(const float *x, float *y, int64_t n, const double *p) {   \
    (void)p;                                                                       \
    for (int64_t i = 0; i < n; ++i) {                                              \
      float v = x[i];                                                              \
      y[i] = (f);                                                                  \
    }                                                                              \
  }                                                                                \
  static void name##_f64(const double *x, double *y, int64_t n, const double *p) { \
    (void)p;                                                                       \
    for (int64_t i = 0; i < n; ++i) {                                              \
      double v = x[i];                                                             \
      y[i] = (d);                                                                  \
    }                                                                              \
  }
#define RUN(name, a, b)                                                     \
  static mrt_status *name##_run(mrt_kctx *c) {                              \
    double p[2] = {mrt_node_float(c->node, a), mrt_node_float(c->node, b)}; \
    return mrt_run_map(c, name##_f32, name##_f64, p);                       \
  }
#define ROW                                                            \
  .domain = "", .in = "X:T", .out = "Y:T", .types = "T=" MRT_T_FLOATS, \
  .flags = MRT_OP_ELEMENTWISE, .inplace = {{1, 0}}, .infer = mrt_infer_same_shape
/* Before opset 6 these had an attribute for in-place hints. */
static mrt_status *drop_legacy(mrt_node *node) {
  mrt_node_del_attr(node, "consumed_inputs");
  return NULL;
}

MAP(sqrt, sqrtf(v), sqrt(v))
RUN(sqrt, "_", "_")
static const mrt_op_version sqrt_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Sqrt) = {ROW, .name = "Sqrt", .doc = "y = sqrt(x)", .versions = sqrt_versions,
                .run = sqrt_run};

MAP(exp, expf(v), exp(v))
RUN(exp, "_", "_")
static const mrt_op_version exp_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Exp) = {ROW, .name = "Exp", .doc = "y = e^x", .versions = exp_versions, .run = exp_run};

MAP(log, logf(v), log(v))
RUN(log, "_", "_")
static const mrt_op_version log_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Log) = {ROW, .name = "Log", .doc = "y = ln x", .versions = log_versions, .run = log_run};

MAP(sin, sinf(v), sin(v))
RUN(sin, "_", "_")
static const mrt_op_version sin_versions[] = {{7}, {22}, {0}};
MRT_OP(Sin) = {ROW, .name = "Sin", .doc = "y = sin x", .versions = sin_versions, .run = sin_run};

MAP(cos, cosf(v), cos(v))
RUN(cos, "_", "_")
static const mrt_op_version cos_versions[] = {{7}, {22}, {0}};
MRT_OP(Cos) = {ROW, .name = "Cos", .doc = "y = cos x", .versions = cos_versions, .run = cos_run};

MAP(tan, tanf(v), tan(v))
RUN(tan, "_", "_")
static const mrt_op_version tan_versions[] = {{7}, {22}, {0}};
MRT_OP(Tan) = {ROW, .name = "Tan", .doc = "y = tan x", .versions = tan_versions, .run = tan_run};

MAP(asin, asinf(v), asin(v))
RUN(asin, "_", "_")
static const mrt_op_version asin_versions[] = {{7}, {22}, {0}};
MRT_OP(Asin) = {ROW, .name = "Asin", .doc = "y = asin x", .versions = asin_versions,
                .run = asin_run};

MAP(acos, acosf(v), acos(v))
RUN(acos, "_", "_")
static const mrt_op_version acos_versions[] = {{7}, {22}, {0}};
MRT_OP(Acos) = {ROW, .name = "Acos", .doc = "y = acos x", .versions = acos_versions,
                .run = acos_run};

MAP(atan, atanf(v), atan(v))
RUN(atan, "_", "_")
static const mrt_op_version atan_versions[] = {{7}, {22}, {0}};
MRT_OP(Atan) = {ROW, .name = "Atan", .doc = "y = atan x", .versions = atan_versions,
                .run = atan_run};

MAP(sinh, sinhf(v), sinh(v))
RUN(sinh, "_", "_")
static const mrt_op_version sinh_versions[] = {{9}, {22}, {0}};
MRT_OP(Sinh) = {ROW, .name = "Sinh", .doc = "y = sinh x", .versions = sinh_versions,
                .run = sinh_run};

MAP(cosh, coshf(v), cosh(v))
RUN(cosh, "_", "_")
static const mrt_op_version cosh_versions[] = {{9}, {22}, {0}};
MRT_OP(Cosh) = {ROW, .name = "Cosh", .doc = "y = cosh x", .versions = cosh_versions,
                .run = cosh_run};

MAP(asinh, asinhf(v), asinh(v))
RUN(asinh, "_", "_")
static const mrt_op_version asinh_versions[] = {{9}, {22}, {0}};
MRT_OP(Asinh) = {ROW, .name = "Asinh", .doc = "y = asinh x", .versions = asinh_versions,
                 .run = asinh_run};

MAP(acosh, acoshf(v), acosh(v))
RUN(acosh, "_", "_")
static const mrt_op_version acosh_versions[] = {{9}, {22}, {0}};
MRT_OP(Acosh) = {ROW, .name = "Acosh", .doc = "y = acosh x", .versions = acosh_versions,
                 .run = acosh_run};

MAP(atanh, atanhf(v), atanh(v))
RUN(atanh, "_", "_")
static const mrt_op_version atanh_versions[] = {{9}, {22}, {0}};
MRT_OP(Atanh) = {ROW, .name = "Atanh", .doc = "y = atanh x", .versions = atanh_versions,
                 .run = atanh_run};

MAP(tanh, tanhf(v), tanh(v))
RUN(tanh, "_", "_")
static const mrt_op_version tanh_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Tanh) = {ROW, .name = "Tanh", .doc = "y = tanh x", .versions = tanh_versions,
                .run = tanh_run};

MAP(erf, erff(v), erf(v))
RUN(erf, "_", "_")
static const mrt_op_version erf_versions[] = {{9}, {13}, {0}};
MRT_OP(Erf) = {ROW, .name = "Erf", .doc = "the error function", .versions = erf_versions,
               .run = erf_run};

MAP(ceil, ceilf(v), ceil(v))
RUN(ceil, "_", "_")
static const mrt_op_version ceil_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Ceil) = {ROW, .name = "Ceil", .doc = "rounds up", .versions = ceil_versions,
                .run = ceil_run};

MAP(floor, floorf(v), floor(v))
RUN(floor, "_", "_")
static const mrt_op_version floor_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Floor) = {ROW, .name = "Floor", .doc = "rounds down", .versions = floor_versions,
                 .run = floor_run};

MAP(round, rintf(v), rint(v))
RUN(round, "_", "_")
static const mrt_op_version round_versions[] = {{11}, {22}, {0}};
MRT_OP(Round) = {ROW, .name = "Round", .doc = "rounds half to even", .versions = round_versions,
                 .run = round_run};

MAP(reciprocal, 1.0f / v, 1.0 / v)
RUN(reciprocal, "_", "_")
static const mrt_op_version reciprocal_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Reciprocal) = {ROW, .name = "Reciprocal", .doc = "y = 1 / x",
                      .versions = reciprocal_versions, .run = reciprocal_run};

MAP(sigmoid, 1.0f / (1.0f + expf(-v)), 1.0 / (1.0 + exp(-v)))
RUN(sigmoid, "_", "_")
static const mrt_op_version sigmoid_versions[] = {{1, drop_legacy}, {6}, {13}, {0}};
MRT_OP(Sigmoid) = {ROW, .name = "Sigmoid", .doc = "y = 1 / (1 + e^-x)",
                   .versions = sigmoid_versions, .run = sigmoid_run};

MAP(leakyrelu, v < 0 ? (float)p[0] * v : v, v < 0 ? p[0] * v : v)
RUN(leakyrelu, "alpha", "_")
static const mrt_op_version leakyrelu_versions[] = {{1, drop_legacy}, {6}, {16}, {0}};
MRT_OP(LeakyRelu) = {ROW,
                     .name = "LeakyRelu",
                     .doc = "alpha * x below 0",
                     .attrs = "alpha:float=0.01",
                     .versions = leakyrelu_versions,
                     .run = leakyrelu_run};

MAP(elu, v < 0 ? (float)p[0] * expm1f(v) : v, v < 0 ? p[0] * expm1(v) : v)
RUN(elu, "alpha", "_")
static const mrt_op_version elu_versions[] = {{1, drop_legacy}, {6}, {22}, {0}};
MRT_OP(Elu) = {ROW,
               .name = "Elu",
               .doc = "alpha * (e^x - 1) below 0",
               .attrs = "alpha:float=1.0",
               .versions = elu_versions,
               .run = elu_run};

MAP(celu, fmaxf(v, 0) + fminf(0, (float)p[0] * expm1f(v / (float)p[0])),
    fmax(v, 0) + fmin(0, p[0] * expm1(v / p[0])))
RUN(celu, "alpha", "_")
static const mrt_op_version celu_versions[] = {{12}, {0}};
MRT_OP(Celu) = {ROW,
                .name = "Celu",
                .doc = "continuously differentiable Elu",
                .attrs = "alpha:float=1.0",
                .versions = celu_versions,
                .run = celu_run};

MAP(selu, (float)p[1] * (v > 0 ? v : (float)p[0] * expm1f(v)), p[1] * (v > 0 ? v : p[0] * expm1(v)))
RUN(selu, "alpha", "gamma")
static const mrt_op_version selu_versions[] = {{1, drop_legacy}, {6}, {22}, {0}};
MRT_OP(Selu) = {
    ROW,
    .name = "Selu",
    .doc = "scaled Elu",
    .attrs = "alpha:float=1.67326319217681884765625 gamma:float=1.05070102214813232421875",
    .versions = selu_versions,
    .run = selu_run};

MAP(hardsigmoid, fmaxf(0, fminf(1, (float)p[0] * v + (float)p[1])),
    fmax(0, fmin(1, p[0] * v + p[1])))
RUN(hardsigmoid, "alpha", "beta")
static const mrt_op_version hardsigmoid_versions[] = {{1, drop_legacy}, {6}, {22}, {0}};
MRT_OP(HardSigmoid) = {ROW,
                       .name = "HardSigmoid",
                       .doc = "clip(alpha * x + beta, 0, 1)",
                       .attrs = "alpha:float=0.2 beta:float=0.5",
                       .versions = hardsigmoid_versions,
                       .run = hardsigmoid_run};

MAP(hardswish, v *fmaxf(0, fminf(1, v / 6.0f + 0.5f)), v *fmax(0, fmin(1, v / 6.0 + 0.5)))
RUN(hardswish, "_", "_")
static const mrt_op_version hardswish_versions[] = {{14}, {22}, {0}};
MRT_OP(HardSwish) = {ROW, .name = "HardSwish", .doc = "x * clip(x / 6 + 1/2, 0, 1)",
                     .versions = hardswish_versions, .run = hardswish_run};

MAP(softplus, fmaxf(v, 0) + log1pf(expf(-fabsf(v))), fmax(v, 0) + log1p(exp(-fabs(v))))
RUN(softplus, "_", "_")
static const mrt_op_version softplus_versions[] = {{1}, {22}, {0}};
MRT_OP(Softplus) = {ROW, .name = "Softplus", .doc = "ln(1 + e^x), without forming e^|x|",
                    .versions = softplus_versions, .run = softplus_run};

MAP(softsign, v / (1.0f + fabsf(v)), v / (1.0 + fabs(v)))
RUN(softsign, "_", "_")
static const mrt_op_version softsign_versions[] = {{1}, {22}, {0}};
MRT_OP(Softsign) = {ROW, .name = "Softsign", .doc = "x / (1 + |x|)", .versions = softsign_versions,
                    .run = softsign_run};

MAP(mish, v *tanhf(fmaxf(v, 0) + log1pf(expf(-fabsf(v)))),
    v *tanh(fmax(v, 0) + log1p(exp(-fabs(v)))))
RUN(mish, "_", "_")
static const mrt_op_version mish_versions[] = {{18}, {22}, {0}};
MRT_OP(Mish) = {ROW, .name = "Mish", .doc = "x * tanh(softplus(x))", .versions = mish_versions,
                .run = mish_run};

MAP(swish, v / (1.0f + expf(-(float)p[0] * v)), v / (1.0 + exp(-p[0] * v)))
RUN(swish, "alpha", "_")
static const mrt_op_version swish_versions[] = {{24}, {0}};
MRT_OP(Swish) = {ROW,
                 .name = "Swish",
                 .doc = "x * sigmoid(alpha * x)",
                 .attrs = "alpha:float=1.0",
                 .versions = swish_versions,
                 .run = swish_run};

MAP(thresholdedrelu, v > (float)p[0] ? v : 0, v > p[0] ? v : 0)
RUN(thresholdedrelu, "alpha", "_")
static const mrt_op_version thresholdedrelu_versions[] = {{10}, {22}, {0}};
MRT_OP(ThresholdedRelu) = {ROW,
                           .name = "ThresholdedRelu",
                           .doc = "x above alpha, else 0",
                           .attrs = "alpha:float=1.0",
                           .versions = thresholdedrelu_versions,
                           .run = thresholdedrelu_run};

MAP(shrink, v<-(float)p[1] ? v + (float)p[0] : v>(float) p[1] ? v - (float)p[0] : 0,
    v<-p[1] ? v + p[0] : v> p[1] ? v - p[0] : 0)
/* Integers are computed in double, of which the whole part is kept. */
static mrt_status *shrink_run(mrt_kctx *c) {
  const double p[2] = {mrt_node_float(c->node, "bias"), mrt_node_float(c->node, "lambd")};
  const mrt_tensor *x = mrt_in(c, 0), *in;
  mrt_tensor *y = mrt_out(c, 0), fx, fy, *out;
  if (!y || !mrt_dtype_is_int((mrt_dtype)x->dtype))
    return mrt_run_map(c, shrink_f32, shrink_f64, p);
  MRT_TRY(mrt_work_in(c, x, MRT_DOUBLE, &fx, &in));
  MRT_TRY(mrt_work_out(c, y, MRT_DOUBLE, &fy, &out));
  shrink_f64(in->data, out->data, mrt_tensor_count(x), p);
  mrt_work_done(out, y);
  return NULL;
}
static const mrt_op_version shrink_versions[] = {{9}, {0}};
MRT_OP(Shrink) = {.domain = "",
                  .in = "X:T",
                  .out = "Y:T",
                  .types = "T=" MRT_T_NUMERIC,
                  .flags = MRT_OP_ELEMENTWISE,
                  .inplace = {{1, 0}},
                  .infer = mrt_infer_same_shape,
                  .name = "Shrink",
                  .doc = "shrinkage towards 0",
                  .attrs = "bias:float=0.0 lambd:float=0.5",
                  .versions = shrink_versions,
                  .run = shrink_run};
