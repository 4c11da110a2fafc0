/* com.microsoft.MatMulNBits with 4- or 8-bit constant weights, packed when the kernel is made;
 * scales and zero points become floats then. accuracy_level 4 lets few rows of A become bytes; with
 * many rows, levels 2 to 4 allow the faster products. */
#include "provider/cpu/cpu.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/nbits/nbits.h"
#include "provider/cpu/weights/packed.h"

typedef struct nbits_kernel {
  mrt_kernel k;
  mrt_nbits p;           /* but for a, c, m */
  mrt_packed *weights;   /* p.b */
  mrt_packed *constants; /* scales, zeros, bias */
  int precision;         /* the session's, or -1 */
  mrt_precision level;   /* what accuracy_level allows */
} nbits_kernel;

static bool is_half(mrt_dtype t) { return t == MRT_FLOAT16 || t == MRT_BFLOAT16; }

static bool fits(const mrt_tensor *t, int64_t count) {
  return mrt_tensor_count(t) == count && !t->strided;
}

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

static void read_zeros(const mrt_nbits *p, const mrt_tensor *z, float *out) {
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
  const mrt_tensor *a = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_nbits p = q->p;
  if (!y) return NULL;
  if (a->rank < 1 || a->dims[a->rank - 1] != p.k)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMulNBits: the last dim of A is not K");
  const int64_t count = mrt_tensor_count(a), total = mrt_tensor_count(y);
  p.m = count / p.k;
  p.a = a->data;
  p.c = y->data;
  p.precision = mrt_precision_now(q->precision);
  if (p.precision < q->level) p.precision = q->level;
  if (a->dtype != MRT_FLOAT) {
    float *work;
    MRT_TRY(mrt_scratch(c, (size_t)(count + total) * sizeof(float), (void **)&work));
    mrt_convert_to_f32((mrt_dtype)a->dtype, a->data, 0, count, work);
    p.a = work;
    p.c = work + count;
  }
  void *scratch = NULL;
  const size_t bytes = mrt_nbits_scratch_size(&c->par, &p);
  if (bytes == SIZE_MAX) return mrt_status_oom();
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_nbits_run(&c->par, &p, scratch);
  if (a->dtype != MRT_FLOAT) mrt_convert_from_f32((mrt_dtype)y->dtype, y->data, 0, total, p.c);
  return NULL;
}

static void destroy(mrt_kernel *k) {
  nbits_kernel *q = (nbits_kernel *)k;
  mrt_packed_release(q->weights);
  mrt_packed_release(q->constants);
  mrt_kernel_free(k);
}

static mrt_status *pack(const void *arg, const mrt_tensor *b, void *dst) {
  const mrt_nbits *p = arg;
  mrt_nbits_pack(b->data, p->n, p->k, p->block, p->bits, dst);
  return NULL;
}

static mrt_status *get_weights(nbits_kernel *q, const mrt_tensor *b) {
  const mrt_nbits *p = &q->p;
  const mrt_packer packer = {.format = "nbits.panel32.1",
                             .params = {p->n, p->k, p->block, p->bits},
                             .bytes = mrt_nbits_packed_size(p->n, p->k, p->block, p->bits),
                             .pack = pack,
                             .arg = p};
  if (packer.bytes == SIZE_MAX) return mrt_status_oom();
  MRT_TRY(mrt_packed_get(b, &packer, &q->weights));
  q->p.b = mrt_packed_data(q->weights);
  return NULL;
}

/* What scales, zeros and bias are packed from. */
typedef struct pack_arg {
  const mrt_nbits *p;
  const mrt_tensor *z, *bias; /* NULL: absent */
  size_t packed;              /* floats of packed scales, and of packed zeros */
} pack_arg;

/* As floats behind one another. */
static mrt_status *pack_constants(const void *arg, const mrt_tensor *s, void *dst) {
  const pack_arg *a = arg;
  const mrt_nbits *p = a->p;
  const int64_t each = mrt_tensor_count(s);
  float *plain, *at = dst;
  MRT_TRY(mrt_mem_new(mrt_alloc_default(), (size_t)each * sizeof(float), (void **)&plain));
  mrt_convert_to_f32((mrt_dtype)s->dtype, s->data, 0, each, plain);
  mrt_nbits_pack_scales(plain, p->n, p->k, p->block, at);
  at += a->packed;
  if (a->z) {
    read_zeros(p, a->z, plain);
    mrt_nbits_pack_scales(plain, p->n, p->k, p->block, at);
    at += a->packed;
  }
  mrt_mem_free(mrt_alloc_default(), plain);
  if (a->bias) mrt_convert_to_f32((mrt_dtype)a->bias->dtype, a->bias->data, 0, p->n, at);
  return NULL;
}

static mrt_status *get_constants(nbits_kernel *q, const mrt_node *node) {
  mrt_nbits *p = &q->p;
  const mrt_tensor *s = mrt_node_in_const(node, 2);
  const pack_arg arg = {.p = p,
                        .z = mrt_node_in_const(node, 3),
                        .bias = mrt_node_in_const(node, 5),
                        .packed = mrt_nbits_scales_count(p->n, p->k, p->block)};
  size_t count, bytes;
  if (arg.packed == SIZE_MAX || !mrt_size_mul(arg.packed, arg.z ? 2 : 1, &count) ||
      !mrt_size_add(count, arg.bias ? (size_t)p->n : 0, &count) ||
      !mrt_size_mul(count, sizeof(float), &bytes))
    return mrt_status_oom();
  const mrt_packer packer = {.format = "nbits.scales32.1",
                             .params = {p->n, p->k, p->block, p->bits},
                             .bytes = bytes,
                             .more = {arg.z, arg.bias},
                             .pack = pack_constants,
                             .arg = &arg};
  MRT_TRY(mrt_packed_get(s, &packer, &q->constants));
  p->scales = mrt_packed_data(q->constants);
  if (arg.z) p->zeros = p->scales + arg.packed;
  if (arg.bias) p->bias = p->scales + (arg.z ? 2 : 1) * arg.packed;
  return NULL;
}

/* All constants are read when the kernel is made. */
static uint32_t packs_misaligned(const mrt_node *node) {
  (void)node;
  return 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5;
}

static mrt_status *create(const mrt_provider *provider, const mrt_node *node, mrt_kernel **out) {
  const mrt_alloc *alloc = provider->env->alloc;
  nbits_kernel *q;
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(provider->env, &precision));
  MRT_TRY(mrt_kernel_new(alloc, sizeof *q, "matmul_nbits", run, destroy, &q));
  mrt_nbits *p = &q->p;
  p->n = mrt_node_int(node, "N");
  p->k = mrt_node_int(node, "K");
  p->block = mrt_node_int(node, "block_size");
  p->bits = (int)mrt_node_int(node, "bits");
  const int64_t level = mrt_node_int(node, "accuracy_level");
  p->bytes = level == 4 && p->block <= MRT_NBITS_MAX_S8_BLOCK;
  q->precision = precision;
  q->level = level >= 3   ? MRT_PRECISION_MEDIUM
             : level == 2 ? MRT_PRECISION_HIGH
                          : MRT_PRECISION_HIGHEST;
  mrt_status *st = get_constants(q, node);
  if (!st) st = get_weights(q, mrt_node_in_const(node, 1));
  if (st) {
    destroy(&q->k);
    return st;
  }
  q->k.any_align = packs_misaligned(node);
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(matmul_nbits) = {.domain = "com.microsoft",
                                .op = "MatMulNBits",
                                .match = match,
                                .create = create,
                                .packs_misaligned = packs_misaligned};
