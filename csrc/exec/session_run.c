/* One run: the caller's values checked against the declared inputs, then the plan in a frame. */
#include <string.h>

#include "exec/session_internal.h"

static mrt_status *wrong_dims(const mrt_io_info *in, const mrt_type *type, const mrt_tensor *t) {
  mrt_str text;
  mrt_str_init(&text, mrt_alloc_default());
  mrt_str_addf(&text, "Got invalid dimensions for input: %s for the following indices\n", in->name);
  for (int i = 0; i < t->rank; ++i) {
    int64_t want;
    if (mrt_expr_is_const(type->dims[i], &want) && want != t->dims[i])
      mrt_str_addf(&text, " index: %d Got: %lld Expected: %lld\n", i, (long long)t->dims[i],
                   (long long)want);
  }
  mrt_status *st =
      MRT_ERR(MRT_INVALID_ARGUMENT, "%s Please fix either the inputs/outputs or the model.",
              mrt_str_cstr(&text));
  mrt_str_deinit(&text);
  return st;
}

static mrt_status *check_tensor(const mrt_io_info *in, const mrt_type *type, const mrt_tensor *t) {
  if (type->dtype && type->dtype != (mrt_dtype)t->dtype)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Unexpected input data type. Actual: (tensor(%s)) , expected: (tensor(%s)) for "
                   "input: %s",
                   mrt_dtype_name((mrt_dtype)t->dtype), mrt_dtype_name(type->dtype), in->name);
  if (type->rank <= 0) return NULL; /* scalars and unknown ranks are not checked */
  if (type->rank != t->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Invalid rank for input: %s Got: %d Expected: %d Please fix either the "
                   "inputs/outputs or the model.",
                   in->name, t->rank, type->rank);
  for (int i = 0; i < t->rank; ++i) {
    int64_t want;
    if (mrt_expr_is_const(type->dims[i], &want) && want != t->dims[i])
      return wrong_dims(in, type, t);
  }
  return NULL;
}

/* Down to the tensors in sequences and optionals: kernels trust the types that the model declares.
 */
static mrt_status *check_feed(const mrt_io_info *in, const mrt_type *type, const mrt_value *v) {
  if (!type || type->kind == MRT_KIND_NONE || !v) return NULL;
  if (type->kind == MRT_KIND_OPTIONAL)
    return check_feed(in, type->elem,
                      v->kind == MRT_KIND_OPTIONAL ? ((const mrt_optional *)v)->item : v);
  if ((mrt_kind)v->kind != type->kind)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Unexpected kind of value for input: %s", in->name);
  if (v->kind == MRT_KIND_TENSOR) return check_tensor(in, type, (const mrt_tensor *)v);
  if (v->kind != MRT_KIND_SEQUENCE || !type->elem) return NULL;
  const mrt_sequence *q = (const mrt_sequence *)v;
  for (size_t i = 0; i < q->n; ++i)
    MRT_TRY_CTX(check_feed(in, type->elem, q->items[i]), "element %zu", i);
  return NULL;
}

static mrt_provider *provider_of(const mrt_session *s, const mrt_tensor *t) {
  int i = mrt_provider_of_device(s->providers, s->n_providers, t->device);
  return i < 0 ? NULL : s->providers[i];
}

/* dst and src may lie on any device of the session; same shape and type. */
static mrt_status *copy_across(const mrt_session *s, mrt_tensor *dst, const mrt_tensor *src) {
  mrt_provider *from = provider_of(s, src), *to = provider_of(s, dst);
  if (!from && !to) return mrt_tensor_copy_into(dst, src);
  if (!from || !to || from == to) {
    mrt_provider *p = from ? from : to;
    MRT_TRY(p->v->copy(p, dst, src, NULL));
    return p->v->stream_sync ? p->v->stream_sync(p, NULL) : NULL;
  }
  mrt_tensor *host = NULL;
  MRT_TRY(mrt_provider_transfer(s->alloc, from, NULL, src, &host));
  mrt_status *st = copy_across(s, dst, host);
  mrt_tensor_release(host);
  return st;
}

