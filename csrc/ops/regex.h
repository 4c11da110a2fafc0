/* Regular expressions in RE2's syntax, for whole-string matches: no captures, no back references,
 * time linear in the text. Not there, and refused by name: Unicode classes (\pL), \C. */
#ifndef MRT_OPS_REGEX_H
#define MRT_OPS_REGEX_H

#include "base/alloc.h"

typedef struct mrt_regex mrt_regex;
/* MRT_INVALID_ARGUMENT for a pattern that RE2 refuses too, MRT_NOT_IMPLEMENTED for the rest. */
mrt_status *mrt_regex_create(const mrt_alloc *alloc, const char *pattern, size_t len,
                             mrt_regex **out) MRT_MUST_CHECK;
void mrt_regex_destroy(mrt_regex *re); /* NULL is fine */
/* Does the pattern match all of the (UTF-8) text? Uses memory in `re`: one caller at a time. */
bool mrt_regex_full_match(mrt_regex *re, const char *text, size_t len);

#endif
