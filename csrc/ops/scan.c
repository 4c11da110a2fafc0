/* Scan: a body run once per slice of the scan inputs, carrying state; its other results are
 * stacked.
 *
 * The form before opset 9 scans a batch, each entry by itself and up to a length of its own: it is
 * kept as a private attribute `_batched` (its sequence_lens, if any, become the last input and
 * `_lens` says so), because the newest form cannot say it in one node. */
#include "ops/control.h"

typedef struct scan {
  mrt_graph *body;
  int n_state, n_scan, n_stack; /* carried values, scan inputs, stacked outputs */
  bool batched, lens;
} scan;

static mrt_status *describe(const mrt_node *node, scan *s) {
  s->body = mrt_node_graph(node, "body");
  s->batched = mrt_node_attr(node, "_batched") != NULL;
  s->lens = mrt_node_attr(node, "_lens") != NULL;
  int64_t n = mrt_node_int(node, "num_scan_inputs");
  int n_in = node->n_in - s->lens;
  if (n < 1 || n > n_in)
    return MRT_ERR(MRT_INVALID_GRAPH, "num_scan_inputs is %lld for %d inputs", (long long)n, n_in);
  s->n_scan = (int)n;
  s->n_state = n_in - s->n_scan;
  s->n_stack = s->body->n_outputs - s->n_state;
  if (s->body->n_inputs != n_in || s->n_stack < 0 || node->n_out > s->body->n_outputs)
    return MRT_ERR(MRT_INVALID_GRAPH,
                   "Scan body has %d inputs and %d outputs for a node with %d and %d",
                   s->body->n_inputs, s->body->n_outputs, n_in, node->n_out);
  return NULL;
}

/* Entry k of an attribute list; def where the list is not there. */
static mrt_status *entry(const mrt_node *node, const char *name, int k, int count, int64_t def,
                         int64_t *out) {
  int n;
  const int64_t *v = mrt_node_ints(node, name, &n);
  *out = def;
  if (!mrt_node_attr(node, name) || (n == 0 && count == 0)) return NULL;
  if (n != count)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Number of entries in '%s' was %d but expected %d", name,
                   n, count);
  *out = v[k];
  return NULL;
}

/* ---- inference ---- */
static mrt_status *types_in(mrt_infer *c, const scan *s, const mrt_type **in,
                            const mrt_expr **count) {
  for (int i = 0; i < s->n_state; ++i)
    in[i] = s->batched ? mrt_type_sliced(c, c->in_types[i], 0) : c->in_types[i];
  for (int i = 0; i < s->n_scan; ++i) {
    int k = s->n_state + i, rank = mrt_infer_rank(c, k), axis = 1;
    int64_t a;
    if (rank < 0) continue;
    if (s->batched) {
      if (rank < 2) return MRT_ERR(MRT_FAIL, "scan input %d has rank %d", i, rank);
    } else {
      MRT_TRY(entry(c->node, "scan_input_axes", i, s->n_scan, 0, &a));
      MRT_TRY(mrt_infer_axis(c, a, rank, &axis));
    }
    MRT_TRY(mrt_infer_same_dim(c, *count, mrt_infer_dim(c, k, axis), "Scan inputs", count));
    in[k] = mrt_type_sliced(c, c->in_types[k], axis);
    if (s->batched) in[k] = mrt_type_sliced(c, in[k], 0);
  }
  return NULL;
}
static mrt_status *scan_infer(mrt_infer *c) {
  scan s;
  MRT_TRY(describe(c->node, &s));
  if (!c->subgraph) return NULL;
  int n_in = s.n_state + s.n_scan;
  const mrt_type **in = mrt_infer_alloc(c, ((size_t)n_in + 1) * sizeof *in),
                 **out = mrt_infer_alloc(c, ((size_t)s.body->n_outputs + 1) * sizeof *out), *t;
  const mrt_expr *count = NULL, *batch = mrt_infer_dim(c, s.n_state, 0);
  if (!in || !out) return mrt_status_oom();
  MRT_TRY(types_in(c, &s, in, &count));
  MRT_TRY(mrt_infer_carried(c, s.body, n_in, in, 0, s.n_state, 0, out));
  for (int i = 0; i < s.n_state; ++i) {
    t = in[i] ? in[i] : out[i];
    if (s.batched) MRT_TRY(mrt_type_stacked(c, t, 0, batch, &t));
    MRT_TRY(mrt_infer_out_type(c, i, t));
  }
  for (int i = 0; i < s.n_stack; ++i) {
    int64_t axis;
    MRT_TRY(entry(c->node, "scan_output_axes", i, s.n_stack, 0, &axis));
    MRT_TRY(mrt_type_stacked(c, out[s.n_state + i], axis, count, &t));
    if (s.batched) MRT_TRY(mrt_type_stacked(c, t, 0, batch, &t));
    MRT_TRY(mrt_infer_out_type(c, s.n_state + i, t));
  }
  return NULL;
}

