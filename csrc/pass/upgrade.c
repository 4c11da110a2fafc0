/* The first pass: every node is rewritten into the newest form of its operator, each by its own
 * file (the upgrade functions of its row), then resolved against the newest schema. Operators that
 * nobody knows are collected and reported at once. */
#include <string.h>

#include "base/str.h"
#include "pass/pass.h"

#define MAX_LISTED     50
#define TYPED_UPGRADES 11 /* the first opset that needs none */

static bool standard_domain(const char *d) {
  return !*d || strcmp(d, "ai.onnx.ml") == 0 || strcmp(d, "com.microsoft") == 0 ||
         strcmp(d, "ai.onnx.training") == 0;
}

/* Rewrites a node form by form. An upgrade may rename the operator: then the walk goes on with the
 * successor's rows, from the version that the node had reached. */
static mrt_status *upgrade_node(mrt_pass_ctx *ctx, mrt_node *node, int *fired) {
  for (int guard = 0; guard < 16; ++guard) {
    const mrt_op_def *def = mrt_op_find(ctx->ops, node->domain, node->op_type);
    if (!def || !def->versions) return NULL;
    int row = -1;
    for (int i = 0; def->versions[i].since; ++i)
      if (def->versions[i].since <= node->version) row = i;
    if (row < 0)
      return MRT_ERR(MRT_INVALID_GRAPH, "No Op registered for %s with domain_version of %d",
                     node->op_type, node->version);
    bool renamed = false;
    for (; def->versions[row].since; ++row) {
      if (!def->versions[row].upgrade) continue;
      const char *op = node->op_type;
      MRT_TRY_CTX(def->versions[row].upgrade(node), "upgrading from version %d",
                  def->versions[row].since);
      ++*fired;
      if (def->versions[row + 1].since) node->version = def->versions[row + 1].since;
      if (strcmp(op, node->op_type) != 0) {
        renamed = true;
        break;
      }
    }
    if (!renamed) return NULL;
  }
  return MRT_ERR(MRT_FAIL, "operator renamed too often");
}

/* ---- what nobody knows ---- */
typedef struct missing {
  mrt_pass_ctx *ctx;
  mrt_str text;
  int n;
  bool invalid, unregistered; /* names that nobody knows: of a standard domain, of another one */
} missing;

/* Operators of ONNX and of ONNX Runtime that have no row yet: a model with one is no invalid one.
 */
