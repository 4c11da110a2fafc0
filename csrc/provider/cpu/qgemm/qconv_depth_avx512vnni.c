/* Depthwise windows of bytes: see qconv_depth.inl. */
#include "provider/cpu/qgemm/qconv.h"

#define FN mrt_qdepth_avx512vnni
#include "provider/cpu/qgemm/qconv_depth.inl"
