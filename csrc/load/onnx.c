/* An ONNX file to a model: scan (onnx_cut.c), protobuf-c over the skeleton, then message by message
 * into the graph. */
#include <string.h>

#include "load/onnx_internal.h"

#define MAX_IR_VERSION 13
#define MAX_OPSET      27 /* ai.onnx */

mrt_status *mrt_onnx_keep(mrt_onnx *l, const char *s, const char **out) {
  *out = mrt_arena_strdup(l->model->arena, mrt_onnx_str(s));
  return *out ? NULL : mrt_status_oom();
}

/* protobuf-c's messages live in an arena of ours and go with it at once. */
typedef struct memory {
  ProtobufCAllocator hooks;
  mrt_arena *arena;
  bool failed;
} memory;

static void *take(void *data, size_t size) {
  memory *m = data;
  void *p = mrt_arena_alloc(m->arena, size);
  if (!p) m->failed = true;
  return p;
}
static void give(void *data, void *p) {
  (void)data;
  (void)p;
}

static mrt_status *read_opsets(mrt_onnx *l, const Onnx__ModelProto *p) {
  if (!p->n_opset_import && p->ir_version >= 3)
    return MRT_ERR(MRT_FAIL,
                   "Missing opset in the model. All ModelProtos MUST have at least one "
                   "entry that specifies which version of the ONNX OperatorSet is being "
                   "imported.");
  for (size_t i = 0; i < p->n_opset_import; ++i) {
    const char *domain = mrt_onnx_str(p->opset_import[i]->domain);
    int64_t version = p->opset_import[i]->version;
    if (strcmp(domain, "ai.onnx") == 0) domain = "";
    if (!*domain && version > MAX_OPSET)
      return MRT_ERR(MRT_FAIL,
                     "ONNX opset version %lld is not supported: the latest known one is %d",
                     (long long)version, MAX_OPSET);
    if (version < 1)
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Error opset version %lld of domain '%s'",
                     (long long)version, domain);
    MRT_TRY(mrt_model_set_opset(l->model, domain, version > 1000000 ? 1000000 : version));
  }
  return mrt_model_opset(l->model, "") ? NULL : mrt_model_set_opset(l->model, "", 1);
}

mrt_status *mrt_onnx_metadata(mrt_onnx *l, size_t n, Onnx__StringStringEntryProto *const *p,
                              const mrt_metadata **out, int *out_n) {
  if (n == 0) return NULL;
  mrt_metadata *all = mrt_arena_alloc(l->model->arena, n * sizeof *all);
  if (!all) return mrt_status_oom();
  for (size_t i = 0; i < n; ++i) {
    MRT_TRY(mrt_onnx_keep(l, p[i]->key, &all[i].key));
    MRT_TRY(mrt_onnx_keep(l, p[i]->value, &all[i].value));
  }
  *out = all;
  *out_n = (int)n;
  return NULL;
}

static mrt_status *read_functions(mrt_onnx *l, const Onnx__ModelProto *p) {
  mrt_model *m = l->model;
  m->functions = mrt_arena_alloc(m->arena, (p->n_functions + 1) * sizeof *m->functions);
  if (!m->functions) return mrt_status_oom();
  for (size_t i = 0; i < p->n_functions; ++i) {
    MRT_TRY(mrt_onnx_function(l, p->functions[i], &m->functions[i]));
    ++m->n_functions;
  }
  return NULL;
}

static mrt_status *read_model(mrt_onnx *l, const Onnx__ModelProto *p) {
  mrt_model *m = l->model;
  m->ir_version = p->ir_version;
  m->model_version = p->model_version;
  MRT_TRY(mrt_onnx_keep(l, p->producer_name, &m->producer_name));
  MRT_TRY(mrt_onnx_keep(l, p->producer_version, &m->producer_version));
  MRT_TRY(mrt_onnx_keep(l, p->domain, &m->domain));
  MRT_TRY(mrt_onnx_keep(l, p->doc_string, &m->doc));
  if (!p->graph) return MRT_ERR(MRT_INVALID_ARGUMENT, "No graph was found in the protobuf.");
  if (!p->has_ir_version) return MRT_ERR(MRT_FAIL, "Missing model IR version.");
  if (m->ir_version > MAX_IR_VERSION)
    return MRT_ERR(MRT_FAIL, "Unsupported model IR version: %lld, max supported IR version: %d",
                   (long long)m->ir_version, MAX_IR_VERSION);
  MRT_TRY(read_opsets(l, p));
  MRT_TRY(mrt_onnx_metadata(l, p->n_metadata_props, p->metadata_props, &l->model->metadata,
                            &l->model->n_metadata));
  MRT_TRY(read_functions(l, p));
  return mrt_onnx_graph(l, p->graph, NULL, &m->graph);
}

static mrt_status *read_file(mrt_onnx *l) {
  memory m = {.hooks = {take, give, &m}};
  const uint8_t *p = mrt_blob_data(l->blob);
  MRT_TRY(mrt_onnx_cut(l->alloc, (mrt_wire){p, p + mrt_blob_size(l->blob)}, &l->cut));
  MRT_TRY(mrt_arena_create(l->alloc, &m.arena));
  Onnx__ModelProto *proto = onnx__model_proto__unpack(&m.hooks, l->cut.size, l->cut.bytes);
  mrt_status *st = proto      ? read_model(l, proto)
                   : m.failed ? mrt_status_oom()
                              : mrt_onnx_malformed();
  mrt_arena_destroy(m.arena);
  return st;
}

mrt_status *mrt_onnx_load(const mrt_alloc *alloc, mrt_blob *bytes, const char *path,
                          mrt_file_mode external, mrt_model **out) {
  mrt_onnx l = {.alloc = alloc, .blob = bytes, .external = external, .cut = {.alloc = alloc}};
  *out = NULL;
  MRT_TRY(mrt_model_create(alloc, &l.model));
  mrt_map_init(&l.files, alloc);
  mrt_status *st = mrt_onnx_keep(&l, path, &l.model->path);
  if (!st) st = read_file(&l);
  if (!st) st = mrt_model_check(l.model);
  for (size_t i = 0; i < l.files.n_entries; ++i) mrt_blob_release(l.files.entries[i].value);
  mrt_map_deinit(&l.files);
  mrt_skeleton_deinit(&l.cut);
  if (st) {
    mrt_model_destroy(l.model);
    return st;
  }
  *out = l.model;
  return NULL;
}
