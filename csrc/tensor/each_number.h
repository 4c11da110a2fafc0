/* Include template over the native number types: see each_float.h. */
#define T       float
#define NAME(x) x##_f32
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       double
#define NAME(x) x##_f64
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       int8_t
#define NAME(x) x##_i8
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       int16_t
#define NAME(x) x##_i16
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       int32_t
#define NAME(x) x##_i32
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       int64_t
#define NAME(x) x##_i64
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint8_t
#define NAME(x) x##_u8
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint16_t
#define NAME(x) x##_u16
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint32_t
#define NAME(x) x##_u32
#include MRT_TEMPLATE
#undef T
#undef NAME
#define T       uint64_t
#define NAME(x) x##_u64
#include MRT_TEMPLATE
#undef T
#undef NAME
#undef MRT_TEMPLATE
