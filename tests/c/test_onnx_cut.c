/* The scan of an ONNX file: payloads out, skeleton left; depth, doubled fields and foreign fields;
 * then the loader over it (onnx_graph, onnx_attr, onnx_type, onnx_tensor, onnx_external). */
#include <stdlib.h>

#include "check.h"
#include "gen/onnx.pb-c.h"
#include "ir/op.h"
#include "load/load.h"
#include "load/onnx_cut.h"

#define ROOM 65536
static uint8_t file[ROOM];

/* A model of one Constant node (int64 data typed) and one raw initializer. Returns its size. */
static size_t small_model(void) {
  static float weights[128];
  static int64_t dims[1] = {128}, dims2[1] = {3}, values[3] = {1, -2, 1ll << 40};
  for (int i = 0; i < 128; ++i) weights[i] = (float)i;
  Onnx__TensorProto t = ONNX__TENSOR_PROTO__INIT, c = ONNX__TENSOR_PROTO__INIT;
  t.name = "w";
  t.n_dims = 1;
  t.dims = dims;
  t.has_data_type = t.has_raw_data = 1;
  t.data_type = MRT_FLOAT;
  t.raw_data = (ProtobufCBinaryData){sizeof weights, (uint8_t *)weights};
  t.has_macart_payload = 1; /* a file may not choose: the scan drops it */
  t.macart_payload = 77;
  c.n_dims = 1;
  c.dims = dims2;
  c.has_data_type = 1;
  c.data_type = MRT_INT64;
  c.n_int64_data = 3;
  c.int64_data = values;
  Onnx__AttributeProto a = ONNX__ATTRIBUTE_PROTO__INIT, *attrs[] = {&a};
  a.name = "value";
  a.has_type = 1;
  a.type = MRT_ATTR_TENSOR;
  a.t = &c;
  Onnx__NodeProto n = ONNX__NODE_PROTO__INIT, *nodes[] = {&n};
  char *out[] = {"k"};
  n.op_type = "Constant";
  n.n_output = 1;
  n.output = out;
  n.n_attribute = 1;
  n.attribute = attrs;
  Onnx__ValueInfoProto y = ONNX__VALUE_INFO_PROTO__INIT, y2 = y, *outs[] = {&y, &y2};
  y.name = "k";
  y2.name = "w";
  Onnx__TensorProto *inits[] = {&t};
  Onnx__GraphProto g = ONNX__GRAPH_PROTO__INIT;
  g.n_node = 1;
  g.node = nodes;
  g.n_initializer = 1;
  g.initializer = inits;
  g.n_output = 2;
  g.output = outs;
  Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[] = {&opset};
  opset.has_version = 1;
  opset.version = 17;
  Onnx__ModelProto m = ONNX__MODEL_PROTO__INIT;
  m.n_opset_import = 1;
  m.opset_import = opsets;
  m.has_ir_version = 1;
  m.ir_version = 8;
  m.graph = &g;
  m.producer_name = "me";
  CHECK(onnx__model_proto__get_packed_size(&m) < ROOM);
  return onnx__model_proto__pack(&m, file);
}

static mrt_status *cut(size_t n, mrt_skeleton *s) {
  return mrt_onnx_cut(mrt_alloc_default(), (mrt_wire){file, file + n}, s);
}

static void check_refused(size_t n, const char *part) {
  mrt_skeleton s;
  mrt_status *st = cut(n, &s);
  CHECK_EQ_I(mrt_status_code(st), MRT_INVALID_PROTOBUF);
  CHECK(strstr(mrt_status_message(st), part) != NULL);
  mrt_status_free(st);
  mrt_skeleton_deinit(&s);
}

static void test_payloads(void) {
  mrt_skeleton s;
  size_t n = small_model();
  CHECK_OK(cut(n, &s));
  CHECK_EQ_I(s.n_payloads, 2);
  CHECK(s.size < 150 && s.size < n);
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, s.size, s.bytes);
  CHECK(m != NULL);
  if (m) {
    CHECK_STR(m->producer_name, "me");
    Onnx__TensorProto *t = m->graph->initializer[0], *c = m->graph->node[0]->attribute[0]->t;
    CHECK(!t->has_raw_data && c->n_int64_data == 0);
    CHECK(t->has_macart_payload && t->macart_payload < 2);
    const mrt_payload *p = &s.payloads[t->macart_payload];
    CHECK(p->has_raw && mrt_wire_size(p->raw) == 512 && p->raw.p > file && p->raw.p < file + n);
    CHECK(!s.payloads[c->macart_payload].has_raw);
    onnx__model_proto__free_unpacked(m, NULL);
  }
  mrt_skeleton_deinit(&s);
}

