/* Runs one reference kernel outside any session: constant folding and the tests of operators. */
#include <string.h>

#include "pass/pass.h"

typedef struct eval_ctx {
  mrt_kctx c; /* first: the kernel sees only this */
  const mrt_alloc *alloc;
  void **blocks;
  size_t n_blocks, cap_blocks;
} eval_ctx;

static mrt_status *eval_scratch(mrt_kctx *c, size_t bytes, void **out) {
  eval_ctx *e = (eval_ctx *)c;
  *out = NULL;
  MRT_TRY(mrt_mem_grow(e->alloc, (void **)&e->blocks, &e->cap_blocks, e->n_blocks + 1,
                       sizeof *e->blocks));
  MRT_TRY(mrt_mem_new_aligned(e->alloc, bytes, MRT_ALIGN, out));
  e->blocks[e->n_blocks++] = *out;
  return NULL;
}

static mrt_status *eval_alloc_output(mrt_kctx *c, int i, mrt_dtype dtype, int rank,
                                     const int64_t *dims, mrt_tensor **out) {
  mrt_tensor *t = NULL;
  *out = NULL;
  MRT_TRY(mrt_tensor_create(c->alloc, dtype, rank, dims, &t));
  mrt_value_release(c->out[i]->value);
  c->out[i]->value = &t->base;
  *out = t;
  return NULL;
}

static mrt_status *eval_set_output(mrt_kctx *c, int i, mrt_value *take) {
  if (i >= c->n_out || !c->out[i]) {
    mrt_value_release(take);
    return NULL;
  }
  mrt_value_release(c->out[i]->value);
  c->out[i]->value = take;
  return NULL;
}

static const mrt_kctx_vtbl eval_vtbl = {eval_scratch, eval_alloc_output, eval_set_output, NULL};

/* Concrete inference in a throw-away model, then allocation of the outputs. */
static mrt_status *allocate_outputs(eval_ctx *e, const mrt_node *node, mrt_value *const *ins) {
  mrt_model *m = NULL;
  mrt_status *st = NULL;
  MRT_TRY_GOTO(st, done, mrt_model_create(e->alloc, &m));
  size_t ni = (size_t)node->n_in + 1, no = (size_t)node->n_out + 1;
  mrt_infer c = {.node = node,
                 .sym = m->sym,
                 .model = m,
                 .arena = m->arena,
                 .n_in = node->n_in,
                 .n_out = node->n_out,
                 .concrete = true};
  const mrt_type **in_types = mrt_arena_alloc(m->arena, ni * sizeof *in_types);
  const mrt_tensor **consts = mrt_arena_alloc(m->arena, ni * sizeof *consts);
  const mrt_expr *const **elems = mrt_arena_alloc(m->arena, ni * sizeof *elems);
  int *n_elems = mrt_arena_alloc(m->arena, ni * sizeof *n_elems);
  c.out_types = mrt_arena_alloc(m->arena, no * sizeof *c.out_types);
  c.out_elems = mrt_arena_alloc(m->arena, no * sizeof *c.out_elems);
  c.out_n_elems = mrt_arena_alloc(m->arena, no * sizeof *c.out_n_elems);
  if (!in_types || !consts || !elems || !n_elems || !c.out_types || !c.out_elems ||
      !c.out_n_elems) {
    st = mrt_status_oom();
    goto done;
  }
  for (int i = 0; i < node->n_in; ++i) {
    n_elems[i] = -1;
    in_types[i] = ins[i] ? mrt_type_of_value(m, ins[i]) : NULL;
    consts[i] = mrt_value_tensor(ins[i]);
  }
  c.in_types = in_types;
  c.in_consts = consts;
  c.in_elems = elems;
  c.in_n_elems = n_elems;
  MRT_TRY_GOTO(st, done, node->def->infer(&c));
  for (int i = 0; i < node->n_out; ++i) {
    const mrt_type *t = c.out_types[i];
    if (!e->c.out[i] || !t || t->kind != MRT_KIND_TENSOR || t->rank < 0) continue;
    int64_t dims[MRT_MAX_RANK];
    bool known = true;
    for (int k = 0; k < t->rank; ++k) known = known && mrt_expr_is_const(t->dims[k], &dims[k]);
    if (!known) continue;
    mrt_tensor *out = NULL;
    MRT_TRY_GOTO(st, done, eval_alloc_output(&e->c, i, t->dtype, t->rank, dims, &out));
  }
done:
  mrt_model_destroy(m);
  return st;
}

mrt_status *mrt_eval_node(const mrt_alloc *alloc, const mrt_node *node, mrt_value *const *ins,
                          mrt_value **outs) {
  const mrt_op_def *def = node->def;
  memset(outs, 0, (size_t)node->n_out * sizeof *outs);
  if (!def || !def->run || (def->flags & MRT_OP_CONTROL))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s has no reference kernel", node->op_type);
  mrt_status *st = NULL;
  eval_ctx e = {.alloc = alloc};
  mrt_slot *slots = NULL;
  mrt_slot **ptrs = NULL;
  size_t n = (size_t)node->n_in + (size_t)node->n_out;
  MRT_TRY_GOTO(st, done, mrt_mem_new_zero(alloc, (n + 1) * sizeof *slots, (void **)&slots));
  MRT_TRY_GOTO(st, done, mrt_mem_new_zero(alloc, (n + 1) * sizeof *ptrs, (void **)&ptrs));
  for (int i = 0; i < node->n_in; ++i)
    if (ins[i]) {
      slots[i].value = ins[i];
      ptrs[i] = &slots[i];
    }
  for (int i = 0; i < node->n_out; ++i)
    if (node->out[i]) ptrs[node->n_in + i] = &slots[node->n_in + i];
  e.c = (mrt_kctx){.node = node,
                   .in = ptrs,
                   .out = ptrs + node->n_in,
                   .n_in = node->n_in,
                   .n_out = node->n_out,
                   .par = {.threads = 1},
                   .alloc = alloc,
                   .v = &eval_vtbl};
  if (!(def->flags & MRT_OP_DYNAMIC) && def->infer)
    MRT_TRY_GOTO(st, done, allocate_outputs(&e, node, ins));
  MRT_TRY_GOTO(st, done, def->run(&e.c));
  for (int i = 0; i < node->n_out; ++i) {
    outs[i] = slots[node->n_in + i].value;
    slots[node->n_in + i].value = NULL;
  }
done:
  if (slots)
    for (int i = 0; i < node->n_out; ++i) mrt_value_release(slots[node->n_in + i].value);
  for (size_t i = 0; i < e.n_blocks; ++i) mrt_mem_free(alloc, e.blocks[i]);
  mrt_mem_free(alloc, e.blocks);
  mrt_mem_free(alloc, ptrs);
  mrt_mem_free(alloc, slots);
  return st;
}
