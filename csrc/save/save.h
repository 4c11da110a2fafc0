/* Writers: a graph out as a file that other programs read too. */
#ifndef MRT_SAVE_SAVE_H
#define MRT_SAVE_SAVE_H

#include "ir/op.h"

typedef struct mrt_save_options {
  /* Name of a file beside the model that takes the initializers of at least external_min_bytes;
   * NULL: they stand in the model. */
  const char *external_name;
  size_t external_min_bytes;
  /* Values of graph inputs that have a default (overridable initializers), NULL elsewhere; one per
   * graph input. NULL: there are none. */
  mrt_tensor *const *input_defaults;
} mrt_save_options;

/* Writes the model as ONNX. Its nodes are in the newest form (after the upgrade pass) and ONNX only
 * (after the decompose pass): the file's opset is the model's, or the first one that has every form
 * in use. The same model gives the same bytes. MRT_NOT_IMPLEMENTED for what ONNX cannot say,
 * MRT_FAIL beyond 2 GiB without external initializers. */
mrt_status *mrt_onnx_save(const mrt_model *model, const char *path,
                          const mrt_save_options *options) MRT_MUST_CHECK;

#endif
