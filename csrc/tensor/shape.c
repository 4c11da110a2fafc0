/* Shapes, checked sizes, broadcasting. */
#include <stdio.h>
#include <string.h>

#include "tensor/tensor.h"

mrt_status *mrt_shape_count(int rank, const int64_t *dims, int64_t *out) {
  int64_t n = 1;
  bool zero = false;
  if (rank < 0 || rank > MRT_MAX_RANK)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d; at most %d", rank, MRT_MAX_RANK);
  for (int i = 0; i < rank; ++i) {
    if (dims[i] < 0)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "dim %d is negative: %lld", i, (long long)dims[i]);
    if (dims[i] == 0)
      zero = true;
    else if (!mrt_i64_mul(n, dims[i], &n))
      return MRT_ERR(MRT_FAIL, "the shape has too many elements");
  }
  *out = zero ? 0 : n;
  return NULL;
}

mrt_status *mrt_shape_bytes(mrt_dtype dtype, int rank, const int64_t *dims, size_t *out) {
  int64_t n;
  MRT_TRY(mrt_shape_count(rank, dims, &n));
  if (!mrt_dtype_bytes(dtype, n, out) || *out > PTRDIFF_MAX)
    return MRT_ERR(MRT_FAIL, "the shape has too many elements");
  return NULL;
}

mrt_status *mrt_layout_bytes(mrt_dtype dtype, mrt_layout layout, int rank, const int64_t *dims,
                             size_t *out) {
  if (layout != MRT_LAYOUT_C16) return mrt_shape_bytes(dtype, rank, dims, out);
  int64_t rounded[MRT_MAX_RANK];
  if (rank < 2 || rank > MRT_MAX_RANK) return MRT_ERR(MRT_FAIL, "blocked layout of rank %d", rank);
  memcpy(rounded, dims, (size_t)rank * sizeof *dims);
  if (rounded[1] > INT64_MAX - 15) return MRT_ERR(MRT_INVALID_ARGUMENT, "too many channels");
  rounded[1] = (rounded[1] + 15) / 16 * 16;
  return mrt_shape_bytes(dtype, rank, rounded, out);
}

bool mrt_shape_equal(int rank_a, const int64_t *a, int rank_b, const int64_t *b) {
  return rank_a == rank_b && (rank_a == 0 || !memcmp(a, b, (size_t)rank_a * sizeof *a));
}

const char *mrt_shape_format(char *buf, size_t cap, int rank, const int64_t *dims) {
  size_t n = (size_t)snprintf(buf, cap, "{");
  for (int i = 0; i < rank && n + 24 < cap; ++i)
    n += (size_t)snprintf(buf + n, cap - n, "%s%lld", i ? "," : "", (long long)dims[i]);
  snprintf(buf + n, cap - n, "}");
  return buf;
}

mrt_status *mrt_broadcast_shapes(int rank_a, const int64_t *a, int rank_b, const int64_t *b,
                                 int *out_rank, int64_t *out) {
  int rank = rank_a > rank_b ? rank_a : rank_b;
  for (int i = 0; i < rank; ++i) {
    int64_t x = i < rank - rank_a ? 1 : a[i - (rank - rank_a)];
    int64_t y = i < rank - rank_b ? 1 : b[i - (rank - rank_b)];
    if (x != y && x != 1 && y != 1) {
      char s[160], t[160];
      return MRT_ERR(MRT_INVALID_ARGUMENT, "shapes %s and %s do not broadcast",
                     mrt_shape_format(s, sizeof s, rank_a, a),
                     mrt_shape_format(t, sizeof t, rank_b, b));
    }
    out[i] = x == 1 ? y : x;
  }
  *out_rank = rank;
  return NULL;
}

mrt_status *mrt_bcast_init(mrt_bcast *b, int n_in, const mrt_tensor *const *in, int out_rank,
                           const int64_t *out_dims) {
  if (n_in > MRT_BCAST_MAX) return MRT_ERR(MRT_FAIL, "too many inputs to broadcast");
  int64_t full[MRT_BCAST_MAX][MRT_MAX_RANK];
  for (int k = 0; k < n_in; ++k) {
    const mrt_tensor *t = in[k];
    int shift = out_rank - t->rank;
    int64_t step = 1;
    if (shift < 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "input %d has too many dims", k);
    for (int i = out_rank - 1; i >= 0; --i) {
      int64_t d = i < shift ? 1 : t->dims[i - shift];
      if (d != 1 && d != out_dims[i]) {
        char s[160], o[160];
        return MRT_ERR(MRT_INVALID_ARGUMENT, "shape %s does not broadcast to %s",
                       mrt_shape_format(s, sizeof s, t->rank, t->dims),
                       mrt_shape_format(o, sizeof o, out_rank, out_dims));
      }
      full[k][i] = d == 1 ? 0 : t->strided ? t->strides[i - shift] : step;
      step *= d;
    }
  }
  b->n_in = n_in;
  b->rank = 0;
  for (int i = 0; i < out_rank; ++i) {
    if (out_dims[i] == 1) continue;
    bool merge = b->rank > 0;
    for (int k = 0; merge && k < n_in; ++k)
      merge = b->strides[k][b->rank - 1] == full[k][i] * out_dims[i];
    if (merge) {
      b->dims[b->rank - 1] *= out_dims[i];
    } else {
      b->dims[b->rank++] = out_dims[i];
    }
    for (int k = 0; k < n_in; ++k) b->strides[k][b->rank - 1] = full[k][i];
  }
  if (!b->rank) {
    b->rank = 1;
    b->dims[0] = 1;
    for (int k = 0; k < n_in; ++k) b->strides[k][0] = 0;
  }
  return NULL;
}

void mrt_bcast_each_row(const mrt_bcast *b, mrt_bcast_row_fn fn, void *arg) {
  int64_t index[MRT_MAX_RANK] = {0}, offsets[MRT_BCAST_MAX] = {0}, out = 0;
  int64_t n = b->dims[b->rank - 1];
  for (int i = 0; i < b->rank; ++i)
    if (b->dims[i] == 0) return;
  for (;;) {
    fn(arg, offsets, out, n);
    out += n;
    int d = b->rank - 2;
    for (; d >= 0; --d) {
      for (int k = 0; k < b->n_in; ++k) offsets[k] += b->strides[k][d];
      if (++index[d] < b->dims[d]) break;
      for (int k = 0; k < b->n_in; ++k) offsets[k] -= b->strides[k][d] * b->dims[d];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}
