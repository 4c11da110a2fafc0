/* SequenceMap: a body applied to each element of a sequence, with the elements of other sequences
 * at the same position, or with whole tensors. */
#include "ops/control.h"
#include "ops/sequence.h"

static mrt_status *infer(mrt_infer *c) {
  mrt_graph *g = mrt_node_graph(c->node, "body");
  if (g->n_inputs != c->n_in || g->n_outputs < c->n_out)
    return MRT_ERR(MRT_INVALID_GRAPH, "SequenceMap body has %d inputs and %d outputs", g->n_inputs,
                   g->n_outputs);
  if (!c->subgraph) return NULL;
  const mrt_type **in = mrt_infer_alloc(c, ((size_t)c->n_in + 1) * sizeof *in),
                 **out = mrt_infer_alloc(c, ((size_t)g->n_outputs + 1) * sizeof *out);
  if (!in || !out) return mrt_status_oom();
  for (int i = 0; i < c->n_in; ++i) {
    const mrt_type *t = c->in_types[i];
    in[i] = t && t->kind == MRT_KIND_SEQUENCE ? t->elem : t;
  }
  MRT_TRY(mrt_infer_carried(c, g, c->n_in, in, 0, 0, 0, out));
  for (int i = 0; i < c->n_out; ++i) {
    const mrt_type *t = mrt_type_of_kind(c->model, MRT_KIND_SEQUENCE, out[i]);
    if (!t) return mrt_status_oom();
    MRT_TRY(mrt_infer_out_type(c, i, t));
  }
  return NULL;
}

/* Element k of each sequence input; strided elements as contiguous copies (owned[i]). */
static mrt_status *arguments(mrt_kctx *c, size_t k, mrt_value **in, mrt_tensor **owned) {
  for (int i = 0; i < c->n_in; ++i) {
    mrt_value *v = mrt_in_value(c, i);
    if (v && v->kind == MRT_KIND_SEQUENCE) {
      const mrt_sequence *s = (const mrt_sequence *)v;
      if (k >= s->n)
        return MRT_ERR(MRT_INVALID_ARGUMENT, "sequence %d has only %lld elements", i,
                       (long long)s->n);
      v = s->items[k];
    }
    const mrt_tensor *t = mrt_value_tensor(v);
    if (t && t->strided) {
      MRT_TRY(mrt_tensor_copy(c->alloc, t, &owned[i]));
      v = &owned[i]->base;
    }
    in[i] = v;
  }
  return NULL;
}

static mrt_dtype body_dtype(const mrt_graph *g, int i, const mrt_value *v) {
  const mrt_tensor *t = mrt_value_tensor(v);
  const mrt_type *type = g->outputs[i]->type;
  return t ? (mrt_dtype)t->dtype : type && type->kind == MRT_KIND_TENSOR ? type->dtype : MRT_FLOAT;
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_sequence *first;
  mrt_graph *g = mrt_node_graph(c->node, "body");
  mrt_value **in, **out;
  mrt_sequence **made;
  mrt_tensor **owned;
  mrt_status *st = NULL;
  size_t n_out = (size_t)g->n_outputs, n_in = (size_t)c->n_in;
  MRT_TRY(mrt_in_sequence(c, 0, &first));
  MRT_TRY(mrt_scratch(c, n_in * sizeof *in, (void **)&in));
  MRT_TRY(mrt_scratch(c, n_in * sizeof *owned, (void **)&owned));
  MRT_TRY(mrt_scratch(c, n_out * sizeof *out, (void **)&out));
  MRT_TRY(mrt_scratch(c, n_out * sizeof *made, (void **)&made));
  memset(made, 0, n_out * sizeof *made);
  for (size_t k = 0; k < first->n && !st; ++k) {
    memset(owned, 0, n_in * sizeof *owned);
    st = arguments(c, k, in, owned);
    if (!st) st = mrt_run_subgraph(c, 0, c->n_in, in, g->n_outputs, out);
    for (size_t i = 0; i < n_in; ++i) mrt_tensor_release(owned[i]);
    if (st) break;
    for (size_t i = 0; i < n_out; ++i) {
      if (!st && !made[i])
        st = mrt_sequence_create(c->alloc, body_dtype(g, (int)i, out[i]), &made[i]);
      if (!st)
        st = mrt_sequence_append(made[i], out[i]);
      else
        mrt_value_release(out[i]);
    }
  }
  for (int i = 0; i < c->n_out && !st; ++i) {
    if (!made[i])
      MRT_TRY_GOTO(st, done, mrt_sequence_create(c->alloc, body_dtype(g, i, NULL), &made[i]));
    st = mrt_out_set(c, i, &made[i]->base);
    made[i] = NULL;
  }
done:
  for (size_t i = 0; i < n_out; ++i)
    if (made[i]) mrt_value_release(&made[i]->base);
  return st;
}

static const mrt_op_version versions[] = {{17}, {0}};
MRT_OP(SequenceMap) = {.domain = "",
                       .name = "SequenceMap",
                       .doc = "a body applied to each element",
                       .in = "input_sequence:any, additional_inputs:any?**",
                       .out = "out_sequence:any**",
                       .attrs = "body:graph!",
                       .versions = versions,
                       .flags = MRT_OP_DYNAMIC | MRT_OP_CONTROL,
                       .infer = infer,
                       .run = run};
