/* Polynomials in normal form. An expression is a list of terms sorted by monomial; a monomial is a
 * sorted list of (atom, power); an atom is a symbol or a division, min or max of two expressions.
 * All three are interned by their contents, so equality is pointer equality. */
#include "ir/expr.h"

#include <string.h>

#define MAX_TERMS  48 /* larger products are given up as unknown: exporters need a handful */
#define MAX_POWERS 12 /* atoms in one monomial */
#define MAX_POWER  16 /* of one atom; both bound evaluation */
#define MAX_DEPTH  24 /* of divisions, min and max in each other: walks are not memoised */
#define MAX_LEAVES 12 /* of one min or max */

typedef enum atom_op { SYMBOL, FLOORDIV, CEILDIV, MIN, MAX } atom_op;
typedef struct atom {
  int64_t id;
  atom_op op;
  int symbol, depth;
  const mrt_expr *a, *b;
} atom;
typedef struct power {
  const atom *atom;
  int64_t n;
} power;
typedef struct mono {
  int64_t id; /* from 1; the constant term has no monomial: id 0 */
  int n;
  power p[];
} mono;
typedef struct term {
  int64_t coef;
  const mono *m; /* NULL: constant */
} term;
struct mrt_expr {
  int64_t id;
  int n;
  term t[];
};
struct mrt_symtab {
  const mrt_alloc *alloc;
  mrt_arena *arena;
  mrt_map exprs, monos, atoms, by_name;
  const char **names;
  size_t n_names, cap_names;
  int64_t next_id;
  bool failed;
};

mrt_status *mrt_symtab_create(const mrt_alloc *alloc, mrt_symtab **out) {
  mrt_symtab *t = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *t, (void **)&t));
  t->alloc = alloc;
  t->next_id = 1;
  mrt_map_init(&t->exprs, alloc);
  mrt_map_init(&t->monos, alloc);
  mrt_map_init(&t->atoms, alloc);
  mrt_map_init(&t->by_name, alloc);
  mrt_status *st = mrt_arena_create(alloc, &t->arena);
  if (st) {
    mrt_symtab_destroy(t);
    return st;
  }
  *out = t;
  return NULL;
}

void mrt_symtab_destroy(mrt_symtab *t) {
  if (!t) return;
  mrt_map_deinit(&t->exprs);
  mrt_map_deinit(&t->monos);
  mrt_map_deinit(&t->atoms);
  mrt_map_deinit(&t->by_name);
  mrt_mem_free(t->alloc, t->names);
  mrt_arena_destroy(t->arena);
  mrt_mem_free(t->alloc, t);
}

mrt_status *mrt_symtab_check(const mrt_symtab *t) { return t->failed ? mrt_status_oom() : NULL; }
int mrt_symtab_count(const mrt_symtab *t) { return (int)t->n_names; }
const char *mrt_symtab_name(const mrt_symtab *t, int symbol) { return t->names[symbol]; }

static void *no_memory(mrt_symtab *t) {
  t->failed = true;
  return NULL;
}

static bool remember(mrt_symtab *t, mrt_map *m, const int64_t *key, size_t bytes, void *value) {
  void *copy = mrt_arena_memdup(t->arena, key, bytes);
  mrt_status *st = copy ? mrt_map_setn(m, copy, bytes, value) : mrt_status_oom();
  if (st) {
    mrt_status_free(st);
    t->failed = true;
    return false;
  }
  return true;
}

static int depth_of(const mrt_expr *e) {
  int d = 0;
  for (int i = 0; e && i < e->n; ++i)
    for (int k = 0; e->t[i].m && k < e->t[i].m->n; ++k)
      if (e->t[i].m->p[k].atom->depth > d) d = e->t[i].m->p[k].atom->depth;
  return d;
}

