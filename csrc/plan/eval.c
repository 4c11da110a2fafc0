/* Evaluation: symbol values in, dims and offsets out. Offsets come from one walk over the segment's
 * slots in order of first use with a best-fit free list: near linear, so that a graph of a million
 * nodes and a new sequence length both stay cheap. */
#include <string.h>

#include "plan/plan.h"

typedef struct hole {
  size_t offset, size;
} hole;
typedef struct live {
  int last;
  size_t offset, size;
} live;
typedef struct packer {
  const mrt_alloc *alloc;
  hole *holes; /* sorted by offset, never adjacent */
  size_t n_holes, cap_holes;
  live *heap; /* min-heap on last */
  size_t n_heap, cap_heap;
  size_t top;
} packer;

static mrt_status *give_back(packer *p, size_t offset, size_t size) {
  size_t i = 0;
  while (i < p->n_holes && p->holes[i].offset < offset) ++i;
  bool left = i > 0 && p->holes[i - 1].offset + p->holes[i - 1].size == offset;
  bool right = i < p->n_holes && offset + size == p->holes[i].offset;
  if (left && right) {
    p->holes[i - 1].size += size + p->holes[i].size;
    memmove(&p->holes[i], &p->holes[i + 1], (p->n_holes - i - 1) * sizeof *p->holes);
    --p->n_holes;
  } else if (left) {
    p->holes[i - 1].size += size;
  } else if (right) {
    p->holes[i].offset = offset;
    p->holes[i].size += size;
  } else {
    MRT_TRY(mrt_mem_grow(p->alloc, (void **)&p->holes, &p->cap_holes, p->n_holes + 1,
                         sizeof *p->holes));
    memmove(&p->holes[i + 1], &p->holes[i], (p->n_holes - i) * sizeof *p->holes);
    p->holes[i] = (hole){offset, size};
    ++p->n_holes;
  }
  return NULL;
}

static mrt_status *retire(packer *p, int before) {
  while (p->n_heap && p->heap[0].last < before) {
    live dead = p->heap[0], moved = p->heap[--p->n_heap];
    size_t i = 0;
    for (size_t c = 1; c < p->n_heap; i = c, c = 2 * c + 1) {
      if (c + 1 < p->n_heap && p->heap[c + 1].last < p->heap[c].last) ++c;
      if (moved.last <= p->heap[c].last) break;
      p->heap[i] = p->heap[c];
    }
    p->heap[i] = moved;
    MRT_TRY(give_back(p, dead.offset, dead.size));
  }
  return NULL;
}

static mrt_status *place(packer *p, size_t size, int last, size_t *out) {
  size_t best = SIZE_MAX, at = 0;
  for (size_t i = 0; i < p->n_holes; ++i)
    if (p->holes[i].size >= size && p->holes[i].size < best) {
      best = p->holes[i].size;
      at = i;
    }
  if (best != SIZE_MAX) {
    *out = p->holes[at].offset;
    p->holes[at].offset += size;
    p->holes[at].size -= size;
    if (!p->holes[at].size) {
      memmove(&p->holes[at], &p->holes[at + 1], (p->n_holes - at - 1) * sizeof *p->holes);
      --p->n_holes;
    }
  } else { /* grow: use a hole that touches the top */
    size_t from = p->top;
    if (p->n_holes && p->holes[p->n_holes - 1].offset + p->holes[p->n_holes - 1].size == p->top)
      from = p->holes[--p->n_holes].offset;
    *out = from;
    if (!mrt_size_add(from, size, &p->top)) return mrt_status_oom();
  }
  MRT_TRY(mrt_mem_grow(p->alloc, (void **)&p->heap, &p->cap_heap, p->n_heap + 1, sizeof *p->heap));
  size_t i = p->n_heap++;
  for (; i && p->heap[(i - 1) / 2].last > last; i = (i - 1) / 2) p->heap[i] = p->heap[(i - 1) / 2];
  p->heap[i] = (live){last, *out, size};
  return NULL;
}

static bool guard_holds(const mrt_guard *g, const int64_t *values, int n) {
  int64_t a, b;
  if (!mrt_expr_eval(g->a, values, n, &a) || !mrt_expr_eval(g->b, values, n, &b)) return false;
  if (g->kind == 0) return a == b;
  if (g->kind == 1) return a == b || b == 1;
  return (a == b || a == 1 || b == 1) && a != 0 && b != 0;
}

