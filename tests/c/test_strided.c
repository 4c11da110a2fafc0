/* Strided copies against one element after the other: random boxes, element sizes, orders of dims,
 * repeats and steps, on one thread and on all, misaligned; guard bytes around the destination. */
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "tensor/strided.h"

static uint32_t state = 12345;
static int random_below(int n) {
  state = state * 1664525u + 1013904223u;
  return (int)((state >> 8) % (uint32_t)n);
}

typedef struct box {
  int rank;
  size_t size;
  int64_t dims[MRT_MAX_RANK], ds[MRT_MAX_RANK], ss[MRT_MAX_RANK];
  int64_t d_elems, s_elems, s_first; /* extents; element 0 of the box in the source */
} box;

static void make_box(box *b, int most) {
  static const size_t sizes[] = {1, 2, 4, 8, 16, 3, 12};
  int order[MRT_MAX_RANK];
  int64_t step = 1;
  b->rank = random_below(5);
  b->size = sizes[random_below(7)];
  for (int i = 0; i < b->rank; ++i) {
    b->dims[i] = random_below(8) ? 1 + random_below(most) : 1;
    order[i] = i;
  }
  for (int i = b->rank - 1; i > 0; --i) {
    int k = random_below(i + 1), t = order[i];
    order[i] = order[k];
    order[k] = t;
  }
  for (int i = b->rank - 1; i >= 0; --i) { /* the destination: in order, sometimes with gaps */
    b->ds[i] = step;
    step *= b->dims[i] + (random_below(4) == 0);
  }
  b->d_elems = step;
  step = 1;
  b->s_first = 0;
  for (int k = 0; k < b->rank; ++k) { /* the source: any order, repeats, gaps, backwards */
    int i = order[k];
    b->ss[i] = random_below(6) ? step * (1 + (random_below(6) == 0)) : 0;
    step += b->ss[i] * (b->dims[i] - 1);
    if (b->ss[i] && random_below(5) == 0) {
      b->s_first += b->ss[i] * (b->dims[i] - 1);
      b->ss[i] = -b->ss[i];
    }
  }
  b->s_elems = step;
}

static void naive(const box *b, char *dst, const char *src) {
  int64_t index[MRT_MAX_RANK] = {0};
  for (;;) {
    int64_t d = 0, s = 0;
    for (int i = 0; i < b->rank; ++i) {
      d += index[i] * b->ds[i];
      s += index[i] * b->ss[i];
    }
    memcpy(dst + d * (int64_t)b->size, src + s * (int64_t)b->size, b->size);
    int i = b->rank - 1;
    for (; i >= 0 && ++index[i] == b->dims[i]; --i) index[i] = 0;
    if (i < 0) return;
  }
}

static void try_box(const box *b, const mrt_par *par) {
  size_t nd = (size_t)b->d_elems * b->size + 33, ns = (size_t)b->s_elems * b->size + 1;
  char *want = malloc(nd), *got = malloc(nd), *src = malloc(ns);
  if (!want || !got || !src) exit(2);
  for (size_t i = 0; i < ns; ++i) src[i] = (char)random_below(256);
  memset(want, 0x5a, nd);
  memset(got, 0x5a, nd);
  const char *from = src + 1 + b->s_first * (int64_t)b->size; /* odd addresses on purpose */
  naive(b, want + 17, from);
  mrt_strided_copy(par, b->size, b->rank, b->dims, got + 17, b->ds, from, b->ss);
  CHECK(memcmp(want, got, nd) == 0);
  free(want);
  free(got);
  free(src);
}

int main(void) {
  const mrt_par all = {0};
  for (int i = 0; i < 4000; ++i) {
    box b;
    make_box(&b, i % 50 == 0 ? 40 : 9);
    try_box(&b, i % 2 ? &all : NULL);
  }
  /* Large ones, which are cut for threads: a block, rows, a transpose, a broadcast. */
  box big[] = {{1, 1, {1000003}, {1}, {1}, 1000003, 1000003, 0},
               {2, 4, {700, 301}, {302, 1}, {301, 1}, 700 * 302, 700 * 301, 0},
               {2, 4, {301, 700}, {700, 1}, {1, 301}, 700 * 301, 700 * 301, 0},
               {2, 8, {333, 555}, {555, 1}, {1, 333}, 333 * 555, 333 * 555, 0},
               {3, 2, {50, 60, 70}, {4200, 70, 1}, {1, 0, 50}, 50 * 60 * 70, 50 * 70, 0}};
  for (size_t i = 0; i < sizeof big / sizeof *big; ++i) try_box(&big[i], &all);
  const int64_t none[2] = {3, 0}, strides[2] = {1, 1};
  mrt_strided_copy(&all, 4, 2, none, NULL, strides, NULL, strides); /* nothing to copy */
  mrt_threads_shutdown();
  return CHECK_DONE();
}