/* ---- run ---- */
typedef struct port { /* a scan input or a stacked output */
  mrt_tensor *t;      /* of the node */
  int axis;
  bool reverse;
} port;
typedef struct run_ctx {
  scan s;
  port *in, *out;   /* [n_scan], [n_stack] */
  mrt_value **args; /* [n_state + n_scan] of the body; the states are ours */
  mrt_value **res;  /* [body outputs] */
  int64_t trips, batch;
} run_ctx;

/* A view of t without dim `axis`, at `index`; for batched ones also without dim 0, at b. */
static void view(const mrt_tensor *t, int axis, int64_t index, int64_t b, bool batched,
                 mrt_tensor *out) {
  int64_t stride[MRT_MAX_RANK + 1] = {0}, step = 1, offset = index;
  int k = 0;
  mrt_tensor_look(out, t);
  out->base.flags = MRT_VALUE_BORROWED;
  for (int d = t->rank - 1; d >= 0; --d) {
    stride[d] = step;
    step *= t->dims[d];
  }
  offset *= stride[axis];
  if (batched) offset += b * stride[0];
  for (int d = 0; d < t->rank; ++d) {
    if (d == axis || (batched && d == 0)) continue;
    out->dims[k] = t->dims[d];
    out->strides[k++] = stride[d];
  }
  out->rank = k;
  out->strided = true;
  out->strided = !mrt_tensor_is_contiguous(out);
  int64_t size = mrt_dtype_bits((mrt_dtype)t->dtype) / 8;
  out->data = (char *)t->data + offset * size;
  out->bytes = (size_t)(mrt_tensor_count(out) * size);
}

