/* Log lines, environment switches and time. Severities are ONNX Runtime's: 0 verbose, 1 info,
 * 2 warning, 3 error, 4 fatal. A line goes to the sink if its severity >= the logger's level. */
#ifndef MRT_BASE_LOG_H
#define MRT_BASE_LOG_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum mrt_severity { MRT_VERBOSE, MRT_INFO, MRT_WARNING, MRT_ERROR, MRT_FATAL } mrt_severity;

/* Passed by const pointer, owned by the session or the process. */
typedef struct mrt_logger {
  int level;      /* lowest severity that is written; -1: the process default */
  const char *id; /* logid, "" if none */
} mrt_logger;

/* NULL logger: the process default. One write(2) to stderr per line, in ONNX Runtime's form
 * "2026-11-24 10:00:00.000000000 [W:onnxruntime:id, file.c:88 function] message". */
void mrt_log(const mrt_logger *logger, mrt_severity severity, const char *file, int line,
             const char *function, const char *fmt, ...) MRT_PRINTF(6, 7);
#define MRT_LOG(logger, severity, ...) \
  mrt_log((logger), (severity), __FILE__, __LINE__, __func__, __VA_ARGS__)
bool mrt_log_enabled(const mrt_logger *logger, mrt_severity severity);
void mrt_log_set_default_level(int severity); /* set_default_logger_severity */
int mrt_log_default_level(void);              /* starts at MRT_WARNING */

/* Environment switches, each declared next to its use as MRT_ENV("MRT_NAME", "default", "help"):
 * the build collects these into docs/environment.md. Value = getenv or the default. */
const char *mrt_env(const char *name, const char *fallback);
#define MRT_ENV(name, fallback, help) mrt_env((name), (fallback))

uint64_t mrt_now_ns(void); /* monotonic */

#endif
