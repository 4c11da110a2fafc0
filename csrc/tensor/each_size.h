/* Include template over element sizes, for code that only moves data: T is an unsigned integer (or
 * struct) of 1, 2, 4, 8, 16 bytes and NAME(x) is x_1 .. x_16. See each_float.h. */
#ifndef MRT_TENSOR_EACH_SIZE_H
#define MRT_TENSOR_EACH_SIZE_H
typedef struct mrt_u128 {
  uint64_t lo, hi;
} mrt_u128;
#endif
#define T       uint8_t
#define NAME(x) x##_1
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint16_t
#define NAME(x) x##_2
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint32_t
#define NAME(x) x##_4
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint64_t
#define NAME(x) x##_8
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       mrt_u128
#define NAME(x) x##_16
#include MRT_TEMPLATE
#undef T
#undef NAME
#undef MRT_TEMPLATE
