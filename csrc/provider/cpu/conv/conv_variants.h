/* How a Conv node is computed. That may differ by precision: by Winograd, out of bf16 parts or in
 * float32, with weights packed for it. Each precision has a variant, whose constant weights are
 * packed when it first runs (that of the session's precision when the kernel is made). */
#ifndef MRT_PROVIDER_CPU_CONV_VARIANTS_H
#define MRT_PROVIDER_CPU_CONV_VARIANTS_H

#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/weights/packed.h"

enum { MRT_CONV_VARIANTS = MRT_PRECISION_MEDIUM + 1 };

typedef struct mrt_conv_variant {
  mrt_conv p;
  size_t piece; /* bytes of one group's packed weights */
  int same;     /* the first precision with this variant: that one has the weights */
  int gives;    /* parts that the next convolution wants, see mrt_conv_choice_meet; 0: floats */
  _Atomic(mrt_packed *) packed; /* NULL: not yet, or weights are not constant */
} mrt_conv_variant;

typedef struct mrt_conv_choice {
  mrt_conv p;   /* what all variants share */
  int64_t loop; /* see mrt_conv_node_read */
  mrt_conv_variant variants[MRT_CONV_VARIANTS];
  int precision; /* mrt_precision, or -1: the process default */
  bool constant; /* weights can be packed for good */
  /* Winograd and split parts may be used. They bound the weights' range, which is looked at when
   * the first variant is packed: weights from the cache were looked at then. */
  bool special;
  mrt_act act;
  mrt_window win; /* as the node says */
  bool in_c16, out_c16;
} mrt_conv_choice;

/* What the node says, and the variants chosen for it; q->precision is the caller's. `known`: see
 * mrt_conv_node_narrow. false: not a convolution of this kernel. */
bool mrt_conv_choice_read(mrt_conv_choice *q, const mrt_provider *p, const mrt_node *node,
                          bool known);
/* Packs the constant weights of the variant that holds now; where they are out of the range of what
 * was chosen, chooses again without. */
mrt_status *mrt_conv_choice_prepare(mrt_conv_choice *q, const mrt_provider *p,
                                    const mrt_node *node) MRT_MUST_CHECK;
/* Values that one other convolution reads, and nothing else, are handed over as the bf16 parts that
 * it would make of them (conv_split.h): the same ones, made while the sums are at hand. */
void mrt_conv_choice_meet(mrt_conv_choice *q, const mrt_provider *p, const mrt_node *node);
void mrt_conv_choice_free(mrt_conv_choice *q);

/* The variant that holds now, the one with its weights; *gives (may be NULL) is its own. */
static inline mrt_conv_variant *mrt_conv_variant_now(const mrt_conv_choice *q, int *gives) {
  const mrt_conv_variant *v = &q->variants[mrt_precision_now(q->precision)];
  if (gives) *gives = v->gives;
  return (mrt_conv_variant *)&q->variants[v->same];
}

/* The constant weights of a variant from the store, packed there if need be. */
mrt_status *mrt_conv_variant_weights(const mrt_conv_choice *q, mrt_conv_variant *v,
                                     const mrt_tensor *w, const void **out) MRT_MUST_CHECK;

#endif
