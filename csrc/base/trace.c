/* Chrome trace in memory, written in ONNX Runtime's form. */
#include "base/trace.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/str.h"

struct mrt_trace {
  const mrt_alloc *alloc;
  mrt_fork_guard guard; /* of lock */
  pthread_mutex_t lock;
  mrt_str text;
  uint64_t start;
};

mrt_status *mrt_trace_create(const mrt_alloc *alloc, mrt_trace **out) {
  mrt_trace *t = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *t, (void **)&t));
  t->alloc = alloc;
  pthread_mutex_init(&t->lock, NULL);
  mrt_fork_guard_add(&t->guard, &t->lock);
  mrt_str_init(&t->text, alloc);
  t->start = mrt_now_ns();
  *out = t;
  return NULL;
}

void mrt_trace_destroy(mrt_trace *t) {
  if (!t) return;
  mrt_str_deinit(&t->text);
  mrt_fork_guard_remove(&t->guard);
  pthread_mutex_destroy(&t->lock);
  mrt_mem_free(t->alloc, t);
}

uint64_t mrt_trace_start_ns(const mrt_trace *t) { return t->start; }

void mrt_trace_event(mrt_trace *t, const char *category, const char *name, uint64_t begin_ns,
                     uint64_t end_ns, const char *args_json) {
  pthread_mutex_lock(&t->lock);
  mrt_str_addf(&t->text,
               "%s{\"cat\" : \"%s\",\"pid\" :%d,\"tid\" :%d,\"dur\" :%llu,\"ts\" :%llu,"
               "\"ph\" : \"X\",\"name\" :\"%s\",\"args\" : {%s}}",
               t->text.len ? ",\n" : "", category, (int)getpid(), (int)gettid(),
               (unsigned long long)(end_ns - begin_ns) / 1000,
               (unsigned long long)(begin_ns - t->start) / 1000, name, args_json);
  pthread_mutex_unlock(&t->lock);
}

mrt_status *mrt_trace_write(mrt_trace *t, const char *path) {
  mrt_str file;
  mrt_str_init(&file, t->alloc);
  pthread_mutex_lock(&t->lock);
  mrt_str_add(&file, "[\n");
  mrt_str_addn(&file, mrt_str_cstr(&t->text), t->text.len);
  mrt_str_add(&file, "\n]\n");
  pthread_mutex_unlock(&t->lock);
  mrt_status *st = mrt_str_check(&file);
  if (!st) st = mrt_file_write(t->alloc, path, mrt_str_cstr(&file), file.len);
  mrt_str_deinit(&file);
  return st;
}

void mrt_trace_escape(char *dst, size_t cap, const char *src) {
  size_t n = 0;
  for (; *src && n + 7 < cap; ++src) {
    unsigned char c = (unsigned char)*src;
    if (c == '"' || c == '\\') {
      dst[n++] = '\\';
      dst[n++] = (char)c;
    } else if (c < 0x20) {
      n += (size_t)snprintf(dst + n, cap - n, "\\u%04x", c);
    } else {
      dst[n++] = (char)c;
    }
  }
  if (cap) dst[n] = 0;
}
