/* What the nodes of the convolution family share: reading a node's constants into mrt_conv, and
 * which values a layout may be given to. */
#ifndef MRT_PROVIDER_CPU_CONV_NODE_H
#define MRT_PROVIDER_CPU_CONV_NODE_H

#include "ops/window.h"
#include "provider/cpu/conv/conv.h"
#include "provider/cpu/cpu.h"

/* A value seen as [n][c][h][w]; rank 3 has h = 1. */
typedef struct mrt_planes {
  int64_t n, c, h, w;
} mrt_planes;
static inline mrt_planes mrt_planes_of(const mrt_tensor *t) {
  const int64_t h = t->rank == 4 ? t->dims[2] : 1;
  return (mrt_planes){t->dims[0], t->dims[1], h, t->dims[t->rank - 1]};
}
static inline bool mrt_is_c16(const mrt_var *v) { return v && v->layout == MRT_LAYOUT_C16; }

/* Conv and macart.Conv of float32 with a window of one or two dims and weights of known shape: the
 * kernel of this folder runs it. *p: all but the padding of auto_pad SAME. *loop: groups that are
 * done one after the other, in the plain layout only (1: the rest); *p is one of them then. */
bool mrt_conv_node_read(const mrt_node *node, mrt_conv *p, int64_t *loop);
/* The same with the window as the node says it. */
bool mrt_conv_node_read_window(const mrt_node *node, mrt_conv *p, int64_t *loop, mrt_window *w);
/* A window in *p: kernel, strides, dilations and padding. */
void mrt_conv_node_window(mrt_conv *p, const mrt_window *w);
/* What 2-byte numbers its weights w are: depthwise and small ones are as good wide. `known`: only
 * where that need not be looked for. */
mrt_conv_narrow mrt_conv_node_narrow(const mrt_conv *p, const mrt_tensor *w, bool known);
/* Rows and columns of its image; unknown ones count as 64. */
void mrt_conv_node_image(const mrt_node *node, int64_t size[2]);
/* The activation of a macart.Conv node; {0} for other nodes. false: unknown name. */
bool mrt_conv_node_act(const mrt_node *node, mrt_act *act);
/* A pool of float32 that pool_node.c runs. */
bool mrt_pool_node_ok(const mrt_node *node);
/* A ConvTranspose that conv_transpose/ runs. */
bool mrt_convt_node_ok(const mrt_node *node);
/* A Resize along the spatial dims that resize/ runs. */
bool mrt_resize_node_ok(const mrt_node *node);
/* A unary node of the default domain as an activation; false if it is none. */
bool mrt_unary_node_act(const mrt_node *node, mrt_act *act);
/* The activation of that name with n parameters, as fused nodes write it; "" is none. false:
 * unknown name, too few parameters. */
bool mrt_act_of(const char *name, int n, const float *p, mrt_act *act);
/* What macart.Conv calls it; NULL: it does not know this one. */
const char *mrt_act_name(const mrt_act *act);

#endif
