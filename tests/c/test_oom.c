/* Memory that runs out: every seed of the fuzzer's corpus (one feature each) is loaded, built and
 * run while allocation k and all after it fail, for k = 0, 1, 2 ... Each ends in OUT_OF_MEMORY, or
 * in the right result where memory was only wanted to be faster; nothing is live afterwards. */
#include "check.h"
#include "fuzz/models.h"

static mrt_status *open_and_run(const mrt_alloc *alloc, const uint8_t *data, size_t size,
                                uint64_t *hash) {
  mrt_session *s = NULL;
  MRT_TRY(model_open(alloc, data, size, &s));
  mrt_status *st = model_run(s, hash);
  mrt_session_release(s);
  return st;
}

static void fail_each(const char *name, const uint8_t *data, size_t size, void *arg) {
  int64_t *refused = arg;
  uint64_t right = 0, hash = 0;
  CHECK_OK(open_and_run(mrt_alloc_default(), data, size, &right));
  for (int64_t k = 0;; ++k) {
    mrt_alloc_failing f;
    mrt_alloc_failing_init(&f, mrt_alloc_default(), k);
    mrt_status *st = open_and_run(&f.alloc, data, size, &hash);
    int before = check_failures;
    if (st)
      CHECK_EQ_I(mrt_status_code(st), MRT_OUT_OF_MEMORY);
    else
      CHECK(hash == right);
    CHECK_EQ_I(f.live, 0);
    if (check_failures != before)
      fprintf(stderr, "%s: k = %lld: %s\n", name, (long long)k, mrt_status_message(st));
    *refused += st != NULL;
    mrt_status_free(st);
    if (k >= f.count || check_failures > 20) return; /* memory sufficed */
  }
}

int main(int argc, char **argv) {
  int64_t refused = 0;
  const char *prefix = argc > 1 ? argv[1] : "seed_";
  int n = model_files(MRT_SOURCE_DIR "/tests/fuzz/corpus", prefix, fail_each, &refused);
  CHECK(n > 0 && refused > 40 * n);
  return CHECK_DONE();
}