/* Dims and bytes of the segment's slots; false in guards_hold where the symbols do not fit. */
static mrt_status *measure(mrt_plan *plan, const mrt_segment *s, const int64_t *values,
                           mrt_eval *e) {
  int64_t *dim = e->dims;
  for (int i = 0; i < s->n_slots; ++i) {
    const mrt_slot_info *info = &plan->slots[s->slots[i]];
    const mrt_type *type = info->var->type;
    e->offsets[i] = SIZE_MAX;
    for (int k = 0; k < type->rank; ++k)
      if (!mrt_expr_eval(plan->dims[info->dims + k], values, plan->n_symbols, &dim[k]) ||
          dim[k] < 0) {
        e->guards_hold = false;
        return NULL;
      }
    mrt_status *st =
        mrt_layout_bytes(type->dtype, info->var->layout, type->rank, dim, &e->bytes[i]);
    if (st) {
      const mrt_node *n = info->var->producer;
      return mrt_status_wrap(
          st, "Non-zero status code returned while running %s node. Name:'%s' Status Message",
          n ? n->orig_op : "?", n ? n->name : "?");
    }
    dim += type->rank;
  }
  return NULL;
}

static uint32_t units(size_t bytes) {
  return bytes / MRT_ALIGN < UINT32_MAX ? (uint32_t)(bytes / MRT_ALIGN) : UINT32_MAX;
}

/* What is free from step `from` on, whose outputs are placed; before `to` values only die. */
static void note_gaps(const packer *p, mrt_gap *gaps, int from, int to) {
  const hole *last = p->n_holes ? &p->holes[p->n_holes - 1] : NULL;
  const bool open = last && last->offset + last->size == p->top;
  hole most = {0};
  for (size_t i = 0; i < p->n_holes; ++i)
    if (p->holes[i].size > most.size) most = p->holes[i];
  const uint32_t at = units(most.offset), tail = units(open ? last->offset : p->top);
  const uint32_t size = at < UINT32_MAX ? units(most.size) : 0;
  for (int i = from; i < to; ++i) gaps[i] = (mrt_gap){at, size, tail};
}

static size_t aligned(size_t bytes) { return (bytes + MRT_ALIGN - 1) & ~(size_t)(MRT_ALIGN - 1); }

/* The slot that a step joins its inputs to (mrt_slot_info.join), if they are one behind the other
 * in it for these sizes; else -1. */
static int joined(const mrt_plan *plan, const int64_t *values, const mrt_eval *e, int join) {
  const mrt_step *s = &plan->steps[join - 1];
  const int out = plan->refs[s->out];
  const mrt_slot_info *o = &plan->slots[out];
  int64_t dim;
  for (int k = 0; k + 1 < s->kernel->joins; ++k)
    if (!mrt_expr_eval(plan->dims[o->dims + k], values, plan->n_symbols, &dim) || dim != 1)
      return -1;
  size_t left = e->bytes[o->index];
  for (int i = 0; i < s->n_in; ++i) {
    const mrt_slot_info *in = &plan->slots[plan->refs[s->in + i]];
    const size_t bytes = e->bytes[in->index];
    if (bytes > left || (i + 1 < s->n_in && bytes % MRT_ALIGN)) return -1;
    if (bytes != e->bytes[plan->slots[in->root].index]) return -1;
    left -= bytes;
  }
  return left ? -1 : out;
}

static void place_inputs(const mrt_plan *plan, mrt_eval *e, int join) {
  const mrt_step *s = &plan->steps[join - 1];
  size_t at = e->offsets[plan->slots[plan->refs[s->out]].index];
  for (int i = 0; i < s->n_in; ++i) {
    const mrt_slot_info *in = &plan->slots[plan->refs[s->in + i]];
    e->offsets[plan->slots[in->root].index] = at;
    at += e->bytes[in->index];
  }
}

/* Offsets within the block of one memory; values that are joined lie in the result, which lives
 * from the first of them on. Without values: none do. */
static mrt_status *pack(mrt_plan *plan, const mrt_segment *s, int memory, const int64_t *values,
                        mrt_eval *e, bool *joins) {
  packer p = {.alloc = plan->alloc};
  mrt_status *st = NULL;
  *joins = false;
  int step = 0; /* of the segment: gaps of those before it are known */
  for (int i = 0; i < s->n_slots; ++i) {
    const mrt_slot_info *info = &plan->slots[s->slots[i]];
    if (info->kind != MRT_SLOT_PLANNED || info->root != s->slots[i] || info->memory != memory ||
        e->offsets[i] != SIZE_MAX)
      continue;
    const int into = values && info->join ? joined(plan, values, e, info->join) : -1;
    const int at = into < 0 ? i : plan->slots[into].index;
    const int first = info->first - s->first_step;
    if (!memory && step < first) {
      note_gaps(&p, e->gaps, step, first);
      step = first;
    }
    MRT_TRY_GOTO(st, done, retire(&p, info->first));
    const size_t size = aligned(e->bytes[at]);
    if (size < e->bytes[at]) {
      st = mrt_status_oom();
      goto done;
    }
    MRT_TRY_GOTO(
        st, done,
        place(&p, size ? size : MRT_ALIGN, plan->slots[s->slots[at]].last, &e->offsets[at]));
    if (into < 0) continue;
    place_inputs(plan, e, info->join);
    *joins = true;
  }
  e->blocks[memory] = p.top;
  if (!memory) note_gaps(&p, e->gaps, step, s->n_steps);
done:
  mrt_mem_free(plan->alloc, p.holes);
  mrt_mem_free(plan->alloc, p.heap);
  return st;
}

