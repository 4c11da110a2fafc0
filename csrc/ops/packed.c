/* Kernels that move bytes, run on elements narrower than a byte: inputs are spread to one element
 * per byte, the outputs packed again. */
#include "ops/common.h"

static void unpack(const mrt_tensor *t, uint8_t *out) {
  int bits = mrt_dtype_bits((mrt_dtype)t->dtype), per = 8 / bits;
  int64_t n = mrt_tensor_count(t);
  const uint8_t *x = t->data;
  for (int64_t i = 0; i < n; ++i)
    out[i] = (uint8_t)(x[i / per] >> (i % per * bits)) & (uint8_t)((1 << bits) - 1);
}
static void pack(const uint8_t *x, mrt_tensor *t) {
  int bits = mrt_dtype_bits((mrt_dtype)t->dtype), per = 8 / bits;
  int64_t n = mrt_tensor_count(t);
  uint8_t *out = t->data;
  if (t->bytes) memset(out, 0, t->bytes);
  for (int64_t i = 0; i < n; ++i) out[i / per] |= (uint8_t)(x[i] << (i % per * bits));
}

/* A tensor of bytes in place of a packed one. */
static mrt_status *spread(mrt_kctx *c, const mrt_tensor *t, bool contents, mrt_tensor *to) {
  void *data;
  int64_t n = mrt_tensor_count(t);
  MRT_TRY(mrt_scratch(c, (size_t)n + 1, &data));
  if (contents) unpack(t, data);
  mrt_tensor_init_view(to, MRT_UINT8, t->rank, t->dims, data, (size_t)n, MRT_HOST);
  return NULL;
}

mrt_status *mrt_run_unpacked(mrt_kctx *c, mrt_status *(*run)(mrt_kctx *c)) {
  size_t n = (size_t)c->n_in + (size_t)c->n_out;
  mrt_slot *slots, **ptrs;
  mrt_tensor *views;
  MRT_TRY(mrt_scratch(c, n * sizeof *slots, (void **)&slots));
  MRT_TRY(mrt_scratch(c, n * sizeof *views, (void **)&views));
  MRT_TRY(mrt_scratch(c, n * sizeof *ptrs, (void **)&ptrs));
  for (size_t i = 0; i < n; ++i) {
    bool in = i < (size_t)c->n_in;
    mrt_slot *from = in ? c->in[i] : c->out[i - (size_t)c->n_in];
    ptrs[i] = from;
    const mrt_tensor *t = from ? mrt_value_tensor(from->value) : NULL;
    if (!mrt_is_packed(t)) continue;
    MRT_TRY(spread(c, t, in, &views[i]));
    slots[i] = (mrt_slot){.value = &views[i].base};
    ptrs[i] = &slots[i];
  }
  mrt_kctx bytes = *c;
  bytes.in = ptrs;
  bytes.out = ptrs + c->n_in;
  MRT_TRY(run(&bytes));
  for (int i = 0; i < c->n_out; ++i) {
    mrt_tensor *y = mrt_out(c, i);
    if (mrt_is_packed(y)) pack(mrt_out(&bytes, i)->data, y);
  }
  return NULL;
}
