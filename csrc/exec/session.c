/* Making a session: load, passes, partition, fusion, plan. */
#include "base/cpu.h"
#include "exec/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "exec/session_internal.h"
#include "ir/compact.h"
#include "ir/text.h"
#include "load/load.h"

static mrt_status *copy_io(mrt_session *s, mrt_var *const *vars, int n, bool inputs,
                           mrt_io_info **out) {
  *out = mrt_arena_alloc(s->arena, ((size_t)n + 1) * sizeof **out);
  if (!*out) return mrt_status_oom();
  for (int i = 0; i < n; ++i) { /* copies: the model's own move when it is compacted */
    const char *name = mrt_arena_strdup(s->arena, vars[i]->name);
    const mrt_type *type = mrt_type_copy(s->arena, vars[i]->type);
    if (!name || (vars[i]->type && !type)) return mrt_status_oom();
    (*out)[i] = (mrt_io_info){name, type, inputs};
    if (inputs && vars[i]->type && vars[i]->type->kind == MRT_KIND_OPTIONAL)
      (*out)[i].required = false;
  }
  return NULL;
}

/* Names and declared types as the user sees them: before any pass runs. Initializers that are
 * inputs too are overridable: they stand apart, behind the required ones. */
static mrt_status *describe(mrt_session *s) {
  mrt_graph *g = s->model->graph;
  int n = 0, m = 0;
  mrt_var **required =
      mrt_arena_alloc(s->model->arena, ((size_t)g->n_inputs + 1) * sizeof *required);
  mrt_var **over = mrt_arena_alloc(s->model->arena, ((size_t)g->n_inputs + 1) * sizeof *over);
  if (!required || !over) return mrt_status_oom();
  for (int i = 0; i < g->n_inputs; ++i) {
    if (g->inputs[i]->constant && s->model->ir_version < 4)
      g->inputs[i]->is_input = false; /* the format made all initializers inputs then: constants */
    else if (g->inputs[i]->constant)
      over[m++] = g->inputs[i];
    else
      required[n++] = g->inputs[i];
  }
  s->n_required = n;
  s->n_overridable = m;
  s->defaults = mrt_arena_alloc(s->arena, ((size_t)m + 1) * sizeof *s->defaults);
  if (!s->defaults) return mrt_status_oom();
  g->n_inputs = n + m;
  for (int i = 0; i < n; ++i) g->inputs[i] = required[i];
  for (int i = 0; i < m; ++i) {
    g->inputs[n + i] = over[i];
    MRT_TRY(mrt_var_align(over[i]));
    s->defaults[i] = over[i]->constant;
    over[i]->constant = NULL; /* an input from now on: no folding through it */
  }
  MRT_TRY(copy_io(s, g->inputs, n + m, true, &s->inputs));
  for (int i = 0; i < m; ++i) s->inputs[n + i].required = false;
  MRT_TRY(copy_io(s, g->outputs, g->n_outputs, false, &s->outputs));
  s->n_outputs = g->n_outputs;
  for (int i = 0; i < n + m; ++i)
    MRT_TRY(mrt_map_set(&s->input_names, s->inputs[i].name, &s->inputs[i]));
  for (int i = 0; i < s->n_outputs; ++i)
    MRT_TRY(mrt_map_set(&s->output_names, s->outputs[i].name, &s->outputs[i]));
  return NULL;
}

/* What the options say of one dim: an entry, or NULL. */
static const mrt_dim_override *find_override(const mrt_session_options *o, const mrt_type *t,
                                             int k) {
  const char *name = t->dim_names ? t->dim_names[k] : NULL;
  const char *denotation = t->dim_denotations ? t->dim_denotations[k] : NULL;
  for (int j = 0; name && j < o->n_overrides_by_name; ++j)
    if (strcmp(name, o->overrides_by_name[j].name) == 0) return &o->overrides_by_name[j];
  for (int j = 0; denotation && j < o->n_overrides_by_denotation; ++j)
    if (strcmp(denotation, o->overrides_by_denotation[j].name) == 0)
      return &o->overrides_by_denotation[j];
  return NULL;
}

static bool names_input_dim(const mrt_session *s, const char *name) {
  for (int i = 0; i < s->n_required + s->n_overridable; ++i) {
    const mrt_type *t = s->inputs[i].type;
    for (int k = 0; t && t->dim_names && k < t->rank; ++k)
      if (t->dim_names[k] && strcmp(t->dim_names[k], name) == 0) return true;
  }
  return false;
}

