/* Which convolutions may keep weights that are larger than the model's. Winograd's transformed ones
 * are 16/9 or 4 times a 3x3 kernel; all those of a network together get a part of what its weights
 * and values take, in each precision. Where that is not enough, convolutions step down to a smaller
 * form, first those that lose the least time for a byte: deep ones, of many channels and small
 * images. What is left to a convolution is its attribute "winograd".
 *
 * Where tiles multiply floats out of three parts they take over at little loss (a twentieth of a
 * U-Net). Plain multiply-adds lose more (a seventh): there the part is larger, and F(4x4, 3x3) in
 * `high` and `medium`, which would be up to a third slower, is not bounded. */
#include <stdlib.h>
#include <string.h>

#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/conv/conv_split.h"
#include "provider/cpu/gemm/precision.h"

enum { PRECISIONS = MRT_PRECISION_MEDIUM + 1 };
#define SHARE        0.1       /* of weights and values; */
#define PLAIN_SHARE  0.15      /* without tiles of weights, */
#define PLAIN_IMAGES 0.2       /* and of values: large images lose most; */
#define LESS         (3 << 20) /* less what a session has besides: scratch, graph, code; */
#define LEAST        (1 << 18) /* at least this many bytes, */
#define PLAIN_LEAST  (1 << 19) /* without tiles. */

/* From form `from` to form `to` (both 4, 2 or 0), or further. */
typedef struct step {
  int conv, from, to;
  double saved, lost; /* bytes, nanoseconds */
} step;

typedef struct candidate {
  mrt_node *node;
  mrt_conv p;
  bool split;
  int64_t size[2];
  int most[PRECISIONS];
} candidate;

typedef struct budget {
  candidate *convs;
  step *steps; /* two a convolution */
  int n, n_steps;
  double bytes; /* of weights, and of the largest values around one convolution */
  double images;
  bool tiles; /* of three parts */
} budget;

static bool is_conv(const mrt_node *n, int index) {
  return n->provider == index && strcmp(n->op_type, "Conv") == 0 &&
         (!*n->domain || strcmp(n->domain, "macart") == 0);
}

/* Time and packed bytes when `form` is the largest form of Winograd. */
static double cost_of(const candidate *c, int precision, int form, double *bytes) {
  mrt_conv p = c->p;
  const bool four = form == 4 && precision >= MRT_PRECISION_HIGH;
  p.winograd = mrt_conv_winograd_pays(&p, c->size[0], c->size[1], four);
  if (p.winograd > form) p.winograd = 0;
  const double ns = mrt_conv_choose(&p, (mrt_precision)precision, c->size[0], c->size[1], c->split);
  *bytes = (double)mrt_conv_packed_size(&p);
  return p.parts ? ns / 0.9 : ns; /* as mrt_conv_choose compares them */
}

static void add_step(budget *b, int conv, int from, int to, const double *cost,
                     const double *bytes) {
  const step s = {conv, from, to, bytes[from / 2] - bytes[to / 2], cost[to / 2] - cost[from / 2]};
  if (s.saved > 0) b->steps[b->n_steps++] = s;
}

/* The steps down of one convolution: both, or one over both where the second saves more for what it
 * loses than the first. */
static void add_steps(budget *b, int conv, int precision) {
  const candidate *c = &b->convs[conv];
  double cost[3], bytes[3];
  for (int i = 0; i < 3; ++i) cost[i] = cost_of(c, precision, 2 * i, &bytes[i]);
  const double last = bytes[1] - bytes[0], first = bytes[2] - bytes[1];
  if (first <= 0)
    add_step(b, conv, 2, 0, cost, bytes);
  else if (last <= 0 || (cost[2] - cost[1]) * last < (cost[1] - cost[0]) * first)
    add_step(b, conv, 4, 0, cost, bytes);
  else {
    add_step(b, conv, 4, 2, cost, bytes);
    add_step(b, conv, 2, 0, cost, bytes);
  }
}

/* The least time lost for a byte first; the same for equal networks. */
static int by_loss(const void *a, const void *b) {
  const step *x = a, *y = b;
  const double l = x->lost * y->saved, r = y->lost * x->saved;
  return l != r ? (l > r) - (l < r) : y->conv - x->conv;
}

