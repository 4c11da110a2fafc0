/* Tile: repeats a tensor along its dims. Row by row of the input the innermost run is written once
 * and then doubled in place; outer repeats copy what is already there. */
#include "ops/common.h"

static mrt_status *tile_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), n, ne;
  const mrt_expr *dims[MRT_MAX_RANK], *out[64];
  const mrt_expr *const *r = mrt_infer_ints(c, 1, &n);
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (r && n != rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "'repeat' input tensor must have the same length as the 'input' tensor");
  for (int i = 0; i < rank; ++i) {
    int64_t v;
    if (r && mrt_expr_is_const(r[i], &v) && v < 0)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "repeats must not be negative: %lld", (long long)v);
    dims[i] = r ? mrt_expr_mul(c->sym, mrt_infer_dim(c, 0, i), r[i]) : NULL;
  }
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims));
  const mrt_expr *const *e = mrt_infer_ints(c, 0, &ne);
  int64_t times;
  if (rank != 1 || !e || !r || !mrt_expr_is_const(r[0], &times) || ne <= 0 || times > 64 / ne)
    return NULL;
  for (int i = 0; i < ne * times; ++i) out[i] = e[i % ne];
  return mrt_infer_out_elems(c, 0, (int)(ne * times), out);
}

/* dst holds n bytes at its start: fills total bytes with repeats of them. */
static void fill(char *dst, size_t n, size_t total) {
  size_t have = n;
  while (have < total) {
    size_t k = have < total - have ? have : total - have;
    memcpy(dst + have, dst, k);
    have += k;
  }
}

typedef struct tiling {
  const mrt_tensor *x;
  char *y;
  const int64_t *r;
  size_t size;
  size_t block[MRT_MAX_RANK + 1]; /* bytes of the output's dims d.. */
} tiling;

/* Writes the output of x's sub-tensor at dims d.., once, then its repeats. */
static void tile_dim(const tiling *t, int d, const char *x, char *y) {
  int rank = t->x->rank;
  size_t part = (size_t)mrt_dims_product(t->x->dims, d + 1, rank) * t->size;
  size_t once = (size_t)t->x->dims[d] * t->block[d + 1];
  if (t->block[d + 1] == part) { /* nothing is repeated further in */
    memcpy(y, x, once);
  } else {
    for (int64_t i = 0; i < t->x->dims[d]; ++i)
      tile_dim(t, d + 1, x + (size_t)i * part, y + (size_t)i * t->block[d + 1]);
  }
  fill(y, once, once * (size_t)t->r[d]);
}

static mrt_status *tile_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t r[MRT_MAX_RANK];
  int n;
  tiling t = {.x = x, .r = r};
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &t.size));
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), MRT_MAX_RANK, r, &n, "repeats"));
  if (n != x->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "repeats has %d entries for rank %d", n, x->rank);
  if (!y->bytes) return NULL;
  t.y = y->data;
  t.block[n] = t.size;
  for (int i = n - 1; i >= 0; --i) {
    if (r[i] < 0 || x->dims[i] * r[i] != y->dims[i])
      return MRT_ERR(MRT_FAIL, "the output has another shape than planned");
    t.block[i] = t.block[i + 1] * (size_t)y->dims[i];
  }
  if (n)
    tile_dim(&t, 0, x->data, t.y);
  else
    memcpy(t.y, x->data, t.size);
  mrt_tensor_retain_strings(y);
  return NULL;
}

/* Opset 1: one axis and one number, as tensors of the data's type. */
static mrt_status *tile_up1(mrt_node *node) {
  const mrt_var *x = node->in[0].var, *tiles = node->n_in > 1 ? node->in[1].var : NULL,
                *axis = node->n_in > 2 ? node->in[2].var : NULL;
  int64_t r[MRT_MAX_RANK];
  mrt_var *v;
  if (!x || !x->type || x->type->rank < 1 || !tiles || !axis || !tiles->constant || !axis->constant)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "Tile-1 with a computed axis or an input of unknown rank");
  int rank = x->type->rank;
  int64_t a = (int64_t)mrt_elem_get_f64((mrt_dtype)axis->constant->dtype, axis->constant->data, 0);
  if (a < 0 || a >= rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "axis %lld", (long long)a);
  for (int i = 0; i < rank; ++i) r[i] = 1;
  r[a] = (int64_t)mrt_elem_get_f64((mrt_dtype)tiles->constant->dtype, tiles->constant->data, 0);
  MRT_TRY(mrt_graph_const_i64(node->graph, rank, r, &v));
  MRT_TRY(mrt_node_set_input(node, 1, v));
  return mrt_node_set_n_inputs(node, 2);
}

static const mrt_op_version tile_v[] = {{1, tile_up1}, {6}, {13}, {0}};
MRT_OP(Tile) = {.domain = "",
                .name = "Tile",
                .doc = "repeats along dims",
                .in = "input:T, repeats:int64",
                .out = "output:T",
                .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128",
                .versions = tile_v,
                .infer = tile_infer,
                .run = tile_run};
