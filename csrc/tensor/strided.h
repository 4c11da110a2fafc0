/* Copies between strided boxes of memory: what transposing, slicing, broadcasting, joining and
 * splitting come down to. */
#ifndef MRT_TENSOR_STRIDED_H
#define MRT_TENSOR_STRIDED_H

#include "base/threads.h"
#include "tensor/tensor.h"

/* dst[i . dst_strides] = src[i . src_strides] for every index i of the box dims[rank]; strides in
 * elements of `size` bytes, any sign, 0 in src repeats. The sides do not overlap. par NULL: on this
 * thread alone. Strings are moved as pointers. */
void mrt_strided_copy(const mrt_par *par, size_t size, int rank, const int64_t *dims, void *dst,
                      const int64_t *dst_strides, const void *src, const int64_t *src_strides);
/* Row-major strides of a shape. */
static inline void mrt_contiguous_strides(int rank, const int64_t *dims, int64_t *strides) {
  int64_t step = 1;
  for (int i = rank - 1; i >= 0; --i) {
    strides[i] = step;
    step *= dims[i];
  }
}

#endif
