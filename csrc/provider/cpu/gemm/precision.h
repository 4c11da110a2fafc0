/* How precise float32 products must be: the session's option "session.float32_matmul_precision"
 * (highest, high, medium), else the process default, which starts as the environment says. */
#ifndef MRT_PROVIDER_CPU_GEMM_PRECISION_H
#define MRT_PROVIDER_CPU_GEMM_PRECISION_H

#include "provider/cpu/gemm/gemm.h"
#include "provider/provider.h"

const char *mrt_precision_name(mrt_precision p);
bool mrt_precision_parse(const char *name, mrt_precision *out); /* false: no such name */

/* The process default: read by every product of sessions without the option, when it runs. Atomic,
 * may be set at any time. */
mrt_precision mrt_precision_default(void);
void mrt_precision_set_default(mrt_precision p);

/* The session's option, -1 if it is not set; INVALID_ARGUMENT for an unknown word. */
mrt_status *mrt_precision_option(const mrt_provider_env *env, int *out) MRT_MUST_CHECK;
/* What holds now for a kernel that keeps the option. */
static inline mrt_precision mrt_precision_now(int option) {
  return option >= 0 ? (mrt_precision)option : mrt_precision_default();
}

#endif
