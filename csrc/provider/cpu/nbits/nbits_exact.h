/* One row of floats times 4-bit weights, exactly, by dot products of bytes. A block of the row
 * whose numbers lie within 15 binades is a row of integers below 2^38 times a power of two: five
 * signed digits of base 256. Their products with 4-bit weights are added up as integers, without
 * rounding; a block then costs one conversion and one multiplication by its scale. That takes half
 * of the instructions that floats do, since a mask unpacks 64 weights where a table lookup
 * unpacks 16. Other blocks (wider spread, infinities, NaN) are left to float32 arithmetic. */
#ifndef MRT_PROVIDER_CPU_NBITS_EXACT_H
#define MRT_PROVIDER_CPU_NBITS_EXACT_H

#include "provider/cpu/nbits/nbits.h"

enum {
  MRT_NBITS_DIGITS = 5,
  MRT_NBITS_EXACT_BLOCK = 4096, /* sums of longer blocks might not fit 32 bits */
  MRT_NBITS_EXACT_SLACK = 64    /* bytes past the digits that may be written and read */
};

/* The digits of a row, lowest first: [k / 8][MRT_NBITS_DIGITS][8 of k]. */
typedef struct mrt_nbits_exact_row {
  int8_t *digits;
  float *units;    /* [blocks]: what 1 in the lowest digit means; NaN: a block for floats */
  int32_t *starts; /* [blocks][MRT_NBITS_DIGITS]: -8 times the sum of the block's digits */
} mrt_nbits_exact_row;

typedef struct mrt_nbits_exact {
  void (*split)(const float *a, int64_t blocks, int64_t block, const mrt_nbits_exact_row *x);
  /* y[32] = the row times a panel of 4 bits without zeros. a: the floats that x was split from. */
  void (*dot)(const mrt_nbits_panel *p, const mrt_nbits_exact_row *x, const float *a, float *y);
} mrt_nbits_exact;

#ifdef MRT_HAVE_AVX512VNNI
extern const mrt_nbits_exact mrt_nbits_exact_avx512vnni;
#endif
/* NULL where floats are as fast: vpdpbusd must issue twice a cycle (where there is AMX it does; on
 * Zen 4 it does not). */
const mrt_nbits_exact *mrt_nbits_exact_get(void);

#endif
