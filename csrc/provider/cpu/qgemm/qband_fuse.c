/* A depthwise convolution of bytes and the convolutions around it as one macart.QLinearBand.
 * After sums have gone into the convolutions (add_fuse.c): all images are NHWC. */
#include <string.h>

#include "ops/qband.h"
#include "ops/quant.h"
#include "ops/window.h"
#include "provider/cpu/qgemm/qband.h"
#include "provider/cpu/qgemm/qband_node.h"
#include "provider/cpu/qgemm/qdq.h"

typedef struct chain {
  mrt_node *conv[3]; /* expand, depthwise, project; the first may be NULL */
  mrt_window win;    /* of depthwise */
  mrt_window first;  /* of expand */
} chain;

static bool is_one(const mrt_node *n, int i) {
  const mrt_tensor *t = mrt_node_in_const(n, i);
  return t && mrt_tensor_count(t) == 1 && !t->strided;
}
/* Inputs i and k are one and the same number, of one type. */
static bool same_number(const mrt_node *a, int i, const mrt_node *b, int k) {
  const mrt_tensor *x = mrt_node_in_const(a, i), *y = mrt_node_in_const(b, k);
  return x->dtype == y->dtype && x->bytes == y->bytes && memcmp(x->data, y->data, x->bytes) == 0;
}

/* A QLinearConv of NHWC whose type of values and constants are those of a band. */
static bool is_conv(const mrt_node *n, int index, bool adds) {
  const bool plain = n && strcmp(n->op_type, "QLinearConv") == 0,
             sum = adds && n && strcmp(n->op_type, "QLinearConvAdd") == 0;
  if ((!plain && !sum) || n->provider != index || !mrt_node_int(n, "channels_last") ||
      mrt_node_in_rank(n, 0) != 4 || !n->out[0] ||
      mrt_node_in_dtype(n, 0) != mrt_node_out_dtype(n, 0))
    return false;
  const mrt_tensor *w = mrt_node_in_const(n, 3), *ws = mrt_node_in_const(n, 4),
                   *wz = mrt_node_in_const(n, 5);
  if (!w || w->rank != 4 || w->dtype != MRT_INT8 || w->strided || !ws || ws->dtype != MRT_FLOAT ||
      ws->strided || !wz || wz->strided || !is_one(n, 1) || !is_one(n, 2) || !is_one(n, 6) ||
      !is_one(n, 7) || mrt_node_in_dtype(n, 1) != MRT_FLOAT || mrt_node_in_dtype(n, 6) != MRT_FLOAT)
    return false;
  for (int64_t i = 0; i < mrt_tensor_count(wz); ++i)
    if (mrt_elem_get_i64((mrt_dtype)wz->dtype, wz->data, i)) return false;
  const mrt_tensor *bias = mrt_node_in_const(n, 8);
  if (n->n_in > 8 && n->in[8].var &&
      (!bias || bias->strided || mrt_tensor_count(bias) != w->dims[0]))
    return false;
  for (int i = 10; sum && i < 14; ++i)
    if (!is_one(n, i)) return false;
  if (mrt_tensor_count(ws) != 1 && mrt_tensor_count(ws) != w->dims[0]) return false;
  return mrt_qband_scales_fit(mrt_scalar_f32(mrt_node_in_const(n, 1), 1), ws,
                              mrt_scalar_f32(mrt_node_in_const(n, 6), 1));
}

static bool read_window(const mrt_node *n, mrt_window *w) {
  mrt_status *st = mrt_window_read(n, 2, mrt_node_in_const(n, 3)->dims + 2, w);
  const bool ok = !st && !w->same;
  mrt_status_free(st);
  return ok;
}

static bool is_pointwise(const mrt_node *n) {
  const mrt_tensor *w = mrt_node_in_const(n, 3);
  mrt_window win;
  if (mrt_node_int(n, "group") != 1 || w->dims[2] != 1 || w->dims[3] != 1 || !read_window(n, &win))
    return false;
  for (int i = 0; i < 2; ++i)
    if (win.stride[i] != 1 || win.begin[i] || win.end[i]) return false;
  return true;
}

static mrt_qconv geometry(const mrt_node *n, const mrt_window *win) {
  const mrt_tensor *w = mrt_node_in_const(n, 3);
  mrt_qconv p = mrt_qconv_pointwise(mrt_node_int(n, "group"), w->dims[1], w->dims[0]);
  if (win) {
    p.kh = win->kernel[0], p.kw = win->kernel[1];
    p.stride_h = win->stride[0], p.stride_w = win->stride[1];
    p.dil_h = win->dilation[0], p.dil_w = win->dilation[1];
    p.pad_top = win->begin[0], p.pad_left = win->begin[1];
  }
  mrt_qconv_plan(&p, NULL);
  return p;
}

/* A first convolution that the band in hand can take with its window. */
static bool is_window(const mrt_node *n, const mrt_qband *rest, mrt_window *win) {
  mrt_qband b = *rest;
  if (mrt_node_int(n, "group") != 1 || !read_window(n, win) || win->ceil_mode) return false;
  for (int i = 0; i < 2; ++i)
    if (win->dilation[i] != 1 || win->begin[i] < 0 || win->end[i] < 0) return false;
  b.conv[0] = geometry(n, win);
  b.expands = true;
  return b.conv[0].kh * b.conv[0].kw > 1 && mrt_qband_fits(&b);
}

