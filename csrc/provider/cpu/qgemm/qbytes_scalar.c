/* Loops over bytes: see qbytes.inl. */
#include "provider/cpu/qgemm/qbytes.h"

#define TABLE mrt_qbytes_scalar
#include "provider/cpu/qgemm/qbytes.inl"
