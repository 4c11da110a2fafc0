/* Checks for the C test programs: both sides are printed, the program goes on and fails at the end.
 */
#ifndef MRT_TESTS_CHECK_H
#define MRT_TESTS_CHECK_H

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static int check_failures;
#define CHECK(cond)                                                        \
  do {                                                                     \
    if (!(cond)) {                                                         \
      ++check_failures;                                                    \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
    }                                                                      \
  } while (0)
#define CHECK_EQ_I(a, b)                                                                         \
  do {                                                                                           \
    long long check_a = (long long)(a), check_b = (long long)(b);                                \
    if (check_a != check_b) {                                                                    \
      ++check_failures;                                                                          \
      fprintf(stderr, "%s:%d: %s is %lld, not %s = %lld\n", __FILE__, __LINE__, #a, check_a, #b, \
              check_b);                                                                          \
    }                                                                                            \
  } while (0)
#define CHECK_STR(a, b)                                                                     \
  do {                                                                                      \
    const char *check_a = (a), *check_b = (b);                                              \
    if (strcmp(check_a, check_b) != 0) {                                                    \
      ++check_failures;                                                                     \
      fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #a, check_a, \
              check_b);                                                                     \
    }                                                                                       \
  } while (0)
#define CHECK_OK(expr)                                                                             \
  do {                                                                                             \
    mrt_status *check_st = (expr);                                                                 \
    if (check_st) {                                                                                \
      ++check_failures;                                                                            \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, mrt_status_message(check_st)); \
      mrt_status_free(check_st);                                                                   \
    }                                                                                              \
  } while (0)
#define CHECK_DONE()                                                           \
  (check_failures ? (fprintf(stderr, "%d checks failed\n", check_failures), 1) \
                  : (printf("ok\n"), 0))

#endif