/* A bound output gets the result in its own memory; an unbound one comes to the host. */
static mrt_status *deliver(mrt_session *s, bool keep_device, mrt_value **slot, mrt_value *result) {
  mrt_tensor *bound = mrt_value_tensor(*slot), *t = mrt_value_tensor(result);
  if (bound == t && bound) { /* written in place */
    mrt_value_release(result);
    return NULL;
  }
  if (!bound) {
    mrt_provider *p = t && !keep_device ? provider_of(s, t) : NULL;
    if (!p) {
      *slot = result;
      return NULL;
    }
    mrt_tensor *host = NULL;
    mrt_status *st = mrt_provider_transfer(s->alloc, p, NULL, t, &host);
    mrt_value_release(result);
    if (!st) *slot = &host->base;
    return st;
  }
  char a[160], b[160];
  mrt_status *st = NULL;
  if (t && bound->dtype != t->dtype)
    st = MRT_ERR(MRT_INVALID_ARGUMENT,
                 "Unexpected output data type. Actual: (tensor(%s)) , expected: (tensor(%s))",
                 mrt_dtype_name((mrt_dtype)bound->dtype), mrt_dtype_name((mrt_dtype)t->dtype));
  else if (!t || !mrt_shape_equal(bound->rank, bound->dims, t->rank, t->dims))
    st =
        MRT_ERR(MRT_FAIL, "OrtValue shape verification failed. Current shape:%s Requested shape:%s",
                mrt_shape_format(a, sizeof a, bound->rank, bound->dims),
                mrt_shape_format(b, sizeof b, t ? t->rank : 0, t ? t->dims : NULL));
  else
    st = copy_across(s, bound, t);
  mrt_value_release(result);
  return st;
}

typedef struct call {
  mrt_value **in, **result, **bound;
  mrt_tensor **compact; /* contiguous copies of strided feeds */
  uint8_t *want;
} call;

/* The feed as the plan reads it: contiguous, in the memory of input `index`. *kept: a copy made for
 * that, NULL when the feed is read in place. */
static mrt_status *localize(mrt_session *s, int index, const mrt_tensor *t, mrt_tensor **kept) {
  bool host = mrt_device_is_host(t->device);
  mrt_device home = s->model->graph->inputs[index]->device;
  mrt_provider *from = host ? NULL : provider_of(s, t);
  bool move = host ? !mrt_device_is_host(home) : !mrt_device_same(home, t->device);
  if (!host && !from)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "input %s lives on a device without a provider",
                   s->inputs[index].name);
  if (t->strided && !host)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "input %s: strided memory of a device",
                   s->inputs[index].name);
  mrt_tensor *plain = NULL;
  if (t->strided) MRT_TRY(mrt_tensor_copy(s->alloc, t, &plain));
  if (!move) {
    *kept = plain;
    return NULL;
  }
  int to = mrt_provider_of_device(s->providers, s->n_providers, home);
  mrt_status *st = mrt_provider_transfer(s->alloc, from, to < 0 ? NULL : s->providers[to],
                                         plain ? plain : t, kept);
  mrt_tensor_release(plain);
  return mrt_status_wrap(st, "input %s", s->inputs[index].name);
}

static mrt_status *gather_feeds(mrt_session *s, int n, const int *index, mrt_value *const *feeds,
                                call *c) {
  int total = s->n_required + s->n_overridable;
  for (int i = 0; i < n; ++i) {
    if (index[i] < 0 || index[i] >= total)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid input name");
    MRT_TRY(check_feed(&s->inputs[index[i]], s->inputs[index[i]].type, feeds[i]));
    c->in[index[i]] = feeds[i];
  }
  for (int i = 0; i < s->n_overridable; ++i)
    if (!c->in[s->n_required + i]) c->in[s->n_required + i] = &s->defaults[i]->base;
  for (int i = 0; i < total; ++i) {
    const mrt_tensor *t = mrt_value_tensor(c->in[i]);
    if (t) MRT_TRY(localize(s, i, t, &c->compact[i]));
    if (c->compact[i]) c->in[i] = &c->compact[i]->base;
  }
  for (int i = 0; i < s->n_required; ++i)
    if (!c->in[i] && s->inputs[i].required)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Missing Input: %s", s->inputs[i].name);
  return NULL;
}

