/* com.microsoft.MatMulNBits with 4- or 8-bit constant weights. Scales and zero points become floats
 * when the kernel is made; weights are read where they lie. */
#include "provider/cpu/cpu.h"
#include "provider/cpu/nbits/nbits.h"

typedef struct nbits_kernel {
  mrt_kernel k;
  mrt_nbits p;      /* but for a, b, c, m */
  float *constants; /* scales, zeros, bias */
} nbits_kernel;

static bool is_half(mrt_dtype t) { return t == MRT_FLOAT16 || t == MRT_BFLOAT16; }

static bool fits(const mrt_tensor *t, int64_t count) { return mrt_tensor_count(t) == count; }

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  const mrt_tensor *b = mrt_node_in_const(node, 1), *s = mrt_node_in_const(node, 2),
                   *z = mrt_node_in_const(node, 3), *bias = mrt_node_in_const(node, 5);
  const int64_t bits = mrt_node_int(node, "bits"), block = mrt_node_int(node, "block_size"),
                n = mrt_node_int(node, "N"), k = mrt_node_int(node, "K");
  if ((t != MRT_FLOAT && !is_half(t)) || (bits != 4 && bits != 8) || block < 16 ||
      block > 1 << 20 || (block & (block - 1)) || n < 1 || k < 1 || n > INT32_MAX || k > INT32_MAX)
    return false;
  /* All that stands behind A is constant and of the right size; g_idx is for the reference. */
  for (int i = 3; i < node->n_in; ++i)
    if (node->in[i].var && (i == 4 || !node->in[i].var->constant)) return false;
  const int64_t blocks = (k + block - 1) / block, row = (blocks * bits + 7) / 8;
  if (!b || !s || b->dtype != MRT_UINT8 || !fits(b, n * blocks * (block * bits / 8)) ||
      !fits(s, n * blocks) || (bias && !fits(bias, n)))
    return false;
  return !z || fits(z, z->dtype == MRT_UINT8 ? n * row : n * blocks);
}

static void read_zeros(const nbits_kernel *q, const mrt_tensor *z, float *out) {
  const mrt_nbits *p = &q->p;
  const int64_t blocks = (p->k + p->block - 1) / p->block, row = (blocks * p->bits + 7) / 8;
  for (int64_t i = 0; i < p->n * blocks; ++i) {
    if (z->dtype != MRT_UINT8) {
      out[i] = (float)mrt_elem_get_f64((mrt_dtype)z->dtype, z->data, i);
    } else {
      const uint8_t *v = (const uint8_t *)z->data + i / blocks * row;
      const int64_t at = i % blocks;
      out[i] = (float)(p->bits == 8 ? v[at] : v[at / 2] >> at % 2 * 4 & 15);
    }
  }
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const nbits_kernel *q = (const nbits_kernel *)k;
  const mrt_tensor *a = mrt_in(c, 0), *b = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_nbits p = q->p;
  if (!y) return NULL;
  if (a->rank < 1 || a->dims[a->rank - 1] != p.k)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulNBits: the last dim of A is not K");
  const int64_t count = mrt_tensor_count(a), total = mrt_tensor_count(y);
  p.m = count / p.k;
  p.a = a->data;
  p.b = b->data;
  p.c = y->data;
  if (a->dtype != MRT_FLOAT) {
    float *work;
    MRT_TRY(mrt_scratch(c, (size_t)(count + total) * sizeof(float), (void **)&work));
    mrt_convert_to_f32((mrt_dtype)a->dtype, a->data, 0, count, work);
    p.a = work;
    p.c = work + count;
  }
  void *scratch = NULL;
  const size_t bytes = mrt_nbits_scratch_size(&c->par, &p);
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_nbits_run(&c->par, &p, scratch);
  if (a->dtype != MRT_FLOAT) mrt_convert_from_f32((mrt_dtype)y->dtype, y->data, 0, total, p.c);
  return NULL;
}

static void destroy(mrt_kernel *k) {
  mrt_mem_free(k->alloc, ((nbits_kernel *)k)->constants);
  mrt_kernel_free(k);
}

static mrt_status *create(const mrt_provider *provider, const mrt_node *node, mrt_kernel **out) {
  const mrt_tensor *scales = mrt_node_in_const(node, 2), *bias = mrt_node_in_const(node, 5);
  nbits_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(provider->env->alloc, sizeof *q, "matmul_nbits", run, destroy, &q));
  mrt_nbits *p = &q->p;
  p->n = mrt_node_int(node, "N");
  p->k = mrt_node_int(node, "K");
  p->block = mrt_node_int(node, "block_size");
  p->bits = (int)mrt_node_int(node, "bits");
  const mrt_tensor *zeros = mrt_node_in_const(node, 3);
  const int64_t each = mrt_tensor_count(scales), n_zeros = zeros ? each : 0;
  mrt_status *st = mrt_mem_new_aligned(provider->env->alloc, (size_t)(each + n_zeros + p->n) * 4,
                                       MRT_ALIGN, (void **)&q->constants);
  if (st) {
    destroy(&q->k);
    return st;
  }
  mrt_convert_to_f32((mrt_dtype)scales->dtype, scales->data, 0, each, q->constants);
  float *at = q->constants + each;
  p->scales = q->constants;
  if (zeros) {
    read_zeros(q, zeros, at);
    p->zeros = at;
    at += each;
  }
  if (bias) {
    mrt_convert_to_f32((mrt_dtype)bias->dtype, bias->data, 0, p->n, at);
    p->bias = at;
  }
  q->k.any_align = 1 << 2 | 1 << 3 | 1 << 5; /* read here, once */
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(matmul_nbits) = {
    .domain = "com.microsoft", .op = "MatMulNBits", .match = match, .create = create};
