/* QuantizeLinear, DequantizeLinear (ai.onnx and com.microsoft) and DynamicQuantizeLinear. Elements
 * are walked in runs that share a scale or step through the scales one by one, whatever the axis.
 */
#include "ops/quant.h"

#define BLOCK 256

mrt_status *mrt_qmap_read(const mrt_node *node, const mrt_tensor *x, const mrt_tensor *scale,
                          const mrt_tensor *zero, mrt_qmap *out) {
  int64_t n = mrt_tensor_count(scale), block = mrt_node_int(node, "block_size");
  int axis;
  *out = (mrt_qmap){1, 1, mrt_tensor_count(x), 0, 0, true};
  if (zero && !mrt_shape_equal(scale->rank, scale->dims, zero->rank, zero->dims) &&
      !(n == 1 && mrt_tensor_count(zero) == 1))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "scale and zero point have different shapes");
  if (scale->rank == 0 || (scale->rank == 1 && n == 1)) return NULL;
  MRT_TRY(mrt_fix_axis(mrt_node_int(node, "axis"), x->rank, &axis));
  out->per_tensor = false;
  out->outer = mrt_dims_product(x->dims, 0, axis);
  out->axis = x->rank ? x->dims[axis] : 1;
  out->inner = mrt_dims_product(x->dims, axis + 1, x->rank);
  if (!block) {
    if (scale->rank == 1 && n == out->axis) return NULL;
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "scale of rank %d with %lld elements for %lld along axis %d", scale->rank,
                   (long long)n, (long long)out->axis, axis);
  }
  if (block < 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "block_size is %lld", (long long)block);
  out->block = block;
  out->blocks = scale->rank == x->rank ? scale->dims[axis] : -1;
  bool fits = scale->rank == x->rank && out->blocks == (out->axis + block - 1) / block;
  for (int i = 0; fits && i < x->rank; ++i) fits = i == axis || scale->dims[i] == x->dims[i];
  if (!fits)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "scales do not fit blocks of %lld along axis %d",
                   (long long)block, axis);
  return NULL;
}

int64_t mrt_qmap_run(const mrt_qmap *m, int64_t at, int64_t *first, int *step) {
  *first = *step = 0;
  if (m->per_tensor) return m->inner - at;
  int64_t i = at % m->inner, row = at / m->inner, a = row % m->axis, o = row / m->axis;
  if (!m->block) {
    *first = a;
    *step = m->inner == 1;
    return *step ? m->axis - a : m->inner - i;
  }
  *first = (o * m->blocks + a / m->block) * m->inner + i;
  if (m->inner > 1) {
    *step = 1;
    return m->inner - i;
  }
  int64_t left = m->block - a % m->block;
  return left < m->axis - a ? left : m->axis - a;
}

bool mrt_quant_range(mrt_dtype dtype, int32_t *lo, int32_t *hi) {
  int bits = mrt_dtype_bits(dtype);
  if (!mrt_dtype_is_int(dtype) || bits > 16) return false;
  bool s = mrt_dtype_is_signed(dtype);
  *lo = s ? -(1 << (bits - 1)) : 0;
  *hi = s ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
  return true;
}
void mrt_quant_params_u8(float lo, float hi, float *scale, int32_t *zero) {
  lo = lo < 0 ? lo : 0;
  hi = hi > 0 ? hi : 0;
  *scale = hi == lo ? 1.0f : (hi - lo) / 255.0f;
  float z = rintf(0.0f - lo / *scale);
  *zero = (int32_t)(z > 0 ? z < 255 ? z : 255 : 0);
}
float mrt_scalar_f32(const mrt_tensor *t, float none) {
  return t ? (float)mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, 0) : none;
}
int32_t mrt_scalar_i32(const mrt_tensor *t, int32_t none) {
  return t ? (int32_t)mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, 0) : none;
}

typedef struct job {
  const mrt_tensor *x, *scale, *zero;
  mrt_tensor *y;
  mrt_qmap map;
  mrt_dtype precision; /* the quotient is rounded to this type first; MRT_UNDEFINED: no */
  bool saturate;
} job;

static float scale_at(const job *j, int64_t i) {
  return (float)mrt_elem_get_f64((mrt_dtype)j->scale->dtype, j->scale->data, i);
}
static int32_t zero_at(const job *j, int64_t i) {
  return j->zero ? (int32_t)mrt_elem_get_i64((mrt_dtype)j->zero->dtype, j->zero->data, i) : 0;
}

