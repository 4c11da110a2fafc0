/* Log lines, environment, clock. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int default_level = MRT_WARNING;

void mrt_log_set_default_level(int severity) { atomic_store(&default_level, severity); }
int mrt_log_default_level(void) { return atomic_load(&default_level); }

bool mrt_log_enabled(const mrt_logger *logger, mrt_severity severity) {
  int level = logger && logger->level >= 0 ? logger->level : mrt_log_default_level();
  return (int)severity >= level;
}

void mrt_log(const mrt_logger *logger, mrt_severity severity, const char *file, int line,
             const char *function, const char *fmt, ...) {
  if (!mrt_log_enabled(logger, severity)) return;
  char text[2048];
  struct timespec now;
  struct tm tm;
  clock_gettime(CLOCK_REALTIME, &now);
  localtime_r(&now.tv_sec, &tm);
  const char *base = strrchr(file, '/');
  int n = (int)strftime(text, 64, "%Y-%m-%d %H:%M:%S", &tm);
  n += snprintf(text + n, sizeof text - (size_t)n, ".%09ld [%c:onnxruntime:%s, %s:%d %s] ",
                now.tv_nsec, "VIWEF"[severity], logger && logger->id ? logger->id : "",
                base ? base + 1 : file, line, function);
  if (n > 0 && (size_t)n < sizeof text - 2) {
    va_list args;
    va_start(args, fmt);
    int m = vsnprintf(text + n, sizeof text - (size_t)n - 1, fmt, args);
    va_end(args);
    if (m > 0)
      n += (size_t)m < sizeof text - (size_t)n - 1 ? m : (int)(sizeof text - (size_t)n - 2);
    text[n++] = '\n';
    ssize_t w = write(STDERR_FILENO, text, (size_t)n);
    (void)w;
  }
}

const char *mrt_env(const char *name, const char *fallback) {
  const char *v = getenv(name);
  return v ? v : fallback;
}

uint64_t mrt_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