/* Outputs whose type or rank the model leaves out are described as inference found them; of its
 * symbols only the names that the inputs use mean something to the user. */
static mrt_status *complete_outputs(mrt_session *s) {
  mrt_model *m = s->model;
  for (int i = 0; i < s->n_outputs; ++i) {
    const mrt_type *had = s->outputs[i].type, *t = m->graph->outputs[i]->type;
    const mrt_expr *dims[MRT_MAX_RANK];
    const char *names[MRT_MAX_RANK] = {0};
    int symbol;
    if (!t || (had && (had->kind != MRT_KIND_TENSOR || had->rank >= 0))) continue;
    s->outputs[i].type = t;
    if (t->kind != MRT_KIND_TENSOR || t->rank < 0) continue;
    for (int k = 0; k < t->rank; ++k) {
      dims[k] = t->dims[k] && mrt_expr_is_const(t->dims[k], NULL) ? t->dims[k] : NULL;
      if (t->dims[k] && mrt_expr_is_symbol(t->dims[k], &symbol)) {
        const char *name = mrt_symtab_name(m->sym, symbol);
        if (names_input_dim(s, name)) names[k] = name;
      }
    }
    mrt_type *u = (mrt_type *)mrt_type_tensor(m, t->dtype, t->rank, dims);
    if (!u) return mrt_status_oom();
    u->dim_names = mrt_arena_memdup(m->arena, names, (size_t)t->rank * sizeof *names);
    if (!u->dim_names) return mrt_status_oom();
    s->outputs[i].type = u;
  }
  return NULL;
}

/* add_free_dimension_override_by_name, _by_denotation: such a dim of an input is that number. */
static mrt_status *override_dims(mrt_session *s, const mrt_session_options *o) {
  mrt_graph *g = s->model->graph;
  if (!o->n_overrides_by_name && !o->n_overrides_by_denotation) return NULL;
  for (int i = 0; i < g->n_inputs; ++i) {
    const mrt_type *t = g->inputs[i]->type;
    const mrt_expr *dims[MRT_MAX_RANK];
    const char *names[MRT_MAX_RANK];
    if (!t || t->kind != MRT_KIND_TENSOR || t->rank < 0) continue;
    for (int k = 0; k < t->rank; ++k) {
      dims[k] = t->dims[k];
      names[k] = t->dim_names ? t->dim_names[k] : NULL;
      const mrt_dim_override *found = find_override(o, t, k);
      if (!found) continue;
      dims[k] = mrt_expr_const(s->model->sym, found->value);
      names[k] = NULL;
    }
    mrt_type *u = (mrt_type *)mrt_type_tensor(s->model, t->dtype, t->rank, dims);
    if (!u) return mrt_status_oom();
    u->dim_names = mrt_arena_memdup(s->model->arena, names, (size_t)t->rank * sizeof *names);
    if (!u->dim_names) return mrt_status_oom();
    g->inputs[i]->type = u;
  }
  return NULL;
}

static const char *config_value(void *ctx, const char *key) {
  const mrt_session *s = ctx;
  for (int i = 0; i < s->n_config; ++i)
    if (strcmp(s->config[2 * i], key) == 0) return s->config[2 * i + 1];
  return NULL;
}

static mrt_status *copy_options(mrt_session *s, const mrt_session_options *o) {
  s->level = o->level;
  s->threads = o->intra_op_threads;
  s->logger = (mrt_logger){o->log_level, ""};
  mrt_arena *a = s->arena;
  if (o->logid && !(s->logger.id = mrt_arena_strdup(a, o->logid))) return mrt_status_oom();
  s->n_config = o->n_config;
  s->config = mrt_arena_alloc(a, ((size_t)o->n_config * 2 + 1) * sizeof *s->config);
  if (!s->config) return mrt_status_oom();
  for (int i = 0; i < 2 * o->n_config; ++i)
    if (!(s->config[i] = mrt_arena_strdup(a, o->config[i]))) return mrt_status_oom();
  s->env = (mrt_provider_env){
      .alloc = s->alloc,
      .logger = &s->logger,
      .ops = s->ops,
      .level = s->level,
      .tally = &s->tally,
      .disabled = MRT_ENV("MRT_PASSES", "", "passes and fusions to leave out: -fold,-layout"),
      .config = config_value,
      .config_ctx = s};
  return NULL;
}

