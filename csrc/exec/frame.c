/* Making, pooling and recycling frames; scratch memory. */
#include "exec/frame.h"

#include <string.h>
#include <sys/mman.h>

enum {
  MAX_POOLED = 8,  /* free frames kept per plan */
  PATIENCE = 256,  /* runs after which a frame that served none of them goes */
  SLACK = 1 << 20, /* bytes of scratch that are never worth giving back */
  LARGE = 128 << 10,
  SPARE = 4 << 20, /* addresses behind a block, at most */
  HOT = 64 << 10,  /* scratch that rather stays in one place, and so in L2, from step to step */
};

/* Under a sanitizer each piece is a block of its own and no longer than was asked for, so that a
 * kernel which leaves it is seen. */
static const bool apart = MRT_ASAN;

static void destroy_streams(mrt_frame *f) {
  for (int i = 0; i < f->plan->n_providers && f->streams; ++i) {
    const mrt_provider *p = f->plan->providers[i];
    if (f->streams[i]) p->v->stream_destroy(p, f->streams[i]);
  }
  mrt_mem_free(f->plan->alloc, f->streams);
  f->streams = NULL;
}

static void destroy(mrt_frame *f) {
  const mrt_alloc *a = f->plan->alloc;
  for (int i = 0; i < f->plan->n_segments && f->evals; ++i) mrt_eval_release(f->evals[i]);
  for (int i = 0; i < f->plan->n_segments * f->plan->n_memories && f->blocks; ++i)
    mrt_frame_block_free(f, i);
  destroy_streams(f);
  for (size_t i = 0; i < f->n_scratch; ++i) mrt_mem_free(a, f->scratch[i]);
  mrt_mem_free(a, f->scratch);
  mrt_mem_free(a, f->scratch_size);
  mrt_mem_free(a, f->slots);
  mrt_mem_free(a, f->tensors);
  mrt_mem_free(a, f->owned);
  mrt_mem_free(a, f->ptrs);
  mrt_mem_free(a, f->steps);
  mrt_mem_free(a, f->evals);
  mrt_mem_free(a, f->blocks);
  mrt_mem_free(a, f->symbols);
  mrt_mem_free(a, f);
}

/* Block i lies in memory i % n_memories. */
void mrt_frame_block_free(mrt_frame *f, int i) {
  int memory = i % f->plan->n_memories;
  if (!memory) {
    mrt_mem_free(f->plan->alloc, f->blocks[i].data);
  } else if (f->blocks[i].data) {
    const mrt_provider *p = f->plan->providers[memory - 1];
    p->v->mem_free(p, f->blocks[i].data);
  }
  f->blocks[i] = (struct mrt_block){0};
}

/* Advice: no huge page where the spare addresses begin, or behind: touched, it is memory as a
 * whole. The block starts on one. */
static void small_pages(char *spare, size_t size) {
  char *from = spare - (uintptr_t)spare % MRT_ALIGN_MAP;
  (void)madvise(from, (size_t)(spare - from) + size, MADV_NOHUGEPAGE);
}

/* Large ones are mappings. Scratch that begins where no value lies and ends behind the block adds
 * only what lies behind. */
static mrt_status *host_block_new(const mrt_alloc *a, struct mrt_block *b, size_t bytes) {
  size_t all;
  const size_t spare = apart || bytes < MRT_ALIGN_MAP ? 0 : bytes < SPARE ? bytes : SPARE;
  if (spare && mrt_size_add(bytes, spare, &all)) {
    mrt_status *st = mrt_mem_new_aligned(a, all, MRT_ALIGN_MAP, &b->data);
    if (!st) {
      small_pages((char *)b->data + bytes, spare);
      b->spare = spare;
      return NULL;
    }
    mrt_status_free(st); /* the block alone may fit */
  }
  return mrt_mem_new_aligned(a, bytes, MRT_ALIGN, &b->data);
}

mrt_status *mrt_frame_block_new(mrt_frame *f, int i, size_t bytes) {
  int memory = i % f->plan->n_memories;
  struct mrt_block *b = &f->blocks[i];
  mrt_frame_block_free(f, i);
  if (!memory) {
    MRT_TRY(host_block_new(f->plan->alloc, b, bytes));
  } else if (bytes) {
    const mrt_provider *p = f->plan->providers[memory - 1];
    MRT_TRY_CTX(p->v->mem_alloc(p, bytes, &b->data), "%s", p->name);
  }
  b->size = bytes;
  return NULL;
}

