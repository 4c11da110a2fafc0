/* Status: how every failure travels. NULL is success; anything else is a heap object (or the one
 * static out-of-memory object) that owns a code, a message, the place where it was made and the
 * context prepended on the way up. Whoever does not return a status frees it.
 *
 * Result text reads outside-in: "model.onnx: node 'conv1' (Conv): attribute 'group' is 0". */
#ifndef MRT_BASE_STATUS_H
#define MRT_BASE_STATUS_H

#include <stdarg.h>
#include <stddef.h>

typedef enum mrt_code {
#define MRT_CODE(id, number, name, cls) id = number,
#include "base/status_codes.def"
#undef MRT_CODE
} mrt_code;

typedef struct mrt_status mrt_status;

#if defined(__GNUC__)
#define MRT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MRT_MUST_CHECK        __attribute__((warn_unused_result))
/* Of functions that only failures call: compilers move the paths that lead to them out of the way,
 * into a part of the program that is not in memory until something fails. */
#define MRT_COLD __attribute__((cold))
#else
#define MRT_PRINTF(fmt, args)
#define MRT_MUST_CHECK
#define MRT_COLD
#endif

/* Makes a status; never fails (falls back to the static out-of-memory object). */
MRT_COLD MRT_MUST_CHECK mrt_status *mrt_status_create(mrt_code code, const char *file, int line,
                                                      const char *fmt, ...) MRT_PRINTF(4, 5);
/* The static out-of-memory object: needs no allocation, may be freed any number of times. */
MRT_COLD MRT_MUST_CHECK mrt_status *mrt_status_oom(void);
/* Prepends "context: " to the message. NULL stays NULL. Takes and returns ownership. */
MRT_COLD MRT_MUST_CHECK mrt_status *mrt_status_wrap(mrt_status *status, const char *fmt, ...)
    MRT_PRINTF(2, 3);
/* Same object, other code (for example a kernel's FAIL seen by the loader). NULL stays NULL. */
MRT_COLD MRT_MUST_CHECK mrt_status *mrt_status_recode(mrt_status *status, mrt_code code);

mrt_code mrt_status_code(const mrt_status *status);       /* NULL: MRT_OK */
const char *mrt_status_message(const mrt_status *status); /* NULL: "" */
const char *mrt_status_origin(const mrt_status *status);  /* "file.c:88", for logs only */
void mrt_status_free(mrt_status *status);                 /* NULL is fine */

const char *mrt_code_name(mrt_code code);  /* "INVALID_ARGUMENT" */
const char *mrt_code_class(mrt_code code); /* "InvalidArgument": the Python exception class */

#define MRT_ERR(code, ...) mrt_status_create((code), __FILE__, __LINE__, __VA_ARGS__)

/* Returns at once on failure: for leaf code that owns nothing. */
#define MRT_TRY(expr)                          \
  do {                                         \
    mrt_status *mrt_try_status = (expr);       \
    if (mrt_try_status) return mrt_try_status; \
  } while (0)

/* The context is formatted only after a failure. */
#define MRT_TRY_CTX(expr, ...)                                               \
  do {                                                                       \
    mrt_status *mrt_try_status = (expr);                                     \
    if (mrt_try_status) return mrt_status_wrap(mrt_try_status, __VA_ARGS__); \
  } while (0)

/* For code that owns something and has one exit. */
#define MRT_TRY_GOTO(st, label, expr) \
  do {                                \
    (st) = (expr);                    \
    if (st) goto label;               \
  } while (0)

#endif
