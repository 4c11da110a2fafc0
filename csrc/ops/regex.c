/* The machine: the syntax tree becomes a program of sets, splits and jumps, and all threads through
 * it run side by side, one step per character, so that no pattern takes more than program size
 * times text length. */
#include <string.h>

#include "ops/regex_internal.h"
#include "ops/utf8.h"

#define MAX_PROGRAM 50000
#define NO_CHAR     UINT32_MAX

typedef enum opcode { OP_SET, OP_ASSERT, OP_SPLIT, OP_JUMP, OP_MATCH } opcode;
typedef struct instr {
  opcode op;
  int x, y; /* SPLIT: both ways; JUMP: x */
  const mrt_re_node *node;
} instr;
struct mrt_regex {
  mrt_arena *arena;
  instr *code;
  int n;
  int *now, *then, *stack; /* thread lists; stack of 2 * n + 2 */
  uint32_t *mark;          /* step at which an instruction was last reached */
  uint32_t step;
};

/* ---- compiling ---- */
static double size_of(const mrt_re_node *t) {
  double n = 0;
  switch (t->kind) {
    case RE_SET:
    case RE_ASSERT: return 1;
    case RE_REPEAT: n = size_of(t->child) + 2; return n * (t->max > t->min ? t->max : t->min + 1);
    default:
      for (const mrt_re_node *k = t->child; k; k = k->next)
        n += size_of(k) + (t->kind == RE_ALT ? 2 : 0);
      return n;
  }
}
static int put(mrt_regex *re, opcode op, const mrt_re_node *node) {
  re->code[re->n] = (instr){.op = op, .node = node};
  return re->n++;
}
static void emit(mrt_regex *re, const mrt_re_node *t);
static void emit_repeat(mrt_regex *re, const mrt_re_node *t) {
  int first[2] = {-1, -1};
  for (int i = 0; i < t->min; ++i) {
    first[0] = re->n;
    emit(re, t->child);
  }
  if (t->max < 0) { /* L: split body, out; body; jump L - or, after a mandatory copy, back to it */
    int split = put(re, OP_SPLIT, NULL);
    if (t->min) {
      re->code[split].x = first[0];
    } else {
      re->code[split].x = re->n;
      emit(re, t->child);
      int jump = put(re, OP_JUMP, NULL);
      re->code[jump].x = split;
    }
    re->code[split].y = re->n;
    return;
  }
  int chain = -1; /* optional copies: each may leave; the ways out are linked through y */
  for (int i = t->min; i < t->max; ++i) {
    int split = put(re, OP_SPLIT, NULL);
    re->code[split].x = re->n;
    re->code[split].y = chain;
    chain = split;
    emit(re, t->child);
  }
  while (chain >= 0) {
    int before = re->code[chain].y;
    re->code[chain].y = re->n;
    chain = before;
  }
}
static void emit_alt(mrt_regex *re, const mrt_re_node *t) {
  int chain = -1;
  for (const mrt_re_node *k = t->child; k; k = k->next) {
    int split = k->next ? put(re, OP_SPLIT, NULL) : -1;
    if (split >= 0) re->code[split].x = re->n;
    emit(re, k);
    if (split < 0) break;
    int jump = put(re, OP_JUMP, NULL);
    re->code[jump].x = chain;
    chain = jump;
    re->code[split].y = re->n;
  }
  while (chain >= 0) {
    int before = re->code[chain].x;
    re->code[chain].x = re->n;
    chain = before;
  }
}
static void emit(mrt_regex *re, const mrt_re_node *t) {
  switch (t->kind) {
    case RE_SET: put(re, OP_SET, t); break;
    case RE_ASSERT: put(re, OP_ASSERT, t); break;
    case RE_REPEAT: emit_repeat(re, t); break;
    case RE_ALT: emit_alt(re, t); break;
    default:
      for (const mrt_re_node *k = t->child; k; k = k->next) emit(re, k);
  }
}

