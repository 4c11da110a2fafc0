/* Transpose of whole-byte elements. Dimensions that stay together are merged; then either the
 * innermost one is kept (rows are copied), or two dimensions change places and are walked in square
 * tiles, so that both sides use whole cache lines. */
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/cpu.h"
#include "tensor/tile4.h"

enum { TILE = 16 };

typedef struct transpose_kernel {
  mrt_kernel k;
  int n_perm;
  int perm[MRT_MAX_RANK];
} transpose_kernel;

typedef struct job {
  const char *x;
  char *y;
  size_t size;
  int rank;
  int64_t dims[MRT_MAX_RANK], from[MRT_MAX_RANK], to[MRT_MAX_RANK]; /* of the output; steps */
  int swap; /* the dimension along which the input is contiguous; last: none */
  int n_outer;
  int outer[MRT_MAX_RANK];
  int64_t blocks; /* tiles of rows along `swap` per outer index */
} job;

/* Output dims with their steps in the input, 1s dropped and neighbours merged. */
static void merge(job *j, const mrt_tensor *x, const int *perm) {
  int64_t strides[MRT_MAX_RANK], step = 1;
  for (int i = x->rank - 1; i >= 0; --i) {
    strides[i] = step;
    step *= x->dims[i];
  }
  for (int i = 0; i < x->rank; ++i) {
    const int64_t d = x->dims[perm[i]], s = strides[perm[i]];
    if (d == 1) continue;
    if (j->rank && j->from[j->rank - 1] == s * d) {
      j->dims[j->rank - 1] *= d;
      j->from[j->rank - 1] = s;
    } else {
      j->dims[j->rank] = d;
      j->from[j->rank++] = s;
    }
  }
  step = 1;
  for (int i = j->rank - 1; i >= 0; --i) {
    j->to[i] = step;
    step *= j->dims[i];
  }
}

#define TILES(type)                                                                            \
  static void tiles_##type(const job *j, const char *from, char *to, int64_t r0, int64_t r1) { \
    const int64_t n = j->dims[j->rank - 1], sx = j->from[j->rank - 1], sy = j->to[j->swap];    \
    const type *x = (const type *)(const void *)from;                                          \
    type *y = (type *)(void *)to;                                                              \
    for (int64_t c0 = 0; c0 < n; c0 += TILE) {                                                 \
      const int64_t c1 = c0 + TILE < n ? c0 + TILE : n;                                        \
      for (int64_t r = r0; r < r1; ++r)                                                        \
        for (int64_t c = c0; c < c1; ++c) y[r * sy + c] = x[c * sx + r];                       \
    }                                                                                          \
  }
TILES(uint8_t)
TILES(uint16_t)
TILES(uint64_t)

static void work(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  const int last = j->rank - 1;
  for (int64_t u = begin; u < end; ++u) {
    int64_t rest = u / j->blocks, from = 0, to = 0;
    for (int i = j->n_outer - 1; i >= 0; --i) {
      const int d = j->outer[i];
      const int64_t at = rest % j->dims[d];
      rest /= j->dims[d];
      from += at * j->from[d];
      to += at * j->to[d];
    }
    const char *x = j->x + (size_t)from * j->size;
    char *y = j->y + (size_t)to * j->size;
    if (j->swap == last) {
      memcpy(y, x, (size_t)j->dims[last] * j->size);
      continue;
    }
    const int64_t r0 = u % j->blocks * TILE, d = j->dims[j->swap];
    const int64_t r1 = r0 + TILE < d ? r0 + TILE : d;
    switch (j->size) {
      case 1: tiles_uint8_t(j, x, y, r0, r1); break;
      case 2: tiles_uint16_t(j, x, y, r0, r1); break;
      case 4:
        for (int64_t c0 = 0; c0 < j->dims[last]; c0 += TILE)
          mrt_transpose_tile4(y + r0 * j->to[j->swap] * 4 + c0 * 4, j->to[j->swap] * 4,
                              x + c0 * j->from[last] * 4 + r0 * 4, j->from[last] * 4, r1 - r0,
                              j->dims[last] - c0 < TILE ? j->dims[last] - c0 : TILE);
        break;
      default: tiles_uint64_t(j, x, y, r0, r1);
    }
  }
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const transpose_kernel *q = (const transpose_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int perm[MRT_MAX_RANK];
  if (!y || !y->bytes) return NULL;
  if (q->n_perm && q->n_perm != x->rank) return c->node->def->run(c);
  for (int i = 0; i < x->rank; ++i) perm[i] = q->n_perm ? q->perm[i] : x->rank - 1 - i;
  job j = {.x = x->data, .y = y->data, .size = (size_t)mrt_dtype_bits((mrt_dtype)x->dtype) / 8};
  merge(&j, x, perm);
  if (j.rank == 0) {
    memcpy(y->data, x->data, y->bytes);
    return NULL;
  }
  j.swap = j.rank - 1;
  for (int i = 0; i < j.rank; ++i)
    if (j.from[i] == 1) j.swap = i;
  int64_t units = 1;
  for (int i = 0; i + 1 < j.rank; ++i) {
    if (i == j.swap) continue;
    j.outer[j.n_outer++] = i;
    units *= j.dims[i];
  }
  j.blocks = j.swap == j.rank - 1 ? 1 : (j.dims[j.swap] + TILE - 1) / TILE;
  units *= j.blocks;
  const double bytes = (double)y->bytes, ns = j.swap == j.rank - 1 ? 0.1 : 0.3;
  mrt_par_range(&c->par, units, bytes * ns / (double)units + 3, work, &j);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  (void)p;
  if (t == MRT_UNDEFINED || t == MRT_STRING) return false;
  const int bits = mrt_dtype_bits(t);
  return bits == 8 || bits == 16 || bits == 32 || bits == 64;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  transpose_kernel *q;
  bool seen[MRT_MAX_RANK] = {false};
  int n;
  *out = NULL;
  const int64_t *perm = mrt_node_ints(node, "perm", &n);
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "transpose", run, NULL, &q));
  for (int i = 0; i < n; ++i) {
    const bool ok = n <= MRT_MAX_RANK && perm[i] >= 0 && perm[i] < n && !seen[perm[i]];
    if (!ok) {
      mrt_kernel_free(&q->k);
      return MRT_ERR(MRT_INVALID_ARGUMENT, "perm is not a permutation of the dims");
    }
    seen[perm[i]] = true;
    q->perm[i] = (int)perm[i];
  }
  q->n_perm = n;
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(transpose) = {.domain = "", .op = "Transpose", .match = match, .create = create};
