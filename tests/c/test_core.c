/* base, tensor and symbolic expressions: the facts that everything above stands on. */
#include "base/str.h"
#include "base/threads.h"
#include "check.h"
#include "ir/expr.h"
#include "tensor/tensor.h"

static void test_status(void) {
  mrt_status *st = MRT_ERR(MRT_INVALID_ARGUMENT, "got %d", 3);
  st = mrt_status_wrap(st, "node '%s'", "a");
  CHECK_STR(mrt_status_message(st), "node 'a': got 3");
  CHECK_EQ_I(mrt_status_code(st), MRT_INVALID_ARGUMENT);
  mrt_status_free(st);
  CHECK(mrt_status_wrap(NULL, "x") == NULL);
  CHECK_EQ_I(mrt_status_code(mrt_status_oom()), MRT_OUT_OF_MEMORY);
}

static void test_arena(void) {
  mrt_alloc_failing f;
  mrt_arena *a = NULL;
  mrt_alloc_failing_init(&f, mrt_alloc_default(), -1);
  CHECK_OK(mrt_arena_create(&f.alloc, &a));
  for (int i = 1; i < 200; ++i) { /* zeroed, aligned, none overlaps another */
    unsigned char *p = mrt_arena_alloc(a, (size_t)i * 37);
    CHECK(p && (uintptr_t)p % 16 == 0);
    for (int k = 0; p && k < i * 37; ++k) {
      if (p[k]) CHECK_EQ_I(p[k], 0);
      p[k] = (unsigned char)i;
    }
  }
  char *s = mrt_arena_printf(a, "%s-%d", "x", 7);
  CHECK_STR(s, "x-7");
  CHECK_STR(mrt_arena_strndup(a, "abcdef", 3), "abc");
  CHECK(mrt_arena_alloc(a, SIZE_MAX - 8) == NULL);
  mrt_arena_reset(a);
  CHECK(mrt_arena_alloc(a, 64) != NULL);
  f.fail_at = f.count;
  CHECK(mrt_arena_alloc(a, (size_t)1 << 24) == NULL);
  mrt_arena_destroy(a);
  CHECK_EQ_I(f.live, 0);
}

static void test_map(void) {
  mrt_map m;
  char keys[1000][8];
  mrt_map_init(&m, mrt_alloc_default());
  for (int i = 0; i < 1000; ++i) {
    snprintf(keys[i], sizeof keys[i], "k%d", i);
    CHECK_OK(mrt_map_set(&m, keys[i], &keys[i]));
  }
  for (int i = 0; i < 1000; ++i) CHECK(mrt_map_get(&m, keys[i]) == &keys[i]);
  mrt_map_remove(&m, "k7");
  CHECK(mrt_map_get(&m, "k7") == NULL);
  CHECK(mrt_map_get(&m, "nope") == NULL);
  mrt_map_deinit(&m);
}

static void test_half(void) {
  for (uint32_t h = 0; h < 65536; ++h) { /* every half survives the round trip */
    float f = mrt_f16_to_f32((uint16_t)h);
    if (f == f) CHECK_EQ_I(mrt_f32_to_f16(f), h);
  }
  CHECK_EQ_I(mrt_f32_to_f16(65520.0f), 0x7c00);
  CHECK_EQ_I(mrt_f32_to_f16(65519.0f), 0x7bff);
  for (int v = 0; v < 256; ++v)
    for (int k = MRT_FLOAT8E4M3FN; k <= MRT_FLOAT8E5M2FNUZ; ++k) {
      float f = mrt_f8_to_f32((mrt_dtype)k, (uint8_t)v);
      if (f == f && f != 1.0f / 0.0f && f != -1.0f / 0.0f)
        CHECK_EQ_I(mrt_f32_to_f8((mrt_dtype)k, f, true), v);
    }
}

static void test_oom(void) {
  for (int k = 0;; ++k) {
    mrt_alloc_failing f;
    mrt_tensor *t = NULL;
    int64_t dims[2] = {3, 4};
    mrt_alloc_failing_init(&f, mrt_alloc_default(), k);
    mrt_status *st = mrt_tensor_create(&f.alloc, MRT_FLOAT, 2, dims, &t);
    if (!st) {
      mrt_tensor_release(t);
      CHECK_EQ_I(atomic_load(&f.live), 0);
      break;
    }
    CHECK(mrt_status_code(st) == MRT_OUT_OF_MEMORY && !t);
    CHECK_EQ_I(atomic_load(&f.live), 0);
    mrt_status_free(st);
  }
}

