/* Chrome-trace recorder behind session profiling: events are kept in memory and written as
 * ONNX Runtime writes them (one JSON object a line, first line "[", last "]"). Thread safe. */
#ifndef MRT_BASE_TRACE_H
#define MRT_BASE_TRACE_H

#include "base/alloc.h"

typedef struct mrt_trace mrt_trace;
mrt_status *mrt_trace_create(const mrt_alloc *alloc, mrt_trace **out) MRT_MUST_CHECK;
void mrt_trace_destroy(mrt_trace *trace);
uint64_t mrt_trace_start_ns(const mrt_trace *trace);
/* category "Session" or "Node"; args_json: the inside of the args object ("" for none), already
 * escaped (mrt_trace_escape). Lost silently when memory is short: profiling never fails a run. */
void mrt_trace_event(mrt_trace *trace, const char *category, const char *name, uint64_t begin_ns,
                     uint64_t end_ns, const char *args_json);
mrt_status *mrt_trace_write(mrt_trace *trace, const char *path) MRT_MUST_CHECK;
/* JSON-escapes src into dst (cap bytes, truncated, 0-terminated). */
void mrt_trace_escape(char *dst, size_t cap, const char *src);

#endif
