/* float32_matmul_precision: words, process default, session option. */
#include "provider/cpu/gemm/precision.h"

#include <string.h>

#include "base/log.h"

static const char *const names[] = {"highest", "high", "medium"};
enum { N_NAMES = sizeof names / sizeof *names };

const char *mrt_precision_name(mrt_precision p) { return names[p]; }

bool mrt_precision_parse(const char *name, mrt_precision *out) {
  for (int i = 0; i < N_NAMES; ++i)
    if (strcmp(names[i], name) == 0) {
      *out = (mrt_precision)i;
      return true;
    }
  return false;
}

static atomic_int chosen = -1; /* -1: the environment was not asked yet */

mrt_precision mrt_precision_default(void) {
  int p = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (p >= 0) return (mrt_precision)p;
  mrt_precision fresh = MRT_PRECISION_HIGHEST;
  const char *name = MRT_ENV("MRT_FLOAT32_MATMUL_PRECISION", "highest",
                             "highest, high or medium: precision of float32 products of sessions "
                             "without the option");
  if (!mrt_precision_parse(name, &fresh))
    MRT_LOG(NULL, MRT_WARNING, "MRT_FLOAT32_MATMUL_PRECISION: '%s' is not highest, high or medium",
            name);
  int unset = -1;
  if (atomic_compare_exchange_strong(&chosen, &unset, (int)fresh)) return fresh;
  return (mrt_precision)unset;
}

void mrt_precision_set_default(mrt_precision p) { atomic_store(&chosen, (int)p); }

mrt_status *mrt_precision_option(const mrt_provider_env *env, int *out) {
  const char *name =
      env->config ? env->config(env->config_ctx, "session.float32_matmul_precision") : NULL;
  mrt_precision p;
  *out = -1;
  if (!name || !*name) return NULL;
  if (!mrt_precision_parse(name, &p))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "session.float32_matmul_precision is '%s', not highest, high or medium", name);
  *out = (int)p;
  return NULL;
}