/* Writing a result where a feed still lies would change the feed under the kernels. */
static bool overlaps(const mrt_value *out, const call *c, size_t n_in) {
  const mrt_tensor *o = mrt_value_tensor(out);
  for (size_t i = 0; o && i < n_in; ++i) {
    const mrt_tensor *t = mrt_value_tensor(c->in[i]);
    if (!t) {
      if (c->in[i]) return true; /* a container: not looked into */
      continue;
    }
    const char *a = o->data, *b = t->data;
    if (a < b + t->bytes && b < a + o->bytes) return true;
  }
  return false;
}

static mrt_status *run(mrt_session *s, const mrt_run_options *options, call *c) {
  mrt_run r = {.alloc = s->alloc,
               .trace = s->trace,
               .outputs = s->pool,
               .terminate = options ? options->terminate : NULL};
  r.par = (mrt_par){
      .threads = s->threads, .cancel = r.terminate, .poll = options ? options->poll : NULL};
  r.bound = c->bound;
  mrt_frame *f;
  MRT_TRY(mrt_frame_acquire(s->plan, &f));
  if (s->plan->n_memories > 1) {
    mrt_status *st = mrt_frame_streams(f, &r.streams);
    if (st) {
      mrt_frame_recycle(f);
      return st;
    }
  }
  mrt_threads_run_begin(&r.par);
  uint64_t begin = s->trace ? mrt_now_ns() : 0;
  mrt_status *st = mrt_frame_run(f, &r, NULL, c->in, c->want, c->result);
  if (s->trace) mrt_trace_event(s->trace, "Session", "model_run", begin, mrt_now_ns(), "");
  mrt_threads_run_end(&r.par);
  mrt_frame_recycle(f);
  return st;
}

mrt_status *mrt_session_run(mrt_session *s, const mrt_run_options *options, int n_feeds,
                            const int *feed_index, mrt_value *const *feeds, int n_fetch,
                            const int *fetch_index, mrt_value **out) {
  size_t n_in = (size_t)(s->n_required + s->n_overridable), n_out = (size_t)s->n_outputs;
  char small[1024], *block = small;
  size_t bytes = n_in * 16 + n_out * 17 + 64;
  if (bytes > sizeof small) MRT_TRY(mrt_mem_new(s->alloc, bytes, (void **)&block));
  memset(block, 0, bytes);
  call c = {.in = (mrt_value **)(void *)block};
  c.compact = (mrt_tensor **)(c.in + n_in);
  c.result = (mrt_value **)(c.compact + n_in);
  mrt_value **bound = c.result + n_out;
  c.want = (uint8_t *)(bound + n_out);
  mrt_status *st = gather_feeds(s, n_feeds, feed_index, feeds, &c);
  for (int i = 0; i < n_fetch && !st; ++i) {
    if (fetch_index[i] < 0 || fetch_index[i] >= s->n_outputs)
      st = MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid output name");
    else
      c.want[fetch_index[i]] = 1;
    if (st || !out[i] || overlaps(out[i], &c, n_in)) continue;
    bound[fetch_index[i]] = out[i];
    c.bound = bound;
  }
  if (!st) st = run(s, options, &c);
  for (int i = 0; i < n_fetch && !st; ++i) { /* one asked for twice: the second is a copy */
    mrt_value *v = c.result[fetch_index[i]];
    bool again = false;
    for (int k = i + 1; k < n_fetch && !again; ++k) again = fetch_index[k] == fetch_index[i];
    if (!again) {
      c.result[fetch_index[i]] = NULL;
    } else if (v) {
      mrt_tensor *copy = NULL;
      if (mrt_value_tensor(v))
        st = mrt_tensor_copy(s->alloc, mrt_value_tensor(v), &copy);
      else
        mrt_value_retain(v);
      v = copy ? &copy->base : v;
    }
    if (!st) st = deliver(s, options && options->keep_device, &out[i], v);
  }
  for (size_t i = 0; i < n_out; ++i) mrt_value_release(c.result[i]);
  for (size_t i = 0; i < n_in; ++i) mrt_tensor_release(c.compact[i]);
  if (block != small) mrt_mem_free(s->alloc, block);
  return st;
}
