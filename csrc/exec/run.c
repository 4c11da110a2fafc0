/* Running a plan: bind what the caller gave, then walk the list of kernel calls. */
#include <stdio.h>
#include <string.h>

#include "exec/frame.h"

/* ---- values against their types ---- */

/* Does the value have the shape that the plan counts on? Binds free symbols on the way. */
static bool matches(mrt_frame *f, const mrt_value *v, const mrt_type *type) {
  const mrt_tensor *t = mrt_value_tensor(v);
  if (!t || !type || type->kind != MRT_KIND_TENSOR) return true;
  if (type->dtype && type->dtype != (mrt_dtype)t->dtype) return false;
  if (type->rank < 0) return true;
  if (type->rank != t->rank) return false;
  for (int i = 0; i < t->rank; ++i) {
    int symbol;
    int64_t want;
    if (!type->dims[i]) continue;
    if (mrt_expr_is_symbol(type->dims[i], &symbol)) {
      if (f->symbols[symbol] < 0) f->symbols[symbol] = t->dims[i];
      if (f->symbols[symbol] != t->dims[i]) return false;
    } else if (mrt_expr_eval(type->dims[i], f->symbols, f->plan->n_symbols, &want) &&
               want != t->dims[i]) {
      return false;
    }
  }
  return true;
}

/* ---- segments ---- */

/* Also gives memory back after a peak. */
static mrt_status *size_blocks(mrt_frame *f, int segment, const mrt_eval *e) {
  for (int m = 0; m < f->plan->n_memories; ++m) {
    int i = segment * f->plan->n_memories + m;
    size_t have = f->blocks[i].size, need = e->blocks[m];
    if (have < need || have / 4 > need + (1 << 20)) MRT_TRY(mrt_frame_block_new(f, i, need));
  }
  return NULL;
}

static mrt_status *bind_segment(mrt_frame *f, int segment) {
  mrt_plan *p = f->plan;
  mrt_eval *e = f->evals[segment];
  bool same = e != NULL;
  for (int k = 0; same && k < p->n_key_symbols; ++k) same = e->key[k] == f->symbols[p->symbols[k]];
  if (same) return NULL;
  MRT_TRY(mrt_plan_eval(p, segment, f->symbols, &e));
  if (!e->guards_hold) {
    mrt_eval_release(e);
    f->concrete = true;
    return NULL;
  }
  mrt_status *st = size_blocks(f, segment, e);
  if (st) {
    mrt_eval_release(e);
    mrt_eval_release(f->evals[segment]);
    f->evals[segment] = NULL;
    return st;
  }
  mrt_eval_release(f->evals[segment]);
  f->evals[segment] = e;
  const mrt_segment *s = &p->segments[segment];
  const int64_t *dims = e->dims;
  for (int i = 0; i < s->n_slots; ++i) {
    const mrt_slot_info *info = &p->slots[s->slots[i]];
    const mrt_type *type = info->var->type;
    mrt_slot *slot = &f->slots[s->slots[i]];
    if (info->kind == MRT_SLOT_PLANNED) {
      size_t offset = e->offsets[p->slots[info->root].index];
      char *block = f->blocks[segment * p->n_memories + info->memory].data;
      mrt_tensor_init_view(slot->tensor, type->dtype, type->rank, dims, block + offset, e->bytes[i],
                           info->var->device);
      slot->tensor->layout = (uint8_t)info->var->layout;
      slot->value = &slot->tensor->base;
    } else { /* OUTPUT, ALIAS: shape now, memory when the step comes */
      mrt_tensor_init_view(slot->tensor, type->dtype, type->rank, dims, NULL, e->bytes[i],
                           info->var->device);
    }
    dims += type->rank;
  }
  return NULL;
}

static void set_owned(mrt_frame *f, int slot, mrt_value *take) {
  if (f->owned[slot]) mrt_value_release(f->slots[slot].value);
  f->slots[slot].value = take;
  f->owned[slot] = take != NULL;
}