static void choose(budget *b, int precision) {
  const double all =
      b->tiles ? SHARE * (b->bytes + b->images) : PLAIN_SHARE * b->bytes + PLAIN_IMAGES * b->images;
  double over = LESS - all;
  const double least = b->tiles ? LEAST : PLAIN_LEAST;
  if (over > -least) over = -least;
  b->n_steps = 0;
  for (int i = 0; i < b->n; ++i) {
    double bytes;
    candidate *c = &b->convs[i];
    const mrt_conv *p = &c->p;
    cost_of(c, precision, 4, &bytes);
    const double each = p->narrow ? 2 : sizeof(float);
    const double more = bytes - (double)(p->cin * p->cout * p->kh * p->kw) * each;
    over += more > 0 ? more : 0;
    c->most[precision] = 4;
    add_steps(b, i, precision);
  }
  qsort(b->steps, (size_t)b->n_steps, sizeof *b->steps, by_loss);
  if (!b->tiles && precision != MRT_PRECISION_HIGHEST) return;
  int taken = 0;
  for (; taken < b->n_steps && over > 0; ++taken) {
    b->convs[b->steps[taken].conv].most[precision] = b->steps[taken].to;
    over -= b->steps[taken].saved;
  }
  /* The last ones may have saved more than was needed: back up where there is room, the dearest
   * first, and only a convolution's lowest step. */
  while (taken-- > 0) {
    const step *s = &b->steps[taken];
    int *most = &b->convs[s->conv].most[precision];
    if (s->lost <= 0 || *most != s->to || over + s->saved > 0) continue;
    *most = s->from;
    over += s->saved;
  }
}

/* Bytes of a value; unknown dims: one image of 64 x 64. */
static double value_bytes(const mrt_type *t) {
  double n = sizeof(float);
  for (int i = 0; t && i < t->rank; ++i) {
    int64_t d;
    n *= t->dims[i] && mrt_expr_is_const(t->dims[i], &d) ? (double)d : i < 2 ? 1 : 64;
  }
  return n;
}

static void read_conv(budget *b, mrt_node *n) {
  candidate *c = &b->convs[b->n];
  int64_t loop;
  const double images = value_bytes(n->in[0].var->type) + value_bytes(n->out[0]->type);
  b->images = images > b->images ? images : b->images;
  *c = (candidate){.node = n};
  const mrt_tensor *w = mrt_node_in_const(n, 1);
  if (!w || w->strided || !mrt_conv_node_read(n, &c->p, &loop) || loop != 1 ||
      mrt_node_in_rank(n, 0) != 4 || !mrt_conv_winograd_ok(&c->p, NULL))
    return;
  c->p.narrow = mrt_conv_node_narrow(&c->p, w, true);
  c->split = mrt_conv_split_ok(&c->p, NULL);
  mrt_conv_node_image(n, c->size);
  ++b->n;
}

/* The node says what is left to it; nothing where nothing was taken. */
static mrt_status *mark(const candidate *c, const mrt_op_table *ops, int *fired) {
  mrt_node *n = c->node;
  int64_t most[PRECISIONS], sum = 0;
  for (int i = 0; i < PRECISIONS; ++i) sum += most[i] = c->most[i];
  if (sum == 4 * PRECISIONS) return NULL;
  n->domain = "macart"; /* whose Conv has the attribute */
  MRT_TRY(mrt_node_resolve(n, ops));
  ++*fired;
  return mrt_node_set_ints(n, "winograd", PRECISIONS, most);
}

/* As packed weights that are no larger than need be. */
static double kept_bytes(const mrt_tensor *t) {
  return (double)t->bytes * (t->narrow && t->dtype == MRT_FLOAT ? 0.5 : 1);
}

static mrt_status *share_out(budget *b, const mrt_provider *p, mrt_graph *g, int index,
                             int *fired) {
  for (size_t i = 0; i < g->n_vars; ++i)
    if (g->vars[i]->constant && g->vars[i]->n_uses) b->bytes += kept_bytes(g->vars[i]->constant);
  for (mrt_node *n = g->first; n; n = n->next)
    if (is_conv(n, index) && n->n_in > 1 && n->in[0].var && n->in[1].var && n->out[0])
      read_conv(b, n);
  for (int i = 0; i < PRECISIONS; ++i) choose(b, i);
  for (int i = 0; i < b->n; ++i) MRT_TRY(mark(&b->convs[i], p->env->ops, fired));
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  const mrt_alloc *alloc = p->env->alloc;
  budget b = {0};
  size_t n = 0, bytes;
  for (const mrt_node *node = g->first; node; node = node->next) n += is_conv(node, index);
  const mrt_conv_split_kernels *kern = mrt_conv_split_kernels_get();
  if (!n) return NULL;
  b.tiles = kern && kern->gemm->most_parts >= 3;
  /* One more than there are: a node is read into the place where it would stand. */
  if (!mrt_size_mul(n + 1, sizeof *b.convs, &bytes)) return mrt_status_oom();
  mrt_status *st = mrt_mem_new(alloc, bytes, (void **)&b.convs);
  if (!st) st = mrt_mem_new(alloc, 2 * (n + 1) * sizeof *b.steps, (void **)&b.steps);
  if (!st) st = share_out(&b, p, g, index, fired);
  mrt_mem_free(alloc, b.convs);
  mrt_mem_free(alloc, b.steps);
  return st;
}

MRT_FUSION(conv_budget) = {
    .name = "conv_budget",
    .doc = "convolutions whose packed weights may not be larger than the model's",
    .order = 95,
    .level = 2,
    .run = run};