static const atom *get_atom(mrt_symtab *t, atom_op op, int symbol, const mrt_expr *a,
                            const mrt_expr *b) {
  int64_t key[4] = {op, symbol, a ? a->id : 0, b ? b->id : 0};
  atom *x = mrt_map_getn(&t->atoms, key, sizeof key);
  if (x) return x;
  x = mrt_arena_alloc(t->arena, sizeof *x);
  if (!x) return no_memory(t);
  int da = depth_of(a), db = depth_of(b), depth = op == SYMBOL ? 0 : (da > db ? da : db) + 1;
  if (depth > MAX_DEPTH) return NULL;
  *x = (atom){t->next_id++, op, symbol, depth, a, b};
  return remember(t, &t->atoms, key, sizeof key, x) ? x : NULL;
}

static const mono *get_mono(mrt_symtab *t, int n, const power *p) {
  int64_t key[2 * MAX_POWERS];
  for (int i = 0; i < n; ++i) {
    key[2 * i] = p[i].atom->id;
    key[2 * i + 1] = p[i].n;
  }
  size_t bytes = (size_t)n * 16;
  mono *m = mrt_map_getn(&t->monos, key, bytes);
  if (m) return m;
  m = mrt_arena_alloc(t->arena, sizeof *m + (size_t)n * sizeof *p);
  if (!m) return no_memory(t);
  m->id = t->next_id++;
  m->n = n;
  memcpy(m->p, p, (size_t)n * sizeof *p);
  return remember(t, &t->monos, key, bytes, m) ? m : NULL;
}

static const mrt_expr *get_expr(mrt_symtab *t, int n, const term *terms) {
  int64_t key[2 * MAX_TERMS + 2];
  for (int i = 0; i < n; ++i) {
    key[2 * i] = terms[i].coef;
    key[2 * i + 1] = terms[i].m ? terms[i].m->id : 0;
  }
  size_t bytes = (size_t)n * 16;
  mrt_expr *e = mrt_map_getn(&t->exprs, key, bytes);
  if (e) return e;
  e = mrt_arena_alloc(t->arena, sizeof *e + (size_t)n * sizeof *terms);
  if (!e) return no_memory(t);
  e->id = t->next_id++;
  e->n = n;
  if (n) memcpy(e->t, terms, (size_t)n * sizeof *terms);
  return remember(t, &t->exprs, key, bytes, e) ? e : NULL;
}

static int64_t mono_id(const mono *m) { return m ? m->id : 0; }

const mrt_expr *mrt_expr_const(mrt_symtab *t, int64_t value) {
  term k = {value, NULL};
  return get_expr(t, value ? 1 : 0, &k);
}

static const mrt_expr *from_atom(mrt_symtab *t, const atom *a) {
  if (!a) return NULL;
  power p = {a, 1};
  term k = {1, get_mono(t, 1, &p)};
  return k.m ? get_expr(t, 1, &k) : NULL;
}

const mrt_expr *mrt_expr_symbol(mrt_symtab *t, const char *name) {
  size_t number = (size_t)(uintptr_t)mrt_map_get(&t->by_name, name);
  if (!number) {
    char *copy = mrt_arena_strdup(t->arena, name);
    mrt_status *st = copy ? mrt_mem_grow(t->alloc, (void **)&t->names, &t->cap_names,
                                         t->n_names + 1, sizeof *t->names)
                          : mrt_status_oom();
    if (!st) st = mrt_map_set(&t->by_name, copy, (void *)(uintptr_t)(t->n_names + 1));
    if (st) {
      mrt_status_free(st);
      return no_memory(t);
    }
    t->names[t->n_names++] = copy;
    number = t->n_names;
  }
  return from_atom(t, get_atom(t, SYMBOL, (int)number - 1, NULL, NULL));
}

const mrt_expr *mrt_expr_fresh(mrt_symtab *t, const char *hint) {
  char *name = mrt_arena_printf(t->arena, "%s_%zu", hint, t->n_names);
  while (name && mrt_map_get(&t->by_name, name)) name = mrt_arena_printf(t->arena, "%s_", name);
  return name ? mrt_expr_symbol(t, name) : no_memory(t);
}