static mrt_status *make_providers(mrt_session *s, const mrt_session_options *o) {
  bool cpu = false;
  s->providers = mrt_arena_alloc(s->arena, ((size_t)o->n_providers + 1) * sizeof *s->providers);
  if (!s->providers) return mrt_status_oom();
  for (int i = 0; i <= o->n_providers; ++i) {
    const char *name = i < o->n_providers ? o->providers[i] : "CPUExecutionProvider";
    const mrt_provider_row *row = mrt_provider_find(name);
    bool is_cpu = strcmp(name, "CPUExecutionProvider") == 0;
    if (!row || (is_cpu && cpu)) continue; /* the face above has warned about unknown ones */
    MRT_TRY_CTX(row->create(&s->env, &s->providers[s->n_providers]), "%s", name);
    ++s->n_providers;
    cpu = cpu || is_cpu;
  }
  return NULL;
}

/* Switches with words that mean nothing are an error: a silent one would measure something else.
 * Words of MRT_PASSES are names of passes or of fusions, each with a minus in front. */
static mrt_status *check_environment(const mrt_session *s) {
  if (mrt_cpu_get()->wrong_cap)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MRT_CPU_ISA: there is no instruction set '%.40s'",
                   mrt_cpu_get()->wrong_cap);
  for (const char *at = s->env.disabled; *at;) {
    char name[64];
    const size_t n = strcspn(at, ",");
    const char *word = at + (*at == '-');
    const size_t len = n - (size_t)(word - at);
    bool known = *at == '-' && len < sizeof name;
    if (n && known) {
      memcpy(name, word, len);
      name[len] = 0;
      known = mrt_pass_find(name) != NULL;
      for (int i = 0; i < s->n_providers && !known; ++i)
        known =
            s->providers[i]->v->has_fusion && s->providers[i]->v->has_fusion(s->providers[i], name);
    }
    if (n && !known)
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "MRT_PASSES: '%.*s' is not a pass or fusion with '-' in front", (int)n, at);
    at += n + (at[n] == ',');
  }
  return NULL;
}

/* One message a line: a logger cuts long ones. */
static void log_lines(const mrt_logger *log, const char *text) {
  for (const char *end; *text; text = end + (*end == '\n')) {
    end = strchr(text, '\n');
    if (!end) end = text + strlen(text);
    MRT_LOG(log, MRT_INFO, "%.*s", (int)(end - text), text);
  }
}

/* A byte count from a config entry. */
mrt_status *mrt_session_config_bytes(const mrt_session *s, const char *key, size_t fallback,
                                     size_t *out) {
  const char *text = config_value((void *)s, key);
  char *end;
  *out = fallback;
  if (!text || !*text) return NULL;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  if (*end || errno || *text == '-')
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the configuration %s = %s is not a number of bytes", key,
                   text);
  *out = (size_t)v;
  return NULL;
}

/* session.disable_cpu_ep_fallback: every node runs on a provider that was asked for. */
static mrt_status *check_fallback(const mrt_session *s) {
  const char *key = config_value((void *)s, "session.disable_cpu_ep_fallback");
  int cpu = s->n_providers - 1;
  if (!key || strcmp(key, "1") != 0 || cpu <= 0) return NULL;
  for (const mrt_node *n = s->model->graph->first; n; n = n->next) {
    char name[200];
    if (n->provider == cpu)
      return MRT_ERR(MRT_FAIL,
                     "This session contains graph nodes that are assigned to the default CPU EP, "
                     "but fallback to CPU EP has been explicitly disabled by the user: %s",
                     mrt_node_describe(n, name, sizeof name));
  }
  return NULL;
}

#define POSTPONE   (4 << 20) /* bytes: a millisecond's work */
#define TRIM_ABOVE (1 << 20) /* bytes: what comes and goes while a session is made leaves holes */

/* For tests: fused operators are taken apart again, which must change no result. */
#define DECOMPOSE_KEY "session.macart.decompose"

