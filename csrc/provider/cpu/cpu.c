/* The CPU provider: picks the first kernel row that matches a node, else wraps the operator's
 * reference kernel. */
#include "provider/cpu/cpu.h"

#include "provider/cpu/gemm/precision.h"

#include <string.h>

#define MRT_CPU_KERNEL_ENTRY(id) extern const mrt_cpu_kernel mrt_cpu_kernel_##id;
#include "gen/cpu_kernels.def"
#undef MRT_CPU_KERNEL_ENTRY
static const mrt_cpu_kernel *const kernels[] = {
#define MRT_CPU_KERNEL_ENTRY(id) &mrt_cpu_kernel_##id,
#include "gen/cpu_kernels.def"
#undef MRT_CPU_KERNEL_ENTRY
    NULL};

#define MRT_FUSION_ENTRY(id) extern const mrt_fusion mrt_fusion_##id;
#include "gen/cpu_fusions.def"
#undef MRT_FUSION_ENTRY
static const mrt_fusion *const fusions[] = {
#define MRT_FUSION_ENTRY(id) &mrt_fusion_##id,
#include "gen/cpu_fusions.def"
#undef MRT_FUSION_ENTRY
    NULL};

#define MAX_ORDER 100 /* fusion orders are small numbers */

mrt_status *mrt_kernel_new(const mrt_alloc *alloc, size_t size, const char *name,
                           mrt_status *(*run)(const mrt_kernel *, mrt_kctx *),
                           void (*destroy)(mrt_kernel *), void *out) {
  mrt_kernel *k = NULL;
  *(mrt_kernel **)out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, size, (void **)&k));
  k->name = name;
  k->run = run;
  k->destroy = destroy ? destroy : mrt_kernel_free;
  k->alloc = alloc;
  *(mrt_kernel **)out = k;
  return NULL;
}

void mrt_kernel_free(mrt_kernel *k) { mrt_mem_free(k->alloc, k); }

static const mrt_type *var_type(const mrt_var *v) {
  return v && v->type && v->type->kind == MRT_KIND_TENSOR ? v->type : NULL;
}
mrt_dtype mrt_node_in_dtype(const mrt_node *node, int i) {
  const mrt_type *t = i < node->n_in ? var_type(node->in[i].var) : NULL;
  return t ? t->dtype : MRT_UNDEFINED;
}
mrt_dtype mrt_node_out_dtype(const mrt_node *node, int i) {
  const mrt_type *t = i < node->n_out ? var_type(node->out[i]) : NULL;
  return t ? t->dtype : MRT_UNDEFINED;
}
int mrt_node_in_rank(const mrt_node *node, int i) {
  const mrt_type *t = i < node->n_in ? var_type(node->in[i].var) : NULL;
  return t ? t->rank : -1;
}
const mrt_tensor *mrt_node_in_const(const mrt_node *node, int i) {
  return i < node->n_in && node->in[i].var ? node->in[i].var->constant : NULL;
}

uint32_t mrt_cpu_packs_input1(const mrt_node *node) {
  const mrt_tensor *w = mrt_node_in_const(node, 1);
  return w && !w->strided && mrt_tensor_count(w) ? 1 << 1 : 0;
}

bool mrt_node_is_plain(const mrt_node *node) {
  for (int i = 0; i < node->n_in; ++i)
    if (node->in[i].var && node->in[i].var->layout != MRT_LAYOUT_PLAIN) return false;
  for (int i = 0; i < node->n_out; ++i)
    if (node->out[i] && node->out[i]->layout != MRT_LAYOUT_PLAIN) return false;
  return true;
}

/* --- the reference kernel as a kernel object --- */
typedef struct reference_kernel {
  mrt_kernel k;
  mrt_status *(*op_run)(mrt_kctx *c);
} reference_kernel;

static mrt_status *reference_run(const mrt_kernel *k, mrt_kctx *c) {
  return ((const reference_kernel *)k)->op_run(c);
}

mrt_status *mrt_cpu_run_reference(mrt_kctx *c, uint32_t packed) {
  enum { MOST = 16 };
  mrt_slot slots[MOST], *in[MOST];
  mrt_tensor *copies[MOST] = {0};
  mrt_kctx own = *c;
  mrt_status *st = NULL;
  if (!c->node->def || !c->node->def->run || c->n_in > MOST)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: no kernel for these inputs", c->node->op_type);
  for (int i = 0; i < c->n_in && !st; ++i) {
    const mrt_tensor *t = packed >> i & 1 ? mrt_in(c, i) : NULL;
    in[i] = c->in[i];
    if (!t) continue;
    st = mrt_tensor_again(c->alloc, t, &copies[i]);
    if (st) break;
    slots[i].value = &copies[i]->base;
    in[i] = &slots[i];
  }
  own.in = in;
  if (!st) st = c->node->def->run(&own);
  for (int i = 0; i < c->n_in; ++i) mrt_tensor_release(copies[i]);
  return st;
}