mrt_status *mrt_frame_tensor(const mrt_frame *f, int slot, mrt_dtype dtype, int rank,
                             const int64_t *dims, mrt_tensor **out) {
  const mrt_plan *p = f->plan;
  const mrt_var *v = p->slots[slot].var;
  if (v->layout != MRT_LAYOUT_PLAIN) /* the host provider alone assigns layouts */
    return mrt_tensor_create_in(p->alloc, dtype, v->layout, rank, dims, out);
  int at = mrt_provider_of_device(p->providers, p->n_providers, v->device);
  if (at < 0 && !f->parent && f->run->outputs && p->slots[slot].is_graph_output)
    return mrt_outputs_tensor(f->run->outputs, dtype, rank, dims, out);
  return at < 0 ? mrt_tensor_create(p->alloc, dtype, rank, dims, out)
                : mrt_provider_tensor(p->providers[at], dtype, rank, dims, out);
}

static mrt_status *new_array(const mrt_plan *p, int n, size_t size, void *out) {
  size_t bytes;
  if (!mrt_size_mul((size_t)(n > 0 ? n : 1), size, &bytes)) return mrt_status_oom();
  return mrt_mem_new_zero(p->alloc, bytes, out);
}

static void wire(mrt_frame *f) {
  mrt_plan *p = f->plan;
  mrt_tensor *next = f->tensors;
  for (int i = 0; i < p->n_refs; ++i) f->ptrs[i] = p->refs[i] < 0 ? NULL : &f->slots[p->refs[i]];
  for (int i = 0; i < p->n_slots; ++i)
    if (p->slots[i].kind == MRT_SLOT_CONST)
      f->slots[i].value = &p->slots[i].var->constant->base;
    else if (p->slots[i].dims >= 0)
      f->slots[i].tensor = next++;
  for (int i = 0; i < p->n_steps; ++i) {
    mrt_step *s = &p->steps[i];
    f->steps[i] = (mrt_kctx){.node = s->node,
                             .in = f->ptrs + s->in,
                             .out = f->ptrs + s->out,
                             .n_in = s->n_in,
                             .n_out = s->n_out,
                             .alloc = p->alloc,
                             .draws = &s->draws,
                             .v = &mrt_frame_vtbl,
                             .frame = f,
                             .step = s};
  }
}

static int count_tensors(const mrt_plan *p) {
  int n = 0;
  for (int i = 0; i < p->n_slots; ++i) n += p->slots[i].dims >= 0;
  return n;
}

static mrt_status *create(mrt_plan *p, mrt_frame **out) {
  mrt_frame *f = NULL;
  mrt_status *st = NULL;
  MRT_TRY(mrt_mem_new_zero(p->alloc, sizeof *f, (void **)&f));
  f->plan = p;
  MRT_TRY_GOTO(st, fail, new_array(p, p->n_slots, sizeof *f->slots, &f->slots));
  MRT_TRY_GOTO(st, fail, new_array(p, count_tensors(p), sizeof *f->tensors, &f->tensors));
  MRT_TRY_GOTO(st, fail, new_array(p, p->n_slots, 1, &f->owned));
  MRT_TRY_GOTO(st, fail, new_array(p, p->n_refs, sizeof *f->ptrs, &f->ptrs));
  MRT_TRY_GOTO(st, fail, new_array(p, p->n_steps, sizeof *f->steps, &f->steps));
  MRT_TRY_GOTO(st, fail, new_array(p, p->n_segments, sizeof *f->evals, &f->evals));
  MRT_TRY_GOTO(st, fail,
               new_array(p, p->n_segments * p->n_memories, sizeof *f->blocks, &f->blocks));
  MRT_TRY_GOTO(st, fail, new_array(p, p->n_symbols, sizeof *f->symbols, &f->symbols));
  wire(f);
  *out = f;
  return NULL;
fail:
  destroy(f);
  return st;
}

mrt_status *mrt_frame_acquire(mrt_plan *p, mrt_frame **out) {
  pthread_mutex_lock(&p->lock);
  mrt_frame *f = p->frames;
  if (f) {
    p->frames = f->next;
    --p->n_frames;
  }
  pthread_mutex_unlock(&p->lock);
  *out = f;
  return f ? NULL : create(p, out);
}

mrt_status *mrt_frame_streams(mrt_frame *f, void ***out) {
  const mrt_plan *p = f->plan;
  bool any = false;
  for (int i = 0; i < p->n_providers; ++i) any = any || p->providers[i]->v->stream_create;
  *out = f->streams;
  if (!any || f->streams) return NULL;
  MRT_TRY(new_array(p, p->n_providers, sizeof *f->streams, &f->streams));
  for (int i = 0; i < p->n_providers; ++i) {
    const mrt_provider *q = p->providers[i];
    mrt_status *st = q->v->stream_create ? q->v->stream_create(q, &f->streams[i]) : NULL;
    if (!st) continue;
    destroy_streams(f);
    return mrt_status_wrap(st, "%s", q->name);
  }
  *out = f->streams;
  return NULL;
}

