/* com.microsoft.MultiHeadAttention on the kernel that reads heads by stride. */
#include "ops/ms_attention.h"
#include "provider/cpu/attention/attention.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/gemm/precision.h"

typedef struct mha_kernel {
  mrt_kernel k;
  int precision; /* mrt_precision, or -1: the process default */
} mha_kernel;

static mrt_attn_view view(const mrt_heads *h) {
  return (mrt_attn_view){h->data, h->batch, h->head, h->row, 1};
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  mrt_sdpa p;
  void *scratch;
  MRT_TRY(mrt_mha_read(c, &p));
  if (!p.out.data || !mrt_tensor_count(mrt_out(c, 0))) return NULL;
  if (!p.sk || !p.d) return c->node->def->run(c);
  const mrt_attn a = {.batch = p.batch,
                      .heads = p.heads,
                      .kv_heads = p.heads,
                      .sq = p.sq,
                      .sk = p.sk,
                      .d = p.d,
                      .dv = p.dv,
                      .q = view(&p.q),
                      .k = view(&p.k),
                      .v = view(&p.v),
                      .out = (float *)p.out.data,
                      .out_batch = p.out.batch,
                      .out_head = p.out.head,
                      .out_row = p.out.row,
                      .mask = p.mask,
                      .mask_batch = p.mask_batch,
                      .mask_head = p.mask_head,
                      .mask_row = p.mask_row,
                      .mask_col = 1,
                      .scale = p.scale,
                      .causal_rows = p.causal ? p.sq - 1 : 0, /* as in mrt_sdpa */
                      .causal_offset = p.past,
                      .precision = mrt_precision_now(((const mha_kernel *)k)->precision)};
  const size_t bytes = mrt_attn_scratch_size(&c->par, &a);
  if (bytes == SIZE_MAX) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes + 64, &scratch));
  mrt_attn_run(&c->par, &a, scratch);
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  mha_kernel *q;
  int precision;
  (void)node;
  *out = NULL;
  MRT_TRY(mrt_precision_option(p->env, &precision));
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "multi_head_attention", run, NULL, &q));
  q->precision = precision;
  *out = &q->k;
  return NULL;
}
MRT_CPU_KERNEL(multi_head_attention) = {
    .domain = "com.microsoft", .op = "MultiHeadAttention", .create = create};
