/* What all providers share: the list of those in this build, lifetimes, tensors in device memory,
 * and copies between memories. A device tensor holds a reference to its provider, so results may
 * outlive the session that made them. */
#include "provider/provider.h"

#include <string.h>

static const mrt_provider_row rows[] = {{"CPUExecutionProvider", mrt_cpu_provider_create, true},
                                        {"TestExecutionProvider", mrt_test_provider_create, false},
                                        {NULL, NULL, false}};
const mrt_provider_row *mrt_provider_rows(void) { return rows; }
const mrt_provider_row *mrt_provider_find(const char *name) {
  for (const mrt_provider_row *r = rows; r->name; ++r)
    if (strcmp(r->name, name) == 0) return r;
  return NULL;
}

void mrt_provider_init(mrt_provider *p, const mrt_provider_vtbl *v, const char *name,
                       mrt_device device, const mrt_provider_env *env) {
  p->v = v;
  p->name = name;
  p->device = device;
  p->env = env;
  p->alloc = env->alloc;
  atomic_init(&p->refs, 1);
}

void mrt_provider_release(mrt_provider *p) {
  if (p && atomic_fetch_sub(&p->refs, 1) == 1) p->v->destroy(p);
}

int mrt_provider_of_device(mrt_provider *const *providers, int n, mrt_device device) {
  if (mrt_device_is_host(device)) return -1;
  for (int i = 0; i < n; ++i)
    if (mrt_provider_has_memory(providers[i]) && mrt_device_same(providers[i]->device, device))
      return i;
  return -1;
}

static void free_device(void *ctx, mrt_tensor *t) {
  mrt_provider *p = ctx;
  p->v->mem_free(p, t->data);
  mrt_provider_release(p);
}

mrt_status *mrt_provider_tensor(mrt_provider *p, mrt_dtype dtype, int rank, const int64_t *dims,
                                mrt_tensor **out) {
  if (!mrt_provider_has_memory(p)) return mrt_tensor_create(p->alloc, dtype, rank, dims, out);
  *out = NULL;
  if (dtype == MRT_STRING) return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: strings", p->name);
  size_t bytes;
  void *data = NULL;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  MRT_TRY_CTX(p->v->mem_alloc(p, bytes, &data), "%s", p->name);
  mrt_status *st =
      mrt_tensor_wrap(p->alloc, dtype, rank, dims, NULL, data, p->device, free_device, p, out);
  if (st)
    p->v->mem_free(p, data);
  else
    atomic_fetch_add(&p->refs, 1);
  return st;
}

mrt_status *mrt_provider_transfer(const mrt_alloc *alloc, mrt_provider *from, mrt_provider *to,
                                  const mrt_tensor *src, mrt_tensor **out) {
  mrt_provider *p = from ? from : to;
  mrt_tensor *host = NULL, *t = NULL;
  *out = NULL;
  if (from && to && from != to) { /* between two devices: through the host */
    MRT_TRY(mrt_provider_transfer(alloc, from, NULL, src, &host));
    mrt_status *st = mrt_provider_transfer(alloc, NULL, to, host, out);
    mrt_tensor_release(host);
    return st;
  }
  if (!p) return mrt_tensor_copy(alloc, src, out);
  mrt_dtype dtype = (mrt_dtype)src->dtype;
  MRT_TRY(to ? mrt_provider_tensor(to, dtype, src->rank, src->dims, &t)
             : mrt_tensor_create(alloc, dtype, src->rank, src->dims, &t));
  mrt_status *st = p->v->copy(p, t, src, NULL);
  if (!st && p->v->stream_sync) st = p->v->stream_sync(p, NULL);
  if (st) {
    mrt_tensor_release(t);
    return mrt_status_wrap(st, "%s: copying a tensor", p->name);
  }
  *out = t;
  return NULL;
}

/* ---- the kernel of macart.Copy ---- */
typedef struct copy_kernel {
  mrt_kernel k;
  const mrt_provider *provider;
} copy_kernel;

/* Host code may read what a copy to the host wrote: that direction waits for the queue. */
static mrt_status *copy_run(const mrt_kernel *k, mrt_kctx *c) {
  const mrt_provider *p = ((const copy_kernel *)k)->provider;
  mrt_tensor *dst = mrt_out(c, 0);
  const mrt_tensor *src = mrt_in(c, 0);
  if (!dst || !src)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: copying a value that is no tensor", p->name);
  MRT_TRY(p->v->copy(p, dst, src, c->stream));
  return mrt_device_is_host(dst->device) && p->v->stream_sync ? p->v->stream_sync(p, c->stream)
                                                              : NULL;
}

static void copy_destroy(mrt_kernel *k) { mrt_mem_free(k->alloc, k); }

mrt_status *mrt_copy_kernel_create(const mrt_provider *p, mrt_kernel **out) {
  copy_kernel *k = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(p->alloc, sizeof *k, (void **)&k));
  k->k = (mrt_kernel){.name = "copy", .run = copy_run, .destroy = copy_destroy, .alloc = p->alloc};
  k->provider = p;
  *out = &k->k;
  return NULL;
}
