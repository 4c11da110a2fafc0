/* Between the parser (regex_parse.c) and the machine (regex.c): the syntax tree. */
#ifndef MRT_OPS_REGEX_INTERNAL_H
#define MRT_OPS_REGEX_INTERNAL_H

#include "ops/regex.h"

typedef enum mrt_re_kind { RE_CAT, RE_ALT, RE_SET, RE_ASSERT, RE_REPEAT } mrt_re_kind;
typedef enum mrt_re_assert {
  RE_TEXT_BEGIN,
  RE_TEXT_END,
  RE_LINE_BEGIN,
  RE_LINE_END,
  RE_WORD_BOUNDARY,
  RE_NOT_WORD_BOUNDARY
} mrt_re_assert;

typedef struct mrt_re_range {
  uint32_t lo, hi;
  struct mrt_re_range *next;
} mrt_re_range;
typedef struct mrt_re_node {
  mrt_re_kind kind;
  struct mrt_re_node *child; /* CAT, ALT: first of a list; REPEAT: the only one */
  struct mrt_re_node *next;  /* in the parent's list */
  mrt_re_range *ranges;      /* SET */
  bool negated;
  mrt_re_assert what;
  int min, max; /* REPEAT; max -1: no limit */
} mrt_re_node;

mrt_status *mrt_re_parse(mrt_arena *arena, const char *pattern, size_t len,
                         mrt_re_node **out) MRT_MUST_CHECK;

#endif
