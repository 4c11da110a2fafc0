/* Depthwise windows of bytes: see qconv_depth.inl. */
#include "provider/cpu/qgemm/qconv.h"

#define FN mrt_qdepth_avx2
#include "provider/cpu/qgemm/qconv_depth.inl"