/* ---- what kernels call ---- */

static int slot_number(const mrt_frame *f, const mrt_slot *slot) { return (int)(slot - f->slots); }

static mrt_status *ctx_scratch(mrt_kctx *c, size_t bytes, void **out) {
  return mrt_frame_scratch(c->frame, c->step, bytes, out);
}

static mrt_status *ctx_alloc_output(mrt_kctx *c, int i, mrt_dtype dtype, int rank,
                                    const int64_t *dims, mrt_tensor **out) {
  mrt_frame *f = c->frame;
  mrt_tensor *t = NULL;
  *out = NULL;
  if (i >= c->n_out || !c->out[i]) return MRT_ERR(MRT_FAIL, "output %d is not wanted", i);
  MRT_TRY(mrt_frame_tensor(f, slot_number(f, c->out[i]), dtype, rank, dims, &t));
  set_owned(f, slot_number(f, c->out[i]), &t->base);
  *out = t;
  return NULL;
}

static mrt_status *ctx_set_output(mrt_kctx *c, int i, mrt_value *take) {
  mrt_frame *f = c->frame;
  if (i >= c->n_out || !c->out[i])
    mrt_value_release(take);
  else
    set_owned(f, slot_number(f, c->out[i]), take);
  return NULL;
}

static mrt_status *ctx_run_subgraph(mrt_kctx *c, int which, int n_in, mrt_value *const *in,
                                    int n_out, mrt_value **out) {
  mrt_frame *f = c->frame;
  const mrt_step *s = c->step;
  memset(out, 0, (size_t)n_out * sizeof *out);
  if (which >= s->n_children) return MRT_ERR(MRT_FAIL, "no subgraph %d", which);
  mrt_plan *child = s->children[which];
  if (n_in != child->n_inputs || n_out != child->n_outputs)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraph '%s' has %d inputs and %d outputs, not %d and %d",
                   child->graph->name, child->n_inputs, child->n_outputs, n_in, n_out);
  mrt_frame *cf = NULL;
  MRT_TRY(mrt_frame_acquire(child, &cf));
  mrt_status *st = mrt_frame_run(cf, f->run, f, in, NULL, out);
  mrt_frame_recycle(cf);
  return st;
}

const mrt_kctx_vtbl mrt_frame_vtbl = {ctx_scratch, ctx_alloc_output, ctx_set_output,
                                      ctx_run_subgraph};

/* ---- steps ---- */

/* The caller's tensor for a graph output, if it fits what will be computed; a new reference. */
static mrt_tensor *bound_tensor(const mrt_frame *f, int slot, const mrt_tensor *shape) {
  const mrt_plan *p = f->plan;
  if (f->parent || !f->run->bound) return NULL;
  for (int i = 0; i < p->n_outputs; ++i) {
    mrt_tensor *t = p->outputs[i] == slot ? mrt_value_tensor(f->run->bound[i]) : NULL;
    if (!t || t->strided || t->dtype != shape->dtype || t->dtype == MRT_STRING ||
        !mrt_device_same(t->device, shape->device) ||
        !mrt_shape_equal(t->rank, t->dims, shape->rank, shape->dims))
      continue;
    mrt_tensor_retain(t);
    return t;
  }
  return NULL;
}

static mrt_status *prepare_outputs(mrt_frame *f, int i) {
  mrt_plan *p = f->plan;
  const mrt_step *s = &p->steps[i];
  if (f->concrete || s->concrete) return mrt_frame_concrete(f, i);
  for (int k = 0; k < s->n_out; ++k) {
    int slot = p->refs[s->out + k];
    if (slot < 0 || p->slots[slot].kind != MRT_SLOT_OUTPUT) continue;
    const mrt_tensor *shape = f->slots[slot].tensor;
    mrt_tensor *t = bound_tensor(f, slot, shape);
    if (!t)
      MRT_TRY(mrt_frame_tensor(f, slot, (mrt_dtype)shape->dtype, shape->rank, shape->dims, &t));
    set_owned(f, slot, &t->base);
  }
  return NULL;
}

