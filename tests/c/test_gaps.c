/* Room for scratch between the planned values (plan/eval.c): while a step runs, neither its gap nor
 * the tail of the block touches a value that lives, and somewhere there is room. */
#include "check.h"
#include "exec/session_internal.h"
#include "fuzz/models.h"

typedef struct range {
  size_t begin, end;
} range;

static bool apart(range a, range b) {
  return a.begin >= b.end || b.begin >= a.end || a.begin >= a.end || b.begin >= b.end;
}

static int found; /* gaps that are not empty */

static void check_step(const mrt_plan *p, const mrt_eval *e, int step) {
  const mrt_segment *s = &p->segments[e->segment];
  const mrt_gap *g = &e->gaps[step - s->first_step];
  const range hole = {(size_t)g->offset * MRT_ALIGN, ((size_t)g->offset + g->size) * MRT_ALIGN},
              tail = {(size_t)g->tail * MRT_ALIGN, e->blocks[0]};
  found += hole.end > hole.begin || tail.end > tail.begin;
  CHECK(hole.end <= e->blocks[0] || !g->size);
  for (int i = 0; i < s->n_slots; ++i) {
    const mrt_slot_info *v = &p->slots[s->slots[i]];
    if (v->kind != MRT_SLOT_PLANNED || v->root != s->slots[i] || v->memory) continue;
    if (v->first > step || v->last < step) continue;
    const range value = {e->offsets[i], e->offsets[i] + e->bytes[i]};
    CHECK(apart(hole, value) && apart(tail, value));
  }
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
  mrt_session_release(s);
}

int main(void) {
  CHECK(model_files(MRT_SOURCE_DIR "/tests/fuzz/corpus", "seed_", each, NULL) > 20);
  CHECK(found > 20);
  return CHECK_DONE();
}
