/* A depthwise convolution and the 1x1 convolutions around it as one macart.ConvBand, where the wide
 * values between them are too large to stay in a cache from one operator to the next. Runs after
 * the layout pass: all values are in channel blocks. */
#include <string.h>

#include "provider/cpu/band/band.h"
#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/conv/conv_split.h"

/* Bytes of a wide value from which on it is not made. */
enum { WIDE_BYTES = 48 << 10 };

typedef struct chain {
  mrt_node *expand, *depthwise, *project; /* expand and project may be NULL */
  mrt_window win;                         /* of depthwise, with its padding */
} chain;

static bool is_conv(const mrt_node *n, int index) {
  return n && n->provider == index && strcmp(n->op_type, "Conv") == 0 &&
         (!*n->domain || strcmp(n->domain, "macart") == 0) && n->out[0] &&
         mrt_is_c16(n->in[0].var) && mrt_is_c16(n->out[0]);
}

/* A convolution of the chain: constants, a known activation, explicit padding. */
static bool read_conv(const mrt_node *n, int index, mrt_conv *conv) {
  mrt_act act;
  int64_t loop;
  if (!is_conv(n, index) || !mrt_node_in_const(n, 1) || mrt_node_in_const(n, 1)->strided ||
      mrt_node_in_rank(n, 0) != 4 || !mrt_conv_node_read(n, conv, &loop) || loop != 1 ||
      !mrt_conv_node_act(n, &act))
    return false;
  const mrt_tensor *b = mrt_node_in_const(n, 2);
  return n->n_in < 3 || !n->in[2].var || (b && mrt_tensor_count(b) == conv->cout);
}

/* The padding in numbers; false: it depends on a size that is not known. */
static bool resolve_padding(const mrt_node *n, mrt_window *w) {
  const mrt_type *x = n->in[0].var->type, *y = n->out[0]->type;
  int64_t in[2], out[2];
  mrt_status *st = mrt_window_read(n, 2, mrt_node_in_const(n, 1)->dims + 2, w);
  const bool ok = !st;
  mrt_status_free(st);
  if (!ok || !w->same) return ok;
  for (int i = 0; i < 2; ++i)
    if (!x->dims[i + 2] || !mrt_expr_is_const(x->dims[i + 2], &in[i]) || !y->dims[i + 2] ||
        !mrt_expr_is_const(y->dims[i + 2], &out[i]))
      return false;
  mrt_window_resolve_same(w, in, out);
  return true;
}

static bool is_pointwise(const mrt_conv *c) {
  return c->groups == 1 && c->kh == 1 && c->kw == 1 && c->stride_h == 1 && c->stride_w == 1 &&
         !c->pad_top && !c->pad_left && !c->pad_bottom && !c->pad_right;
}

static mrt_var *residual(const mrt_node *n) { return n->n_in > 3 ? n->in[3].var : NULL; }

static mrt_node *only_user(const mrt_var *v) {
  return v->n_uses == 1 && v->n_graph_outputs == 0 && v->uses[0].index == 0 &&
                 v->uses[0].node->graph == v->graph
             ? v->uses[0].node
             : NULL;
}

/* Bytes of an image of that type, 0 where it is not known. */
static double image_bytes(const mrt_type *t) {
  double bytes = 4;
  for (int i = 1; i < t->rank; ++i) {
    int64_t d;
    if (!t->dims[i] || !mrt_expr_is_const(t->dims[i], &d)) return 0;
    bytes *= (double)d;
  }
  return bytes;
}
static bool is_wide(const mrt_type *t) {
  const double bytes = image_bytes(t);
  return bytes == 0 || bytes >= WIDE_BYTES;
}

/* Floats of a 1x1 convolution's weights that stay in L1 from one band to the next. */
enum { WEIGHTS_IN_L1 = 8 << 10 };

/* Is a product better done for the whole image: its weights would be read again for each band, or
 * tiles of bf16 parts beat float32 tiles? Unknown sizes count as 64. */
static bool whole_pays(const mrt_node *n, const mrt_conv *conv) {
  const mrt_type *in = n->in[0].var->type;
  mrt_conv c = *conv;
  int64_t size[2];
  if (c.cin * c.cout > WEIGHTS_IN_L1) return true;
  for (int i = 0; i < 2; ++i)
    if (!in->dims[2 + i] || !mrt_expr_is_const(in->dims[2 + i], &size[i])) size[i] = 64;
  c.parts = 0;
  if (mrt_conv_split_ok(&c, NULL))
    mrt_conv_split_choose(&c, MRT_PRECISION_HIGHEST, size[0], size[1]);
  return c.parts > 0;
}