/* Kernels are chosen by element type: another one than was planned is an error, not a detour. */
static mrt_status *check_dtype(const mrt_value *v, const mrt_var *var) {
  const mrt_tensor *t = mrt_value_tensor(v);
  const mrt_type *type = var->type;
  if (!t || !type || type->kind != MRT_KIND_TENSOR || !type->dtype || type->dtype == t->dtype)
    return NULL;
  return MRT_ERR(MRT_FAIL, "value '%s' is a tensor(%s), the model says tensor(%s)", var->name,
                 mrt_dtype_name((mrt_dtype)t->dtype), mrt_dtype_name(type->dtype));
}

static mrt_status *check_outputs(mrt_frame *f, const mrt_step *s) {
  mrt_plan *p = f->plan;
  for (int k = 0; k < s->n_out; ++k) {
    int slot = p->refs[s->out + k];
    if (slot < 0) continue;
    if (!f->slots[slot].value) continue; /* an empty optional output */
    if (matches(f, f->slots[slot].value, p->slots[slot].var->type)) continue;
    MRT_TRY(check_dtype(f->slots[slot].value, p->slots[slot].var));
    f->concrete = true;
  }
  return NULL;
}

static mrt_status *run_step(mrt_frame *f, int i) {
  mrt_plan *p = f->plan;
  const mrt_step *s = &p->steps[i];
  mrt_kctx *ctx = &f->steps[i];
  if (s->alias && !f->concrete) {
    mrt_slot *out = &f->slots[p->refs[s->out]];
    const mrt_tensor *in = mrt_in(ctx, 0);
    if (in && in->bytes == out->tensor->bytes && !in->strided) {
      out->tensor->data = in->data;
      out->tensor->device = in->device;
      out->value = &out->tensor->base;
      return NULL;
    }
    f->concrete = true; /* not what was planned: this run goes on carefully */
  }
  MRT_TRY(prepare_outputs(f, i));
  ctx->par = f->run->par;
  if (f->run->streams) ctx->stream = f->run->streams[s->node->provider];
  mrt_status *st = s->kernel->run(s->kernel, ctx);
  if (f->scratch_need || f->gap) mrt_frame_scratch_reset(f);
  if (st) return st;
  return s->check || f->concrete ? check_outputs(f, s) : NULL;
}

static mrt_status *traced_step(mrt_frame *f, int i) {
  const mrt_step *s = &f->plan->steps[i];
  uint64_t begin = mrt_now_ns();
  mrt_status *st = run_step(f, i);
  char name[256], op[64], args[512];
  mrt_trace_escape(op, sizeof op, s->node->op_type);
  mrt_trace_escape(name, sizeof name - 16, s->node->name);
  strcat(name, "_kernel_time");
  snprintf(args, sizeof args,
           "\"op_name\" : \"%s\",\"provider\" : \"%s\",\"node_index\" : \"%d\","
           "\"kernel\" : \"%s\"",
           op, f->plan->providers[s->node->provider]->name, i, s->kernel->name);
  mrt_trace_event(f->run->trace, "Node", name, begin, mrt_now_ns(), args);
  return st;
}

static mrt_status *check_stop(const mrt_frame *f) {
  const mrt_par *par = &f->run->par;
  if (!mrt_cancelled(par) && !(par->poll && mrt_poll_ask(par->poll))) return NULL;
  return MRT_ERR(MRT_CANCELLED, "Exiting due to terminate flag being set to true.");
}

