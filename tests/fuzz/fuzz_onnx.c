/* libFuzzer over loading, passes and planning. What it must not find: a crash, a leak, a
 * sanitizer's report, bytes of ours that are live afterwards, a minute's work out of a small file.
 *
 *   ./dev build fuzz && build/fuzz/fuzz/fuzz_onnx -max_len=4096 FOLDER tests/fuzz/corpus */
#include "fuzz/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  limited l;
  mrt_session *s = NULL;
  limited_init(&l, (int64_t)256 << 20);
  mrt_status *st = model_open(&l.alloc, data, size, &s);
  if (!st != !!s) abort();
  mrt_status_free(st);
  mrt_session_release(s);
  if (l.live != 0) abort();
  return 0;
}