static bool known_elsewhere(const mrt_node *n) {
  static const char *const names[][2] = {
#define MRT_ELSEWHERE(domain, name) {domain, #name},
#include "pass/elsewhere.def"
#undef MRT_ELSEWHERE
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
    if (strcmp(names[i][0], n->domain) == 0 && strcmp(names[i][1], n->op_type) == 0) return true;
  return false;
}

/* ("x": tensor(float),) as ONNX Runtime prints a node's values. */
static void add_values(mrt_str *out, int n, const mrt_node *node, bool inputs) {
  mrt_str_add(out, "(");
  for (int i = 0; i < n; ++i) {
    const mrt_var *v = inputs ? node->in[i].var : node->out[i];
    mrt_str_addf(out, "\"%.100s\"", v ? v->name : "");
    if (v && v->type) {
      mrt_str_add(out, ": ");
      mrt_type_format(v->type, out);
    }
    mrt_str_add(out, ",");
  }
  mrt_str_add(out, ")");
}

static void add_missing(missing *m, const mrt_node *n) {
  bool imported = !*n->domain || mrt_model_opset(m->ctx->model, n->domain);
  if (++m->n > MAX_LISTED) return;
  if (m->n > 1) mrt_str_add(&m->text, "; ");
  if (imported && known_elsewhere(n)) {
    mrt_str_addf(&m->text, "Could not find an implementation for %s%s%s(%d) node with name '%s'",
                 n->domain, *n->domain ? "." : "", n->op_type, n->version, n->name);
    return;
  }
  if (imported && !standard_domain(n->domain)) {
    m->unregistered = true;
    mrt_str_addf(&m->text, "Fatal error: %s:%s(-1) is not a registered function/op", n->domain,
                 n->op_type);
    return;
  }
  m->invalid = true;
  mrt_str_addf(&m->text, "In Node, (\"%s\", %s, \"%s\", -1) : ", n->name, n->op_type, n->domain);
  add_values(&m->text, n->n_in < 16 ? n->n_in : 16, n, true);
  mrt_str_add(&m->text, " -> ");
  add_values(&m->text, n->n_out < 16 ? n->n_out : 16, n, false);
  if (imported)
    mrt_str_addf(&m->text, " , Error No Op registered for %s with domain_version of %d", n->op_type,
                 n->version);
  else
    mrt_str_addf(&m->text, " , Error No opset import for domain '%s'", n->domain);
}

static mrt_status *find_missing(missing *m, const mrt_graph *g, int depth) {
  if (depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  for (const mrt_node *n = g->first; n; n = n->next) {
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    if (!mrt_op_find(m->ctx->ops, n->domain, n->op_type)) add_missing(m, n);
    for (int i = 0; i < k && i < 64; ++i) MRT_TRY(find_missing(m, subs[i], depth + 1));
  }
  return NULL;
}

static mrt_status *check_known(mrt_pass_ctx *ctx, const mrt_graph *g) {
  missing m = {.ctx = ctx};
  mrt_str_init(&m.text, ctx->model->alloc);
  mrt_status *st = find_missing(&m, g, 0);
  if (!st) st = mrt_str_check(&m.text);
  mrt_code code = m.unregistered ? MRT_FAIL : m.invalid ? MRT_INVALID_GRAPH : MRT_NOT_IMPLEMENTED;
  const char *what = code == MRT_NOT_IMPLEMENTED ? "" : "This is an invalid model. ";
  if (!st && m.n) st = MRT_ERR(code, "%s%s", what, mrt_str_cstr(&m.text));
  mrt_str_deinit(&m.text);
  return st;
}

/* Old forms whose upgrade depends on types (an axis that says where to broadcast, bounds of Clip as
 * attributes) need what inference knows so far. What fails here fails again, and counts, when the
 * whole graph is inferred. */
static mrt_status *infer_so_far(mrt_pass_ctx *ctx, mrt_node *first, const mrt_node *last) {
  for (mrt_node *n = first; n; n = n->next) {
    if (n->def && mrt_node_subgraphs(n, NULL, 0) == 0) {
      mrt_status *st = mrt_infer_node(ctx->model, n);
      if (mrt_status_code(st) == MRT_OUT_OF_MEMORY) return st;
      mrt_status_free(st);
    }
    if (n == last) break;
  }
  return NULL;
}

static bool is_old(const mrt_model *m) {
  bool old = mrt_model_opset(m, "") < TYPED_UPGRADES;
  for (int i = 0; i < m->n_functions; ++i)
    for (int k = 0; k < m->functions[i].n_opsets; ++k) {
      const mrt_opset *o = &m->functions[i].opsets[k];
      old = old || (!*o->domain && o->version < TYPED_UPGRADES);
    }
  return old;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  const bool old = is_old(ctx->model);
  if (!g->parent) MRT_TRY(check_known(ctx, g));        /* with all subgraphs: everything at once */
  if (old && !g->parent) MRT_TRY(mrt_graph_verify(g)); /* in order, also inside */
  for (mrt_node *n = g->first, *next; n; n = next) {
    char buf[256];
    next = n->next;
    mrt_node *before = n->prev;
    MRT_TRY_CTX(upgrade_node(ctx, n, fired), "%s", mrt_node_describe(n, buf, sizeof buf));
    MRT_TRY_CTX(mrt_node_resolve(n, ctx->ops), "%s", mrt_node_describe(n, buf, sizeof buf));
    if (old) MRT_TRY(infer_so_far(ctx, before ? before->next : g->first, n));
  }
  return NULL;
}

MRT_PASS(upgrade) = {
    .name = "upgrade", .doc = "newest form of every operator", .level = 0, .run = run};
