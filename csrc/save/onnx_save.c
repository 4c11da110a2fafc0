/* A model to an ONNX file: messages, packed by protobuf-c, then written with the payloads. */
#include <string.h>

#include "save/onnx_internal.h"

/* IR version that came with each opset version (the format's own table of releases). */
static int64_t ir_version_for(int64_t opset) {
  static const struct {
    int opset, ir;
  } table[] = {{25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9}, {15, 8}, {12, 7}, {11, 6}, {10, 5}};
  for (size_t i = 0; i < sizeof table / sizeof *table; ++i)
    if (opset >= table[i].opset) return table[i].ir;
  return 4; /* initializers need not be inputs from 4 on */
}

static mrt_status *build_opsets(mrt_onnx_saver *s, Onnx__ModelProto *p) {
  bool standard = false;
  for (int i = 0; i < s->n_opsets; ++i) standard = standard || !*s->opsets[i].domain;
  size_t n = (size_t)s->n_opsets + !standard;
  Onnx__OperatorSetIdProto *all = mrt_arena_alloc(s->arena, n * sizeof *all);
  p->opset_import = mrt_arena_alloc(s->arena, n * sizeof *p->opset_import);
  if (!all || !p->opset_import) return mrt_status_oom();
  p->n_opset_import = n;
  for (size_t i = 0; i < n; ++i) {
    onnx__operator_set_id_proto__init(&all[i]);
    p->opset_import[i] = &all[i];
    bool in_use = i < (size_t)s->n_opsets;
    all[i].domain = (char *)(in_use ? s->opsets[i].domain : "");
    all[i].has_version = 1;
    all[i].version = in_use ? s->opsets[i].version : mrt_model_opset(s->model, "");
    int64_t ir = *all[i].domain ? 4 : ir_version_for(all[i].version);
    if (p->ir_version < ir) p->ir_version = ir;
  }
  return NULL;
}

/* The interface of the main graph keeps its names: they are taken first, before those of weights.
 */
static mrt_status *build_model(mrt_onnx_saver *s, Onnx__ModelProto *p) {
  const mrt_model *m = s->model;
  onnx__model_proto__init(p);
  p->has_ir_version = 1;
  p->ir_version = m->ir_version;
  if (*m->producer_name) p->producer_name = (char *)m->producer_name;
  if (*m->producer_version) p->producer_version = (char *)m->producer_version;
  if (*m->domain) p->domain = (char *)m->domain;
  if (*m->doc) p->doc_string = (char *)m->doc;
  p->has_model_version = m->model_version != 0;
  p->model_version = m->model_version;
  MRT_TRY(mrt_onnx_build_graph(s, m->graph, &p->graph));
  MRT_TRY(build_opsets(s, p));
  return mrt_onnx_build_metadata(s, m->metadata, m->n_metadata, &p->metadata_props,
                                 &p->n_metadata_props);
}

static mrt_status *open_external(mrt_onnx_saver *s, const char *path) {
  const char *name = s->options->external_name, *slash = strrchr(path, '/');
  if (*name == '/' || strstr(name, ".."))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "external initializers: '%s' is not a name under the model's folder", name);
  char *file =
      mrt_arena_printf(s->arena, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
  if (!file) return mrt_status_oom();
  return mrt_writer_create(s->alloc, file, &s->external);
}

static mrt_status *pack(const mrt_onnx_saver *s, const Onnx__ModelProto *p, const char *path) {
  size_t size = onnx__model_proto__get_packed_size(p);
  uint8_t *bytes = NULL;
  mrt_writer *w = NULL;
  MRT_TRY(mrt_mem_new(s->alloc, size, (void **)&bytes));
  onnx__model_proto__pack(p, bytes);
  mrt_status *st = mrt_writer_create(s->alloc, path, &w);
  if (!st) st = mrt_onnx_splice(s, bytes, size, w);
  mrt_mem_free(s->alloc, bytes);
  if (st) {
    mrt_writer_abandon(w);
    return st;
  }
  return mrt_writer_commit(w);
}

static mrt_status *save(mrt_onnx_saver *s, const char *path) {
  Onnx__ModelProto p;
  if (s->options->external_name) MRT_TRY(open_external(s, path));
  MRT_TRY(build_model(s, &p));
  if (s->external) {
    mrt_status *st = mrt_writer_commit(s->external);
    s->external = NULL;
    MRT_TRY(st);
  }
  return pack(s, &p, path);
}

mrt_status *mrt_onnx_save(const mrt_model *model, const char *path,
                          const mrt_save_options *options) {
  mrt_onnx_saver s = {.alloc = model->alloc, .model = model, .options = options};
  mrt_map_init(&s.names, s.alloc);
  mrt_map_init(&s.given, s.alloc);
  mrt_status *st = mrt_arena_create(s.alloc, &s.arena);
  if (!st) st = save(&s, path);
  mrt_writer_abandon(s.external);
  mrt_map_deinit(&s.names);
  mrt_map_deinit(&s.given);
  mrt_mem_free(s.alloc, s.payloads);
  mrt_mem_free(s.alloc, s.opsets);
  mrt_arena_destroy(s.arena);
  return mrt_status_wrap(st, "writing the optimized model '%s'", path);
}
