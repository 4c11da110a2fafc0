/* Loops over bytes: see qbytes.inl. */
#include "provider/cpu/qgemm/qbytes.h"

#define TABLE mrt_qbytes_avx512vnni
#include "provider/cpu/qgemm/qbytes.inl"