mrt_status *mrt_frame_sync(mrt_frame *f) {
  mrt_status *st = NULL;
  for (int i = 0; i < f->plan->n_providers && f->streams; ++i) {
    const mrt_provider *p = f->plan->providers[i];
    mrt_status *s = f->streams[i] ? p->v->stream_sync(p, f->streams[i]) : NULL;
    if (st)
      mrt_status_free(s);
    else
      st = mrt_status_wrap(s, "%s", p->name);
  }
  return st;
}

static void drop_values(mrt_frame *f) {
  const mrt_plan *p = f->plan;
  for (int i = 0; i < p->n_slots; ++i) {
    if (f->owned[i]) {
      mrt_value_release(f->slots[i].value);
      f->owned[i] = 0;
      f->slots[i].value = NULL;
    }
    switch (p->slots[i].kind) {
      case MRT_SLOT_CONST: break;
      case MRT_SLOT_PLANNED: /* its tensor stays set up for the next run of the same sizes */ break;
      default: f->slots[i].value = NULL;
    }
  }
}

void mrt_frame_recycle(mrt_frame *f) {
  mrt_plan *p = f->plan;
  drop_values(f);
  mrt_frame_scratch_reset(f);
  if (f->concrete) /* planned slots may have held other values: set them up again */
    for (int i = 0; i < p->n_segments; ++i) {
      mrt_eval_release(f->evals[i]);
      f->evals[i] = NULL;
    }
  if (f->n_scratch && f->scratch_size[0] / 4 > f->scratch_peak + SLACK) { /* after a peak */
    mrt_mem_free(p->alloc, f->scratch[0]);
    f->n_scratch = 0;
  }
  f->scratch_peak = 0;
  f->parent = NULL;
  f->run = NULL;
  mrt_frame *old = NULL; /* the one unused for longest: more callers came at once some time ago */
  pthread_mutex_lock(&p->lock);
  bool keep = p->n_frames < MAX_POOLED;
  f->since = p->clock++;
  if (keep) {
    f->next = p->frames;
    p->frames = f;
    ++p->n_frames;
    mrt_frame *last = f;
    while (last->next && last->next->next) last = last->next;
    if (last->next && p->clock - last->next->since > PATIENCE) {
      old = last->next;
      last->next = NULL;
      --p->n_frames;
    }
  }
  pthread_mutex_unlock(&p->lock);
  if (old) destroy(old);
  if (!keep) destroy(f);
}

void mrt_frames_destroy(mrt_plan *p) {
  if (!p) return;
  while (p->frames) {
    mrt_frame *f = p->frames;
    p->frames = f->next;
    destroy(f);
  }
  p->n_frames = 0;
  for (int i = 0; i < p->n_steps && p->steps; ++i)
    for (int k = 0; k < p->steps[i].n_children; ++k) mrt_frames_destroy(p->steps[i].children[k]);
}

void mrt_frames_count(mrt_plan *p, size_t *blocks, size_t *scratch) {
  pthread_mutex_lock(&p->lock);
  for (const mrt_frame *f = p->frames; f; f = f->next) {
    for (int i = 0; i < p->n_segments * p->n_memories; i += p->n_memories)
      *blocks += f->blocks[i].size, *scratch += f->blocks[i].touched;
    for (size_t i = 0; i < f->n_scratch; ++i) *scratch += f->scratch_size[i];
  }
  pthread_mutex_unlock(&p->lock);
  for (int i = 0; i < p->n_steps; ++i)
    for (int k = 0; k < p->steps[i].n_children; ++k)
      mrt_frames_count(p->steps[i].children[k], blocks, scratch);
}

/* Scratch grows during a first run: outgrown blocks of some size must not stay in the heap. */
static size_t scratch_align(size_t size) { return size >= LARGE ? MRT_ALIGN_MAP : MRT_ALIGN; }

static char *align_up(char *at, size_t align) {
  return at + (align - (uintptr_t)at % align) % align;
}

/* The room for a step's first piece of scratch: where values of the plan lie before or after the
 * step, but not meanwhile; else from there to behind the block. */