/* a + k * b */
static const mrt_expr *add_scaled(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b, int64_t k) {
  term out[2 * MAX_TERMS];
  int n = 0, i = 0, j = 0;
  if (!a || !b) return NULL;
  while (i < a->n || j < b->n) {
    int64_t ia = i < a->n ? mono_id(a->t[i].m) : INT64_MAX;
    int64_t ib = j < b->n ? mono_id(b->t[j].m) : INT64_MAX;
    term x = {0, NULL};
    if (ia <= ib) x = a->t[i++];
    if (ib <= ia) {
      int64_t c;
      if (!mrt_i64_mul(b->t[j].coef, k, &c) || !mrt_i64_add(x.coef, c, &x.coef)) return NULL;
      x.m = b->t[j++].m;
    }
    if (x.coef) out[n++] = x;
  }
  return n <= MAX_TERMS ? get_expr(t, n, out) : NULL;
}

const mrt_expr *mrt_expr_add(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  return add_scaled(t, a, b, 1);
}
const mrt_expr *mrt_expr_sub(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  return add_scaled(t, a, b, -1);
}

static const mono *mono_mul(mrt_symtab *t, const mono *a, const mono *b) {
  power p[2 * MAX_POWERS];
  int n = 0, i = 0, j = 0;
  while (i < a->n || j < b->n) {
    int64_t ia = i < a->n ? a->p[i].atom->id : INT64_MAX;
    int64_t ib = j < b->n ? b->p[j].atom->id : INT64_MAX;
    power x = ia <= ib ? a->p[i] : b->p[j];
    if (ia == ib) x.n += b->p[j].n;
    if (x.n > MAX_POWER) return NULL;
    i += ia <= ib;
    j += ib <= ia;
    p[n++] = x;
  }
  return n <= MAX_POWERS ? get_mono(t, n, p) : NULL;
}

const mrt_expr *mrt_expr_mul(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  if (!a || !b) return NULL;
  const mrt_expr *sum = mrt_expr_const(t, 0);
  for (int i = 0; i < a->n; ++i)
    for (int j = 0; j < b->n; ++j) {
      term x;
      if (!mrt_i64_mul(a->t[i].coef, b->t[j].coef, &x.coef)) return NULL;
      const mono *p = a->t[i].m, *q = b->t[j].m;
      x.m = !p ? q : !q ? p : mono_mul(t, p, q);
      if (p && q && !x.m) return NULL;
      sum = mrt_expr_add(t, sum, get_expr(t, 1, &x));
    }
  return sum;
}

bool mrt_expr_is_const(const mrt_expr *e, int64_t *out) {
  if (!e || e->n > 1 || (e->n == 1 && e->t[0].m)) return false;
  if (out) *out = e->n ? e->t[0].coef : 0;
  return true;
}
bool mrt_expr_is_symbol(const mrt_expr *e, int *out) {
  if (!e || e->n != 1 || e->t[0].coef != 1 || !e->t[0].m || e->t[0].m->n != 1 ||
      e->t[0].m->p[0].n != 1 || e->t[0].m->p[0].atom->op != SYMBOL)
    return false;
  if (out) *out = e->t[0].m->p[0].atom->symbol;
  return true;
}

static int64_t floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

/* m / d where every power of d stands in m. *ok false if not. NULL result = 1. */
static const mono *mono_div(mrt_symtab *t, const mono *m, const mono *d, bool *ok) {
  power p[MAX_POWERS];
  int n = 0, j = 0;
  for (int i = 0; i < m->n; ++i) {
    power x = m->p[i];
    if (j < d->n && d->p[j].atom == x.atom) x.n -= d->p[j++].n;
    if (x.n < 0) *ok = false;
    if (x.n > 0) p[n++] = x;
  }
  if (j < d->n) *ok = false;
  if (!*ok || !n) return NULL;
  const mono *q = get_mono(t, n, p);
  if (!q) *ok = false;
  return q;
}

/* Exact quotient where the normal form shows one, else NULL. A divisor that may be zero cancels
 * only when it is one product of symbols, which count as positive then (expr.h). */