/* A band saves the wide values. Where nothing is wide, a 1x1 convolution may be better alone. */
static void leave_out(chain *c, const mrt_conv *expand, const mrt_conv *project) {
  if (c->expand && expand->cout > 2 * expand->cin) return;
  if (c->project && project->cin > 2 * project->cout) return;
  if (c->expand && whole_pays(c->expand, expand)) c->expand = NULL;
  if (c->project && whole_pays(c->project, project)) c->project = NULL;
}

static bool find_chain(mrt_node *n, int index, chain *c) {
  mrt_conv conv, expand, project;
  *c = (chain){.depthwise = n};
  if (!read_conv(n, index, &conv) || residual(n) || !resolve_padding(n, &c->win)) return false;
  conv.pad_top = c->win.begin[0], conv.pad_bottom = c->win.end[0];
  conv.pad_left = c->win.begin[1], conv.pad_right = c->win.end[1];
  if (!mrt_band_ok(&conv)) return false;
  mrt_node *before = n->in[0].var->producer, *behind = only_user(n->out[0]);
  if (before && only_user(n->in[0].var) == n && read_conv(before, index, &expand) &&
      is_pointwise(&expand) && !residual(before) &&
      mrt_c16_blocks(expand.cin) <= MRT_BAND_MAX_BLOCKS && is_wide(n->in[0].var->type))
    c->expand = before;
  if (behind && read_conv(behind, index, &project) && is_pointwise(&project) &&
      (c->expand || is_wide(n->out[0]->type)) && residual(behind) != n->out[0])
    c->project = behind;
  leave_out(c, &expand, &project);
  return c->expand || c->project;
}

static mrt_status *set_act(mrt_node *node, const mrt_node *conv, const char *name,
                           const char *params) {
  mrt_act act;
  if (!mrt_conv_node_act(conv, &act) || act.op == MRT_EW_COPY) return NULL;
  const mrt_attr p = {.name = params,
                      .kind = MRT_ATTR_FLOATS,
                      .n = (size_t)mrt_ew_op_params(act.op),
                      .floats = act.p};
  MRT_TRY(mrt_node_set_str(node, name, mrt_act_name(&act)));
  return mrt_node_set_attr(node, &p);
}

static mrt_status *replace(const chain *c, const mrt_provider *p) {
  const mrt_window *w = &c->win;
  const int64_t pads[4] = {w->begin[0], w->begin[1], w->end[0], w->end[1]};
  mrt_node *const convs[3] = {c->expand, c->depthwise, c->project};
  mrt_node *last = c->project ? c->project : c->depthwise, *n;
  mrt_var *in[8] = {(c->expand ? c->expand : c->depthwise)->in[0].var}, *out;
  for (int i = 0; i < 3; ++i) {
    if (!convs[i]) continue;
    in[1 + 2 * i] = convs[i]->in[1].var;
    in[2 + 2 * i] = convs[i]->n_in > 2 ? convs[i]->in[2].var : NULL;
  }
  in[7] = c->project ? residual(c->project) : NULL;
  MRT_TRY(mrt_graph_insert(last->graph, last, p->env->ops, "macart", "ConvBand", in[7] ? 8 : 7, in,
                           last->out[0]->type, &n, &out));
  out->layout = MRT_LAYOUT_C16;
  n->provider = last->provider;
  n->name = last->name;
  n->orig_op = last->orig_op;
  n->orig_version = last->orig_version;
  MRT_TRY(mrt_node_set_int(n, "group", mrt_node_int(c->depthwise, "group")));
  MRT_TRY(mrt_node_set_ints(n, "strides", 2, w->stride));
  MRT_TRY(mrt_node_set_ints(n, "pads", 4, pads));
  MRT_TRY(mrt_node_set_ints(n, "kernel_shape", 2, w->kernel));
  if (c->expand) MRT_TRY(set_act(n, c->expand, "expand_activation", "expand_params"));
  MRT_TRY(set_act(n, c->depthwise, "activation", "activation_params"));
  if (c->project) MRT_TRY(set_act(n, c->project, "project_activation", "project_params"));
  MRT_TRY(mrt_var_replace(last->out[0], out));
  for (int i = 3; i-- > 0;)
    if (convs[i]) mrt_node_remove(convs[i]);
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    chain c;
    next = n->next;
    if (!find_chain(n, index, &c)) continue;
    while (next && next == c.project) next = next->next;
    MRT_TRY(replace(&c, p));
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(conv_band) = {.name = "conv_band",
                         .doc = "1x1 and depthwise convolutions in bands of rows",
                         .order = 85,
                         .level = 2,
                         .run = run};
