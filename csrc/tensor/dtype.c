/* Element types: names, widths, scalar conversions and the slow, complete element access. */
#include "tensor/dtype.h"

#include <math.h>
#include <string.h>

static const struct {
  const char *name, *numpy;
  int bits;
} types[MRT_DTYPE_COUNT] = {
    {"undefined", "", 0},
#define MRT_DTYPE(id, number, name, bits, numpy) [number] = {name, numpy, bits},
#include "tensor/dtype.def"
#undef MRT_DTYPE
};

bool mrt_dtype_valid(int number) { return number > 0 && number < MRT_DTYPE_COUNT; }
int mrt_dtype_bits(mrt_dtype dtype) { return dtype == MRT_STRING ? 64 : types[dtype].bits; }
const char *mrt_dtype_name(mrt_dtype dtype) { return types[dtype].name; }
const char *mrt_dtype_numpy_name(mrt_dtype dtype) { return types[dtype].numpy; }
mrt_dtype mrt_dtype_from_name(const char *name, size_t len) {
  for (int i = 1; i < MRT_DTYPE_COUNT; ++i)
    if (strlen(types[i].name) == len && memcmp(types[i].name, name, len) == 0) return (mrt_dtype)i;
  return MRT_UNDEFINED;
}
bool mrt_dtype_is_float(mrt_dtype d) {
  return d == MRT_FLOAT || d == MRT_DOUBLE || d == MRT_FLOAT16 || d == MRT_BFLOAT16 ||
         (d >= MRT_FLOAT8E4M3FN && d <= MRT_FLOAT8E5M2FNUZ) || d == MRT_FLOAT4E2M1 ||
         d == MRT_FLOAT8E8M0;
}
bool mrt_dtype_is_int(mrt_dtype d) {
  return (d >= MRT_UINT8 && d <= MRT_INT64) || d == MRT_UINT32 || d == MRT_UINT64 ||
         d == MRT_UINT4 || d == MRT_INT4 || d == MRT_UINT2 || d == MRT_INT2;
}
bool mrt_dtype_is_signed(mrt_dtype d) {
  return d == MRT_INT8 || d == MRT_INT16 || d == MRT_INT32 || d == MRT_INT64 || d == MRT_INT4 ||
         d == MRT_INT2 || mrt_dtype_is_float(d);
}
bool mrt_dtype_bytes(mrt_dtype dtype, int64_t n, size_t *out) {
  size_t bits;
  if (n < 0 || !mrt_size_mul((size_t)n, (size_t)mrt_dtype_bits(dtype), &bits)) return false;
  if (bits > SIZE_MAX - 7) return false;
  *out = (bits + 7) / 8;
  return true;
}

static uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}
static float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

float mrt_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
  if (e == 31) return float_of(sign | 0x7f800000 | m << 13);
  if (e) return float_of(sign | (e + 112) << 23 | m << 13);
  float f = (float)m * 0x1p-24f; /* exact */
  return sign ? -f : f;
}

uint16_t mrt_f32_to_f16(float f) {
  uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
  if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to beyond 65504 */
  if (a < 0x38800000) { /* subnormal: the addition rounds to nearest even */
    float r = float_of(a) + 0.5f;
    return (uint16_t)(sign | (bits_of(r) - 0x3f000000));
  }
  uint32_t r = a + 0xfff + (a >> 13 & 1);
  return (uint16_t)(sign | ((r >> 13) - (112 << 10)));
}

