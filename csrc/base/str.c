/* Growing string. */
#include "base/str.h"

#include <stdio.h>
#include <string.h>

void mrt_str_init(mrt_str *s, const mrt_alloc *alloc) { *s = (mrt_str){.alloc = alloc}; }
void mrt_str_deinit(mrt_str *s) {
  mrt_mem_free(s->alloc, s->data);
  s->data = NULL;
  s->len = s->cap = 0;
}

static bool reserve(mrt_str *s, size_t more) {
  size_t need;
  if (s->failed || !mrt_size_add(s->len, more, &need) || !mrt_size_add(need, 1, &need)) {
    s->failed = true;
    return false;
  }
  mrt_status *st = mrt_mem_grow(s->alloc, (void **)&s->data, &s->cap, need, 1);
  if (st) {
    mrt_status_free(st);
    s->failed = true;
  }
  return !s->failed;
}

void mrt_str_addn(mrt_str *s, const char *bytes, size_t n) {
  if (!reserve(s, n)) return;
  if (n) memcpy(s->data + s->len, bytes, n);
  s->len += n;
  s->data[s->len] = 0;
}
void mrt_str_add(mrt_str *s, const char *text) { mrt_str_addn(s, text, strlen(text)); }

void mrt_str_addf(mrt_str *s, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  if (n < 0) {
    s->failed = true;
  } else if (reserve(s, (size_t)n)) {
    vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
    s->len += (size_t)n;
  }
  va_end(again);
  va_end(args);
}

const char *mrt_str_cstr(const mrt_str *s) { return s->data ? s->data : ""; }
mrt_status *mrt_str_check(const mrt_str *s) { return s->failed ? mrt_status_oom() : NULL; }

bool mrt_list_has(const char *list, const char *name) {
  size_t len = strlen(name);
  for (const char *p = list; p && (p = strstr(p, name)); p += len)
    if ((p == list || p[-1] == ',' || p[-1] == '-') && (p[len] == 0 || p[len] == ',')) return true;
  return false;
}
