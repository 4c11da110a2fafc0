/* A compacted model prints as it did, without what passes left behind (ir/compact.c), and is as it
 * was when memory runs out on the way. */
#include "check.h"
#include "ir/compact.h"
#include "ir/op.h"
#include "ir/text.h"

static const char text[] =
    "model opset 21\n"
    "graph main(%c: bool[], %x: float[N, 4]) {\n"
    "  @k: float[4] = [1, 2, 3, 4]\n"
    "  @unread: float[3] = [7, 8, 9]\n"
    "  @axes: int64[1] = [0]\n"
    "  %p: float[N, 4] = Add(%x, @k) \"sum\"\n"
    "  %q: float[4, N] = Transpose(%p) {perm = ints[1, 0]} \"t1\"\n"
    "  %r: float[4, N] = Transpose(%p) {perm = ints[1, 0]} \"t2\"\n"
    "  %y: float[*] = If(%c) {then_branch = graph \"the then\"() {\n"
    "    %t: float[4, N] = Mul(%q, %r)\n"
    "    %u: float[1, 4, N] = Unsqueeze(%t, @axes)\n"
    "    return %u\n"
    "  }, else_branch = graph other() {\n"
    "    %v: float[N, 4] = LeakyRelu(%p) {alpha = 0.25f}\n"
    "    return %v\n"
    "  }}\n"
    "  %s: float[N, 4], %i: int64[N, 4] = TopK(%x, @axes)\n"
    "  return %y, %s\n"
    "}\n";

static char *print(const mrt_model *m) {
  static char buf[2][4096];
  static int which;
  mrt_str s;
  mrt_str_init(&s, mrt_alloc_default());
  CHECK_OK(mrt_model_print(m, -1, &s));
  which = !which;
  snprintf(buf[which], sizeof buf[which], "%s", mrt_str_cstr(&s));
  mrt_str_deinit(&s);
  return buf[which];
}

static size_t owned(const mrt_model *m) {
  size_t n;
  (void)mrt_model_owned(m, &n);
  return n;
}

/* A dead node and a dead var, as passes leave them. */
static mrt_status *litter(mrt_model *m) {
  mrt_node *n;
  mrt_var *x = mrt_graph_find(m->graph, "x"), *out;
  MRT_TRY(
      mrt_graph_insert(m->graph, NULL, mrt_ops_builtin(), "", "Relu", 1, &x, x->type, &n, &out));
  mrt_node_remove(n);
  return NULL;
}

static mrt_status *make(const mrt_alloc *alloc, mrt_model **out) {
  MRT_TRY(mrt_model_parse(alloc, mrt_ops_builtin(), text, out));
  mrt_status *st = litter(*out);
  if (!st) st = mrt_model_sweep(*out, NULL, 0);
  if (st) mrt_model_destroy(*out);
  return st;
}

static void test_same_text(void) {
  mrt_model *m;
  CHECK_OK(make(mrt_alloc_default(), &m));
  mrt_var *p = mrt_graph_find(m->graph, "p");
  mrt_guard guard = {p->type->dims[0], p->type->dims[0], 0, p->producer};
  mrt_guards guards = {mrt_alloc_default(), &guard, 1, 1};
  const char *before = print(m);
  CHECK_EQ_I(owned(m), 3);
  CHECK_EQ_I(m->graph->n_vars, 12);
  CHECK_OK(mrt_model_compact(m, &guards));
  CHECK_EQ_I(owned(m), 2); /* k, axes */
  CHECK_EQ_I(m->graph->n_vars, 10);
  const char *after = print(m);
  CHECK_STR(after, before);
  CHECK_STR(guard.node->name, "sum");
  CHECK(guard.node == m->graph->first);
  p = guard.node->out[0];
  CHECK_EQ_I(p->n_uses, 3); /* one of them in a branch */
  for (size_t i = 0; i < p->n_uses; ++i) {
    const mrt_operand *in = &p->uses[i].node->in[p->uses[i].index];
    CHECK(in->var == p && in->use == i);
  }
  const mrt_node *t1 = guard.node->next, *t2 = t1->next;
  CHECK(t1->attrs == t2->attrs && t1->op_type == t2->op_type); /* equal ones are one */
  CHECK(t1->out[0]->type == t2->out[0]->type);
  CHECK_OK(mrt_graph_verify(m->graph));
  CHECK_OK(mrt_model_compact(m, NULL)); /* again: nothing more to do */
  CHECK_STR(print(m), after);
  mrt_model_destroy(m);
}

static void test_no_memory(void) {
  for (int64_t k = 0;; ++k) {
    mrt_alloc_failing f;
    mrt_model *m;
    mrt_alloc_failing_init(&f, mrt_alloc_default(), -1);
    CHECK_OK(make(&f.alloc, &m));
    const char *before = print(m);
    f.fail_at = f.count + k;
    mrt_status *st = mrt_model_compact(m, NULL);
    f.fail_at = -1;
    const bool done = !st;
    if (st) {
      CHECK_EQ_I(mrt_status_code(st), MRT_OUT_OF_MEMORY);
      CHECK_STR(print(m), before);
      CHECK_OK(mrt_graph_verify(m->graph));
    }
    mrt_status_free(st);
    mrt_model_destroy(m);
    CHECK_EQ_I(f.live, 0);
    if (done || check_failures) return;
  }
}

static void test_type_copy(void) {
  mrt_model *m;
  mrt_arena *arena;
  CHECK_OK(make(mrt_alloc_default(), &m));
  CHECK_OK(mrt_arena_create(mrt_alloc_default(), &arena));
  const mrt_type *t = mrt_graph_find(m->graph, "p")->type;
  const mrt_type *list = mrt_type_of_kind(m, MRT_KIND_SEQUENCE, t);
  const mrt_type *copy = mrt_type_copy(arena, list);
  CHECK(copy && copy != list && copy->elem != t && copy->elem->dims != t->dims);
  CHECK(copy && copy->elem->dims[0] == t->dims[0] && copy->elem->rank == 2);
  CHECK(!mrt_type_copy(arena, NULL));
  mrt_arena_destroy(arena);
  mrt_model_destroy(m);
}

int main(void) {
  test_same_text();
  test_no_memory();
  test_type_copy();
  return CHECK_DONE();
}