uint16_t mrt_f32_to_bf16(float f) {
  uint32_t u = bits_of(f);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Small floats by their parameters: exponent bits, mantissa bits, bias. */
typedef struct small {
  int e_bits, m_bits, bias;
  bool fn, uz; /* fn: no infinity, all ones is NaN; uz: 0x80 is the only NaN, no -0 */
} small;
static small small_kind(mrt_dtype k) {
  switch (k) {
    case MRT_FLOAT8E4M3FN: return (small){4, 3, 7, true, false};
    case MRT_FLOAT8E4M3FNUZ: return (small){4, 3, 8, true, true};
    case MRT_FLOAT8E5M2: return (small){5, 2, 15, false, false};
    default: return (small){5, 2, 16, true, true};
  }
}

float mrt_f8_to_f32(mrt_dtype kind, uint8_t v) {
  if (kind == MRT_FLOAT8E8M0) return v == 255 ? NAN : ldexpf(1.0f, (int)v - 127);
  small s = small_kind(kind);
  int sign = v >> 7, e = v >> s.m_bits & ((1 << s.e_bits) - 1), m = v & ((1 << s.m_bits) - 1);
  if (s.uz && v == 0x80) return NAN;
  if (!s.uz && s.fn && (v & 0x7f) == 0x7f) return sign ? -NAN : NAN;
  if (!s.fn && e == 31) return m ? NAN : sign ? -INFINITY : INFINITY;
  float f = e ? ldexpf((float)(m | 1 << s.m_bits), e - s.bias - s.m_bits)
              : ldexpf((float)m, 1 - s.bias - s.m_bits);
  return sign ? -f : f;
}

uint8_t mrt_f32_to_e8m0(float f, mrt_round round, bool saturate) {
  uint32_t u = bits_of(f), e = u >> 23 & 255, m = u & 0x7fffff;
  bool up = false;
  if (e == 255) return 255; /* NaN; infinities too, this format has none */
  if (round == MRT_ROUND_UP)
    up = m != 0;
  else if (round == MRT_ROUND_NEAREST) /* halves go up, but to 2^-126 only from above the half */
    up = e ? m >= 0x400000 : m > 0x400000;
  if (up && !(saturate && e == 254)) ++e;
  return (uint8_t)e;
}

uint8_t mrt_f32_to_f8(mrt_dtype kind, float f, bool saturate) {
  if (kind == MRT_FLOAT8E8M0) return mrt_f32_to_e8m0(f, MRT_ROUND_UP, saturate);
  small s = small_kind(kind);
  uint8_t sign = signbit(f) ? 0x80 : 0;
  uint8_t nan = s.uz ? 0x80 : s.fn ? (uint8_t)(sign | 0x7f) : (uint8_t)(sign | 0x7f);
  uint8_t top = s.uz ? 0x7f : s.fn ? 0x7e : 0x7b; /* largest finite */
  uint8_t over = saturate ? (uint8_t)(sign | top)
                 : s.fn   ? nan
                          : (uint8_t)(sign | 0x7c); /* e5m2 has an infinity */
  if (isnan(f)) return nan;
  float a = fabsf(f);
  if (isinf(f)) return over;
  if (a == 0) return s.uz ? 0 : sign;
  int e;
  frexpf(a, &e);
  e -= 1; /* a in [2^e, 2^(e+1)) */
  int low = 1 - s.bias;
  if (e < low) e = low;
  float scaled = ldexpf(a, s.m_bits - e), q = rintf(scaled); /* round to nearest even */
  int m = (int)q;
  if (m >= 2 << s.m_bits) {
    m >>= 1;
    ++e;
  }
  int code = m >= 1 << s.m_bits ? (e - low + 1) << s.m_bits | (m & ((1 << s.m_bits) - 1)) : m;
  if (code > top) return over;
  if (code == 0) return s.uz ? 0 : sign;
  return (uint8_t)(sign | code);
}

static const float f4_values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
float mrt_f4_to_f32(uint8_t n) { return n & 8 ? -f4_values[n & 7] : f4_values[n & 7]; }
uint8_t mrt_f32_to_f4(float f) {
  uint8_t sign = signbit(f) ? 8 : 0;
  if (isnan(f)) return 8 ^ sign; /* no NaN in this format: ONNX's data has a zero */
  float a = fabsf(f);
  if (a > 5) return sign | 7; /* the tie at 5 goes to 4 below */
  int best = 0;
  for (int i = 1; i < 8; ++i) {
    float d = fabsf(a - f4_values[i]), b = fabsf(a - f4_values[best]);
    if (d < b || (d == b && i % 2 == 0)) best = i; /* ties to even mantissa */
  }
  return (uint8_t)(sign | best);
}

static unsigned nibble(const void *data, int64_t i) {
  return ((const uint8_t *)data)[i / 2] >> (i % 2 * 4) & 15;
}
static unsigned crumb(const void *data, int64_t i) {
  return ((const uint8_t *)data)[i / 4] >> (i % 4 * 2) & 3;
}
static void put_small(void *data, int64_t i, int bits, unsigned v) {
  int per = 8 / bits, shift = (int)(i % per) * bits;
  uint8_t *p = (uint8_t *)data + i / per, mask = (uint8_t)(((1 << bits) - 1) << shift);
  *p = (uint8_t)((*p & ~mask) | ((v << shift) & mask));
}

/* Constants may lie misaligned in their file (plan/align.c): these two read at any address. */
#define ANY(type) type __attribute__((aligned(1), may_alias))
typedef ANY(uint16_t) any_u16;
typedef ANY(int16_t) any_i16;
typedef ANY(uint32_t) any_u32;
typedef ANY(int32_t) any_i32;
typedef ANY(uint64_t) any_u64;
typedef ANY(int64_t) any_i64;
typedef ANY(float) any_f32;
typedef ANY(double) any_f64;

int64_t mrt_elem_get_i64(mrt_dtype dtype, const void *data, int64_t i) {
  switch (dtype) {
    case MRT_UINT8: return ((const uint8_t *)data)[i];
    case MRT_INT8: return ((const int8_t *)data)[i];
    case MRT_UINT16: return ((const any_u16 *)data)[i];
    case MRT_INT16: return ((const any_i16 *)data)[i];
    case MRT_INT32: return ((const any_i32 *)data)[i];
    case MRT_INT64: return ((const any_i64 *)data)[i];
    case MRT_UINT32: return ((const any_u32 *)data)[i];
    case MRT_UINT64: return (int64_t)((const any_u64 *)data)[i];
    case MRT_BOOL: return ((const uint8_t *)data)[i] != 0;
    case MRT_UINT4: return nibble(data, i);
    case MRT_INT4: return (int64_t)(nibble(data, i) ^ 8) - 8;
    case MRT_UINT2: return crumb(data, i);
    case MRT_INT2: return (int64_t)(crumb(data, i) ^ 2) - 2;
    default: {
      double v = mrt_elem_get_f64(dtype, data, i);
      if (isnan(v)) return 0;
      if (v >= 9223372036854775807.0) return INT64_MAX;
      if (v <= -9223372036854775808.0) return INT64_MIN;
      return (int64_t)v;
    }
  }
}

double mrt_elem_get_f64(mrt_dtype dtype, const void *data, int64_t i) {
  switch (dtype) {
    case MRT_FLOAT: return ((const any_f32 *)data)[i];
    case MRT_DOUBLE: return ((const any_f64 *)data)[i];
    case MRT_FLOAT16: return mrt_f16_to_f32(((const any_u16 *)data)[i]);
    case MRT_BFLOAT16: return mrt_bf16_to_f32(((const any_u16 *)data)[i]);
    case MRT_UINT64: return (double)((const any_u64 *)data)[i];
    case MRT_FLOAT8E4M3FN:
    case MRT_FLOAT8E4M3FNUZ:
    case MRT_FLOAT8E5M2:
    case MRT_FLOAT8E5M2FNUZ:
    case MRT_FLOAT8E8M0: return mrt_f8_to_f32(dtype, ((const uint8_t *)data)[i]);
    case MRT_FLOAT4E2M1: return mrt_f4_to_f32((uint8_t)nibble(data, i));
    case MRT_UNDEFINED:
    case MRT_STRING:
    case MRT_COMPLEX64:
    case MRT_COMPLEX128: return NAN;
    default: return (double)mrt_elem_get_i64(dtype, data, i);
  }
}

void mrt_elem_set_i64(mrt_dtype dtype, void *data, int64_t i, int64_t v) {
  switch (dtype) {
    case MRT_UINT8: ((uint8_t *)data)[i] = (uint8_t)v; break;
    case MRT_INT8: ((int8_t *)data)[i] = (int8_t)v; break;
    case MRT_UINT16: ((uint16_t *)data)[i] = (uint16_t)v; break;
    case MRT_INT16: ((int16_t *)data)[i] = (int16_t)v; break;
    case MRT_INT32: ((int32_t *)data)[i] = (int32_t)v; break;
    case MRT_INT64: ((int64_t *)data)[i] = v; break;
    case MRT_UINT32: ((uint32_t *)data)[i] = (uint32_t)v; break;
    case MRT_UINT64: ((uint64_t *)data)[i] = (uint64_t)v; break;
    case MRT_BOOL: ((uint8_t *)data)[i] = v != 0; break;
    case MRT_UINT4:
    case MRT_INT4: put_small(data, i, 4, (unsigned)v & 15); break;
    case MRT_UINT2:
    case MRT_INT2: put_small(data, i, 2, (unsigned)v & 3); break;
    default: mrt_elem_set_f64(dtype, data, i, (double)v);
  }
}

static int64_t to_i64(double v) {
  if (isnan(v)) return 0;
  if (v >= 9223372036854775807.0) return INT64_MAX;
  if (v <= -9223372036854775808.0) return INT64_MIN;
  return (int64_t)v;
}

void mrt_elem_set_f64(mrt_dtype dtype, void *data, int64_t i, double v) {
  switch (dtype) {
    case MRT_FLOAT: ((float *)data)[i] = (float)v; break;
    case MRT_DOUBLE: ((double *)data)[i] = v; break;
    case MRT_FLOAT16: ((uint16_t *)data)[i] = mrt_f32_to_f16((float)v); break;
    case MRT_BFLOAT16: ((uint16_t *)data)[i] = mrt_f32_to_bf16((float)v); break;
    case MRT_FLOAT8E4M3FN:
    case MRT_FLOAT8E4M3FNUZ:
    case MRT_FLOAT8E5M2:
    case MRT_FLOAT8E5M2FNUZ:
    case MRT_FLOAT8E8M0: ((uint8_t *)data)[i] = mrt_f32_to_f8(dtype, (float)v, true); break;
    case MRT_FLOAT4E2M1: put_small(data, i, 4, mrt_f32_to_f4((float)v)); break;
    case MRT_BOOL: ((uint8_t *)data)[i] = v != 0; break;
    case MRT_UINT64:
      ((uint64_t *)data)[i] = v >= 9223372036854775808.0 && v < 18446744073709551616.0
                                  ? (uint64_t)v
                                  : (uint64_t)to_i64(v);
      break;
    case MRT_UNDEFINED:
    case MRT_STRING:
    case MRT_COMPLEX64:
    case MRT_COMPLEX128: break;
    default: mrt_elem_set_i64(dtype, data, i, to_i64(v));
  }
}

void mrt_convert_to_f32(mrt_dtype from, const void *src, int64_t first, int64_t n, float *dst) {
  switch (from) {
    case MRT_FLOAT: memcpy(dst, (const float *)src + first, (size_t)n * 4); return;
    case MRT_DOUBLE:
      for (int64_t i = 0; i < n; ++i) dst[i] = (float)((const double *)src)[first + i];
      return;
    case MRT_FLOAT16:
      for (int64_t i = 0; i < n; ++i) dst[i] = mrt_f16_to_f32(((const uint16_t *)src)[first + i]);
      return;
    case MRT_BFLOAT16:
      for (int64_t i = 0; i < n; ++i) dst[i] = mrt_bf16_to_f32(((const uint16_t *)src)[first + i]);
      return;
    case MRT_UINT8:
      for (int64_t i = 0; i < n; ++i) dst[i] = ((const uint8_t *)src)[first + i];
      return;
    case MRT_INT8:
      for (int64_t i = 0; i < n; ++i) dst[i] = ((const int8_t *)src)[first + i];
      return;
    case MRT_INT32:
      for (int64_t i = 0; i < n; ++i) dst[i] = (float)((const int32_t *)src)[first + i];
      return;
    default:
      for (int64_t i = 0; i < n; ++i) dst[i] = (float)mrt_elem_get_f64(from, src, first + i);
  }
}

void mrt_convert_from_f32(mrt_dtype to, void *dst, int64_t first, int64_t n, const float *src) {
  switch (to) {
    case MRT_FLOAT: memcpy((float *)dst + first, src, (size_t)n * 4); return;
    case MRT_FLOAT16:
      for (int64_t i = 0; i < n; ++i) ((uint16_t *)dst)[first + i] = mrt_f32_to_f16(src[i]);
      return;
    case MRT_BFLOAT16:
      for (int64_t i = 0; i < n; ++i) ((uint16_t *)dst)[first + i] = mrt_f32_to_bf16(src[i]);
      return;
    default:
      for (int64_t i = 0; i < n; ++i) mrt_elem_set_f64(to, dst, first + i, src[i]);
  }
}