static const mrt_expr *exact_div(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  int64_t lo, hi;
  mrt_expr_bounds(b, &lo, &hi);
  if (b->n != 1 && lo <= 0 && hi >= 0) return NULL;
  if (a == b) return mrt_expr_const(t, 1);
  const term *lead = &b->t[b->n - 1];
  const mrt_expr *rest = a, *quotient = mrt_expr_const(t, 0);
  for (int guard = 0; rest && rest->n && guard < MAX_TERMS; ++guard) {
    const term *x = NULL;
    term q = {0, NULL};
    for (int i = rest->n - 1; i >= 0 && !x; --i) { /* a term that the leading one divides */
      bool ok = lead->coef != -1 ? rest->t[i].coef % lead->coef == 0 : rest->t[i].coef != INT64_MIN;
      if (lead->m)
        q.m = rest->t[i].m && ok ? mono_div(t, rest->t[i].m, lead->m, &ok) : (ok = false, NULL);
      else
        q.m = rest->t[i].m;
      if (ok) {
        x = &rest->t[i];
        q.coef = x->coef / lead->coef;
      }
    }
    if (!x) return NULL;
    const mrt_expr *qe = get_expr(t, 1, &q);
    quotient = mrt_expr_add(t, quotient, qe);
    const mrt_expr *next = mrt_expr_sub(t, rest, mrt_expr_mul(t, qe, b));
    if (next && next->n > rest->n) return NULL; /* not getting simpler */
    rest = next;
  }
  return rest && !rest->n ? quotient : NULL;
}

const mrt_expr *mrt_expr_floordiv(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  int64_t x, k;
  if (!a || !b || !b->n) return NULL;
  if (mrt_expr_is_const(b, &k)) {
    if (mrt_expr_is_const(a, &x))
      return x == INT64_MIN && k == -1 ? NULL : mrt_expr_const(t, floor_div(x, k));
    /* floor((k*q + r) / k) = q + floor(r / k) */
    term whole[MAX_TERMS], rest[MAX_TERMS];
    int n = 0, m = 0;
    for (int i = 0; i < a->n; ++i) {
      if (k == -1 && a->t[i].coef == INT64_MIN) return NULL;
      if (a->t[i].coef % k == 0)
        whole[n++] = (term){a->t[i].coef / k, a->t[i].m};
      else
        rest[m++] = a->t[i];
    }
    const mrt_expr *q = get_expr(t, n, whole), *r = get_expr(t, m, rest);
    if (!q || !r) return NULL;
    if (!m) return q;
    if (mrt_expr_is_const(r, &x)) return mrt_expr_add(t, q, mrt_expr_const(t, floor_div(x, k)));
    return mrt_expr_add(t, q, from_atom(t, get_atom(t, FLOORDIV, -1, r, b)));
  }
  const mrt_expr *e = exact_div(t, a, b);
  return e ? e : from_atom(t, get_atom(t, FLOORDIV, -1, a, b));
}

const mrt_expr *mrt_expr_ceildiv(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  int64_t k;
  if (!a || !b || !b->n) return NULL;
  if (mrt_expr_is_const(b, &k)) { /* ceil(x / k) = -floor(-x / k) */
    const mrt_expr *zero = mrt_expr_const(t, 0);
    return mrt_expr_sub(t, zero, mrt_expr_floordiv(t, mrt_expr_sub(t, zero, a), b));
  }
  const mrt_expr *e = exact_div(t, a, b);
  return e ? e : from_atom(t, get_atom(t, CEILDIV, -1, a, b));
}

static void atom_bounds(const atom *a, int64_t *lo, int64_t *hi) {
  int64_t la, ha, lb, hb;
  *lo = INT64_MIN;
  *hi = INT64_MAX;
  if (a->op == SYMBOL) {
    *lo = 0;
    return;
  }
  mrt_expr_bounds(a->a, &la, &ha);
  mrt_expr_bounds(a->b, &lb, &hb);
  if (a->op == MIN) {
    *lo = la < lb ? la : lb;
    *hi = ha < hb ? ha : hb;
  } else if (a->op == MAX) {
    *lo = la > lb ? la : lb;
    *hi = ha > hb ? ha : hb;
  } else if (la >= 0 && lb >= 0) {
    *lo = 0;
  }
}