/* v[k] becomes element at + k of y. lo > hi: a float type. */
static void put_block(const job *j, const float *v, const float *s, const int32_t *z, int64_t at,
                      int64_t n, int32_t lo, int32_t hi) {
  mrt_dtype t = (mrt_dtype)j->y->dtype;
  uint8_t *bytes = (uint8_t *)j->y->data + at;
  if (lo <= hi && mrt_dtype_bits(t) == 8 && !j->precision) {
    for (int64_t k = 0; k < n; ++k) bytes[k] = (uint8_t)mrt_quant_value(v[k], s[k], z[k], lo, hi);
    return;
  }
  for (int64_t k = 0; k < n; ++k) {
    float q = v[k] / s[k];
    if (j->precision) {
      uint32_t half[1];
      mrt_convert_from_f32(j->precision, half, 0, 1, &q);
      mrt_convert_to_f32(j->precision, half, 0, 1, &q);
    }
    if (lo <= hi)
      mrt_elem_set_i64(t, j->y->data, at + k, mrt_quant_value(q, 1, z[k], lo, hi));
    else if (t == MRT_FLOAT4E2M1)
      mrt_elem_set_f64(t, j->y->data, at + k, q);
    else
      bytes[k] = mrt_f32_to_f8(t, q, j->saturate);
  }
}

static void quantize_range(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  float v[BLOCK], s[BLOCK];
  int32_t z[BLOCK], lo = 0, hi = -1;
  mrt_quant_range((mrt_dtype)j->y->dtype, &lo, &hi);
  for (int64_t at = begin; at < end;) {
    int64_t first, n;
    int step;
    n = mrt_qmap_run(&j->map, at, &first, &step);
    n = n < end - at ? n : end - at;
    for (int64_t done = 0; done < n; done += BLOCK) {
      int64_t m = n - done < BLOCK ? n - done : BLOCK;
      if (done == 0 || step)
        for (int64_t k = 0; k < (done == 0 && !step ? BLOCK : m); ++k) {
          s[k] = step || !k ? scale_at(j, first + step * (done + k)) : s[0];
          z[k] = step || !k ? zero_at(j, first + step * (done + k)) : z[0];
        }
      mrt_convert_to_f32((mrt_dtype)j->x->dtype, j->x->data, at + done, m, v);
      put_block(j, v, s, z, at + done, m, lo, hi);
    }
    at += n;
  }
}

static void dequantize_range(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  mrt_dtype t = (mrt_dtype)j->x->dtype;
  bool ints = mrt_dtype_is_int(t);
  float v[BLOCK];
  for (int64_t at = begin; at < end;) {
    int64_t first, n;
    int step;
    n = mrt_qmap_run(&j->map, at, &first, &step);
    n = n < end - at ? n : end - at;
    float s = scale_at(j, first);
    int64_t z = ints ? zero_at(j, first) : 0;
    double zf = !ints && j->zero ? mrt_elem_get_f64(t, j->zero->data, first) : 0;
    for (int64_t done = 0; done < n; done += BLOCK) {
      int64_t m = n - done < BLOCK ? n - done : BLOCK;
      for (int64_t k = 0; k < m; ++k) {
        if (step) {
          int64_t q = first + done + k;
          s = scale_at(j, q);
          z = ints ? zero_at(j, q) : 0;
          zf = !ints && j->zero ? mrt_elem_get_f64(t, j->zero->data, q) : 0;
        }
        int64_t e = at + done + k;
        v[k] = ints ? (float)(mrt_elem_get_i64(t, j->x->data, e) - z) * s
                    : ((float)(mrt_elem_get_f64(t, j->x->data, e) - zf)) * s;
      }
      mrt_convert_from_f32((mrt_dtype)j->y->dtype, j->y->data, at + done, m, v);
    }
    at += n;
  }
}

static mrt_status *run_job(mrt_kctx *c, void (*fn)(void *, int64_t, int64_t)) {
  job j = {.x = mrt_in(c, 0), .scale = mrt_in(c, 1), .zero = mrt_in(c, 2), .y = mrt_out(c, 0)};
  if (!j.y) return NULL;
  int64_t n = mrt_tensor_count(j.x);
  MRT_TRY(mrt_qmap_read(c->node, j.x, j.scale, j.zero, &j.map));
  j.saturate = mrt_node_int(c->node, "saturate") != 0;
  j.precision = (mrt_dtype)mrt_node_int(c->node, "precision");
  if (j.precision != MRT_FLOAT16 && j.precision != MRT_BFLOAT16) j.precision = MRT_UNDEFINED;
  if (mrt_dtype_bits((mrt_dtype)j.y->dtype) >= 8) {
    mrt_par_range(&c->par, n, 1, fn, &j);
    return NULL;
  }
  memset(j.y->data, 0, j.y->bytes); /* neighbours share bytes: one thread */
  fn(&j, 0, n);
  return NULL;
}
static mrt_status *quantize_run(mrt_kctx *c) { return run_job(c, quantize_range); }
static mrt_status *dequantize_run(mrt_kctx *c) { return run_job(c, dequantize_range); }