static mrt_status *repack(mrt_plan *plan, const mrt_segment *s, int memory, const int64_t *values,
                          mrt_eval *e) {
  bool joins;
  for (int i = 0; i < s->n_slots; ++i)
    if (plan->slots[s->slots[i]].memory == memory) e->offsets[i] = SIZE_MAX;
  return pack(plan, s, memory, values, e, &joins);
}

/* With joined values, unless the block is larger then. */
static mrt_status *pack_smaller(mrt_plan *plan, const mrt_segment *s, int memory,
                                const int64_t *values, mrt_eval *e) {
  bool joins;
  MRT_TRY(pack(plan, s, memory, values, e, &joins));
  if (!joins) return NULL;
  const size_t size = e->blocks[memory];
  MRT_TRY(repack(plan, s, memory, NULL, e));
  return e->blocks[memory] < size ? NULL : repack(plan, s, memory, values, e);
}

static mrt_status *evaluate(mrt_plan *plan, int segment, const int64_t *values, mrt_eval *e) {
  const mrt_segment *s = &plan->segments[segment];
  e->guards_hold = true;
  for (int i = 0; i < s->n_guards && e->guards_hold; ++i)
    e->guards_hold = guard_holds(&plan->guards[s->guards[i]], values, plan->n_symbols);
  if (e->guards_hold) MRT_TRY(measure(plan, s, values, e));
  for (int m = 0; m < plan->n_memories && e->guards_hold; ++m)
    MRT_TRY(pack_smaller(plan, s, m, values, e));
  return NULL;
}

static mrt_eval *find_cached(mrt_plan *plan, int segment, const int64_t *values) {
  for (int i = 0; i < plan->n_cache; ++i) {
    mrt_eval *e = plan->cache[i];
    bool same = e->segment == segment;
    for (int k = 0; same && k < plan->n_key_symbols; ++k)
      same = e->key[k] == values[plan->symbols[k]];
    if (same) {
      atomic_fetch_add(&e->refs, 1);
      return e;
    }
  }
  return NULL;
}

mrt_status *mrt_plan_eval(mrt_plan *plan, int segment, const int64_t *values, mrt_eval **out) {
  pthread_mutex_lock(&plan->lock);
  *out = find_cached(plan, segment, values);
  pthread_mutex_unlock(&plan->lock);
  if (*out) return NULL;
  const mrt_segment *s = &plan->segments[segment];
  size_t n_dims = 1;
  for (int i = 0; i < s->n_slots; ++i) n_dims += (size_t)plan->slots[s->slots[i]].var->type->rank;
  size_t n = (size_t)s->n_slots + 1, keys = (size_t)plan->n_key_symbols + 1;
  mrt_eval *e = NULL;
  char *block = NULL;
  size_t memories = (size_t)plan->n_memories;
  MRT_TRY(mrt_mem_new_zero(plan->alloc,
                           sizeof *e + 8 * (keys + n_dims) + (2 * n + memories) * sizeof(size_t) +
                               (size_t)s->n_steps * sizeof(mrt_gap),
                           (void **)&block));
  e = (mrt_eval *)block;
  e->alloc = plan->alloc;
  e->segment = segment;
  e->key = (int64_t *)(block + ((sizeof *e + 7) & ~(size_t)7));
  e->dims = e->key + keys;
  e->offsets = (size_t *)(e->dims + n_dims);
  e->bytes = e->offsets + n;
  e->blocks = e->bytes + n;
  e->gaps = (mrt_gap *)(e->blocks + memories);
  for (int k = 0; k < plan->n_key_symbols; ++k) e->key[k] = values[plan->symbols[k]];
  atomic_store(&e->refs, 1);
  atomic_fetch_add(&plan->n_evals, 1);
  uint64_t begin = mrt_now_ns();
  mrt_status *st = evaluate(plan, segment, values, e);
  atomic_fetch_add(&plan->eval_ns, (long long)(mrt_now_ns() - begin));
  if (st) {
    mrt_mem_free(plan->alloc, e);
    return st;
  }
  mrt_eval *victim = NULL;
  pthread_mutex_lock(&plan->lock);
  atomic_fetch_add(&e->refs, 1);
  if (plan->n_cache < MRT_EVAL_CACHE) {
    plan->cache[plan->n_cache++] = e;
  } else { /* round robin is near enough to least recently used for 16 entries */
    victim = plan->cache[plan->next_victim];
    plan->cache[plan->next_victim] = e;
    plan->next_victim = (plan->next_victim + 1) % MRT_EVAL_CACHE;
  }
  pthread_mutex_unlock(&plan->lock);
  mrt_eval_release(victim);
  *out = e;
  return NULL;
}

void mrt_eval_release(mrt_eval *eval) {
  if (eval && atomic_fetch_sub(&eval->refs, 1) == 1) mrt_mem_free(eval->alloc, eval);
}