/* Makes stacked output i once the shape of one result is known (NULL: the body never ran). */
static mrt_status *make_output(mrt_kctx *c, run_ctx *r, int i, const mrt_tensor *one) {
  int k = r->s.n_state + i, rank = 0, n = 0, b = r->s.batched;
  int64_t dims[MRT_MAX_RANK + 2], axis, inner[MRT_MAX_RANK + 1] = {0};
  mrt_dtype dtype = one ? (mrt_dtype)one->dtype : MRT_UNDEFINED;
  const mrt_type *t = r->s.body->outputs[k]->type;
  if (one) {
    rank = one->rank;
    memcpy(inner, one->dims, (size_t)rank * sizeof *inner);
  } else if (t && t->kind == MRT_KIND_TENSOR && t->dtype) {
    dtype = t->dtype;
    rank = t->rank < 0 ? 0 : t->rank;
    for (int d = 0; d < rank; ++d)
      if (!mrt_expr_is_const(t->dims[d], &inner[d])) inner[d] = 0;
  } else {
    return MRT_ERR(MRT_FAIL, "the type of scan output %d is not known", i);
  }
  if (rank + 1 + b > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", rank + 1 + b);
  if (mrt_dtype_bits(dtype) < 8) return mrt_no_type("Scan", dtype);
  MRT_TRY(entry(c->node, "scan_output_axes", i, r->s.n_stack, 0, &axis));
  MRT_TRY(mrt_fix_axis(axis, rank + 1, &r->out[i].axis));
  if (b) dims[0] = r->batch;
  for (int d = 0; d <= rank; ++d) dims[d + b] = d == r->out[i].axis ? r->trips : inner[n++];
  r->out[i].axis += b;
  MRT_TRY(mrt_out_alloc(c, k, dtype, rank + 1 + b, dims, &r->out[i].t));
  if (b && dtype != MRT_STRING) memset(r->out[i].t->data, 0, r->out[i].t->bytes); /* short ones */
  return NULL;
}

static mrt_status *store(mrt_kctx *c, run_ctx *r, int i, const mrt_value *v, int64_t trip,
                         int64_t b) {
  const mrt_tensor *one = mrt_value_tensor(v);
  port *p = &r->out[i];
  mrt_tensor at;
  if (!mrt_out_wanted(c, r->s.n_state + i)) return NULL;
  if (!one) return MRT_ERR(MRT_INVALID_ARGUMENT, "scan output %d is not a tensor", i);
  if (!p->t) MRT_TRY(make_output(c, r, i, one));
  view(p->t, p->axis, p->reverse ? r->trips - 1 - trip : trip, b, r->s.batched, &at);
  if (one->dtype != at.dtype || !mrt_shape_equal(one->rank, one->dims, at.rank, at.dims)) {
    char x[160], y[160];
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Scan: the shape of output %d changes from one iteration to the next: %s, %s", i,
                   mrt_shape_format(x, sizeof x, at.rank, at.dims),
                   mrt_shape_format(y, sizeof y, one->rank, one->dims));
  }
  if (at.dtype != MRT_STRING || !at.strided) return mrt_tensor_copy_into(&at, one);
  return MRT_ERR(MRT_NOT_IMPLEMENTED, "Scan: strings stacked along an inner axis");
}

static mrt_status *iterate(mrt_kctx *c, run_ctx *r, int64_t trip, int64_t len, int64_t b) {
  const scan *s = &r->s;
  mrt_status *st = NULL;
  int n_out = s->body->n_outputs, copies = 0;
  mrt_tensor slices[64];
  for (int i = 0; i < s->n_scan && !st; ++i) {
    view(r->in[i].t, r->in[i].axis, r->in[i].reverse ? len - 1 - trip : trip, b, s->batched,
         &slices[i]);
    r->args[s->n_state + i] = &slices[i].base;
    copies = i + 1;
    if (!slices[i].strided) continue;
    mrt_tensor *compact = NULL;
    st = mrt_tensor_copy(c->alloc, &slices[i], &compact);
    r->args[s->n_state + i] = st ? NULL : &compact->base;
  }
  if (!st) st = mrt_run_subgraph(c, 0, s->n_state + s->n_scan, r->args, n_out, r->res);
  for (int i = 0; i < copies; ++i)
    if (r->args[s->n_state + i] != &slices[i].base) mrt_value_release(r->args[s->n_state + i]);
  if (st) return st;
  for (int i = 0; i < s->n_state; ++i) {
    mrt_value_release(r->args[i]);
    r->args[i] = r->res[i];
  }
  for (int i = 0; i < s->n_stack; ++i) {
    if (!st) st = store(c, r, i, r->res[s->n_state + i], trip, b);
    mrt_value_release(r->res[s->n_state + i]);
  }
  return st;
}

