/* The scan. It walks the file by protobuf-c's own descriptors, so that onnx.proto alone says which
 * fields there are; submessages are written with a four-byte length, filled in when they end. */
#include "load/onnx_cut.h"

#include "gen/onnx.pb-c.h"

#define LENGTH_BYTES 4
#define TENSOR       (&onnx__tensor_proto__descriptor)

mrt_status *mrt_onnx_malformed(void) {
  return MRT_ERR(MRT_INVALID_PROTOBUF, "Protobuf parsing failed.");
}

static mrt_status *put(mrt_skeleton *s, const void *bytes, size_t n) {
  size_t need = s->size + n; /* both below the size of a file */
  if (need > MRT_ONNX_MAX_SKELETON)
    return MRT_ERR(MRT_INVALID_PROTOBUF, "the model without its weights has more than %zu bytes",
                   MRT_ONNX_MAX_SKELETON);
  MRT_TRY(mrt_mem_grow(s->alloc, (void **)&s->bytes, &s->cap, need, 1));
  if (n) memcpy(s->bytes + s->size, bytes, n);
  s->size = need;
  return NULL;
}

static mrt_status *put_varint(mrt_skeleton *s, uint64_t v) {
  uint8_t buf[10];
  size_t n = 0;
  do {
    buf[n] = (uint8_t)(v & 127);
    v >>= 7;
    if (v) buf[n] |= 128;
    ++n;
  } while (v);
  return put(s, buf, n);
}

/* Does the field have a wire type that its declaration allows? Others are unknown fields. */
static bool fits(const ProtobufCFieldDescriptor *d, int wire) {
  switch (d->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return wire == 2;
    case PROTOBUF_C_TYPE_FLOAT:
      return wire == 5 || (wire == 2 && d->label == PROTOBUF_C_LABEL_REPEATED);
    case PROTOBUF_C_TYPE_DOUBLE:
      return wire == 1 || (wire == 2 && d->label == PROTOBUF_C_LABEL_REPEATED);
    default: return wire == 0 || (wire == 2 && d->label == PROTOBUF_C_LABEL_REPEATED);
  }
}

/* Of TensorProto: the fields that hold elements, and our own mark, which no file may set. */
static bool is_payload(uint32_t number) {
  return (number >= 4 && number <= 7) || (number >= 9 && number <= 11) || number == 536870911;
}

static mrt_status *note_payload(mrt_skeleton *s, const mrt_payload *p) {
  MRT_TRY(mrt_mem_grow(s->alloc, (void **)&s->payloads, &s->cap_payloads, s->n_payloads + 1,
                       sizeof *s->payloads));
  s->payloads[s->n_payloads] = *p;
  MRT_TRY(put_varint(s, (uint64_t)536870911 << 3));
  return put_varint(s, s->n_payloads++);
}

static mrt_status *cut(mrt_skeleton *s, const ProtobufCMessageDescriptor *desc, mrt_wire w,
                       int depth);

static mrt_status *cut_message(mrt_skeleton *s, const ProtobufCFieldDescriptor *d, mrt_wire body,
                               int depth) {
  static const uint8_t zero[LENGTH_BYTES];
  MRT_TRY(put_varint(s, (uint64_t)d->id << 3 | 2));
  size_t at = s->size;
  MRT_TRY(put(s, zero, LENGTH_BYTES));
  MRT_TRY(cut(s, d->descriptor, body, depth + 1));
  size_t n = s->size - at - LENGTH_BYTES;
  for (int i = 0; i < LENGTH_BYTES; ++i)
    s->bytes[at + (size_t)i] = (uint8_t)((n >> (7 * i) & 127) | (i + 1 < LENGTH_BYTES ? 128 : 0));
  return NULL;
}

static mrt_status *cut(mrt_skeleton *s, const ProtobufCMessageDescriptor *desc, mrt_wire w,
                       int depth) {
  mrt_payload payload = {.body = w};
  uint64_t seen = 0; /* no message of onnx.proto has more than 64 fields */
  mrt_field f;
  int more;
  if (depth > MRT_ONNX_MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_PROTOBUF, "Protobuf parsing failed: messages nested deeper than %d",
                   MRT_ONNX_MAX_DEPTH);
  if (++s->n_messages > MRT_ONNX_MAX_MESSAGES)
    return MRT_ERR(MRT_INVALID_PROTOBUF, "Protobuf parsing failed: more than %zu messages",
                   MRT_ONNX_MAX_MESSAGES);
  for (const uint8_t *start = w.p; (more = mrt_wire_next(&w, &f)) > 0; start = w.p) {
    if (desc == TENSOR && is_payload(f.number)) {
      if (f.number == 9 && f.type == 2) {
        payload.raw = f.bytes;
        payload.has_raw = true;
      }
      continue;
    }
    const ProtobufCFieldDescriptor *d = protobuf_c_message_descriptor_get_field(desc, f.number);
    if (!d || !fits(d, f.type)) continue;
    if (d->type != PROTOBUF_C_TYPE_MESSAGE) {
      MRT_TRY(put(s, start, (size_t)(w.p - start)));
      continue;
    }
    /* Protobuf would merge the two; no writer makes such files, and merging is not worth its risk.
     */
    uint64_t bit = (uint64_t)1 << (d - desc->fields);
    if (d->label != PROTOBUF_C_LABEL_REPEATED && (seen & bit))
      return MRT_ERR(MRT_INVALID_PROTOBUF, "Protobuf parsing failed: two fields %s.%s",
                     desc->short_name, d->name);
    seen |= bit;
    MRT_TRY(cut_message(s, d, f.bytes, depth));
  }
  if (more < 0) return mrt_onnx_malformed();
  return desc == TENSOR ? note_payload(s, &payload) : NULL;
}

mrt_status *mrt_onnx_cut(const mrt_alloc *alloc, mrt_wire file, mrt_skeleton *out) {
  *out = (mrt_skeleton){.alloc = alloc};
  return cut(out, &onnx__model_proto__descriptor, file, 0);
}

void mrt_skeleton_deinit(mrt_skeleton *s) {
  mrt_mem_free(s->alloc, s->bytes);
  mrt_mem_free(s->alloc, s->payloads);
  *s = (mrt_skeleton){.alloc = s->alloc};
}
