/* Shared by the files of the ONNX loader. The messages come from protobuf-c and live until the load
 * ends; what the graph keeps is copied into the model's arena. */
#ifndef MRT_LOAD_ONNX_INTERNAL_H
#define MRT_LOAD_ONNX_INTERNAL_H

#include "gen/onnx.pb-c.h"
#include "load/load.h"
#include "load/onnx_cut.h"

typedef struct mrt_onnx {
  const mrt_alloc *alloc;
  mrt_blob *blob;
  mrt_model *model;
  mrt_skeleton cut;
  mrt_map files; /* external data: location -> blob */
  mrt_file_mode external;
  const mrt_opset *opsets; /* of the function whose body is read; NULL: the model's */
  int n_opsets;
} mrt_onnx;

/* Absent strings are "". */
static inline const char *mrt_onnx_str(const char *s) { return s ? s : ""; }
/* A copy in the model's arena. */
mrt_status *mrt_onnx_keep(mrt_onnx *l, const char *s, const char **out) MRT_MUST_CHECK;
/* metadata_props in the model's arena; none: *out stays as it is. */
mrt_status *mrt_onnx_metadata(mrt_onnx *l, size_t n, Onnx__StringStringEntryProto *const *p,
                              const mrt_metadata **out, int *out_n) MRT_MUST_CHECK;

/* onnx_type.c: NULL when the message names no type. */
mrt_status *mrt_onnx_type(mrt_onnx *l, const Onnx__TypeProto *p,
                          const mrt_type **out) MRT_MUST_CHECK;
/* onnx_tensor.c */
mrt_status *mrt_onnx_tensor(mrt_onnx *l, const Onnx__TensorProto *p,
                            mrt_tensor **out) MRT_MUST_CHECK;
/* Over the blob's memory, or a copy when it is small; n must be what the shape needs. */
mrt_status *mrt_onnx_over_bytes(mrt_onnx *l, mrt_blob *blob, const uint8_t *p, size_t n,
                                mrt_dtype dtype, int rank, const int64_t *dims,
                                mrt_tensor **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_sparse(mrt_onnx *l, const Onnx__SparseTensorProto *p,
                            mrt_sparse **out) MRT_MUST_CHECK;
/* onnx_external.c */
mrt_status *mrt_onnx_external(mrt_onnx *l, const Onnx__TensorProto *p, mrt_dtype dtype, int rank,
                              const int64_t *dims, mrt_tensor **out) MRT_MUST_CHECK;
/* onnx_attr.c: sets the attribute on the node; subgraphs are read on the way. */
mrt_status *mrt_onnx_attr(mrt_onnx *l, const Onnx__AttributeProto *p,
                          mrt_node *node) MRT_MUST_CHECK;
/* The attribute without subgraphs, in the model's arena (a function's defaults). */
mrt_status *mrt_onnx_attr_value(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_node *node,
                                mrt_attr *out) MRT_MUST_CHECK;
/* onnx_graph.c */
mrt_status *mrt_onnx_graph(mrt_onnx *l, const Onnx__GraphProto *p, mrt_graph *parent,
                           mrt_graph **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_function(mrt_onnx *l, const Onnx__FunctionProto *p,
                              mrt_function *out) MRT_MUST_CHECK;

#endif