mrt_status *mrt_regex_create(const mrt_alloc *alloc, const char *pattern, size_t len,
                             mrt_regex **out) {
  mrt_arena *arena;
  mrt_re_node *tree;
  *out = NULL;
  MRT_TRY(mrt_arena_create(alloc, &arena));
  mrt_status *st = mrt_re_parse(arena, pattern, len, &tree);
  double size = st ? 0 : size_of(tree) + 1;
  if (!st && size > MAX_PROGRAM)
    st = MRT_ERR(MRT_INVALID_ARGUMENT, "regex pattern too large - compile failed");
  mrt_regex *re = st ? NULL : mrt_arena_alloc(arena, sizeof *re);
  size_t n = (size_t)size + 2;
  if (re) {
    re->arena = arena;
    re->code = mrt_arena_alloc(arena, n * sizeof *re->code);
    re->now = mrt_arena_alloc(arena, n * sizeof *re->now);
    re->then = mrt_arena_alloc(arena, n * sizeof *re->then);
    re->stack = mrt_arena_alloc(arena, 2 * n * sizeof *re->stack);
    re->mark = mrt_arena_alloc(arena, n * sizeof *re->mark);
  }
  if (!st && (!re || !re->code || !re->now || !re->then || !re->stack || !re->mark))
    st = mrt_status_oom();
  if (st) {
    mrt_arena_destroy(arena);
    return st;
  }
  emit(re, tree);
  put(re, OP_MATCH, NULL);
  *out = re;
  return NULL;
}
void mrt_regex_destroy(mrt_regex *re) {
  if (re) mrt_arena_destroy(re->arena);
}

/* ---- running ---- */
static bool in_set(const mrt_re_node *set, uint32_t c) {
  bool in = false;
  for (const mrt_re_range *r = set->ranges; r && !in; r = r->next) in = c >= r->lo && c <= r->hi;
  return in != set->negated;
}
static bool is_word(uint32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool holds(mrt_re_assert what, uint32_t before, uint32_t after) {
  switch (what) {
    case RE_TEXT_BEGIN: return before == NO_CHAR;
    case RE_TEXT_END: return after == NO_CHAR;
    case RE_LINE_BEGIN: return before == NO_CHAR || before == '\n';
    case RE_LINE_END: return after == NO_CHAR || after == '\n';
    case RE_WORD_BOUNDARY: return is_word(before) != is_word(after);
    default: return is_word(before) == is_word(after);
  }
}
/* Adds what can be reached from pc without reading; new length of the list. */
static int follow(mrt_regex *re, int pc, uint32_t before, uint32_t after, int *list, int n) {
  int top = 0;
  re->stack[top++] = pc;
  while (top) {
    pc = re->stack[--top];
    if (re->mark[pc] == re->step) continue;
    re->mark[pc] = re->step;
    const instr *i = &re->code[pc];
    if (i->op == OP_JUMP) {
      re->stack[top++] = i->x;
    } else if (i->op == OP_SPLIT) {
      re->stack[top++] = i->y;
      re->stack[top++] = i->x;
    } else if (i->op == OP_ASSERT) {
      if (holds(i->node->what, before, after)) re->stack[top++] = pc + 1;
    } else {
      list[n++] = pc;
    }
  }
  return n;
}
static void next_step(mrt_regex *re) {
  if (++re->step) return;
  memset(re->mark, 0, (size_t)re->n * sizeof *re->mark); /* the counter came round */
  re->step = 1;
}

bool mrt_regex_full_match(mrt_regex *re, const char *text, size_t len) {
  size_t at = 0;
  uint32_t c = len ? mrt_utf8_next(text, len, &at) : NO_CHAR;
  next_step(re);
  int n = follow(re, 0, NO_CHAR, c, re->now, 0);
  while (c != NO_CHAR && n) {
    uint32_t after = at < len ? mrt_utf8_next(text, len, &at) : NO_CHAR;
    int k = 0;
    next_step(re);
    for (int i = 0; i < n; ++i)
      if (re->code[re->now[i]].op == OP_SET && in_set(re->code[re->now[i]].node, c))
        k = follow(re, re->now[i] + 1, c, after, re->then, k);
    int *t = re->now;
    re->now = re->then;
    re->then = t;
    n = k;
    c = after;
  }
  for (int i = 0; i < n; ++i)
    if (re->code[re->now[i]].op == OP_MATCH) return c == NO_CHAR;
  return false;
}
