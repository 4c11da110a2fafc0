/* Weights lie misaligned in most model files, and some constants are made only when they are needed
 * (mrt_tensor_create_later). A kernel that packs them sees an aligned copy while it is made, and no
 * longer; the pages of the file are given back then. What a kernel reads at each run is copied for
 * good. */
#include "plan/plan.h"

enum { MOST = 30 }; /* inputs that packs_misaligned speaks of */

static bool is_packed(const mrt_kernel *k, int i) { return i < 32 && (k->any_align >> i & 1); }

/* originals[i]: what input i was before it was aligned, NULL if it was aligned already. */
static mrt_status *align_inputs(const mrt_provider *p, mrt_node *node, mrt_tensor **originals) {
  const uint32_t as_they_lie = p->v->packs_misaligned ? p->v->packs_misaligned(p, node) : 0;
  for (int i = 0; i < node->n_in; ++i) {
    mrt_var *v = node->in[i].var;
    if (!v || !v->constant || mrt_tensor_is_aligned(v->constant)) continue;
    mrt_tensor *before = v->constant, *copy;
    const bool there = (as_they_lie & MRT_PACKS_LATER) || !mrt_tensor_is_forgotten(before);
    if (i < MOST && (as_they_lie >> i & 1) && there) continue;
    MRT_TRY(mrt_tensor_is_forgotten(before)
                ? mrt_tensor_again(v->graph->model->alloc, before, &copy)
                : mrt_tensor_copy(v->graph->model->alloc, before, &copy));
    v->constant = copy;
    originals[i] = before;
  }
  return NULL;
}

/* Of a kernel that moves its input as bytes, which it reads at each run. */
static bool is_moved(const mrt_node *node) {
  return node->def && (node->def->flags & MRT_OP_BYTES);
}

/* The model owns the originals; the copies are ours until they are kept. */
static mrt_status *keep_or_drop(mrt_node *node, mrt_tensor **originals, const mrt_kernel *k) {
  mrt_status *st = NULL;
  for (int i = 0; i < node->n_in; ++i) {
    if (!originals[i]) continue;
    mrt_var *v = node->in[i].var;
    mrt_tensor *copy = v->constant;
    /* What is moved as bytes may lie anywhere, but must be somewhere. */
    bool read = k && is_moved(node) && mrt_tensor_is_forgotten(originals[i]);
    for (int j = 0; j < node->n_in; ++j) /* the same constant may be two inputs */
      read = read || (node->in[j].var == v && k && !is_packed(k, j));
    if (read && !st)
      st = mrt_model_own(v->graph->model, &copy->base); /* releases on failure */
    else
      mrt_tensor_release(copy);
    if (!read || st) v->constant = originals[i];
    if (read && !st && atomic_load(&originals[i]->base.refs) == 1)
      mrt_tensor_unload(originals[i]);
    else
      mrt_tensor_drop_pages(originals[i]);
  }
  return st;
}

/* What all its readers packed is hardly read again. */
static void give_up(const mrt_node *node, const mrt_kernel *k, int i) {
  mrt_tensor *t = node->in[i].var ? node->in[i].var->constant : NULL;
  if (!t || !is_packed(k, i) || is_moved(node) || !t->readers || t->readers == MRT_MANY_READERS)
    return;
  if (--t->readers == 0) mrt_tensor_unload(t);
}

mrt_status *mrt_aligned_kernel_create(const mrt_provider *p, mrt_node *node, mrt_kernel **out) {
  mrt_tensor *few[8] = {0}, **originals = few;
  const mrt_alloc *alloc = node->graph->model->alloc;
  *out = NULL;
  if (node->n_in > 8)
    MRT_TRY(mrt_mem_new_zero(alloc, (size_t)node->n_in * sizeof *originals, (void **)&originals));
  mrt_status *st = align_inputs(p, node, originals);
  if (!st) st = p->v->kernel_create(p, node, out);
  mrt_status *kept = keep_or_drop(node, originals, *out);
  for (int i = 0; i < node->n_in && *out; ++i) /* aligned ones that were packed */
    if (node->in[i].var && node->in[i].var->constant && is_packed(*out, i))
      mrt_tensor_drop_pages(node->in[i].var->constant);
  for (int i = 0; i < node->n_in && *out; ++i) give_up(node, *out, i);
  if (originals != few) mrt_mem_free(alloc, originals);
  if (!st) return kept; /* the step owns the kernel: the plan destroys it */
  mrt_status_free(kept);
  return st;
}
