/* A provider whose memory the host cannot read. Every allocation is mapped twice: the address that
 * the engine sees has no access rights (touching it is a fault), the shadow is readable and only
 * this file's kernels and copies use it. Kernels are the operators' reference kernels run on shadow
 * tensors. What runs here proves that partition, copies, control flow and io never touch device
 * memory on their own. Not listed among the available providers.
 *
 * Session config: "test.claims" names the operators to take, "Add,MatMul"; absent: every operator
 * with float32 outputs that it can run. Integer inputs are host operands. */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "provider/provider.h"

typedef struct block {
  char *device, *shadow;
  size_t bytes;
  struct block *next;
} block;

typedef struct test_provider {
  mrt_provider p;
  pthread_mutex_t lock;
  block *blocks;
} test_provider;

static mrt_status *mem_alloc(const mrt_provider *p, size_t bytes, void **out) {
  test_provider *t = (test_provider *)(uintptr_t)p;
  size_t page = (size_t)sysconf(_SC_PAGESIZE), size;
  block *b = NULL;
  *out = NULL;
  if (!mrt_size_add(bytes, page, &size)) return mrt_status_oom();
  size = size / page * page;
  MRT_TRY(mrt_mem_new_zero(p->alloc, sizeof *b, (void **)&b));
  int fd = memfd_create("mrt-test-device", MFD_CLOEXEC);
  bool ok = fd >= 0 && ftruncate(fd, (off_t)size) == 0;
  void *shadow = ok ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  void *device = ok ? mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (fd >= 0) close(fd);
  if (shadow == MAP_FAILED || device == MAP_FAILED) {
    if (shadow != MAP_FAILED) munmap(shadow, size);
    if (device != MAP_FAILED) munmap(device, size);
    mrt_mem_free(p->alloc, b);
    return mrt_status_oom();
  }
  *b = (block){.device = device, .shadow = shadow, .bytes = size};
  pthread_mutex_lock(&t->lock);
  b->next = t->blocks;
  t->blocks = b;
  pthread_mutex_unlock(&t->lock);
  *out = device;
  return NULL;
}

static void mem_free(const mrt_provider *p, void *ptr) {
  test_provider *t = (test_provider *)(uintptr_t)p;
  pthread_mutex_lock(&t->lock);
  block **at = &t->blocks;
  while (*at && (*at)->device != ptr) at = &(*at)->next;
  block *b = *at;
  if (b) *at = b->next;
  pthread_mutex_unlock(&t->lock);
  if (!b) return;
  munmap(b->device, b->bytes);
  munmap(b->shadow, b->bytes);
  mrt_mem_free(p->alloc, b);
}

/* The readable address of a tensor's data. NULL: not memory of this provider. */
static void *shadow_of(const mrt_provider *p, const mrt_tensor *tensor) {
  test_provider *t = (test_provider *)(uintptr_t)p;
  const char *data = tensor->data;
  void *found = NULL;
  if (mrt_device_is_host(tensor->device)) return tensor->data;
  pthread_mutex_lock(&t->lock);
  for (block *b = t->blocks; b && !found; b = b->next)
    if (data >= b->device && data + tensor->bytes <= b->device + b->bytes)
      found = b->shadow + (data - b->device);
  pthread_mutex_unlock(&t->lock);
  return found;
}

static mrt_status *shadow_view(const mrt_provider *p, const mrt_tensor *t, mrt_tensor *out) {
  mrt_tensor_look(out, t);
  out->device = MRT_HOST;
  out->data = shadow_of(p, t);
  if (out->data || !t->bytes) return NULL;
  return MRT_ERR(MRT_EP_FAIL, "%s: a tensor outside its memory", p->name);
}

static mrt_status *copy(const mrt_provider *p, mrt_tensor *dst, const mrt_tensor *src,
                        void *stream) {
  mrt_tensor from, to;
  (void)stream;
  MRT_TRY(shadow_view(p, src, &from));
  MRT_TRY(shadow_view(p, dst, &to));
  return mrt_tensor_copy_into(&to, &from);
}

/* ---- kernels ---- */
typedef struct kernel {
  mrt_kernel k;
  const mrt_provider *p;
  mrt_status *(*run)(mrt_kctx *c);
} kernel;

typedef struct shadow {
  mrt_slot slot;
  mrt_tensor tensor;
} shadow;

