/* Removes nodes that hand their input on: Identity, Dropout whose mask nobody reads, Cast to the
 * type it has, Transpose by the identity permutation, Reshape and Expand to the shape it has. */
#include <string.h>

#include "pass/pass.h"

static bool same_type(const mrt_type *a, const mrt_type *b) {
  if (!a || !b || a->kind != MRT_KIND_TENSOR || b->kind != MRT_KIND_TENSOR) return false;
  if (a->dtype != b->dtype || a->rank < 0 || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i]) return false;
  return true;
}

static bool identity_perm(const mrt_node *n) {
  int k;
  const int64_t *perm = mrt_node_ints(n, "perm", &k);
  if (!perm) return false;
  for (int i = 0; i < k; ++i)
    if (perm[i] != i) return false;
  return true;
}

static bool is_noop(const mrt_node *n) {
  static const char *const by_type[] = {"Reshape", "Expand", "Cast", "Squeeze", "Unsqueeze",
                                        "Flatten", "Pad",    "Tile", NULL};
  if (*n->domain || n->n_in < 1 || !n->in[0].var || n->n_out < 1 || !n->out[0]) return false;
  if (strcmp(n->op_type, "Identity") == 0) return true;
  if (strcmp(n->op_type, "Dropout") == 0) {
    const mrt_var *mode = n->n_in > 2 ? n->in[2].var : NULL;
    if (mode && !(mode->constant && mrt_elem_get_i64(MRT_BOOL, mode->constant->data, 0) == 0))
      return false;
    return n->n_out < 2 || !n->out[1] ||
           (n->out[1]->n_uses == 0 && n->out[1]->n_graph_outputs == 0);
  }
  if (strcmp(n->op_type, "Transpose") == 0) return identity_perm(n);
  if (!same_type(n->in[0].var->type, n->out[0]->type)) return false;
  for (int i = 0; by_type[i]; ++i)
    if (strcmp(n->op_type, by_type[i]) == 0)
      /* Pad and Tile that keep the shape could still move data only with negative pads. */
      return strcmp(n->op_type, "Pad") != 0;
  return false;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  (void)ctx;
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (!is_noop(n)) continue;
    mrt_var *from = n->in[0].var, *to = n->out[0];
    /* An output must stay a value of its own graph, made by a node: keep such nodes. */
    if (to->n_graph_outputs > 0) continue;
    MRT_TRY(mrt_var_replace(to, from));
    mrt_node_remove(n);
    ++*fired;
  }
  return NULL;
}

MRT_PASS(noop) = {.name = "noop", .doc = "identity and no-op removal", .level = 1, .run = run};
