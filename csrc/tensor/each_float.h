/* Include template: #define MRT_TEMPLATE "file.inl", then include this. The body is compiled once
 * per native floating type with T (the C type) and NAME(x) (x with a type suffix) defined. */
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
#undef MRT_TEMPLATE