static mrt_status *quantize_infer(mrt_infer *c) {
  mrt_dtype zero = mrt_infer_dtype(c, 2);
  int64_t asked = mrt_node_int(c->node, "output_dtype");
  if (asked && !mrt_dtype_valid((int)asked))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "output_dtype is %lld", (long long)asked);
  if (zero && asked && zero != (mrt_dtype)asked)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "output_dtype is %s, the zero point's type %s",
                   mrt_dtype_name((mrt_dtype)asked), mrt_dtype_name(zero));
  if (mrt_infer_has(c, 2) && !zero) return NULL; /* not known yet */
  return mrt_infer_out_like(c, 0, 0, zero ? zero : asked ? (mrt_dtype)asked : MRT_UINT8);
}
static mrt_status *dequantize_infer(mrt_infer *c) {
  int64_t asked = mrt_node_int(c->node, "output_dtype");
  mrt_dtype scale = mrt_infer_dtype(c, 1);
  if (asked && asked != MRT_FLOAT && asked != MRT_FLOAT16 && asked != MRT_BFLOAT16)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "output_dtype is %lld", (long long)asked);
  if (!asked && !scale) return NULL;
  return mrt_infer_out_like(c, 0, 0,
                            asked                     ? (mrt_dtype)asked
                            : scale == MRT_FLOAT8E8M0 ? MRT_FLOAT
                                                      : scale);
}

/* ---- DynamicQuantizeLinear ---- */
static mrt_status *dynamic_infer(mrt_infer *c) {
  MRT_TRY(mrt_infer_out_like(c, 0, 0, MRT_UINT8));
  MRT_TRY(mrt_infer_out(c, 1, MRT_FLOAT, 0, NULL));
  return mrt_infer_out(c, 2, MRT_UINT8, 0, NULL);
}
static mrt_status *dynamic_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0), *ys = mrt_out(c, 1), *yz = mrt_out(c, 2);
  const float *p = x->data;
  int64_t n = mrt_tensor_count(x);
  float lo = 0, hi = 0, scale;
  int32_t zero;
  for (int64_t i = 0; i < n; ++i) {
    lo = p[i] < lo ? p[i] : lo;
    hi = p[i] > hi ? p[i] : hi;
  }
  mrt_quant_params_u8(lo, hi, &scale, &zero);
  if (ys) *(float *)ys->data = scale;
  if (yz) *(uint8_t *)yz->data = (uint8_t)zero;
  for (int64_t i = 0; y && i < n; ++i)
    ((uint8_t *)y->data)[i] = (uint8_t)mrt_quant_value(p[i], scale, zero, 0, 255);
  return NULL;
}

static const mrt_op_version v[] = {{10}, {13}, {19}, {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version dynamic_v[] = {{11}, {0}};
static const mrt_op_version ms_v[] = {{1}, {0}};
#define TARGETS "int8,uint8,int16,uint16,int4,uint4,int2,uint2,float4e2m1," MRT_T_FLOAT8
#define SCALES  "S=float,float16,bfloat16,int32,float8e8m0"
#define Q(d, ver)                                                                           \
  .domain = d, .name = "QuantizeLinear", .doc = "round(x / y_scale) + y_zero_point",        \
  .in = "x:T, y_scale:S, y_zero_point:Q?", .out = "y:Q",                                    \
  .types = "T=float,float16,bfloat16,int32;" SCALES ";Q=" TARGETS,                          \
  .attrs = "axis:int=1 saturate:int=1 block_size:int=0 output_dtype:int=0 precision:int=0", \
  .versions = ver, .infer = quantize_infer, .run = quantize_run
#define D(d, ver)                                                                 \
  .domain = d, .name = "DequantizeLinear", .doc = "(x - x_zero_point) * x_scale", \
  .in = "x:Q, x_scale:S, x_zero_point:Q?", .out = "y:T",                          \
  .types = "T=float,float16,bfloat16;" SCALES ";Q=int32," TARGETS,                \
  .attrs = "axis:int=1 block_size:int=0 output_dtype:int=0", .versions = ver,     \
  .flags = MRT_OP_WIDENS, .infer = dequantize_infer, .run = dequantize_run
MRT_OP(QuantizeLinear) = {Q("", v)};
MRT_OP(DequantizeLinear) = {D("", v)};
MRT_OP_IN(ms, QuantizeLinear) = {Q("com.microsoft", ms_v)};
MRT_OP_IN(ms, DequantizeLinear) = {D("com.microsoft", ms_v)};
MRT_OP(DynamicQuantizeLinear) = {.domain = "",
                                 .name = "DynamicQuantizeLinear",
                                 .doc = "to uint8 over the range that the input has",
                                 .in = "x:T",
                                 .out = "y:Q, y_scale:T, y_zero_point:Q",
                                 .types = "T=float;Q=uint8",
                                 .versions = dynamic_v,
                                 .infer = dynamic_infer,
                                 .run = dynamic_run};
