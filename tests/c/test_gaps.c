/* Room for scratch between the planned values: while a step runs, neither its gap nor the tail of
 * the block (plan/eval.c) nor scratch that a step took there (exec/frame.c) touches a value that
 * lives, and somewhere there is room, also in the spare addresses behind a large block. */
#include "check.h"
#include "exec/session_internal.h"
#include "fuzz/models.h"

typedef struct range {
  size_t begin, end;
} range;

static bool apart(range a, range b) {
  return a.begin >= b.end || b.begin >= a.end || a.begin >= a.end || b.begin >= b.end;
}

static int found;  /* gaps that are not empty */
static int taken;  /* pieces of scratch in a block */
static int behind; /* that end behind one */

/* No value that lives in the step has any of it. */
static bool is_free(const mrt_plan *p, const mrt_eval *e, int step, range r) {
  const mrt_segment *s = &p->segments[e->segment];
  for (int i = 0; i < s->n_slots; ++i) {
    const mrt_slot_info *v = &p->slots[s->slots[i]];
    if (v->kind != MRT_SLOT_PLANNED || v->root != s->slots[i] || v->memory) continue;
    if (v->first > step || v->last < step) continue;
    if (!apart(r, (range){e->offsets[i], e->offsets[i] + e->bytes[i]})) return false;
  }
  return true;
}

static void check_step(const mrt_plan *p, const mrt_eval *e, int step) {
  const mrt_segment *s = &p->segments[e->segment];
  const mrt_gap *g = &e->gaps[step - s->first_step];
  const range hole = {(size_t)g->offset * MRT_ALIGN, ((size_t)g->offset + g->size) * MRT_ALIGN},
              tail = {(size_t)g->tail * MRT_ALIGN, e->blocks[0]};
  found += hole.end > hole.begin || tail.end > tail.begin;
  CHECK(hole.end <= e->blocks[0] || !g->size);
  CHECK(is_free(p, e, step, hole) && is_free(p, e, step, tail));
}

/* Pieces of scratch until the block has no room left; as if the frame's own, much, were in use. */
static void take_all(mrt_frame *f, int step, size_t size) {
  const mrt_plan *p = f->plan;
  const mrt_step *s = &p->steps[step];
  const mrt_eval *e = f->evals[s->segment];
  const struct mrt_block *b = &f->blocks[s->segment * p->n_memories];
  size_t end = 0;
  if (!e || !b->data) return;
  f->scratch_need = 1 << 20;
  if (f->n_scratch) f->scratch_used = f->scratch_size[f->n_scratch - 1];
  for (int i = 0; i < 1000; ++i) {
    void *piece = NULL;
    CHECK_OK(mrt_frame_scratch(f, s, size, &piece));
    const size_t at = (uintptr_t)piece - (uintptr_t)b->data;
    if (!piece || at >= b->size) break; /* the frame's own */
    CHECK((uintptr_t)piece % MRT_ALIGN == 0 && at >= end && at + size <= e->blocks[0]);
    CHECK(is_free(p, e, step, (range){at, at + size}));
    end = at + size;
    ++taken;
  }
  mrt_frame_scratch_reset(f);
}

/* A large block: pieces may end behind it, in its spare addresses, and be written there. */
static void take_spare(mrt_frame *f, int step) {
  enum { BLOCK = 3 << 20, PIECE = 700 << 10 };
  const mrt_eval *e = f->evals[0];
  if (f->plan->steps[step].segment || !e || e->blocks[0] > BLOCK) return;
  CHECK_OK(mrt_frame_block_new(f, 0, BLOCK));
  const struct mrt_block *b = &f->blocks[0];
  CHECK(MRT_ASAN ? !b->spare : b->spare > 0 && !b->touched);
  char *const end = (char *)b->data + b->size;
  for (int i = 0; i < 6; ++i) {
    char *piece = NULL;
    CHECK_OK(mrt_frame_scratch(f, &f->plan->steps[step], PIECE, (void **)&piece));
    if (!piece) return;
    memset(piece, i + 1, PIECE);
    if (piece < (char *)b->data || piece >= end + b->spare) continue; /* the frame's own */
    CHECK(piece + PIECE <= end + b->spare);
    const size_t at = (size_t)(piece - (char *)b->data);
    CHECK(is_free(f->plan, e, step, (range){at, at + PIECE}));
    if (piece + PIECE <= end) continue;
    CHECK(b->touched >= (size_t)(piece + PIECE - end));
    ++behind;
  }
  mrt_frame_scratch_reset(f);
}

static void each(const char *name, const uint8_t *data, size_t size, void *arg) {
  mrt_session *s = NULL;
  uint64_t hash;
  (void)name, (void)arg;
  CHECK_OK(model_open(mrt_alloc_default(), data, size, &s));
  if (!s) return;
  CHECK_OK(model_run(s, &hash));
  for (int i = 0; i < s->plan->n_cache; ++i) {
    const mrt_eval *e = s->plan->cache[i];
    const mrt_segment *seg = &s->plan->segments[e->segment];
    for (int k = 0; e->guards_hold && k < seg->n_steps; ++k)
      check_step(s->plan, e, seg->first_step + k);
  }
  mrt_frame *f = NULL;
  CHECK_OK(mrt_frame_acquire(s->plan, &f)); /* that of the run */
  for (int i = 0; f && i < s->plan->n_steps; ++i) take_all(f, i, 40 + (size_t)i % 3 * 64);
  for (int i = 0; f && i < s->plan->n_steps && i < 3; ++i) take_spare(f, i);
  if (f) mrt_frame_recycle(f);
  mrt_session_release(s);
}

int main(void) {
  CHECK(model_files(MRT_SOURCE_DIR "/tests/fuzz/corpus", "seed_", each, NULL) > 20);
  CHECK(found > 20);
  CHECK(MRT_ASAN ? !taken : taken > 20); /* pieces are blocks of their own there */
  CHECK(MRT_ASAN ? !behind : behind > 20);
  return CHECK_DONE();
}
