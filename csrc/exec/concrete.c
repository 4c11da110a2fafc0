/* Concrete inference: the operator's own shape inference, run on the actual input shapes and
 * contents just before the kernel, allocates the outputs. Used where symbols could not say, and for
 * whole runs whose sizes break the plan's assumptions. */
#include "exec/frame.h"

typedef struct concrete_ctx {
  mrt_model *m; /* throw-away: types and expressions of this step only */
  mrt_infer c;
} concrete_ctx;

static mrt_status *setup(concrete_ctx *k, const mrt_frame *f, const mrt_step *s) {
  mrt_model *m = k->m;
  size_t ni = (size_t)s->n_in + 1, no = (size_t)s->n_out + 1;
  k->c = (mrt_infer){.node = s->node,
                     .sym = m->sym,
                     .model = m,
                     .arena = m->arena,
                     .n_in = s->n_in,
                     .n_out = s->n_out,
                     .concrete = true};
  const mrt_type **in_types = mrt_arena_alloc(m->arena, ni * sizeof *in_types);
  const mrt_tensor **consts = mrt_arena_alloc(m->arena, ni * sizeof *consts);
  const mrt_expr *const **elems = mrt_arena_alloc(m->arena, ni * sizeof *elems);
  int *n_elems = mrt_arena_alloc(m->arena, ni * sizeof *n_elems);
  k->c.out_types = mrt_arena_alloc(m->arena, no * sizeof *k->c.out_types);
  k->c.out_elems = mrt_arena_alloc(m->arena, no * sizeof *k->c.out_elems);
  k->c.out_n_elems = mrt_arena_alloc(m->arena, no * sizeof *k->c.out_n_elems);
  if (!in_types || !consts || !elems || !n_elems || !k->c.out_types || !k->c.out_elems ||
      !k->c.out_n_elems)
    return mrt_status_oom();
  for (int i = 0; i < s->n_in; ++i) {
    int slot = f->plan->refs[s->in + i];
    mrt_value *v = slot < 0 ? NULL : f->slots[slot].value;
    n_elems[i] = -1;
    in_types[i] = v ? mrt_type_of_value(m, v) : NULL;
    const mrt_tensor *t = mrt_value_tensor(v);
    consts[i] = t && mrt_device_is_host(t->device) ? t : NULL;
  }
  k->c.in_types = in_types;
  k->c.in_consts = consts;
  k->c.in_elems = elems;
  k->c.in_n_elems = n_elems;
  return mrt_model_check(m);
}

mrt_status *mrt_frame_concrete(mrt_frame *f, int step) {
  const mrt_plan *p = f->plan;
  const mrt_step *s = &p->steps[step];
  const mrt_op_def *def = s->node->def;
  if (!def || !def->infer || (def->flags & MRT_OP_DYNAMIC)) return NULL; /* the kernel allocates */
  concrete_ctx k = {0};
  mrt_status *st = NULL;
  MRT_TRY(mrt_model_create(p->alloc, &k.m));
  MRT_TRY_GOTO(st, done, setup(&k, f, s));
  MRT_TRY_GOTO(st, done, def->infer(&k.c));
  for (int i = 0; i < s->n_out; ++i) {
    const mrt_type *t = k.c.out_types[i];
    mrt_kctx *c = &f->steps[step];
    int64_t dims[MRT_MAX_RANK];
    mrt_tensor *out;
    if (!c->out[i]) continue;
    int slot = p->refs[s->out + i];
    /* Outputs that the plan has placed stay there, unless the plan is not trusted. */
    if (!f->concrete && p->slots[slot].kind == MRT_SLOT_PLANNED) continue;
    /* Sequences and the like come from the kernel; so does what continues an empty optional. */
    int from = s->n_in > 0 ? p->refs[s->in] : -1;
    if (t ? t->kind != MRT_KIND_TENSOR : from >= 0 && !f->slots[from].value) continue;
    bool known = t && t->rank >= 0 && t->dtype;
    for (int d = 0; known && d < t->rank; ++d) known = mrt_expr_is_const(t->dims[d], &dims[d]);
    if (!known) {
      st = MRT_ERR(MRT_FAIL, "the shape of output %d could not be inferred", i);
      goto done;
    }
    MRT_TRY_GOTO(st, done, c->v->alloc_output(c, i, t->dtype, t->rank, dims, &out));
  }
done:
  mrt_model_destroy(k.m);
  return st;
}
