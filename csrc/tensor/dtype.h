/* Element types: ONNX's, with TensorProto's numbers. Elements narrower than a byte are packed as
 * ONNX packs them, the first element in the low bits. */
#ifndef MRT_TENSOR_DTYPE_H
#define MRT_TENSOR_DTYPE_H

#include "base/alloc.h"

typedef enum mrt_dtype {
  MRT_UNDEFINED = 0,
#define MRT_DTYPE(id, number, name, bits, numpy) id = number,
#include "tensor/dtype.def"
#undef MRT_DTYPE
  MRT_DTYPE_COUNT = 27
} mrt_dtype;

bool mrt_dtype_valid(int number);            /* a number from a file */
int mrt_dtype_bits(mrt_dtype dtype);         /* string: 64 (a pointer) */
const char *mrt_dtype_name(mrt_dtype dtype); /* "float"; "undefined" */
const char *mrt_dtype_numpy_name(mrt_dtype dtype);
mrt_dtype mrt_dtype_from_name(const char *name, size_t len); /* MRT_UNDEFINED if none */
bool mrt_dtype_is_float(mrt_dtype dtype);                    /* every floating kind, not complex */
bool mrt_dtype_is_int(mrt_dtype dtype); /* signed or unsigned integers, not bool */
bool mrt_dtype_is_signed(mrt_dtype dtype);
/* Bytes of n elements; false on overflow or n < 0. */
bool mrt_dtype_bytes(mrt_dtype dtype, int64_t n, size_t *out);

/* Scalar conversions, round to nearest even; saturation as ONNX Cast describes. */
float mrt_f16_to_f32(uint16_t h);
uint16_t mrt_f32_to_f16(float f);
static inline float mrt_bf16_to_f32(uint16_t h) {
  union {
    uint32_t u;
    float f;
  } v = {(uint32_t)h << 16};
  return v.f;
}
uint16_t mrt_f32_to_bf16(float f);              /* NaN stays NaN */
float mrt_f8_to_f32(mrt_dtype kind, uint8_t v); /* the four float8 kinds and e8m0 */
uint8_t mrt_f32_to_f8(mrt_dtype kind, float f, bool saturate);
/* The sign is dropped: the format has none. */
typedef enum mrt_round { MRT_ROUND_UP, MRT_ROUND_DOWN, MRT_ROUND_NEAREST } mrt_round;
uint8_t mrt_f32_to_e8m0(float f, mrt_round round, bool saturate);
float mrt_f4_to_f32(uint8_t nibble);
uint8_t mrt_f32_to_f4(float f);

/* Any numeric element (not string, not complex) as double / from double; i: element index.
 * Slow and complete: the specification that fast loops are tested against. */
double mrt_elem_get_f64(mrt_dtype dtype, const void *data, int64_t i);
void mrt_elem_set_f64(mrt_dtype dtype, void *data, int64_t i, double value);
int64_t mrt_elem_get_i64(mrt_dtype dtype, const void *data, int64_t i); /* exact for integers */
void mrt_elem_set_i64(mrt_dtype dtype, void *data, int64_t i, int64_t value);

/* Whole blocks: n elements of a float kind (or bfloat16, float16, float8, double, any integer,
 * bool, sub-byte kinds) to float32 and back. */
void mrt_convert_to_f32(mrt_dtype from, const void *src, int64_t first, int64_t n, float *dst);
void mrt_convert_from_f32(mrt_dtype to, void *dst, int64_t first, int64_t n, const float *src);

#endif
