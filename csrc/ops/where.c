/* Where: picks elements of two tensors by a third, all three broadcast. */
#include "ops/common.h"

#define T       uint8_t
#define NAME(x) x##_1
#include "ops/where.inl"
#undef T
#undef NAME
#define T       uint16_t
#define NAME(x) x##_2
#include "ops/where.inl"
#undef T
#undef NAME
#define T       uint32_t
#define NAME(x) x##_4
#include "ops/where.inl"
#undef T
#undef NAME
#define T       uint64_t
#define NAME(x) x##_8
#include "ops/where.inl"
#undef T
#undef NAME

/* complex128 */
static void where_16(const uint8_t *c, int64_t sc, const char *a, int64_t sa, const char *b,
                     int64_t sb, char *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    memcpy(y + i * 16, c[i * sc] ? a + i * sa * 16 : b + i * sb * 16, 16);
}

typedef void (*row_fn)(const uint8_t *c, int64_t sc, const char *a, int64_t sa, const char *b,
                       int64_t sb, char *y, int64_t n);
static const row_fn by_size[17] = {
    [1] = where_1, [2] = where_2, [4] = where_4, [8] = where_8, [16] = where_16};

static mrt_status *where_infer(mrt_infer *c) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int rank, nc, na, nb;
  int64_t v;
  MRT_TRY(mrt_infer_broadcast(c, 0, 3, &rank, dims));
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 1), rank, dims));
  const mrt_expr *const *k = mrt_infer_ints(c, 0, &nc), *const *a = mrt_infer_ints(c, 1, &na),
                        *const *b = mrt_infer_ints(c, 2, &nb);
  const mrt_expr *out[64];
  if (rank != 1 || !k || !a || !b || nc > 64) return NULL;
  for (int i = 0; i < nc; ++i) {
    if (!mrt_expr_is_const(k[i], &v) || (na != nc && na != 1) || (nb != nc && nb != 1)) return NULL;
    out[i] = v ? a[na == 1 ? 0 : i] : b[nb == 1 ? 0 : i];
  }
  return mrt_infer_out_elems(c, 0, nc, out);
}

typedef struct job {
  const uint8_t *c;
  const char *a, *b;
  char *y;
  size_t size;
  int64_t inner; /* elements of one step along the outermost dim */
  mrt_bcast bc;
} job;
static void row(void *arg, const int64_t *off, int64_t out, int64_t n) {
  const job *j = arg;
  int last = j->bc.rank - 1;
  int64_t size = (int64_t)j->size;
  by_size[size](j->c + off[0], j->bc.strides[0][last], j->a + off[1] * size, j->bc.strides[1][last],
                j->b + off[2] * size, j->bc.strides[2][last], j->y + out * size, n);
}
/* Steps [begin, end) of the outermost dim. */
static void part(void *arg, int64_t begin, int64_t end) {
  job j = *(const job *)arg;
  int64_t size = (int64_t)j.size;
  j.bc.dims[0] = end - begin;
  j.c += begin * j.bc.strides[0][0];
  j.a += begin * j.bc.strides[1][0] * size;
  j.b += begin * j.bc.strides[2][0] * size;
  j.y += begin * j.inner * size;
  mrt_bcast_each_row(&j.bc, row, &j);
}
static mrt_status *run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  const mrt_tensor *in[3] = {mrt_in(c, 0), mrt_in(c, 1), mrt_in(c, 2)};
  job j = {.c = in[0]->data, .a = in[1]->data, .b = in[2]->data, .inner = 1};
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, y, &j.size));
  MRT_TRY(mrt_bcast_init(&j.bc, 3, in, y->rank, y->dims));
  j.y = y->data;
  for (int i = 1; i < j.bc.rank; ++i) j.inner *= j.bc.dims[i];
  if (y->bytes) mrt_par_range(&c->par, j.bc.dims[0], (double)j.inner * 0.5, part, &j);
  mrt_tensor_retain_strings(y);
  return NULL;
}

static const mrt_op_version versions[] = {{9}, {16}, {0}};
MRT_OP(Where) = {.domain = "",
                 .name = "Where",
                 .doc = "condition ? x : y",
                 .in = "condition:bool, X:T, Y:T",
                 .out = "output:T",
                 .types = "T=" MRT_T_ANY,
                 .versions = versions,
                 .infer = where_infer,
                 .run = run};
