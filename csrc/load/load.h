/* Loaders: bytes in, graph out. Nothing above this folder knows a file format. Weights stay where
 * they are: tensors point into the blob and keep it alive, aligned or not (plan/align.c copies the
 * misaligned ones that some kernel reads unpacked). */
#ifndef MRT_LOAD_LOAD_H
#define MRT_LOAD_LOAD_H

#include "base/file.h"
#include "ir/ir.h"

/* path: of the model file ("" when it came from memory), for external data and messages.
 * external: how files of external data are read (MRT_FILE_READ copies, MRT_FILE_MAP does not). */
mrt_status *mrt_onnx_load(const mrt_alloc *alloc, mrt_blob *bytes, const char *path,
                          mrt_file_mode external, mrt_model **out) MRT_MUST_CHECK;

#endif