void mrt_expr_bounds(const mrt_expr *e, int64_t *lo, int64_t *hi) {
  int64_t l = 0, h = 0;
  bool lo_ok = e != NULL, hi_ok = e != NULL;
  for (int i = 0; e && i < e->n; ++i) {
    int64_t c = e->t[i].coef, ml = 1, mh = 1;
    const mono *m = e->t[i].m;
    for (int k = 0; m && k < m->n; ++k) {
      int64_t al, ah;
      atom_bounds(m->p[k].atom, &al, &ah);
      if (al < 0) {
        ml = INT64_MIN;
        mh = INT64_MAX;
        break;
      }
      if (m->n == 1 && m->p[k].n == 1) {
        ml = al;
        mh = ah;
      } else {
        ml = 0;
        mh = INT64_MAX;
      }
    }
    int64_t tl = c > 0 ? ml : mh, th = c > 0 ? mh : ml;
    if (tl == INT64_MIN || tl == INT64_MAX || !mrt_i64_mul(tl, c, &tl) || !mrt_i64_add(l, tl, &l))
      lo_ok = false;
    if (th == INT64_MIN || th == INT64_MAX || !mrt_i64_mul(th, c, &th) || !mrt_i64_add(h, th, &h))
      hi_ok = false;
  }
  *lo = lo_ok ? l : INT64_MIN;
  *hi = hi_ok ? h : INT64_MAX;
}

/* max(a, min(a, x)) and min(a, max(a, x)) are a. */
static bool absorbs(const mrt_expr *a, const mrt_expr *b, bool max) {
  const mono *m = b->n == 1 && b->t[0].coef == 1 ? b->t[0].m : NULL;
  if (!m || m->n != 1 || m->p[0].n != 1 || m->p[0].atom->op != (max ? MIN : MAX)) return false;
  return m->p[0].atom->a == a || m->p[0].atom->b == a;
}

/* The operands of nested atoms of one kind, without those that another one makes needless. */
typedef struct leaves {
  const mrt_expr *e[MAX_LEAVES];
  int n;
} leaves;

/* false: too many. */
static bool add_leaf(mrt_symtab *t, leaves *l, const mrt_expr *e, bool max) {
  const mono *m = e->n == 1 && e->t[0].coef == 1 ? e->t[0].m : NULL;
  if (m && m->n == 1 && m->p[0].n == 1 && m->p[0].atom->op == (max ? MAX : MIN))
    return add_leaf(t, l, m->p[0].atom->a, max) && add_leaf(t, l, m->p[0].atom->b, max);
  for (int i = 0; i < l->n; ++i) {
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (l->e[i] == e || absorbs(l->e[i], e, max)) return true;
    const mrt_expr *d = mrt_expr_sub(t, l->e[i], e);
    if (d) mrt_expr_bounds(d, &lo, &hi);
    if (max ? lo >= 0 : hi <= 0) return true;
    if ((max ? hi <= 0 : lo >= 0) || absorbs(e, l->e[i], max)) l->e[i--] = l->e[--l->n];
  }
  if (l->n == MAX_LEAVES) return false;
  l->e[l->n++] = e;
  return true;
}

static const mrt_expr *chain(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b, bool max) {
  return a && b ? from_atom(t, get_atom(t, max ? MAX : MIN, -1, a, b)) : NULL;
}

/* One form for all ways to nest: leaves in the order of their ids. */
static const mrt_expr *min_max(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b, bool max) {
  leaves l = {.n = 0};
  if (!a || !b) return NULL;
  if (!add_leaf(t, &l, a, max) || !add_leaf(t, &l, b, max))
    return a->id < b->id ? chain(t, a, b, max) : chain(t, b, a, max);
  for (int i = 1; i < l.n; ++i)
    for (int k = i; k > 0 && l.e[k]->id < l.e[k - 1]->id; --k) {
      const mrt_expr *s = l.e[k];
      l.e[k] = l.e[k - 1];
      l.e[k - 1] = s;
    }
  const mrt_expr *e = l.e[0];
  for (int i = 1; i < l.n; ++i) e = chain(t, e, l.e[i], max);
  return e;
}
const mrt_expr *mrt_expr_min(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  return min_max(t, a, b, false);
}
const mrt_expr *mrt_expr_max(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  return min_max(t, a, b, true);
}