static mrt_status *optimize(mrt_session *s, const char *path) {
  size_t fold_limit;
  MRT_TRY(mrt_session_config_bytes(s, "optimization.constant_folding_max_output_size_in_bytes",
                                   MRT_FOLD_AUTO, &fold_limit));
  mrt_pass_ctx ctx = {.model = s->model,
                      .ops = s->ops,
                      .logger = &s->logger,
                      .level = s->level,
                      .tally = &s->tally,
                      .fold_limit = fold_limit,
                      .at_once = path && *path,
                      .disabled = s->env.disabled};
  int fired = 0;
  const char *strict = config_value(s, "session.strict_shape_type_inference");
  s->model->strict_shapes = strict && strcmp(strict, "1") == 0;
  MRT_TRY(mrt_pass_pipeline(&ctx));
  if (path && *path) MRT_TRY(mrt_session_write(s, &ctx, path));
  MRT_TRY(mrt_partition(s->model->graph, s->providers, s->n_providers));
  MRT_TRY(check_fallback(s));
  if (s->level >= 2) {
    for (int i = 0; i < s->n_providers; ++i)
      if (s->providers[i]->v->fuse)
        MRT_TRY(s->providers[i]->v->fuse(s->providers[i], s->model, i, &fired));
    const char *apart = config_value(s, DECOMPOSE_KEY);
    if (apart && strcmp(apart, "1") == 0)
      MRT_TRY(mrt_pass_run(&ctx, mrt_pass_find("decompose"), s->model->graph, &fired));
    if (fired) {
      MRT_TRY(mrt_graph_verify(s->model->graph));
      MRT_TRY(mrt_partition(s->model->graph, s->providers, s->n_providers));
    }
  }
  MRT_TRY(mrt_pass_late(&ctx));
  MRT_TRY(mrt_place(s->model->graph, s->providers, s->n_providers, s->ops));
  mrt_guards guards = {.alloc = s->alloc};
  mrt_status *st = mrt_infer_graph(s->model, s->model->graph, &guards);
  const char *print =
      MRT_ENV("MRT_PRINT_IR", "", "1: print the optimized graph at session creation");
  if (!st && *print) {
    mrt_str text;
    mrt_str_init(&text, s->alloc);
    st = mrt_model_print(s->model, 8, &text);
    const mrt_logger loud = {0, "ir"};
    if (!st) log_lines(&loud, mrt_str_cstr(&text));
    mrt_str_deinit(&text);
  }
  if (!st) st = mrt_model_sweep(s->model, s->defaults, s->n_overridable);
  if (!st) st = mrt_model_compact(s->model, &guards);
  if (!st) mrt_model_postpone(s->model, POSTPONE);
  if (!st && s->weight_bytes > TRIM_ABOVE) mrt_alloc_trim(); /* before packed weights come */
  if (!st && mrt_log_enabled(&s->logger, MRT_INFO))          /* read by benchmarks/costs.py */
    MRT_LOG(&s->logger, MRT_INFO, "kernels are made now; anonymous memory: %lld KiB",
            (long long)mrt_alloc_anonymous_kib());
  if (!st)
    st = mrt_plan_build(s->alloc, s->model->graph, s->providers, s->n_providers,
                        guards.n ? &guards : NULL, &s->plan);
  mrt_mem_free(s->alloc, guards.items);
  return st;
}

static mrt_status *start_profile(mrt_session *s, const char *prefix) {
  struct timespec now;
  struct tm tm;
  char stamp[64];
  clock_gettime(CLOCK_REALTIME, &now);
  localtime_r(&now.tv_sec, &tm);
  strftime(stamp, sizeof stamp, "%Y-%m-%d_%H-%M-%S", &tm);
  s->profile_path =
      mrt_arena_printf(s->arena, "%s_%s_%03d.json", prefix, stamp, (int)(now.tv_nsec / 1000000));
  if (!s->profile_path) return mrt_status_oom();
  return mrt_trace_create(s->alloc, &s->trace);
}

/* Mapped files must not change while the session lives; this reads them instead. */
#define FOLDER_KEY \
  "session.model_external_initializers_file_folder_path" /* of a model from bytes */
#define COPY_KEY "session.macart.copy_model_files"

static void drop_file_pages(const mrt_session *s) {
  if (s->file) mrt_blob_drop_pages(s->file, 0, mrt_blob_size(s->file));
}