/* Final states: handed over, or (batched) written into row b of the outputs. */
static mrt_status *finish(mrt_kctx *c, run_ctx *r, int64_t b) {
  for (int i = 0; i < r->s.n_state; ++i) {
    mrt_value *v = r->args[i];
    const mrt_tensor *t = mrt_value_tensor(v);
    if (!r->s.batched) {
      r->args[i] = NULL;
      MRT_TRY(mrt_out_set(c, i, v));
      continue;
    }
    if (!mrt_out_wanted(c, i)) continue;
    mrt_tensor *y = mrt_out(c, i), row;
    if (!t) return MRT_ERR(MRT_INVALID_ARGUMENT, "state %d is not a tensor", i);
    int64_t dims[MRT_MAX_RANK + 1] = {r->batch};
    memcpy(dims + 1, t->dims, (size_t)t->rank * sizeof *dims);
    if (b == 0) MRT_TRY(mrt_out_alloc(c, i, (mrt_dtype)t->dtype, t->rank + 1, dims, &y));
    if (!y) return MRT_ERR(MRT_FAIL, "state %d", i);
    view(y, 0, b, 0, false, &row);
    MRT_TRY(mrt_tensor_copy_into(&row, t));
  }
  return NULL;
}

static mrt_status *start(mrt_kctx *c, run_ctx *r, int64_t b) {
  for (int i = 0; i < r->s.n_state; ++i) {
    mrt_value_release(r->args[i]);
    r->args[i] = NULL;
    mrt_tensor *copy, row;
    if (!r->s.batched) {
      const mrt_tensor *t = mrt_in(c, i);
      if (!t) return MRT_ERR(MRT_INVALID_ARGUMENT, "state %d is not a tensor", i);
      MRT_TRY(mrt_tensor_copy(c->alloc, t, &copy));
    } else {
      if (!mrt_in(c, i) || mrt_in(c, i)->rank < 1 || mrt_in(c, i)->dims[0] != r->batch)
        return MRT_ERR(MRT_INVALID_ARGUMENT, "state %d has another batch size", i);
      view(mrt_in(c, i), 0, b, 0, false, &row);
      MRT_TRY(mrt_tensor_copy(c->alloc, &row, &copy));
    }
    r->args[i] = &copy->base;
  }
  return NULL;
}

static mrt_status *ports(mrt_kctx *c, run_ctx *r) {
  const scan *s = &r->s;
  int64_t v;
  r->trips = -1;
  for (int i = 0; i < s->n_scan; ++i) {
    port *p = &r->in[i];
    p->t = mrt_value_tensor(mrt_in_value(c, s->n_state + i));
    if (!p->t || p->t->rank < 1 + s->batched)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "scan input %d cannot be sliced", i);
    if (mrt_dtype_bits((mrt_dtype)p->t->dtype) % 8) return mrt_no_type("Scan over", p->t->dtype);
    MRT_TRY(entry(c->node, "scan_input_axes", i, s->n_scan, 0, &v));
    MRT_TRY(mrt_fix_axis(s->batched ? 1 : v, p->t->rank, &p->axis));
    MRT_TRY(entry(c->node, "scan_input_directions", i, s->n_scan, 0, &v));
    p->reverse = v == 1;
    if (r->trips < 0) r->trips = p->t->dims[p->axis];
    if (r->trips != p->t->dims[p->axis] || (s->batched && p->t->dims[0] != r->in[0].t->dims[0]))
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "Scan inputs have inconsistent sequence lengths: %lld and %lld",
                     (long long)r->trips, (long long)p->t->dims[p->axis]);
  }
  for (int i = 0; i < s->n_stack; ++i) {
    r->out[i].t = NULL;
    MRT_TRY(entry(c->node, "scan_output_directions", i, s->n_stack, 0, &v));
    r->out[i].reverse = v == 1;
  }
  r->batch = s->batched ? r->in[0].t->dims[0] : 1;
  return NULL;
}

