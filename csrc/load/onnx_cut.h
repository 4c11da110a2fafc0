/* Cuts the payloads of tensors out of an ONNX file. What is left, the skeleton, is small and
 * harmless enough for protobuf-c, which copies every field and recurses without limit: unknown
 * fields and fields of another wire type are gone, nesting and size are bounded. */
#ifndef MRT_LOAD_ONNX_CUT_H
#define MRT_LOAD_ONNX_CUT_H

#include "base/alloc.h"
#include "load/wire.h"

/* One tensor: its message as it lies in the file (for the typed arrays, read again field by field),
 * and its raw_data. TensorProto.macart_payload of the skeleton counts from 0. */
typedef struct mrt_payload {
  mrt_wire body, raw;
  bool has_raw;
} mrt_payload;

typedef struct mrt_skeleton {
  const mrt_alloc *alloc;
  uint8_t *bytes; /* a ModelProto without payloads */
  size_t size, cap;
  mrt_payload *payloads;
  size_t n_payloads, cap_payloads;
  size_t n_messages;
} mrt_skeleton;

#define MRT_ONNX_MAX_DEPTH    100               /* protobuf's own limit */
#define MRT_ONNX_MAX_SKELETON ((size_t)1 << 28) /* bytes; lengths then fit four varint bytes */
#define MRT_ONNX_MAX_MESSAGES ((size_t)1 << 23)

/* `file` is a ModelProto and must outlive the payloads. MRT_INVALID_PROTOBUF when it is malformed
 * or beyond the limits. Deinit also after a failure. */
mrt_status *mrt_onnx_cut(const mrt_alloc *alloc, mrt_wire file, mrt_skeleton *out) MRT_MUST_CHECK;
void mrt_skeleton_deinit(mrt_skeleton *s);

mrt_status *mrt_onnx_malformed(void) MRT_MUST_CHECK;

#endif
