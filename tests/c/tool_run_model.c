/* Runs a model N times on zeros, one thread, and nothing else: what tests/py/test_instructions.py
 * counts instructions of.  tool_run_model MODEL N */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exec/session.h"

static mrt_status *make_feeds(const mrt_session *s, int *index, mrt_value **feeds) {
  for (int i = 0; i < mrt_session_n_inputs(s); ++i) {
    const mrt_type *t = mrt_session_input(s, i)->type;
    int64_t dims[MRT_MAX_RANK];
    mrt_tensor *tensor = NULL;
    for (int k = 0; k < t->rank; ++k)
      if (!mrt_expr_is_const(t->dims[k], &dims[k])) dims[k] = 1;
    MRT_TRY(mrt_tensor_create(mrt_alloc_default(), t->dtype, t->rank, dims, &tensor));
    memset(tensor->data, 0, tensor->bytes);
    index[i] = i;
    feeds[i] = &tensor->base;
  }
  return NULL;
}

static mrt_status *work(const char *path, int n) {
  mrt_session_options options = {.level = 99, .intra_op_threads = 1, .log_level = 4};
  mrt_source source = {.path = path};
  mrt_session *s = NULL;
  int index[16], fetch[16], n_out;
  mrt_value *feeds[16] = {0};
  MRT_TRY(mrt_session_create(&options, &source, &s));
  if (mrt_session_n_inputs(s) > 16 || mrt_session_n_outputs(s) > 16)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than 16 inputs or outputs");
  mrt_status *st = make_feeds(s, index, feeds);
  n_out = mrt_session_n_outputs(s);
  for (int i = 0; i < n_out; ++i) fetch[i] = i;
  for (int i = 0; i < n && !st; ++i) {
    mrt_value *out[16] = {0};
    st = mrt_session_run(s, NULL, mrt_session_n_inputs(s), index, feeds, n_out, fetch, out);
    for (int k = 0; k < n_out; ++k) mrt_value_release(out[k]);
  }
  for (int i = 0; i < 16; ++i) mrt_value_release(feeds[i]);
  mrt_session_release(s);
  return st;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  mrt_status *st = work(argv[1], atoi(argv[2]));
  if (!st) return 0;
  fprintf(stderr, "%s\n", mrt_status_message(st));
  mrt_status_free(st);
  return 1;
}
