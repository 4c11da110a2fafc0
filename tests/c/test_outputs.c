/* The pool of output buffers (exec/outputs.c): reuse, no aliases, age, the end of the session
 * before that of its results, threads. */
#include "exec/outputs.h"

#include <pthread.h>

#include "kernels.h"

static mrt_tensor *take(mrt_outputs *pool, int64_t floats) {
  mrt_tensor *t = NULL;
  CHECK_OK(mrt_outputs_tensor(pool, MRT_FLOAT, 1, &floats, &t));
  CHECK_EQ_I(t->bytes, floats * 4);
  CHECK_EQ_I((uintptr_t)t->data % MRT_ALIGN, 0);
  return t;
}

static void test_reuse(mrt_outputs *pool) {
  mrt_tensor *a = take(pool, 10000), *b = take(pool, 10000);
  void *first = a->data;
  CHECK(b->data != first);
  mrt_tensor_release(a);
  CHECK_EQ_I(mrt_outputs_held(pool), 40000);
  a = take(pool, 10000);
  CHECK(a->data == first);
  CHECK_EQ_I(mrt_outputs_held(pool), 0);
  mrt_tensor_release(a);
  a = take(pool, 9000); /* a little smaller: the same block */
  CHECK(a->data == first);
  mrt_tensor_release(a);
  a = take(pool, 4500); /* less than half: another */
  CHECK(a->data != first);
  mrt_tensor_release(a);
  mrt_tensor_release(b);
  a = take(pool, 100); /* small: not of the pool */
  const size_t held = mrt_outputs_held(pool);
  mrt_tensor_release(a);
  CHECK_EQ_I(mrt_outputs_held(pool), held);
}

/* What nobody asks for is given back after a while. */
static void test_age(mrt_outputs *pool) {
  mrt_tensor_release(take(pool, 1000000));
  CHECK(mrt_outputs_held(pool) >= 4000000);
  for (int i = 0; i < 100; ++i) mrt_tensor_release(take(pool, 10000));
  CHECK(mrt_outputs_held(pool) < 100000);
}

/* More than the slots hold, and more bytes than the pool keeps. */
static void test_bounds(mrt_outputs *pool) {
  enum { MANY = 40 };
  mrt_tensor *t[MANY];
  for (int i = 0; i < MANY; ++i) t[i] = take(pool, 10000);
  for (int i = 0; i < MANY; ++i)
    for (int k = 0; k < i; ++k) CHECK(t[i]->data != t[k]->data);
  for (int i = 0; i < MANY; ++i) mrt_tensor_release(t[i]);
  CHECK(mrt_outputs_held(pool) <= 16 * 40000);
  t[0] = take(pool, (int64_t)(MRT_OUTPUTS_MAX / 4) - 1000);
  t[1] = take(pool, 10000000);
  mrt_tensor_release(t[0]);
  mrt_tensor_release(t[1]);
  CHECK(mrt_outputs_held(pool) <= MRT_OUTPUTS_MAX);
}

static void *hammer(void *arg) {
  for (int i = 0; i < 3000; ++i) {
    mrt_tensor *t = take(arg, 5000 + i % 3 * 5000);
    int *x = t->data;
    const int mine = (int)(uintptr_t)&t + i;
    x[0] = x[4999] = mine;
    for (int k = 0; k < 20; ++k) CHECK(x[0] == mine && x[4999] == mine); /* nobody else writes */
    mrt_tensor_release(t);
  }
  return NULL;
}

static void test_threads(mrt_outputs *pool) {
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, hammer, pool) == 0);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
}

int main(void) {
  const int64_t live = mrt_alloc_live_bytes();
  mrt_outputs *pool = NULL;
  CHECK_OK(mrt_outputs_create(mrt_alloc_default(), &pool));
  test_reuse(pool);
  test_age(pool);
  test_bounds(pool);
  test_threads(pool);
  mrt_tensor *late = take(pool, 10000);
  mrt_outputs_release(pool); /* the session ends, the result lives on */
  ((float *)late->data)[9999] = 1;
  mrt_tensor_release(late);
  CHECK_EQ_I(mrt_alloc_live_bytes(), live);
  return CHECK_DONE();
}
