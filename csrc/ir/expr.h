/* Symbolic integers in one normal form: polynomials over atoms, an atom being a symbol, a floor or
 * ceiling division, a min or a max of two expressions. Expressions are immutable and interned in
 * one table per model, so equal means the same pointer.
 *
 * NULL is "unknown" and is absorbing: any operation on NULL gives NULL. Running out of memory
 * gives NULL too and is remembered; whoever finishes a piece of work asks mrt_symtab_check. */
#ifndef MRT_IR_EXPR_H
#define MRT_IR_EXPR_H

#include "base/str.h"

typedef struct mrt_symtab mrt_symtab;
typedef struct mrt_expr mrt_expr;

mrt_status *mrt_symtab_create(const mrt_alloc *alloc, mrt_symtab **out) MRT_MUST_CHECK;
void mrt_symtab_destroy(mrt_symtab *tab);
mrt_status *mrt_symtab_check(const mrt_symtab *tab) MRT_MUST_CHECK;
/* Symbols are numbered from 0 in order of creation. */
int mrt_symtab_count(const mrt_symtab *tab);
const char *mrt_symtab_name(const mrt_symtab *tab, int symbol);

const mrt_expr *mrt_expr_const(mrt_symtab *tab, int64_t value);
/* The symbol of that name, made on first use. Assumed to be an integer >= 0. */
const mrt_expr *mrt_expr_symbol(mrt_symtab *tab, const char *name);
/* A new symbol, different from all others, named "hint_K". */
const mrt_expr *mrt_expr_fresh(mrt_symtab *tab, const char *hint);
const mrt_expr *mrt_expr_add(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);
const mrt_expr *mrt_expr_sub(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);
const mrt_expr *mrt_expr_mul(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);
/* Exact cancellation where the normal form shows it ((a*b)/b = a for constant or symbol b, which
 * is then assumed > 0); b = constant 0 gives NULL. */
const mrt_expr *mrt_expr_floordiv(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);
const mrt_expr *mrt_expr_ceildiv(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);
const mrt_expr *mrt_expr_min(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);
const mrt_expr *mrt_expr_max(mrt_symtab *tab, const mrt_expr *a, const mrt_expr *b);

bool mrt_expr_is_const(const mrt_expr *e, int64_t *out); /* out may be NULL */
bool mrt_expr_is_symbol(const mrt_expr *e, int *out);    /* a bare symbol: its number */
/* Bounds that hold for symbols >= 0; INT64_MIN / INT64_MAX when unknown. */
void mrt_expr_bounds(const mrt_expr *e, int64_t *lo, int64_t *hi);
/* values[symbol]; false on overflow, division by zero, or a symbol whose value is < 0 (unbound). */
bool mrt_expr_eval(const mrt_expr *e, const int64_t *values, int n_values, int64_t *out);
/* Calls fn for each symbol that e uses (each once). */
void mrt_expr_symbols(const mrt_expr *e, void (*fn)(void *arg, int symbol), void *arg);
/* "2*N + floordiv(M, 4)"; names that are no identifiers stand in quotes; NULL: "?". mrt_expr_parse
 * (ir/text.h) reads it back. */
void mrt_expr_format(const mrt_symtab *tab, const mrt_expr *e, mrt_str *out);

#endif