static bool atom_eval(const atom *a, const int64_t *values, int n, int64_t *out) {
  int64_t x, y;
  if (a->op == SYMBOL) {
    if (a->symbol >= n || values[a->symbol] < 0) return false;
    *out = values[a->symbol];
    return true;
  }
  if (!mrt_expr_eval(a->a, values, n, &x) || !mrt_expr_eval(a->b, values, n, &y)) return false;
  switch (a->op) {
    case MIN: *out = x < y ? x : y; return true;
    case MAX: *out = x > y ? x : y; return true;
    default:
      if (!y || (x == INT64_MIN && y == -1)) return false;
      if (x == INT64_MIN) return false; /* its negation has no value */
      *out = a->op == FLOORDIV ? floor_div(x, y) : -floor_div(-x, y);
      return true;
  }
}

bool mrt_expr_eval(const mrt_expr *e, const int64_t *values, int n_values, int64_t *out) {
  int64_t sum = 0;
  if (!e) return false;
  for (int i = 0; i < e->n; ++i) {
    int64_t x = e->t[i].coef, v;
    const mono *m = e->t[i].m;
    for (int k = 0; m && k < m->n; ++k) {
      if (!atom_eval(m->p[k].atom, values, n_values, &v)) return false;
      for (int64_t p = 0; p < m->p[k].n; ++p)
        if (!mrt_i64_mul(x, v, &x)) return false;
    }
    if (!mrt_i64_add(sum, x, &sum)) return false;
  }
  *out = sum;
  return true;
}

void mrt_expr_symbols(const mrt_expr *e, void (*fn)(void *arg, int symbol), void *arg) {
  for (int i = 0; e && i < e->n; ++i)
    for (int k = 0; e->t[i].m && k < e->t[i].m->n; ++k) {
      const atom *a = e->t[i].m->p[k].atom;
      if (a->op == SYMBOL) {
        fn(arg, a->symbol);
      } else {
        mrt_expr_symbols(a->a, fn, arg);
        mrt_expr_symbols(a->b, fn, arg);
      }
    }
}

static bool plain_name(const char *s) {
  static const char *const reserved[] = {"floordiv", "ceildiv", "min", "max"};
  for (int i = 0; i < 4; ++i)
    if (strcmp(s, reserved[i]) == 0) return false;
  for (const char *p = s; *p; ++p) {
    bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_';
    if (!letter && !(p > s && *p >= '0' && *p <= '9')) return false;
  }
  return *s != 0;
}

static void format_symbol(const mrt_symtab *tab, int symbol, mrt_str *out) {
  const char *name = tab->names[symbol];
  if (plain_name(name)) {
    mrt_str_add(out, name);
    return;
  }
  mrt_str_add(out, "'");
  for (const char *p = name; *p; ++p)
    mrt_str_addf(out, *p == '\'' || *p == '\\' ? "\\%c" : "%c", *p);
  mrt_str_add(out, "'");
}

void mrt_expr_format(const mrt_symtab *tab, const mrt_expr *e, mrt_str *out) {
  static const char *const fn[] = {"", "floordiv", "ceildiv", "min", "max"};
  if (!e || !e->n) mrt_str_add(out, e ? "0" : "?");
  for (int i = 0; e && i < e->n; ++i) {
    if (i) mrt_str_add(out, " + ");
    const mono *m = e->t[i].m;
    if (!m || e->t[i].coef != 1) mrt_str_addf(out, "%lld", (long long)e->t[i].coef);
    for (int k = 0; m && k < m->n; ++k) {
      const atom *a = m->p[k].atom;
      if (k || e->t[i].coef != 1) mrt_str_add(out, "*");
      if (a->op == SYMBOL) {
        format_symbol(tab, a->symbol, out);
      } else {
        mrt_str_addf(out, "%s(", fn[a->op]);
        mrt_expr_format(tab, a->a, out);
        mrt_str_add(out, ", ");
        mrt_expr_format(tab, a->b, out);
        mrt_str_add(out, ")");
      }
      if (m->p[k].n > 1) mrt_str_addf(out, "^%lld", (long long)m->p[k].n);
    }
  }
}
