/* One run: the caller's values checked against the declared inputs, then the plan in a frame. */
#include <string.h>

#include "exec/session_internal.h"

static mrt_status *wrong_dims(const mrt_io_info *in, const mrt_tensor *t) {
  mrt_str text;
  mrt_str_init(&text, mrt_alloc_default());
  mrt_str_addf(&text, "Got invalid dimensions for input: %s for the following indices\n", in->name);
  for (int i = 0; i < t->rank; ++i) {
    int64_t want;
    if (mrt_expr_is_const(in->type->dims[i], &want) && want != t->dims[i])
      mrt_str_addf(&text, " index: %d Got: %lld Expected: %lld\n", i, (long long)t->dims[i],
                   (long long)want);
  }
  mrt_status *st =
      MRT_ERR(MRT_INVALID_ARGUMENT, "%s Please fix either the inputs/outputs or the model.",
              mrt_str_cstr(&text));
  mrt_str_deinit(&text);
  return st;
}

static mrt_status *check_feed(const mrt_io_info *in, const mrt_value *v) {
  const mrt_type *type = in->type;
  if (!type || type->kind == MRT_KIND_NONE) return NULL;
  if (type->kind == MRT_KIND_OPTIONAL && v->kind != MRT_KIND_OPTIONAL) type = type->elem;
  if (type && (mrt_kind)v->kind != type->kind)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Unexpected kind of value for input: %s", in->name);
  const mrt_tensor *t = mrt_value_tensor(v);
  if (!t || !type) return NULL;
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
    if (mrt_expr_is_const(type->dims[i], &want) && want != t->dims[i]) return wrong_dims(in, t);
  }
  return NULL;
}

/* A bound output gets the result in its own memory. */
static mrt_status *deliver(mrt_value **slot, mrt_value *result) {
  mrt_tensor *bound = mrt_value_tensor(*slot), *t = mrt_value_tensor(result);
  if (!bound) {
    *slot = result;
    return NULL;
  }
  char a[160], b[160];
  mrt_status *st = NULL;
  if (!t || bound->dtype != t->dtype ||
      !mrt_shape_equal(bound->rank, bound->dims, t->rank, t->dims))
    st =
        MRT_ERR(MRT_FAIL, "OrtValue shape verification failed. Current shape:%s Requested shape:%s",
                mrt_shape_format(a, sizeof a, bound->rank, bound->dims),
                mrt_shape_format(b, sizeof b, t ? t->rank : 0, t ? t->dims : NULL));
  else
    st = mrt_tensor_copy_into(bound, t);
  mrt_value_release(result);
  return st;
}

typedef struct call {
  mrt_value **in, **result;
  mrt_tensor **compact; /* contiguous copies of strided feeds */
  uint8_t *want;
} call;

static mrt_status *gather_feeds(mrt_session *s, int n, const int *index, mrt_value *const *feeds,
                                call *c) {
  int total = s->n_required + s->n_overridable;
  for (int i = 0; i < s->n_overridable; ++i) c->in[s->n_required + i] = &s->defaults[i]->base;
  for (int i = 0; i < n; ++i) {
    if (index[i] < 0 || index[i] >= total)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid input name");
    const mrt_io_info *info = &s->inputs[index[i]];
    MRT_TRY(check_feed(info, feeds[i]));
    c->in[index[i]] = feeds[i];
    const mrt_tensor *t = mrt_value_tensor(feeds[i]);
    if (t && !mrt_device_is_host(t->device))
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "input %s lives on a device without a provider",
                     info->name);
    if (!t || !t->strided) continue;
    MRT_TRY(mrt_tensor_copy(s->alloc, t, &c->compact[index[i]]));
    c->in[index[i]] = &c->compact[index[i]]->base;
  }
  for (int i = 0; i < s->n_required; ++i)
    if (!c->in[i] && s->inputs[i].required)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Missing Input: %s", s->inputs[i].name);
  return NULL;
}

static mrt_status *run(mrt_session *s, const mrt_run_options *options, call *c) {
  mrt_run r = {
      .alloc = s->alloc, .trace = s->trace, .terminate = options ? options->terminate : NULL};
  r.par = (mrt_par){.threads = s->threads, .cancel = r.terminate};
  mrt_frame *f;
  MRT_TRY(mrt_frame_acquire(s->plan, &f));
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
  size_t bytes = n_in * 16 + n_out * 9 + 64;
  if (bytes > sizeof small) MRT_TRY(mrt_mem_new(s->alloc, bytes, (void **)&block));
  memset(block, 0, bytes);
  call c = {.in = (mrt_value **)(void *)block};
  c.compact = (mrt_tensor **)(c.in + n_in);
  c.result = (mrt_value **)(c.compact + n_in);
  c.want = (uint8_t *)(c.result + n_out);
  mrt_status *st = gather_feeds(s, n_feeds, feed_index, feeds, &c);
  for (int i = 0; i < n_fetch && !st; ++i) {
    if (fetch_index[i] < 0 || fetch_index[i] >= s->n_outputs)
      st = MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid output name");
    else
      c.want[fetch_index[i]] = 1;
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
    if (!st) st = deliver(&out[i], v);
  }
  for (size_t i = 0; i < n_out; ++i) mrt_value_release(c.result[i]);
  for (size_t i = 0; i < n_in; ++i) mrt_tensor_release(c.compact[i]);
  if (block != small) mrt_mem_free(s->alloc, block);
  return st;
}