static void gap_open(mrt_frame *f, const mrt_step *step, const mrt_eval *e, size_t size) {
  const mrt_plan *p = f->plan;
  const struct mrt_block *b = &f->blocks[step->segment * p->n_memories];
  const mrt_gap *g = &e->gaps[step - p->steps - p->segments[step->segment].first_step];
  const size_t hole = (size_t)g->size * MRT_ALIGN, tail = (size_t)g->tail * MRT_ALIGN;
  const bool open = g->tail < UINT32_MAX && b->size >= tail;
  if (!b->data) return;
  char *const block = b->data;
  if (open && (b->size - tail > hole || hole < size)) {
    f->gap = block + tail;
    f->gap_end = block + b->size + b->spare;
  } else {
    f->gap = block + (size_t)g->offset * MRT_ALIGN;
    f->gap_end = f->gap + hole;
  }
}

/* Scratch in the plan's block. NULL: too little room. Only where lifetimes are those of the plan.
 */
static void *gap_take(mrt_frame *f, const mrt_step *step, size_t size) {
  const mrt_eval *e = f->evals[step->segment];
  if (apart || f->concrete || !e) return NULL;
  const bool large = size >= LARGE;
  if (!f->gap) gap_open(f, step, e, size + (large ? MRT_WORKER_PAGE : 0));
  if (!f->gap) return NULL;
  char *begin = align_up(f->gap, large ? MRT_WORKER_PAGE : MRT_ALIGN);
  if (begin > f->gap_end || (size_t)(f->gap_end - begin) < size) return NULL;
  f->gap = begin + size;
  struct mrt_block *b = &f->blocks[step->segment * f->plan->n_memories];
  const char *end = (const char *)b->data + b->size;
  if (f->gap > end && (size_t)(f->gap - end) > b->touched) b->touched = (size_t)(f->gap - end);
  return begin;
}

/* Blocks are handed out front to back; the next step finds one block as large as all of them. What
 * does not fit lies between the plan's values, else the block grows. */
mrt_status *mrt_frame_scratch(mrt_frame *f, const mrt_step *step, size_t bytes, void **out) {
  const mrt_alloc *a = f->plan->alloc;
  size_t size = (bytes + MRT_ALIGN - 1) & ~(size_t)(MRT_ALIGN - 1);
  *out = NULL;
  if (size < bytes) return mrt_status_oom();
  if (!size) size = MRT_ALIGN;
  size_t last = f->n_scratch - 1;
  if (!apart && f->n_scratch && f->scratch_size[last] - f->scratch_used >= size) {
    *out = (char *)f->scratch[last] + f->scratch_used;
    f->scratch_need += size;
    f->scratch_used += size;
    return NULL;
  }
  if (f->scratch_need + size > HOT && (*out = gap_take(f, step, size)) != NULL) return NULL;
  f->scratch_need += size;
  if (f->n_scratch == 1 && !f->scratch_used) { /* too small, and nobody has a part of it */
    mrt_mem_free(a, f->scratch[0]);
    f->n_scratch = 0;
  }
  size_t cap = f->cap_scratch;
  MRT_TRY(mrt_mem_grow(a, (void **)&f->scratch, &cap, f->n_scratch + 1, sizeof *f->scratch));
  cap = f->cap_scratch;
  MRT_TRY(
      mrt_mem_grow(a, (void **)&f->scratch_size, &cap, f->n_scratch + 1, sizeof *f->scratch_size));
  f->cap_scratch = cap;
  MRT_TRY(
      mrt_mem_new_aligned(a, apart ? bytes : size, scratch_align(size), &f->scratch[f->n_scratch]));
  f->scratch_size[f->n_scratch] = size;
  *out = f->scratch[f->n_scratch++];
  f->scratch_used = size;
  return NULL;
}

void mrt_frame_scratch_reset(mrt_frame *f) {
  if (apart || f->n_scratch > 1) { /* one block of the whole size replaces the pieces */
    const mrt_alloc *a = f->plan->alloc;
    for (size_t i = 0; i < f->n_scratch; ++i) mrt_mem_free(a, f->scratch[i]);
    f->n_scratch = 0;
    mrt_status *st = apart ? NULL
                           : mrt_mem_new_aligned(a, f->scratch_need, scratch_align(f->scratch_need),
                                                 &f->scratch[0]);
    if (!apart && !st) {
      f->scratch_size[0] = f->scratch_need;
      f->n_scratch = 1;
    }
    mrt_status_free(st); /* no memory: the next step asks again */
  }
  if (f->scratch_need > f->scratch_peak) f->scratch_peak = f->scratch_need;
  f->scratch_used = f->scratch_need = 0;
  f->gap = NULL;
}