/* Every prefix of the file: refused or loaded, never more. */
static void test_truncated(void) {
  size_t n = small_model();
  int64_t live = mrt_alloc_live_bytes();
  for (size_t k = 0; k <= n; ++k) {
    uint8_t *copy = malloc(k + 1);
    memcpy(copy, file, k);
    mrt_blob *b = NULL;
    mrt_model *m = NULL;
    CHECK_OK(mrt_blob_from_memory(mrt_alloc_default(), copy, k, free, copy, &b));
    mrt_status *st = mrt_onnx_load(mrt_alloc_default(), b, "", MRT_FILE_MAP, &m);
    CHECK((st != NULL) == (m == NULL));
    CHECK(k < n || !st);
    mrt_status_free(st);
    mrt_model_destroy(m);
    mrt_blob_release(b);
  }
  CHECK_EQ_I(mrt_alloc_live_bytes(), live);
}

/* Wraps the n bytes at the end of file[] into field `number` of a new message. Returns new size. */
static size_t wrap(uint8_t *end, size_t n, int number) {
  uint8_t head[8];
  size_t k = 0;
  head[k++] = (uint8_t)(number << 3 | 2);
  for (size_t v = n; k == 1 || v; v >>= 7) head[k++] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
  memcpy(end - n - k, head, k);
  return n + k;
}

static void test_nested(void) {
  for (int levels = 30; levels <= 10000; levels *= 18) { /* 30 are fine, 540 and more are not */
    uint8_t *end = file + ROOM;
    size_t n = 0;
    for (int i = 0; i < levels && n < ROOM - 64; ++i) {
      n = wrap(end, n, 6); /* attribute.g */
      n = wrap(end, n, 5); /* node.attribute */
      n = wrap(end, n, 1); /* graph.node */
    }
    n = wrap(end, n, 7);
    memmove(file, end - n, n);
    mrt_skeleton s;
    if (levels == 30) {
      CHECK_OK(cut(n, &s));
      mrt_skeleton_deinit(&s);
    } else {
      check_refused(n, "nested deeper");
    }
  }
}

static void test_odd_fields(void) {
  static const uint8_t twice[] = {0x3a, 0, 0x3a, 0}; /* graph, graph */
  memcpy(file, twice, sizeof twice);
  check_refused(sizeof twice, "ModelProto.graph");
  /* Unknown fields, and ir_version as bytes: left out. */
  static const uint8_t odd[] = {0x0a, 1, 'x', 0x9a, 0x3f, 1, 'y', 0x08, 9, 0x3a, 0};
  memcpy(file, odd, sizeof odd);
  mrt_skeleton s;
  CHECK_OK(cut(sizeof odd, &s));
  CHECK_EQ_I(s.size, 2 + 1 + 4);
  mrt_skeleton_deinit(&s);
  static const uint8_t group[] = {0x0b, 0x0c};
  memcpy(file, group, sizeof group);
  check_refused(sizeof group, "parsing failed");
}

static void test_oom(void) {
  size_t n = small_model();
  for (int k = 0;; ++k) {
    mrt_alloc_failing f;
    mrt_blob *b = NULL;
    mrt_model *m = NULL;
    mrt_alloc_failing_init(&f, mrt_alloc_default(), k);
    CHECK_OK(mrt_blob_from_memory(mrt_alloc_default(), file, n, NULL, NULL, &b));
    mrt_status *st = mrt_onnx_load(&f.alloc, b, "", MRT_FILE_MAP, &m);
    bool done = st == NULL;
    if (st) CHECK_EQ_I(mrt_status_code(st), MRT_OUT_OF_MEMORY);
    mrt_status_free(st);
    mrt_model_destroy(m);
    mrt_blob_release(b);
    CHECK_EQ_I(f.live, 0);
    if (done || check_failures) break;
  }
}

int main(void) {
  test_payloads();
  test_truncated();
  test_nested();
  test_odd_fields();
  test_oom();
  return CHECK_DONE();
}