/* The only reader of v, as input 0, that is not dead. */
static mrt_node *reader(const mrt_var *v) {
  mrt_node *user = NULL;
  if (v->n_graph_outputs) return NULL;
  for (size_t i = 0; i < v->n_uses; ++i) {
    if (mrt_node_is_dead(v->uses[i].node, 4)) continue;
    if (user || v->uses[i].index != 0 || v->uses[i].node->graph != v->graph) return NULL;
    user = v->uses[i].node;
  }
  return user;
}

static bool find_chain(mrt_node *n, int index, chain *c) {
  *c = (chain){.conv = {NULL, n, NULL}};
  if (!is_conv(n, index, false) || !read_window(n, &c->win)) return false;
  mrt_qband b = {.is_signed = mrt_node_in_dtype(n, 0) == MRT_INT8};
  b.conv[1] = geometry(n, &c->win);
  mrt_node *before = n->in[0].var->producer, *behind = reader(n->out[0]);
  if (!b.conv[1].depthwise || b.conv[1].groups != b.conv[1].cout || !is_conv(behind, index, true) ||
      !is_pointwise(behind) || !same_number(n, 6, behind, 1) || !same_number(n, 7, behind, 2))
    return false;
  c->conv[2] = behind;
  b.conv[2] = geometry(behind, NULL);
  if (is_conv(before, index, false) && reader(n->in[0].var) == n && same_number(before, 6, n, 1) &&
      same_number(before, 7, n, 2) && (is_pointwise(before) || is_window(before, &b, &c->first))) {
    c->conv[0] = before;
    b.conv[0] = geometry(before, is_pointwise(before) ? NULL : &c->first);
    b.expands = true;
  } else {
    c->first.n = 0;
  }
  return b.conv[2].cin == b.conv[1].cout && mrt_qband_fits(&b);
}

static mrt_status *copy_bounds(const mrt_node *n, int from, int to, mrt_node *band) {
  for (int i = 0; i < 2; ++i) {
    const mrt_attr *a = mrt_node_attr(n, mrt_qband_bounds[from][i]);
    if (a) MRT_TRY(mrt_node_set_int(band, mrt_qband_bounds[to][i], a->i));
  }
  return NULL;
}

static mrt_status *set_first(mrt_node *n, const mrt_window *w) {
  const int64_t pads[4] = {w->begin[0], w->begin[1], w->end[0], w->end[1]};
  MRT_TRY(mrt_node_set_ints(n, "expand_strides", 2, w->stride));
  MRT_TRY(mrt_node_set_ints(n, "expand_pads", 4, pads));
  return mrt_node_set_ints(n, "expand_kernel_shape", 2, w->kernel);
}

static mrt_status *replace(const chain *c, const mrt_provider *p, mrt_node **made) {
  const mrt_window *w = &c->win;
  const int64_t pads[4] = {w->begin[0], w->begin[1], w->end[0], w->end[1]};
  const mrt_node *start = c->conv[0] ? c->conv[0] : c->conv[1];
  mrt_node *last = c->conv[2], *n;
  mrt_var *in[MRT_QBAND_INPUTS] = {start->in[0].var, start->in[1].var, start->in[2].var}, *out;
  const bool adds = last->n_in > 9 && last->in[9].var;
  for (int i = 0; i < 3; ++i)
    for (int k = 0; c->conv[i] && k < MRT_QBAND_PER_CONV; ++k)
      in[mrt_qband_in(i, k)] = 3 + k < c->conv[i]->n_in ? c->conv[i]->in[3 + k].var : NULL;
  for (int i = 0; adds && i < 5; ++i) in[MRT_QBAND_ADD + i] = last->in[9 + i].var;
  MRT_TRY(mrt_graph_insert(last->graph, last, p->env->ops, "macart", "QLinearBand",
                           adds ? MRT_QBAND_INPUTS : MRT_QBAND_ADD, in, last->out[0]->type, &n,
                           &out));
  *made = n;
  n->provider = last->provider;
  n->name = last->name;
  n->orig_op = last->orig_op;
  n->orig_version = last->orig_version;
  MRT_TRY(mrt_node_set_int(n, "group", mrt_node_int(c->conv[1], "group")));
  MRT_TRY(mrt_node_set_ints(n, "strides", 2, w->stride));
  MRT_TRY(mrt_node_set_ints(n, "pads", 4, pads));
  MRT_TRY(mrt_node_set_ints(n, "kernel_shape", 2, w->kernel));
  if (c->first.n) MRT_TRY(set_first(n, &c->first));
  for (int i = 0; i < 3; ++i)
    if (c->conv[i]) MRT_TRY(copy_bounds(c->conv[i], 1, i, n));
  if (adds) MRT_TRY(copy_bounds(last, 3, 3, n));
  MRT_TRY(mrt_var_replace(last->out[0], out));
  for (int i = 3; i-- > 0;) /* with what is dead behind it */
    if (c->conv[i]) mrt_node_remove_dead(c->conv[i]);
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first; n;) {
    chain c;
    if (!find_chain(n, index, &c)) {
      n = n->next;
      continue;
    }
    MRT_TRY(replace(&c, p, &n));
    n = n->next;
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(qlinear_band) = {.name = "qlinear_band",
                            .doc = "1x1 and depthwise convolutions of bytes in bands of rows",
                            .order = 73,
                            .level = 2,
                            .run = run};
