/* Many threads on one session at once: every run gives the bits of the first one. Under TSan this
 * is the test that sessions share nothing while they compute. */
#include <pthread.h>

#include "check.h"
#include "fuzz/models.h"

enum { THREADS = 4, RUNS = 8 };

typedef struct shared {
  mrt_session *s;
  uint64_t right;
  atomic_int wrong;
} shared;

static void *run_many(void *arg) {
  shared *x = arg;
  for (int i = 0; i < RUNS; ++i) {
    uint64_t hash = 0;
    mrt_status *st = model_run(x->s, &hash);
    if (st || hash != x->right) atomic_fetch_add(&x->wrong, 1);
    mrt_status_free(st);
  }
  return NULL;
}

static void each(const char *name, const uint8_t *data, size_t size, void *arg) {
  shared x = {0};
  pthread_t threads[THREADS];
  (void)arg;
  CHECK_OK(model_open(mrt_alloc_default(), data, size, &x.s));
  if (!x.s) return;
  CHECK_OK(model_run(x.s, &x.right));
  for (int i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], NULL, run_many, &x) == 0);
  for (int i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  if (x.wrong) fprintf(stderr, "%s:\n", name);
  CHECK_EQ_I(x.wrong, 0);
  mrt_session_release(x.s);
}

int main(void) {
  CHECK(model_files(MRT_SOURCE_DIR "/tests/fuzz/corpus", "seed_", each, NULL) > 20);
  return CHECK_DONE();
}
