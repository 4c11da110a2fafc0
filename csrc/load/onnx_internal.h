/* Shared by the files of the ONNX loader. */
#ifndef MRT_LOAD_ONNX_INTERNAL_H
#define MRT_LOAD_ONNX_INTERNAL_H

#include "load/load.h"
#include "load/wire.h"

typedef struct mrt_onnx {
  const mrt_alloc *alloc;
  mrt_blob *blob;
  mrt_model *model;
  mrt_map files; /* external data: location -> blob */
  int depth;
} mrt_onnx;

mrt_status *mrt_onnx_malformed(void) MRT_MUST_CHECK;
mrt_status *mrt_onnx_string(mrt_onnx *l, mrt_wire w, const char **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_entry(mrt_onnx *l, mrt_wire w, const char **key,
                           const char **value) MRT_MUST_CHECK; /* StringStringEntryProto */
/* The name may be NULL if it is not wanted. */
mrt_status *mrt_onnx_tensor(mrt_onnx *l, mrt_wire w, const char **out_name,
                            mrt_tensor **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_type(mrt_onnx *l, mrt_wire w, const mrt_type **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_graph(mrt_onnx *l, mrt_wire w, mrt_graph *parent,
                           mrt_graph **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_attr(mrt_onnx *l, mrt_wire w, mrt_node *node) MRT_MUST_CHECK;

#endif