static mrt_status *shadow_slots(const kernel *k, mrt_slot *const *slots, int n, shadow *views,
                                mrt_slot **out) {
  for (int i = 0; i < n; ++i) {
    const mrt_tensor *t = slots[i] ? mrt_value_tensor(slots[i]->value) : NULL;
    out[i] = slots[i] ? &views[i].slot : NULL;
    if (!t) continue;
    MRT_TRY(shadow_view(k->p, t, &views[i].tensor));
    views[i].slot.value = &views[i].tensor.base;
  }
  return NULL;
}

static mrt_status *kernel_run(const mrt_kernel *base, mrt_kctx *c) {
  const kernel *k = (const kernel *)base;
  size_t n = (size_t)(c->n_in + c->n_out) + 1;
  shadow *views;
  mrt_slot **ptrs;
  MRT_TRY(mrt_scratch(c, n * sizeof *views, (void **)&views));
  MRT_TRY(mrt_scratch(c, n * sizeof *ptrs, (void **)&ptrs));
  memset(views, 0, n * sizeof *views);
  MRT_TRY(shadow_slots(k, c->in, c->n_in, views, ptrs));
  MRT_TRY(shadow_slots(k, c->out, c->n_out, views + c->n_in, ptrs + c->n_in));
  mrt_slot *const *in = c->in, *const *out = c->out;
  c->in = ptrs;
  c->out = ptrs + c->n_in;
  mrt_status *st = k->run(c);
  c->in = in;
  c->out = out;
  return st;
}

static void kernel_destroy(mrt_kernel *k) { mrt_mem_free(k->alloc, k); }

static mrt_status *kernel_create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  kernel *k = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(p->alloc, sizeof *k, (void **)&k));
  k->k =
      (mrt_kernel){.name = "test", .run = kernel_run, .destroy = kernel_destroy, .alloc = p->alloc};
  k->p = p;
  k->run = node->def->run;
  *out = &k->k;
  return NULL;
}

/* ---- claims ---- */
static bool claims(const mrt_provider *p, const mrt_node *node, mrt_str *why) {
  const char *list = p->env->config(p->env->config_ctx, "test.claims");
  const mrt_op_def *def = node->def;
  bool ok = def && def->run && def->infer && node->n_out > 0 &&
            !(def->flags & (MRT_OP_DYNAMIC | MRT_OP_CONTROL));
  if (ok && list) ok = mrt_list_has(list, node->op_type);
  for (int i = 0; ok && i < node->n_out; ++i) {
    const mrt_type *t = node->out[i] ? node->out[i]->type : NULL;
    ok = !node->out[i] || (t && t->kind == MRT_KIND_TENSOR && t->dtype == MRT_FLOAT);
  }
  if (!ok) mrt_str_addf(why, "not one of the test provider's");
  return ok;
}

static uint64_t host_operands(const mrt_provider *p, const mrt_node *node, bool outputs) {
  uint64_t mask = 0;
  (void)p;
  for (int i = 0; !outputs && i < node->n_in && i < MRT_OPERANDS_MAX; ++i) {
    const mrt_type *t = node->in[i].var ? node->in[i].var->type : NULL;
    if (!t || t->dtype != MRT_FLOAT) mask |= (uint64_t)1 << i;
  }
  return mask;
}

/* ---- queue: nothing is queued, but every run must use and finish one ---- */
static mrt_status *stream_create(const mrt_provider *p, void **out) {
  return mrt_mem_new_zero(p->alloc, 16, out);
}
static mrt_status *stream_sync(const mrt_provider *p, void *stream) {
  (void)p;
  (void)stream;
  return NULL;
}
static void stream_destroy(const mrt_provider *p, void *stream) { mrt_mem_free(p->alloc, stream); }

static void destroy(mrt_provider *p) {
  test_provider *t = (test_provider *)p;
  pthread_mutex_destroy(&t->lock);
  mrt_mem_free(p->alloc, t);
}

static const mrt_provider_vtbl vtbl = {.claims = claims,
                                       .kernel_create = kernel_create,
                                       .host_operands = host_operands,
                                       .mem_alloc = mem_alloc,
                                       .mem_free = mem_free,
                                       .copy = copy,
                                       .stream_create = stream_create,
                                       .stream_sync = stream_sync,
                                       .stream_destroy = stream_destroy,
                                       .destroy = destroy};

mrt_status *mrt_test_provider_create(const mrt_provider_env *env, mrt_provider **out) {
  test_provider *t = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(env->alloc, sizeof *t, (void **)&t));
  mrt_provider_init(&t->p, &vtbl, "TestExecutionProvider", (mrt_device){.type = MRT_DEVICE_TEST},
                    env);
  pthread_mutex_init(&t->lock, NULL);
  *out = &t->p;
  return NULL;
}