static mrt_status *run_steps(mrt_frame *f) {
  mrt_plan *p = f->plan;
  int segment = -1;
  for (int i = 0; i < p->n_steps; ++i) {
    const mrt_step *s = &p->steps[i];
    if (s->segment != segment && !f->concrete) {
      segment = s->segment;
      MRT_TRY(bind_segment(f, segment));
    }
    MRT_TRY(check_stop(f));
    mrt_status *st = f->run->trace ? traced_step(f, i) : run_step(f, i);
    if (st) {
      if (mrt_status_code(st) == MRT_CANCELLED) return st;
      return mrt_status_wrap(
          st, "Non-zero status code returned while running %s node. Name:'%s' Status Message",
          s->node->orig_op ? s->node->orig_op : s->node->op_type, s->node->name);
    }
    for (int k = 0; k < s->n_release && !f->concrete; ++k)
      set_owned(f, p->refs[s->release + k], NULL);
  }
  return check_stop(f); /* the last kernel may have left out work */
}

/* Owned results: hand over what the frame owns alone, copy what others hold too. */
static mrt_status *take_outputs(mrt_frame *f, const uint8_t *want, mrt_value **out) {
  mrt_plan *p = f->plan;
  for (int i = 0; i < p->n_outputs; ++i) {
    int slot = p->outputs[i];
    mrt_value *v = f->slots[slot].value;
    if ((want && !want[i]) || !v) continue;
    bool again = false;
    for (int k = i + 1; k < p->n_outputs && !again; ++k)
      again = p->outputs[k] == slot && (!want || want[k]);
    /* A tensor taken out of a sequence still belongs to that too. */
    bool alone = v->kind != MRT_KIND_TENSOR || atomic_load(&v->refs) == 1;
    if (f->owned[slot] && !again && alone) {
      out[i] = v;
      f->owned[slot] = 0;
      f->slots[slot].value = NULL;
    } else if (mrt_value_tensor(v)) {
      const mrt_tensor *from = mrt_value_tensor(v);
      int at = mrt_provider_of_device(p->providers, p->n_providers, from->device);
      mrt_provider *on = at < 0 ? NULL : p->providers[at];
      mrt_tensor *t = NULL;
      MRT_TRY(mrt_provider_transfer(p->alloc, on, on, from, &t));
      out[i] = &t->base;
    } else {
      MRT_TRY(mrt_value_keep(p->alloc, v, &out[i]));
    }
  }
  return NULL;
}

mrt_status *mrt_frame_run(mrt_frame *f, const mrt_run *run, mrt_frame *parent, mrt_value *const *in,
                          const uint8_t *want, mrt_value **out) {
  mrt_plan *p = f->plan;
  f->run = run;
  f->parent = parent;
  f->concrete = parent && parent->concrete;
  if (parent)
    memcpy(f->symbols, parent->symbols, (size_t)p->n_symbols * sizeof *f->symbols);
  else
    for (int i = 0; i < p->n_symbols; ++i) f->symbols[i] = -1;
  for (int i = 0; i < p->n_captures; ++i) {
    int slot = p->captures[i];
    if (p->slots[slot].kind == MRT_SLOT_CAPTURE)
      f->slots[slot].value = parent->slots[p->capture_from[i]].value;
  }
  for (int i = 0; i < p->n_inputs; ++i) {
    int slot = p->inputs[i];
    f->slots[slot].value = in[i];
    if (matches(f, in[i], p->slots[slot].var->type)) continue;
    MRT_TRY(check_dtype(in[i], p->slots[slot].var));
    f->concrete = true;
  }
  mrt_status *st = run_steps(f);
  if (!parent && run->streams) { /* errors of queued work may come only now */
    mrt_status *late = mrt_frame_sync(f);
    if (st)
      mrt_status_free(late);
    else
      st = late;
  }
  if (st) return st;
  st = take_outputs(f, want, out);
  if (st)
    for (int i = 0; i < p->n_outputs; ++i) {
      mrt_value_release(out[i]);
      out[i] = NULL;
    }
  return st;
}
