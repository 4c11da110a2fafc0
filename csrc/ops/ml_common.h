/* What the operators of ai.onnx.ml that give scores share. */
#ifndef MRT_OPS_ML_COMMON_H
#define MRT_OPS_ML_COMMON_H

#include "ops/common.h"

typedef enum mrt_ml_post {
  ML_NONE,
  ML_SOFTMAX,
  ML_LOGISTIC,
  ML_SOFTMAX_ZERO, /* zeros stay (nearly) zero */
  ML_PROBIT
} mrt_ml_post;
/* Attribute post_transform; a word that is not known is an error. */
mrt_status *mrt_ml_post_of(const mrt_node *node, mrt_ml_post *out) MRT_MUST_CHECK;
/* Transforms n scores of one row in place. */
void mrt_ml_transform(mrt_ml_post how, double *v, int64_t n);
/* One score v[0] of two classes becomes two. mixed: the score may be negative and its sign decides;
 * else it is a share of 1. Transforms too; false: the score stays alone (PROBIT). */
bool mrt_ml_binary(mrt_ml_post how, bool mixed, double *v);

/* Class names: attributes ints_name and strings_name of the node. */
typedef struct mrt_ml_labels {
  const int64_t *ints;
  const mrt_attr *strings;
  int n;
} mrt_ml_labels;
mrt_ml_labels mrt_ml_labels_of(const mrt_node *node, const char *ints_name,
                               const char *strings_name);
/* Puts label k (or the number k, or "", past the end) at element i of y. */
mrt_status *mrt_ml_put_label(const mrt_ml_labels *l, int64_t k, mrt_tensor *y,
                             int64_t i) MRT_MUST_CHECK;

/* A list attribute of n floats (n < 0: any number); NULL when it is absent or empty. Another length
 * is an error. */
mrt_status *mrt_ml_floats(const mrt_node *node, const char *name, int64_t n,
                          const float **out) MRT_MUST_CHECK;
int mrt_ml_count(const mrt_node *node, const char *name); /* of a list of floats; absent: 0 */
/* [rows, features] of the input; a vector is one row. */
mrt_status *mrt_ml_shape(const mrt_tensor *x, int64_t *rows, int64_t *features) MRT_MUST_CHECK;
const mrt_expr *mrt_ml_rows(const mrt_infer *c); /* the same rows as a symbol; NULL: unknown */
void mrt_ml_read_row(const mrt_tensor *x, int64_t row, int64_t n, double *out);
double mrt_ml_dot(const double *a, const float *b, int64_t n);

#define MRT_T_ML "float,double,int64,int32"

#endif
