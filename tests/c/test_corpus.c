/* Replays the fuzzer's corpus without the fuzzer: seeds load and run, crashers of the past end in a
 * status; nothing is live afterwards. */
#include "check.h"
#include "fuzz/models.h"

static void replay(const char *name, const uint8_t *data, size_t size, void *arg) {
  limited l;
  mrt_session *s = NULL;
  uint64_t hash;
  (void)arg;
  limited_init(&l, (int64_t)256 << 20);
  mrt_status *st = model_open(&l.alloc, data, size, &s);
  bool seed = strncmp(name, "seed_", 5) == 0;
  if (!st && seed) st = model_run(s, &hash);
  if (st && seed) {
    fprintf(stderr, "%s: %s\n", name, mrt_status_message(st));
    ++check_failures;
  }
  mrt_status_free(st);
  mrt_session_release(s);
  if (l.live) fprintf(stderr, "%s:\n", name);
  CHECK_EQ_I(l.live, 0);
}

int main(void) {
  CHECK(model_files(MRT_SOURCE_DIR "/tests/fuzz/corpus", "", replay, NULL) > 25);
  return CHECK_DONE();
}
