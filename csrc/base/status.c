/* Status objects come from plain malloc, so that they work while an allocator under test fails. */
#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MESSAGE \
  8192 /* messages grow by context on the way up; hostile names must not bloat them */

struct mrt_status {
  mrt_code code;
  const char *file;
  int line;
  char origin[64];
  char *message; /* malloc */
};

static mrt_status oom = {
    .code = MRT_OUT_OF_MEMORY, .file = "alloc", .origin = "alloc", .message = "out of memory"};

mrt_status *mrt_status_oom(void) { return &oom; }

static char *format(const char *fmt, va_list args) {
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  if (n < 0) n = 0;
  if (n > MAX_MESSAGE) n = MAX_MESSAGE;
  char *text = malloc((size_t)n + 1);
  if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
  va_end(again);
  return text;
}

mrt_status *mrt_status_create(mrt_code code, const char *file, int line, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  char *text = format(fmt, args);
  va_end(args);
  mrt_status *s = text ? malloc(sizeof *s) : NULL;
  if (!s) {
    free(text);
    return &oom;
  }
  const char *base = strstr(file, "csrc/");
  *s = (mrt_status){.code = code, .file = base ? base + 5 : file, .line = line, .message = text};
  snprintf(s->origin, sizeof s->origin, "%s:%d", s->file, line);
  return s;
}

mrt_status *mrt_status_wrap(mrt_status *status, const char *fmt, ...) {
  if (!status || status == &oom) return status;
  va_list args;
  va_start(args, fmt);
  char *context = format(fmt, args);
  va_end(args);
  if (!context) return status; /* the reason matters more than where */
  size_t a = strlen(context), b = strlen(status->message);
  if (a + b + 3 < 2 * MAX_MESSAGE) {
    char *text = malloc(a + b + 3);
    if (text) {
      memcpy(text, context, a);
      memcpy(text + a, ": ", 2);
      memcpy(text + a + 2, status->message, b + 1);
      free(status->message);
      status->message = text;
    }
  }
  free(context);
  return status;
}

mrt_status *mrt_status_recode(mrt_status *status, mrt_code code) {
  if (status && status != &oom) status->code = code;
  return status;
}

mrt_code mrt_status_code(const mrt_status *status) { return status ? status->code : MRT_OK; }
const char *mrt_status_message(const mrt_status *status) { return status ? status->message : ""; }
const char *mrt_status_origin(const mrt_status *status) { return status ? status->origin : ""; }

void mrt_status_free(mrt_status *status) {
  if (!status || status == &oom) return;
  free(status->message);
  free(status);
}

static const struct {
  int number;
  const char *name, *cls;
} codes[] = {
#define MRT_CODE(id, number, name, cls) {number, name, cls},
#include "base/status_codes.def"
#undef MRT_CODE
};

const char *mrt_code_name(mrt_code code) {
  for (size_t i = 0; i < sizeof codes / sizeof *codes; ++i)
    if (codes[i].number == (int)code) return codes[i].name;
  return "FAIL";
}
const char *mrt_code_class(mrt_code code) {
  for (size_t i = 0; i < sizeof codes / sizeof *codes; ++i)
    if (codes[i].number == (int)code) return codes[i].cls;
  return "Fail";
}
