/* The meaning of the row kernels in plain C. */
#include "provider/cpu/conv/conv_kernel.h"

/* The transforms alone are shared with the vector sets: there a lane is a vector. */
#define INLINE static inline __attribute__((always_inline))
enum { VW = 1 };
typedef float vf;
INLINE vf v_set(float x) { return x; }
INLINE vf v_load(const float *p) { return *p; }
INLINE void v_store(float *p, vf x) { *p = x; }
INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf v_max(vf a, vf b) { return a > b ? a : b; }
INLINE vf v_min(vf a, vf b) { return a < b ? a : b; }
INLINE bool v_any_nan(vf x) { return x != x; }
#include "provider/cpu/conv/winograd_simd.inl"

static void depthwise(const mrt_pixel_row *r) {
  for (int64_t i = 0; i < r->count; ++i)
    for (int l = 0; l < 16; ++l) {
      float x = r->bias ? r->bias[l] : 0.0f;
      for (int t = 0; t < r->n_taps; ++t)
        x += r->in[r->taps[t].off + i * r->step + l] * r->weights[r->taps[t].w * 16 + l];
      if (r->residual) x += r->residual[i * 16 + l];
      if (r->clip) {
        x = x < r->lo ? r->lo : x;
        x = x > r->hi ? r->hi : x;
      }
      r->out[i * 16 + l] = x;
    }
}

static void window_pixel(const mrt_dw_row *r, int64_t i, int lane) {
  float x = r->bias ? r->bias[lane] : 0.0f;
  for (int t = 0; t < r->n_rows; ++t)
    for (int k = 0; k < r->kw; ++k) {
      const int64_t at = i * r->stride - r->pad + k;
      if (at < 0 || at >= r->w) continue;
      x += r->rows[t][at * 16 + lane] * r->weights[(t * r->kw + k) * 16 + lane];
    }
  if (r->residual) x += r->residual[i * 16 + lane];
  if (r->clip) {
    x = x < r->lo ? r->lo : x;
    x = x > r->hi ? r->hi : x;
  }
  r->out[i * 16 + lane] = x;
}
static void window_row(const mrt_dw_row *r) {
  for (int64_t i = 0; i < r->ow; ++i)
    for (int l = 0; l < 16; ++l) window_pixel(r, i, l);
}
static mrt_dw_fn depthwise_row(int64_t kw, int64_t stride) {
  return kw <= 7 && stride <= 2 ? window_row : NULL;
}

static void max(const mrt_pixel_row *r) {
  for (int64_t i = 0; i < r->count; ++i)
    for (int l = 0; l < 16; ++l) {
      float x = r->n_taps ? r->in[r->taps[0].off + i * r->step + l] : -__builtin_inff();
      for (int t = 1; t < r->n_taps; ++t) {
        const float v = r->in[r->taps[t].off + i * r->step + l];
        x = v > x ? v : x;
      }
      r->out[i * 16 + l] = x;
    }
}

static void mean(const mrt_pixel_row *r) {
  for (int64_t i = 0; i < r->count; ++i)
    for (int l = 0; l < 16; ++l) {
      float x = 0.0f;
      for (int t = 0; t < r->n_taps; ++t) x += r->in[r->taps[t].off + i * r->step + l];
      r->out[i * 16 + l] = x * r->scale;
    }
}

static void reduce_max(const float *in, int64_t count, float *out) {
  for (int l = 0; l < 16; ++l) {
    float x = count ? in[l] : -__builtin_inff();
    for (int64_t i = 1; i < count; ++i) x = in[i * 16 + l] > x ? in[i * 16 + l] : x;
    out[l] = x;
  }
}

static void reduce_sum(const float *in, int64_t count, float *out) {
  for (int l = 0; l < 16; ++l) {
    float x = 0.0f;
    for (int64_t i = 0; i < count; ++i) x += in[i * 16 + l];
    out[l] = x;
  }
}

static void to_c16(const float *src, int64_t plane, int channels, int64_t pixels, float *dst) {
  for (int64_t i = 0; i < pixels; ++i)
    for (int l = 0; l < 16; ++l) dst[i * 16 + l] = l < channels ? src[l * plane + i] : 0.0f;
}

static void from_c16(const float *src, int64_t plane, int channels, int64_t pixels, float *dst) {
  for (int l = 0; l < channels; ++l)
    for (int64_t i = 0; i < pixels; ++i) dst[l * plane + i] = src[i * 16 + l];
}

const mrt_conv_kernels mrt_conv_f32_scalar = {.name = "scalar",
                                              .depthwise = depthwise,
                                              .depthwise_row = depthwise_row,
                                              .max = max,
                                              .mean = mean,
                                              .reduce_max = reduce_max,
                                              .reduce_sum = reduce_sum,
                                              .to_c16 = to_c16,
                                              .from_c16 = from_c16,
                                              .wino_input = wino_input,
                                              .wino_output = wino_output,
                                              .wino4_input = wino4_input,
                                              .wino4_output = wino4_output};
