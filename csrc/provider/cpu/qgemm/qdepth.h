/* Depthwise windows of bytes in NHWC on the four-way dot product, two output rows at once. Rows of
 * the image are copied into a ring: padded, unsigned, pixels of one phase of the stride together.
 * Then an output row is flat: byte f of it needs bytes f + offset of the copied rows, so blocks of
 * 64 bytes are full whatever the number of channels is; tables repeat every lcm(channels, 64).
 * Four taps at a time are interleaved by byte; the rows of both outputs' windows are one set of
 * taps, with a table of weights for either. */
#ifndef MRT_PROVIDER_CPU_QDEPTH_H
#define MRT_PROVIDER_CPU_QDEPTH_H

#include "provider/cpu/qgemm/qconv.h"

/* One pair of output rows. Vector v of a block's four holds channels 16 L + 4 v .. + 3 of lane L.
 */
typedef struct mrt_qdepth_rows {
  const uint8_t *const *tap; /* [quads * 4] */
  int64_t quads, period;     /* blocks until tables repeat */
  const int8_t *w;           /* [period][quads][output row][4][64]; qplanes.h has its own form */
  const int32_t *col;        /* [period][64] */
  const float *scale;        /* [period][64], below 1 */
  int64_t bytes;             /* of an output row */
  uint8_t *y[2];
  int32_t zero, lo, hi; /* lo, hi: bounds of the bytes stored */
  bool is_signed;
  bool shifted; /* sums are MRT_QSHIFT too high; not for mrt_qdepth_rows_avx512vnni */
} mrt_qdepth_rows;
void mrt_qdepth_rows_avx512vnni(const mrt_qdepth_rows *r);

bool mrt_qdepth_fits(const mrt_qconv *p); /* shapes and machine */
size_t mrt_qdepth_packed_size(const mrt_qconv *p);
/* false: a weight minus its zero point is no int8. */
bool mrt_qdepth_pack(const mrt_qconv *p, const uint8_t *w, const int32_t *w_zero, void *dst);
/* Tables of one call, or of all where everything is constant; false: factors are out of range. */
size_t mrt_qdepth_tables_size(const mrt_qconv *p);
bool mrt_qdepth_tables(const mrt_qconv *p, const mrt_qconv_args *a, void *at);
/* What the kernels want to know that is the same for all rows. tables NULL: without them. */
void mrt_qdepth_rows_of(const mrt_qconv *p, const mrt_qgemm_epilogue *e, const void *packed,
                        const void *tables, int64_t ow, mrt_qdepth_rows *out);
size_t mrt_qdepth_scratch(const mrt_par *par, const mrt_qconv *p, int64_t ow);
void mrt_qdepth_run(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a,
                    const void *packed, const void *tables, void *scratch);

#endif