static void test_expr(void) {
  mrt_symtab *t;
  CHECK_OK(mrt_symtab_create(mrt_alloc_default(), &t));
  const mrt_expr *n = mrt_expr_symbol(t, "N"), *s = mrt_expr_symbol(t, "S");
  const mrt_expr *k = mrt_expr_const(t, 768), *ns = mrt_expr_mul(t, n, s);
  CHECK(mrt_expr_add(t, n, s) == mrt_expr_add(t, s, n));
  CHECK(mrt_expr_floordiv(t, mrt_expr_mul(t, ns, k), mrt_expr_mul(t, n, k)) == s);
  CHECK(mrt_expr_sub(t, mrt_expr_add(t, n, k), k) == n);
  /* A divisor that may be zero does not cancel; one that cannot be does. */
  const mrt_expr *less = mrt_expr_sub(t, n, mrt_expr_const(t, 3));
  const mrt_expr *more = mrt_expr_add(t, n, mrt_expr_const(t, 3));
  CHECK(!mrt_expr_is_const(mrt_expr_floordiv(t, less, less), NULL));
  CHECK(mrt_expr_floordiv(t, mrt_expr_mul(t, more, s), more) == s);
  CHECK(mrt_expr_max(t, mrt_expr_const(t, 0), n) == n);
  const mrt_expr *half =
      mrt_expr_floordiv(t, mrt_expr_add(t, n, mrt_expr_const(t, 1)), mrt_expr_const(t, 2));
  int64_t values[2] = {7, 5}, out = 0;
  CHECK(mrt_expr_eval(half, values, 2, &out));
  CHECK_EQ_I(out, 4);
  CHECK(mrt_expr_eval(mrt_expr_ceildiv(t, n, s), values, 2, &out));
  CHECK_EQ_I(out, 2);
  values[1] = -1;
  CHECK(!mrt_expr_eval(ns, values, 2, &out));
  CHECK(mrt_expr_mul(t, n, NULL) == NULL);
  mrt_symtab_destroy(t);
}

static int n_maps(void) {
  FILE *f = fopen("/proc/self/maps", "r");
  int n = 0;
  for (int c; f && (c = fgetc(f)) != EOF;) n += c == '\n';
  if (f) fclose(f);
  return n;
}

/* Blocks that the heap has at multiples of 2 MiB, where mappings begin, do not become mappings one
 * after the other. */
static void heap_blocks(size_t size, int n) {
  static void *all[2][300000];
  const mrt_alloc *a = mrt_alloc_default();
  const int before = n_maps();
  void *odd = NULL; /* of 48 bytes: the second half lies 16 bytes off the first */
  for (int k = 0; k < 2; ++k) {
    for (int i = 0; i < n; ++i) CHECK((all[k][i] = a->alloc(a->ctx, size, 16)) != NULL);
    if (!k) odd = a->alloc(a->ctx, 40, 16);
  }
  CHECK(n_maps() - before < 40);
  for (int k = 0; k < 2; ++k)
    for (int i = 0; i < n; ++i) a->free(a->ctx, all[k][i]);
  a->free(a->ctx, odd);
}
static void test_heap_blocks(void) {
  heap_blocks(16, 300000); /* 32 with malloc's own: over several such addresses */
  heap_blocks(2032, 3000); /* 2048 */
}

static void add_one(void *arg, int64_t chunk, int worker) {
  (void)worker;
  ++((int *)arg)[chunk];
}
static void test_threads(void) {
  int hits[64];
  mrt_par par = {0};
  for (int round = 0; round < 2000; ++round) {
    memset(hits, 0, sizeof hits);
    mrt_par_run(&par, 64, add_one, hits);
    for (int i = 0; i < 64; ++i) CHECK_EQ_I(hits[i], 1);
  }
  mrt_threads_shutdown();
  mrt_par_run(&par, 64, add_one, hits);
  CHECK_EQ_I(hits[63], 2);
}

int main(void) {
  test_status();
  test_arena();
  test_heap_blocks();
  test_map();
  test_half();
  test_oom();
  test_expr();
  test_threads();
  return CHECK_DONE();
}