static mrt_status *run_entry(mrt_kctx *c, run_ctx *r, const mrt_tensor *lens, int64_t b) {
  int64_t len = lens ? mrt_index_at(lens, b) : r->trips;
  if (len < 0 || len > r->trips)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "sequence_lens[%lld] is %lld of at most %lld",
                   (long long)b, (long long)len, (long long)r->trips);
  MRT_TRY(start(c, r, b));
  for (int64_t k = 0; k < len; ++k) {
    if (mrt_cancelled(&c->par))
      return MRT_ERR(MRT_CANCELLED, "Exiting due to terminate flag being set to true.");
    MRT_TRY(iterate(c, r, k, len, b));
  }
  return finish(c, r, b);
}

static mrt_status *scan_run(mrt_kctx *c) {
  run_ctx r = {0};
  MRT_TRY(describe(c->node, &r.s));
  int n_in = r.s.n_state + r.s.n_scan;
  if (r.s.n_scan > 64) return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than 64 scan inputs");
  MRT_TRY(mrt_scratch(c, ((size_t)n_in + 1) * sizeof *r.args, (void **)&r.args));
  MRT_TRY(mrt_scratch(c, ((size_t)r.s.body->n_outputs + 1) * sizeof *r.res, (void **)&r.res));
  MRT_TRY(mrt_scratch(c, ((size_t)r.s.n_scan + 1) * sizeof *r.in, (void **)&r.in));
  MRT_TRY(mrt_scratch(c, ((size_t)r.s.n_stack + 1) * sizeof *r.out, (void **)&r.out));
  MRT_TRY(ports(c, &r));
  memset(r.args, 0, (size_t)n_in * sizeof *r.args);
  const mrt_tensor *lens = r.s.lens ? mrt_in(c, n_in) : NULL;
  if (lens && mrt_tensor_count(lens) != r.batch)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "sequence_lens must have one entry per batch entry");
  mrt_status *st = NULL;
  for (int64_t b = 0; b < r.batch && !st; ++b) st = run_entry(c, &r, lens, b);
  for (int i = 0; i < r.s.n_stack && !st; ++i)
    if (!r.out[i].t && mrt_out_wanted(c, r.s.n_state + i)) st = make_output(c, &r, i, NULL);
  for (int i = 0; i < r.s.n_state; ++i) mrt_value_release(r.args[i]);
  return st;
}

/* ---- opset 8 ---- */
static mrt_status *up8(mrt_node *node) {
  mrt_var *lens = node->n_in ? node->in[0].var : NULL;
  mrt_attr directions;
  int n = node->n_in - 1;
  if (n < 1) return MRT_ERR(MRT_INVALID_GRAPH, "Scan without inputs");
  if (mrt_node_take_attr(node, "directions", &directions))
    MRT_TRY(mrt_node_set_ints(node, "scan_input_directions", (int)directions.n, directions.ints));
  for (int i = 0; i < n; ++i) MRT_TRY(mrt_node_set_input(node, i, node->in[i + 1].var));
  if (lens) {
    MRT_TRY(mrt_node_set_input(node, n, lens));
    MRT_TRY(mrt_node_set_int(node, "_lens", 1));
  } else {
    MRT_TRY(mrt_node_set_n_inputs(node, n));
  }
  return mrt_node_set_int(node, "_batched", 1);
}
static const mrt_op_version versions[] = {{8, up8}, {9},  {11}, {16}, {19},
                                          {21},     {23}, {24}, {25}, {0}};
MRT_OP(Scan) = {.domain = "",
                .name = "Scan",
                .doc = "a body run over slices, carrying state",
                .in = "initial_state_and_scan_inputs:any**",
                .out = "final_state_and_scan_outputs:any**",
                .attrs =
                    "body:graph! num_scan_inputs:int! scan_input_axes:ints "
                    "scan_input_directions:ints scan_output_axes:ints "
                    "scan_output_directions:ints",
                .versions = versions,
                .flags = MRT_OP_DYNAMIC | MRT_OP_CONTROL,
                .infer = scan_infer,
                .run = scan_run};