static mrt_status *load(mrt_session *s, const mrt_source *source) {
  const char *copy = config_value(s, COPY_KEY);
  bool read = copy && strcmp(copy, "1") == 0;
  mrt_file_mode external = read ? MRT_FILE_READ : MRT_FILE_MAP;
  if (!source->path) {
    const char *folder = config_value(s, FOLDER_KEY), *path = "";
    if (folder && *folder && !(path = mrt_arena_printf(s->arena, "%s/model.onnx", folder)))
      return mrt_status_oom();
    mrt_status *st = mrt_onnx_load(s->alloc, source->bytes, path, external, &s->model);
    if (st && mrt_status_code(st) == MRT_INVALID_PROTOBUF)
      st = mrt_status_wrap(st, "Failed to load model because protobuf parsing failed.");
    return st;
  }
  mrt_blob *blob = NULL;
  mrt_status *st =
      mrt_blob_from_file(s->alloc, source->path, read ? MRT_FILE_READ : MRT_FILE_AUTO, &blob);
  if (st && mrt_status_code(st) == MRT_NO_SUCHFILE) {
    mrt_status_free(st);
    return MRT_ERR(MRT_NO_SUCHFILE,
                   "Load model from %s failed:Load model %s failed. File doesn't exist",
                   source->path, source->path);
  }
  if (st) return mrt_status_wrap(st, "Load model from %s failed", source->path);
  st = mrt_onnx_load(s->alloc, blob, source->path, external, &s->model);
  s->file = blob;
  drop_file_pages(s); /* the scan was everywhere */
  return mrt_status_wrap(st, "Load model from %s failed", source->path);
}

static size_t count_weights(const mrt_graph *g, int depth) {
  size_t n = 0;
  for (size_t i = 0; i < g->n_vars; ++i)
    if (g->vars[i]->constant) n += g->vars[i]->constant->bytes;
  for (const mrt_node *node = g->first; node && depth < 64; node = node->next) {
    mrt_graph *subs[64];
    for (int i = 0; i < node->n_attrs; ++i)
      if (node->attrs[i].kind == MRT_ATTR_TENSOR && node->attrs[i].tensor)
        n += node->attrs[i].tensor->bytes;
    const int k = mrt_node_subgraphs(node, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) n += count_weights(subs[i], depth + 1);
  }
  return n;
}

/* add_initializer: the user's tensors in place of the model's. */
static mrt_status *replace_initializers(mrt_session *s, const mrt_session_options *o) {
  for (int i = 0; i < o->n_initializers; ++i) {
    const mrt_named_tensor *n = &o->initializers[i];
    mrt_var *v = mrt_graph_find(s->model->graph, n->name);
    const mrt_tensor *old = v ? v->constant : NULL, *t = n->tensor;
    if (!old) return MRT_ERR(MRT_INVALID_ARGUMENT, "no initializer is called '%s'", n->name);
    if (old->dtype != t->dtype || !mrt_shape_equal(old->rank, old->dims, t->rank, t->dims)) {
      char a[160], b[160];
      return MRT_ERR(MRT_INVALID_ARGUMENT, "initializer '%s' is %s %s, the given value %s %s",
                     n->name, mrt_dtype_name((mrt_dtype)old->dtype),
                     mrt_shape_format(a, sizeof a, old->rank, old->dims),
                     mrt_dtype_name((mrt_dtype)t->dtype),
                     mrt_shape_format(b, sizeof b, t->rank, t->dims));
    }
    mrt_tensor_retain(n->tensor);
    MRT_TRY(mrt_var_set_constant(v, n->tensor));
  }
  return NULL;
}

static mrt_status *check_cancel(const mrt_session_options *o) {
  if (!o->cancel || !atomic_load_explicit(o->cancel, memory_order_relaxed)) return NULL;
  return MRT_ERR(MRT_MODEL_LOAD_CANCELED,
                 "Exiting due to load cancellation flag being set to true.");
}

static mrt_status *create(mrt_session *s, const mrt_session_options *o, const mrt_source *source) {
  MRT_TRY(mrt_arena_create(s->alloc, &s->arena));
  MRT_TRY(mrt_outputs_create(s->alloc, &s->pool));
  MRT_TRY(copy_options(s, o));
  if (o->profile_prefix) MRT_TRY(start_profile(s, o->profile_prefix));
  uint64_t begin = mrt_now_ns();
  MRT_TRY(check_cancel(o));
  MRT_TRY(load(s, source));
  MRT_TRY(check_cancel(o));
  MRT_TRY(replace_initializers(s, o));
  s->env.weight_bytes = s->weight_bytes = count_weights(s->model->graph, 0);
  if (s->trace) mrt_trace_event(s->trace, "Session", "model_loading", begin, mrt_now_ns(), "");
  MRT_TRY(override_dims(s, o));
  MRT_TRY(describe(s));
  MRT_TRY(make_providers(s, o));
  MRT_TRY(check_environment(s));
  begin = mrt_now_ns();
  const char *where = source->path ? source->path : "model from memory";
  MRT_TRY_CTX(optimize(s, o->optimized_path), "%s", where);
  MRT_TRY(complete_outputs(s));
  MRT_TRY(check_cancel(o));
  MRT_TRY_CTX(mrt_model_settle(s->model), "%s", where);
  drop_file_pages(s); /* packing touched pages that no run needs */
  MRT_LOG(&s->logger, MRT_INFO, "%s: ready, %d kernel calls in %d segments", where,
          s->plan->n_steps, s->plan->n_segments);
  if (s->trace)
    mrt_trace_event(s->trace, "Session", "session_initialization", begin, mrt_now_ns(), "");
  return NULL;
}

