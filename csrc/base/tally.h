/* How often things with names happened: passes and fusions that fired. Names are static text. */
#ifndef MRT_BASE_TALLY_H
#define MRT_BASE_TALLY_H

#include <stdint.h>
#include <string.h>

enum { MRT_TALLY_ROWS = 96 };
typedef struct mrt_tally {
  struct mrt_tally_row {
    const char *name;
    int64_t n;
  } rows[MRT_TALLY_ROWS]; /* in order of first appearance */
  int n_rows;
} mrt_tally;

/* NULL tally: nothing. More names than rows: the last row takes the rest. */
static inline void mrt_tally_add(mrt_tally *t, const char *name, int64_t n) {
  int i = 0;
  if (!t) return;
  while (i < t->n_rows && strcmp(t->rows[i].name, name) != 0) ++i;
  if (i == MRT_TALLY_ROWS) i = MRT_TALLY_ROWS - 1;
  if (i == t->n_rows) t->rows[t->n_rows++].name = name;
  t->rows[i].n += n;
}

#endif
