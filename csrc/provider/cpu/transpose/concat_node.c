/* Concat and Split of whole-byte elements in the plain layout: runs of bytes, shared out by outer
 * index, or by pieces of a run where there are few. */
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/cpu.h"

enum { PIECE = 64 << 10, MAX_PARTS = 64 };

/* One operand that is a part of the whole along the axis. */
typedef struct part {
  char *data;
  size_t run; /* bytes for one outer index */
  size_t at;  /* where its run begins in that of the whole */
} part;

typedef struct job {
  char *whole;
  size_t run; /* of the whole */
  int64_t outer, pieces, units, chunks;
  int n_parts;
  bool join; /* parts to whole; else back */
  part parts[MAX_PARTS];
} job;

static inline void move(bool join, char *whole, char *piece, size_t n) {
  char *to = join ? whole : piece;
  const char *from = join ? piece : whole;
  if (n == 4)
    memcpy(to, from, 4);
  else if (n == 8)
    memcpy(to, from, 8);
  else if (n == 16)
    memcpy(to, from, 16);
  else
    memcpy(to, from, n);
}

/* Outer indices [o0, o1), one part after the other inside each, so that the whole is walked once.
 */
static void move_rows(const job *j, int64_t o0, int64_t o1) {
  for (int64_t o = o0; o < o1; ++o)
    for (int i = 0; i < j->n_parts; ++i) {
      const part *p = &j->parts[i];
      if (p->run)
        move(j->join, j->whole + (size_t)o * j->run + p->at, p->data + (size_t)o * p->run, p->run);
    }
}

/* Piece `piece` of the run of outer index o. */
static void move_piece(const job *j, int64_t o, int64_t piece) {
  const size_t begin = (size_t)piece * PIECE, end = begin + PIECE < j->run ? begin + PIECE : j->run;
  for (int i = 0; i < j->n_parts; ++i) {
    const part *p = &j->parts[i];
    const size_t b = begin > p->at ? begin : p->at, e = end < p->at + p->run ? end : p->at + p->run;
    if (b < e)
      move(j->join, j->whole + (size_t)o * j->run + b, p->data + (size_t)o * p->run + (b - p->at),
           e - b);
  }
}

static void chunk(void *arg, int64_t index, int worker) {
  (void)worker;
  const job *j = arg;
  const int64_t begin = mrt_par_begin(j->units, j->chunks, index),
                end = mrt_par_begin(j->units, j->chunks, index + 1);
  if (j->pieces == 1) {
    move_rows(j, begin, end);
    return;
  }
  for (int64_t u = begin; u < end; ++u) move_piece(j, u / j->pieces, u % j->pieces);
}

static int64_t outer_of(const mrt_tensor *t, int64_t axis) {
  int64_t n = 1;
  for (int i = 0; i < (axis < 0 ? axis + t->rank : axis); ++i) n *= t->dims[i];
  return n;
}

static void add_part(job *j, const mrt_tensor *t) {
  part *p = &j->parts[j->n_parts++];
  p->data = t ? t->data : NULL;
  p->run = t ? t->bytes / (size_t)j->outer : 0;
}

static void move_all(job *j, const mrt_par *par) {
  const double ns = (double)j->outer * ((double)j->run * 0.1 + 3.0 * j->n_parts);
  j->pieces = j->outer < 16 && j->run > PIECE ? (int64_t)((j->run + PIECE - 1) / PIECE) : 1;
  j->units = j->outer * j->pieces;
  j->chunks = mrt_par_chunks(j->units, ns);
  mrt_par_run(par, j->chunks, chunk, j);
}

static mrt_status *concat_run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !y->bytes) return NULL;
  job j = {.whole = y->data, .join = true, .outer = outer_of(y, mrt_node_int(c->node, "axis"))};
  j.run = y->bytes / (size_t)j.outer;
  size_t at = 0;
  for (int i = 0; i < c->n_in; ++i) {
    add_part(&j, mrt_in(c, i));
    j.parts[i].at = at;
    at += j.parts[i].run;
  }
  move_all(&j, &c->par);
  return NULL;
}

static mrt_status *split_run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0);
  const int64_t axis = mrt_node_int(c->node, "axis");
  if (!x->bytes) return NULL;
  job j = {.whole = x->data, .outer = outer_of(x, axis)};
  j.run = x->bytes / (size_t)j.outer;
  size_t at = 0;
  for (int i = 0; i < c->n_out; ++i) {
    const mrt_tensor *y = mrt_out(c, i);
    if (!y) /* how large it is, nobody says: the reference kernel knows */
      return c->node->def->run(c);
    add_part(&j, y);
    j.parts[i].at = at;
    at += j.parts[i].run;
  }
  move_all(&j, &c->par);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  return t != MRT_UNDEFINED && t != MRT_STRING && mrt_dtype_bits(t) % 8 == 0 &&
         node->n_in <= MAX_PARTS && node->n_out <= MAX_PARTS;
}

static mrt_status *concat_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "concat", concat_run, NULL, out);
}
static mrt_status *split_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "split", split_run, NULL, out);
}

MRT_CPU_KERNEL(concat_bytes) = {
    .domain = "", .op = "Concat", .match = match, .create = concat_create};
MRT_CPU_KERNEL(split_bytes) = {.domain = "", .op = "Split", .match = match, .create = split_create};