mrt_status *mrt_session_create(const mrt_session_options *o, const mrt_source *source,
                               mrt_session **out) {
  const mrt_alloc *alloc = o->alloc ? o->alloc : mrt_alloc_default();
  mrt_session *s = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *s, (void **)&s));
  s->alloc = alloc;
  atomic_init(&s->refs, 1);
  s->ops = mrt_ops_builtin();
  mrt_map_init(&s->input_names, alloc);
  mrt_map_init(&s->output_names, alloc);
  int64_t before = mrt_alloc_live_bytes();
  mrt_status *st = create(s, o, source);
  if (st) {
    mrt_session_release(s);
    return st;
  }
  if (s->weight_bytes > TRIM_ABOVE || mrt_alloc_live_bytes() - before > TRIM_ABOVE)
    mrt_alloc_trim();
  *out = s;
  return NULL;
}

mrt_session *mrt_session_retain(mrt_session *s) {
  atomic_fetch_add(&s->refs, 1);
  return s;
}

void mrt_session_release(mrt_session *s) {
  if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
  mrt_frames_destroy(s->plan);
  mrt_outputs_release(s->pool);
  mrt_plan_destroy(s->plan);
  mrt_map_deinit(&s->input_names);
  mrt_map_deinit(&s->output_names);
  mrt_model_destroy(s->model);
  mrt_blob_release(s->file);
  for (int i = 0; i < s->n_providers; ++i) mrt_provider_release(s->providers[i]);
  mrt_trace_destroy(s->trace);
  mrt_arena_destroy(s->arena);
  mrt_mem_free(s->alloc, s);
}

int mrt_session_n_inputs(const mrt_session *s) { return s->n_required; }
int mrt_session_n_outputs(const mrt_session *s) { return s->n_outputs; }
int mrt_session_n_overridable(const mrt_session *s) { return s->n_overridable; }
const mrt_io_info *mrt_session_input(const mrt_session *s, int i) { return &s->inputs[i]; }
const mrt_io_info *mrt_session_output(const mrt_session *s, int i) { return &s->outputs[i]; }
const mrt_io_info *mrt_session_overridable(const mrt_session *s, int i) {
  return &s->inputs[s->n_required + i];
}
const mrt_model *mrt_session_model(const mrt_session *s) { return s->model; }
int mrt_session_find_input(const mrt_session *s, const char *name) {
  const mrt_io_info *i = mrt_map_get(&s->input_names, name);
  return i ? (int)(i - s->inputs) : -1;
}
int mrt_session_find_output(const mrt_session *s, const char *name) {
  const mrt_io_info *i = mrt_map_get(&s->output_names, name);
  return i ? (int)(i - s->outputs) : -1;
}
int mrt_session_n_providers(const mrt_session *s) { return s->n_providers; }
const char *mrt_session_provider(const mrt_session *s, int i) { return s->providers[i]->name; }
uint64_t mrt_session_profiling_start_ns(const mrt_session *s) {
  return s->trace ? mrt_trace_start_ns(s->trace) : 0;
}
int64_t mrt_session_plan_evals(const mrt_session *s) { return atomic_load(&s->plan->n_evals); }
int64_t mrt_session_plan_eval_ns(const mrt_session *s) { return atomic_load(&s->plan->eval_ns); }

mrt_session_memory mrt_session_memory_now(const mrt_session *s) {
  mrt_session_memory m = {.weights = s->weight_bytes, .outputs = mrt_outputs_held(s->pool)};
  mrt_frames_count(s->plan, &m.blocks, &m.scratch);
  return m;
}

mrt_status *mrt_session_end_profiling(mrt_session *s, const char **out_path) {
  *out_path = "";
  if (!s->trace) return NULL;
  MRT_TRY(mrt_trace_write(s->trace, s->profile_path));
  *out_path = s->profile_path;
  return NULL;
}

mrt_status *mrt_session_print(const mrt_session *s, int64_t max_elems, mrt_str *out) {
  return mrt_model_print(s->model, max_elems, out);
}
const mrt_tally *mrt_session_tally(const mrt_session *s) { return &s->tally; }