static const mrt_cpu_kernel *find_row(const mrt_provider *p, const mrt_node *node) {
  const bool plain = mrt_node_is_plain(node);
  for (int i = 0; kernels[i]; ++i)
    if ((plain || kernels[i]->layouts) && strcmp(kernels[i]->op, node->op_type) == 0 &&
        strcmp(kernels[i]->domain, node->domain) == 0 &&
        (!kernels[i]->match || kernels[i]->match(p, node)))
      return kernels[i];
  return NULL;
}

bool mrt_cpu_has_row(const char *domain, const char *op) {
  for (int i = 0; kernels[i]; ++i)
    if (strcmp(kernels[i]->op, op) == 0 && strcmp(kernels[i]->domain, domain) == 0) return true;
  return false;
}

static bool claims(const mrt_provider *p, const mrt_node *node, mrt_str *why) {
  if (node->def && node->def->run && mrt_node_is_plain(node)) return true;
  if (find_row(p, node)) return true;
  mrt_str_addf(why, "no kernel");
  return false;
}

static uint32_t packs_misaligned(const mrt_provider *p, const mrt_node *node) {
  const mrt_cpu_kernel *row = find_row(p, node);
  if (!row) return node->def && (node->def->flags & MRT_OP_BYTES) ? 1 : 0;
  return row->packs_misaligned ? row->packs_misaligned(node) : 0;
}

static mrt_status *kernel_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  const mrt_cpu_kernel *row = find_row(p, node);
  *out = NULL;
  if (row) return row->create(p, node, out);
  if (!node->def || !node->def->run || !mrt_node_is_plain(node))
    return MRT_ERR(MRT_NOT_IMPLEMENTED,
                   "Could not find an implementation for %s(%d) node with name '%s'", node->op_type,
                   node->version, node->name);
  reference_kernel *k;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *k, "reference", reference_run, NULL, &k));
  k->op_run = node->def->run;
  k->k.any_align = node->def->flags & MRT_OP_BYTES ? 1 : 0;
  k->k.strided_inputs = (node->def->flags & MRT_OP_STRIDED) != 0;
  *out = &k->k;
  return NULL;
}

static mrt_status *fuse_graph(const mrt_provider *p, const mrt_fusion *f, mrt_graph *g, int index,
                              int *fired, int depth) {
  if (depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  MRT_TRY(f->run(p, g, index, fired));
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i)
      MRT_TRY(fuse_graph(p, f, subs[i], index, fired, depth + 1));
  }
  return NULL;
}

static mrt_status *fuse(const mrt_provider *p, mrt_model *model, int index, int *fired) {
  for (int order = 0; order < MAX_ORDER; ++order)
    for (int i = 0; fusions[i]; ++i) {
      int n = 0;
      if (fusions[i]->order != order || fusions[i]->level > p->env->level ||
          mrt_list_has(p->env->disabled, fusions[i]->name))
        continue;
      MRT_TRY_CTX(fuse_graph(p, fusions[i], model->graph, index, &n, 0), "fusion '%s'",
                  fusions[i]->name);
      mrt_tally_add(p->env->tally, fusions[i]->name, n);
      *fired += n;
    }
  return NULL;
}

static bool has_fusion(const mrt_provider *p, const char *name) {
  (void)p;
  for (int i = 0; fusions[i]; ++i)
    if (strcmp(fusions[i]->name, name) == 0) return true;
  return false;
}

static mrt_status *copy(const mrt_provider *p, mrt_tensor *dst, const mrt_tensor *src,
                        void *stream) {
  (void)p;
  (void)stream;
  return mrt_tensor_copy_into(dst, src);
}

static void destroy(mrt_provider *p) { mrt_mem_free(p->alloc, p); }

static const mrt_provider_vtbl vtbl = {.claims = claims,
                                       .fuse = fuse,
                                       .has_fusion = has_fusion,
                                       .kernel_create = kernel_create,
                                       .packs_misaligned = packs_misaligned,
                                       .copy = copy,
                                       .destroy = destroy};

mrt_status *mrt_cpu_provider_create(const mrt_provider_env *env, mrt_provider **out) {
  mrt_provider *p = NULL;
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(env, &precision)); /* a wrong word fails here, whatever the model */
  MRT_TRY(mrt_mem_new_zero(env->alloc, sizeof *p, (void **)&p));
  mrt_provider_init(p, &vtbl, "CPUExecutionProvider", MRT_HOST, env);
  *out = p;
  return NULL;
}
