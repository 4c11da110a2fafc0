/* Shared by the files of the ONNX writer: messages of protobuf-c are built in an arena, without the
 * elements of tensors; those are spliced in when the file is written. */
#ifndef MRT_SAVE_ONNX_INTERNAL_H
#define MRT_SAVE_ONNX_INTERNAL_H

#include "base/str.h"
#include "base/writer.h"
#include "gen/onnx.pb-c.h"
#include "save/save.h"

typedef struct mrt_saved_payload {
  const void *data;
  size_t bytes;
} mrt_saved_payload;

typedef struct mrt_onnx_saver {
  const mrt_alloc *alloc;
  const mrt_model *model;
  const mrt_save_options *options;
  mrt_arena *arena;
  mrt_map names;        /* taken names -> var */
  mrt_map given;        /* var -> name in the file */
  mrt_writer *external; /* NULL: everything stands in the model */
  mrt_saved_payload *payloads;
  size_t n_payloads, cap_payloads;
  mrt_opset *opsets; /* domains in use, and the versions that their nodes need */
  int n_opsets;
  size_t cap_opsets;
} mrt_onnx_saver;

/* onnx_build.c: the main graph. */
/* Lines of metadata_props; none: *out stays NULL. */
mrt_status *mrt_onnx_build_metadata(mrt_onnx_saver *s, const mrt_metadata *from, int n,
                                    Onnx__StringStringEntryProto ***out,
                                    size_t *out_n) MRT_MUST_CHECK;
mrt_status *mrt_onnx_build_graph(mrt_onnx_saver *s, const mrt_graph *g,
                                 Onnx__GraphProto **out) MRT_MUST_CHECK;
/* onnx_build_value.c */
mrt_status *mrt_onnx_build_type(mrt_onnx_saver *s, const mrt_type *t,
                                Onnx__TypeProto **out) MRT_MUST_CHECK;
/* external: may go into the file beside the model. */
mrt_status *mrt_onnx_build_tensor(mrt_onnx_saver *s, const char *name, const mrt_tensor *t,
                                  bool external, Onnx__TensorProto **out) MRT_MUST_CHECK;
mrt_status *mrt_onnx_build_sparse(mrt_onnx_saver *s, const mrt_sparse *v,
                                  Onnx__SparseTensorProto **out) MRT_MUST_CHECK;
/* onnx_splice.c: writes the packed ModelProto with the payloads in their places. */
mrt_status *mrt_onnx_splice(const mrt_onnx_saver *s, const uint8_t *bytes, size_t size,
                            mrt_writer *w) MRT_MUST_CHECK;

#endif
