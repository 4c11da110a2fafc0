/* The inverse of load/onnx_cut.c: copies a packed ModelProto, field by field, and puts raw_data
 * where macart_payload stands. Lengths of messages grow by that: a first walk notes them all, in
 * the order in which the second one needs them. */
#include "load/wire.h"
#include "save/onnx_internal.h"

#define TENSOR    (&onnx__tensor_proto__descriptor)
#define PAYLOAD   536870911
#define RAW_DATA  (9 << 3 | 2)
#define MAX_BYTES ((uint64_t)INT32_MAX) /* of any message: protobuf's limit */

typedef struct splice {
  const mrt_onnx_saver *s;
  uint64_t *sizes;
  size_t n, cap, next;
  mrt_writer *w;
} splice;

static size_t put_varint(uint8_t *p, uint64_t v) {
  size_t n = 0;
  for (; v > 127; v >>= 7) p[n++] = (uint8_t)(v | 128);
  p[n++] = (uint8_t)v;
  return n;
}
static size_t varint_size(uint64_t v) {
  uint8_t buf[10];
  return put_varint(buf, v);
}

static const ProtobufCMessageDescriptor *message_of(const ProtobufCMessageDescriptor *desc,
                                                    uint32_t number) {
  const ProtobufCFieldDescriptor *d = protobuf_c_message_descriptor_get_field(desc, number);
  return d && d->type == PROTOBUF_C_TYPE_MESSAGE ? d->descriptor : NULL;
}

static mrt_status *broken(void) { return MRT_ERR(MRT_FAIL, "the packed model is not well formed"); }

/* Bytes of the message after splicing. Recurses as deep as subgraphs nest, which is bounded. */
static mrt_status *measure(splice *x, const ProtobufCMessageDescriptor *desc, mrt_wire w,
                           uint64_t *out) {
  mrt_field f;
  int more;
  *out = 0;
  for (const uint8_t *start = w.p; (more = mrt_wire_next(&w, &f)) > 0; start = w.p) {
    const ProtobufCMessageDescriptor *sub = message_of(desc, f.number);
    if (sub) {
      size_t at = x->n;
      uint64_t size;
      MRT_TRY(mrt_mem_grow(x->s->alloc, (void **)&x->sizes, &x->cap, at + 1, sizeof *x->sizes));
      ++x->n;
      MRT_TRY(measure(x, sub, f.bytes, &size));
      x->sizes[at] = size;
      *out += varint_size((uint64_t)f.number << 3) + varint_size(size) + size;
    } else if (desc == TENSOR && f.number == PAYLOAD) {
      size_t bytes = x->s->payloads[f.value].bytes;
      *out += 1 + varint_size(bytes) + bytes;
    } else {
      *out += (uint64_t)(w.p - start);
    }
    if (*out > MAX_BYTES)
      return MRT_ERR(MRT_FAIL,
                     "the model has more than 2 GiB: its initializers must be external "
                     "(session.optimized_model_external_initializers_file_name)");
  }
  return more < 0 ? broken() : NULL;
}

static mrt_status *copy(splice *x, const ProtobufCMessageDescriptor *desc, mrt_wire w) {
  mrt_field f;
  uint8_t head[20];
  int more;
  for (const uint8_t *start = w.p; (more = mrt_wire_next(&w, &f)) > 0; start = w.p) {
    const ProtobufCMessageDescriptor *sub = message_of(desc, f.number);
    if (sub) {
      size_t n = put_varint(head, (uint64_t)f.number << 3 | 2);
      n += put_varint(head + n, x->sizes[x->next++]);
      mrt_writer_add(x->w, head, n);
      MRT_TRY(copy(x, sub, f.bytes));
    } else if (desc == TENSOR && f.number == PAYLOAD) {
      const mrt_saved_payload *p = &x->s->payloads[f.value];
      size_t n = put_varint(head, RAW_DATA);
      n += put_varint(head + n, p->bytes);
      mrt_writer_add(x->w, head, n);
      mrt_writer_add(x->w, p->data, p->bytes);
    } else {
      mrt_writer_add(x->w, start, (size_t)(w.p - start));
    }
  }
  return more < 0 ? broken() : NULL;
}

mrt_status *mrt_onnx_splice(const mrt_onnx_saver *s, const uint8_t *bytes, size_t size,
                            mrt_writer *w) {
  splice x = {.s = s, .w = w};
  const mrt_wire all = {bytes, bytes + size};
  uint64_t total;
  mrt_status *st = measure(&x, &onnx__model_proto__descriptor, all, &total);
  if (!st) st = copy(&x, &onnx__model_proto__descriptor, all);
  mrt_mem_free(s->alloc, x.sizes);
  return st;
}
