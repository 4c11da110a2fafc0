/* A block carries its size and the time of its return in front. A slot is emptied by whoever looks
 * at it, so nobody else can touch the block meanwhile; what does not fit goes back. */
#include "exec/outputs.h"

#include <stdatomic.h>

enum { N_SLOTS = 16, PATIENCE = 64 }; /* requests that an unused block survives */

typedef struct block {
  size_t size; /* of data */
  unsigned since;
  _Alignas(MRT_ALIGN) char data[];
} block;

struct mrt_outputs {
  const mrt_alloc *alloc;
  atomic_int refs; /* the session, and each tensor that is out */
  atomic_bool closed;
  atomic_uint clock; /* requests so far */
  atomic_size_t held;
  _Atomic(block *) slots[N_SLOTS];
};

mrt_status *mrt_outputs_create(const mrt_alloc *alloc, mrt_outputs **out) {
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof **out, (void **)out));
  (*out)->alloc = alloc;
  atomic_init(&(*out)->refs, 1);
  return NULL;
}

static void drop(mrt_outputs *p, block *b) { mrt_mem_free(p->alloc, b); }

static block *empty(mrt_outputs *p, int slot) {
  if (!atomic_load_explicit(&p->slots[slot], memory_order_relaxed)) return NULL;
  block *b = atomic_exchange(&p->slots[slot], NULL);
  if (b) atomic_fetch_sub(&p->held, b->size);
  return b;
}

/* Back into some slot; false: all are full. */
static bool put(mrt_outputs *p, block *b) {
  atomic_fetch_add(&p->held, b->size);
  for (int i = 0; i < N_SLOTS; ++i) {
    block *none = NULL;
    if (atomic_compare_exchange_strong(&p->slots[i], &none, b)) return true;
  }
  atomic_fetch_sub(&p->held, b->size);
  return false;
}

static void unref(mrt_outputs *p) {
  if (atomic_fetch_sub(&p->refs, 1) != 1) return;
  for (int i = 0; i < N_SLOTS; ++i) drop(p, empty(p, i));
  mrt_mem_free(p->alloc, p);
}

void mrt_outputs_release(mrt_outputs *p) {
  if (!p) return;
  atomic_store(&p->closed, true);
  for (int i = 0; i < N_SLOTS; ++i) drop(p, empty(p, i));
  unref(p);
}

size_t mrt_outputs_held(const mrt_outputs *p) { return atomic_load(&p->held); }

/* A free block of the size, or one a little larger. Frees what has stood too long on the way. */
static block *find(mrt_outputs *p, size_t bytes) {
  const unsigned now = atomic_fetch_add(&p->clock, 1);
  block *found = NULL;
  for (int i = 0; i < N_SLOTS; ++i) {
    block *b = empty(p, i);
    if (!b) continue;
    if (!found && b->size >= bytes && b->size / 2 <= bytes)
      found = b;
    else if (now - b->since > PATIENCE || !put(p, b))
      drop(p, b);
  }
  return found;
}

static void give_back(void *ctx, mrt_tensor *t) {
  mrt_outputs *p = ctx;
  block *b = (block *)((char *)t->data - offsetof(block, data));
  b->since = atomic_load_explicit(&p->clock, memory_order_relaxed);
  if (atomic_load(&p->closed) || b->size > MRT_OUTPUTS_MAX ||
      atomic_load(&p->held) > MRT_OUTPUTS_MAX - b->size || !put(p, b))
    drop(p, b);
  unref(p);
}

mrt_status *mrt_outputs_tensor(mrt_outputs *p, mrt_dtype dtype, int rank, const int64_t *dims,
                               mrt_tensor **out) {
  size_t bytes, size;
  *out = NULL;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  if (bytes < MRT_OUTPUTS_MIN || dtype == MRT_STRING)
    return mrt_tensor_create(p->alloc, dtype, rank, dims, out);
  block *b = find(p, bytes);
  if (!b) {
    if (!mrt_size_add(bytes, sizeof *b, &size)) return mrt_status_oom();
    MRT_TRY(mrt_mem_new_aligned(p->alloc, size, MRT_ALIGN, (void **)&b));
    b->size = bytes;
  }
  mrt_status *st =
      mrt_tensor_wrap(p->alloc, dtype, rank, dims, NULL, b->data, MRT_HOST, give_back, p, out);
  if (st)
    drop(p, b);
  else
    atomic_fetch_add(&p->refs, 1);
  return st;
}
