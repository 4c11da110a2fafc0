/* Protocol-buffer wire format, read in place: a field at a time, every length checked, nothing
 * copied, no recursion here. Specification: protobuf.dev, "Encoding". */
#ifndef MRT_LOAD_WIRE_H
#define MRT_LOAD_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

typedef struct mrt_wire {
  const uint8_t *p, *end;
} mrt_wire;
typedef struct mrt_field {
  uint32_t number;
  int type;       /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
  uint64_t value; /* varint or fixed */
  mrt_wire bytes; /* type 2 */
} mrt_field;

static inline bool mrt_wire_varint(mrt_wire *w, uint64_t *out) {
  uint64_t v = 0;
  for (int shift = 0; shift < 70 && w->p < w->end; shift += 7) {
    uint8_t b = *w->p++;
    if (shift < 64) v |= (uint64_t)(b & 127) << shift;
    if (b < 128) {
      *out = v;
      return true;
    }
  }
  return false;
}

/* 1: a field; 0: the end; -1: malformed. Groups (wire types 3, 4) are malformed here. */
static inline int mrt_wire_next(mrt_wire *w, mrt_field *f) {
  uint64_t tag, n;
  if (w->p == w->end) return 0;
  if (!mrt_wire_varint(w, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return -1;
  f->number = (uint32_t)(tag >> 3);
  f->type = (int)(tag & 7);
  size_t left;
  switch (f->type) {
    case 0: return mrt_wire_varint(w, &f->value) ? 1 : -1;
    case 2:
      if (!mrt_wire_varint(w, &n)) return -1;
      left = (size_t)(w->end - w->p);
      if (n > left) return -1;
      f->bytes = (mrt_wire){w->p, w->p + n};
      w->p += n;
      return 1;
    case 1:
    case 5: {
      size_t size = f->type == 1 ? 8 : 4;
      if ((size_t)(w->end - w->p) < size) return -1;
      f->value = 0;
      memcpy(&f->value, w->p, size); /* little endian hosts */
      w->p += size;
      return 1;
    }
    default: return -1;
  }
}
static inline size_t mrt_wire_size(mrt_wire w) { return (size_t)(w.end - w.p); }

#endif
