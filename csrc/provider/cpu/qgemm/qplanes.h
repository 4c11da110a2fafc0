/* Depthwise windows of up to three rows whose channels come in multiples of 16: four rows of the
 * image are interleaved once, byte by byte, so that a dword holds a column of the window, and the
 * taps of a row are the same bytes some pixels further on. Vector v of 64 interleaved channels
 * (channels 16 L + 4 v .. + 3 in lane L) goes to plane v, where it takes 16 bytes for each 16
 * channels: a plane has the strides of an image row, and any tap of it is one plain load.
 *
 * Strides of 1 compute two output rows from the same four rows, others one at a time from planes
 * for even and for odd pixels. Rows whose channels are multiples of 64 are taken 64 channels at a
 * time, others as they are, bytes of several pixels in a vector. */
#ifndef MRT_PROVIDER_CPU_QPLANES_H
#define MRT_PROVIDER_CPU_QPLANES_H

#include "provider/cpu/qgemm/qdepth.h"

enum { MRT_QPLANES_ROWS = 4, MRT_QPLANES_TAPS = 16 /* of a row, at most */ };

/* `runs` runs of `bytes` bytes, `step` apart, of four rows; gaps between runs are squeezed out. */
typedef struct mrt_qplanes_fill {
  const uint8_t *row[MRT_QPLANES_ROWS]; /* lines of the image; one outside of it: 64 bytes */
  int64_t mask[MRT_QPLANES_ROWS];       /* -1, or 0 outside of the image */
  int64_t runs, bytes, step;
  int64_t safe; /* 64 bytes may be read at offsets up to this */
  uint8_t flip;
  uint8_t *to;   /* in plane 0 */
  int64_t plane; /* bytes from plane to plane */
} mrt_qplanes_fill;
void mrt_qplanes_fill_avx512vnni(const mrt_qplanes_fill *f);
void mrt_qplanes_fill_avx2(const mrt_qplanes_fill *f);

typedef struct mrt_qplanes_dots {
  const uint8_t *const *tap; /* [taps], in plane 0 */
  int64_t taps, plane;
  const int8_t *w;       /* [period][taps][4][64]; the second row's: one byte up in each dword */
  const int32_t *col;    /* [period][64] */
  const float *scale;    /* [period][64], below 1 */
  int64_t first, period; /* block that tables begin with; blocks until they repeat */
  int64_t bytes, step;   /* of results; from 64 of them to the next */
  uint8_t *y[2];         /* y[1] NULL: one row */
  int32_t zero, lo, hi;  /* lo, hi: bounds of the bytes stored */
  bool is_signed, shifted;
} mrt_qplanes_dots;
void mrt_qplanes_dots_avx512vnni(const mrt_qplanes_dots *d);
void mrt_qplanes_dots_avx2(const mrt_qplanes_dots *d);

bool mrt_qplanes_fits(const mrt_qconv *p); /* of what qdepth.h computes */
bool mrt_qplanes_machine(void);            /* there are loops for it */
size_t mrt_qplanes_worker_bytes(const mrt_qconv *p, int64_t ow);

/* Rows of an image, or a ring of them: row r is number r - first, or r % ring. */
typedef struct mrt_qplanes_image {
  const uint8_t *x, *end; /* end of what may be read */
  int64_t first, ring;    /* ring 0: none */
  int64_t h, w, pitch;    /* pitch: bytes from pixel to pixel */
  int64_t slice;          /* the only slice of 64 channels that is there; -1: all are */
  bool is_signed;
  int32_t zero;
} mrt_qplanes_image;

/* Output rows [y0, y1) of ow pixels, slices [s0, s1) of 64 channels (where cout is no multiple of
 * 64: all of them as slice 0). y: row y0, of all channels. `space`: of the worker, 64-byte aligned;
 * r: what is the same for all rows. */
int64_t mrt_qplanes_slices(const mrt_qconv *p);
void mrt_qplanes_run(const mrt_qconv *p, const mrt_qplanes_image *x, const mrt_qdepth_rows *r,
                     int64_t ow, int64_t y0, int64_t y1, int64_t s0, int64_t s1, uint8_t *y,
                     uint8_t *space);

#endif
