/* Constant folding: a node whose inputs are all constants (or whose integer contents inference
 * knows as plain numbers) is replaced by its value, computed by the reference kernel. */
#include <string.h>

#include "pass/pass.h"

enum { MOST_INPUTS = 8, LARGE = 64 << 10 }; /* of a result with a recipe */

static bool is_dequantize(const mrt_node *n) {
  return n && strcmp(n->op_type, "DequantizeLinear") == 0 && !*n->domain;
}

/* Integers that nothing reads but as the bias of a product whose weights are quantised too. */
static bool is_quantised_bias(const mrt_node *n, const mrt_tensor *c) {
  const mrt_var *v = n->n_out == 1 ? n->out[0] : NULL;
  if (!v || c->dtype != MRT_INT32 || !is_dequantize(n) || v->n_graph_outputs) return false;
  for (size_t i = 0; i < v->n_uses; ++i) {
    const mrt_node *to = v->uses[i].node;
    const bool product = strcmp(to->op_type, "Conv") == 0 || strcmp(to->op_type, "Gemm") == 0;
    if (!product || *to->domain || v->uses[i].index != 2 || !to->in[1].var ||
        !is_dequantize(to->in[1].var->producer))
      return false;
  }
  return v->n_uses > 0;
}

/* Weights of 8 bits or less on their way to float, and biases beside them: a provider may want them
 * as they are. */
static bool kept_compact(const mrt_node *n) {
  const mrt_tensor *c = n->n_in > 0 && n->in[0].var ? n->in[0].var->constant : NULL;
  if (c && is_quantised_bias(n, c)) return true;
  if (!c || mrt_dtype_bits((mrt_dtype)c->dtype) > 8) return false;
  if (n->def->flags & MRT_OP_WIDENS) return true;
  return strcmp(n->op_type, "Cast") == 0 && !*n->domain && c->rank >= 2 &&
         mrt_dtype_is_int((mrt_dtype)c->dtype) && mrt_node_int(n, "to") == MRT_FLOAT;
}

static bool foldable(const mrt_node *n) {
  if (!n->def || (n->def->flags & (MRT_OP_RANDOM | MRT_OP_CONTROL | MRT_OP_ORDERED))) return false;
  if (n->n_out == 0) return false;
  for (int i = 0; i < n->n_out; ++i)
    if (n->out[i] && n->out[i]->type && n->out[i]->type->kind != MRT_KIND_TENSOR) return false;
  return true;
}

/* Symbolic contents that are all numbers: makes the tensor without running anything. */
static mrt_status *from_elems(mrt_pass_ctx *ctx, const mrt_var *v, mrt_tensor **out) {
  *out = NULL;
  const mrt_type *t = v->type;
  int64_t dims[MRT_MAX_RANK], value;
  if (!v->elems || v->n_elems < 0 || !t || t->kind != MRT_KIND_TENSOR || t->rank < 0) return NULL;
  if (t->dtype != MRT_INT64 && t->dtype != MRT_INT32) return NULL;
  for (int i = 0; i < t->rank; ++i)
    if (!mrt_expr_is_const(t->dims[i], &dims[i])) return NULL;
  for (int i = 0; i < v->n_elems; ++i)
    if (!v->elems[i] || !mrt_expr_is_const(v->elems[i], &value)) return NULL;
  mrt_tensor *tensor = NULL;
  MRT_TRY(mrt_tensor_create(ctx->model->alloc, t->dtype, t->rank, dims, &tensor));
  if (mrt_tensor_count(tensor) != v->n_elems) {
    mrt_tensor_release(tensor);
    return NULL;
  }
  for (int i = 0; i < v->n_elems; ++i) {
    (void)mrt_expr_is_const(v->elems[i], &value);
    mrt_elem_set_i64(t->dtype, tensor->data, i, value);
  }
  *out = tensor;
  return NULL;
}

/* Results larger than the limit. */
static bool too_big(const mrt_pass_ctx *ctx, const mrt_node *n) {
  size_t limit = ctx->fold_limit;
  if (limit == MRT_FOLD_AUTO) {
    size_t given = 0;
    for (int i = 0; i < n->n_in; ++i)
      if (n->in[i].var && n->in[i].var->constant) given += n->in[i].var->constant->bytes;
    limit = given > (size_t)1 << 25 ? 2 * given : (size_t)1 << 26;
  }
  for (int i = 0; i < n->n_out; ++i) {
    if (!n->out[i]) continue;
    const mrt_type *t = n->out[i]->type;
    int64_t count = 1, d;
    size_t bytes;
    if (!t || t->rank < 0) continue;
    for (int k = 0; k < t->rank; ++k)
      if (!mrt_expr_is_const(t->dims[k], &d) || !mrt_i64_mul(count, d, &count)) return true;
    if (!mrt_dtype_bytes(t->dtype, count, &bytes) || bytes > limit) return true;
  }
  return false;
}

/* ---- large results are given up when they are packed, and computed again when they must be ----
 */
typedef struct folding {
  mrt_recipe base;
  const mrt_node *node; /* a copy */
  mrt_tensor **in;      /* NULL: absent */
} folding;

static bool can_fold(const mrt_recipe *r) {
  const folding *f = (const folding *)r;
  bool ok = true;
  for (int i = 0; i < f->node->n_in && ok; ++i) ok = !f->in[i] || mrt_tensor_is_intact(f->in[i]);
  return ok;
}

static mrt_status *fold_again(const mrt_recipe *r, const mrt_alloc *alloc, mrt_tensor **out) {
  const folding *f = (const folding *)r;
  mrt_value *in[MOST_INPUTS] = {0}, *y = NULL;
  mrt_status *st = NULL;
  for (int i = 0; i < f->node->n_in && !st; ++i) {
    mrt_tensor *t = f->in[i];
    if (!t) continue;
    if (mrt_tensor_is_aligned(t) && mrt_tensor_is_intact(t))
      mrt_tensor_retain(t);
    else
      st = mrt_tensor_again(alloc, f->in[i], &t);
    if (!st) in[i] = &t->base;
  }
  if (!st) st = mrt_eval_node(alloc, f->node, in, &y);
  for (int i = 0; i < f->node->n_in; ++i) {
    if (f->in[i]) mrt_tensor_drop_pages(f->in[i]);
    mrt_value_release(in[i]);
  }
  if (!st && !mrt_value_tensor(y)) st = MRT_ERR(MRT_FAIL, "%s gave no tensor", f->node->op_type);
  if (st)
    mrt_value_release(y);
  else
    *out = mrt_value_tensor(y);
  return st;
}

static void add_list(mrt_str *out, const void *data, size_t bytes) {
  mrt_str_addf(out, "%zu:", bytes);
  if (bytes) mrt_str_addn(out, data, bytes);
}

static bool add_attr(mrt_str *out, const mrt_attr *a) {
  mrt_str_addf(out, " %s %d ", a->name, (int)a->kind);
  switch (a->kind) {
    case MRT_ATTR_FLOAT: add_list(out, &a->f, sizeof a->f); break;
    case MRT_ATTR_INT: add_list(out, &a->i, sizeof a->i); break;
    case MRT_ATTR_STRING: add_list(out, a->s, a->n); break;
    case MRT_ATTR_FLOATS: add_list(out, a->floats, a->n * sizeof *a->floats); break;
    case MRT_ATTR_INTS: add_list(out, a->ints, a->n * sizeof *a->ints); break;
    default: return false;
  }
  return true;
}

/* The number changes when a reference kernel's results do. */
static bool fold_origin(const mrt_recipe *r, mrt_str *out) {
  const folding *f = (const folding *)r;
  const mrt_node *n = f->node;
  mrt_str_addf(out, "fold.1 %s.%s %d %d %d", n->domain, n->op_type, n->version, n->n_attrs,
               n->n_in);
  bool ok = true;
  for (int i = 0; i < n->n_attrs && ok; ++i) ok = add_attr(out, &n->attrs[i]);
  for (int i = 0; i < n->n_in && ok; ++i) {
    mrt_str_add(out, f->in[i] ? " in " : " none");
    ok = !f->in[i] || mrt_tensor_origin(f->in[i], out);
  }
  return ok;
}

/* Bytes of the only result, if they are known. */
static size_t out_bytes(const mrt_node *n) {
  const mrt_type *t = n->n_out == 1 && n->out[0] ? n->out[0]->type : NULL;
  int64_t count = 1, d;
  size_t bytes;
  if (!t || t->kind != MRT_KIND_TENSOR || t->rank < 0) return 0;
  for (int i = 0; i < t->rank; ++i)
    if (!mrt_expr_is_const(t->dims[i], &d) || !mrt_i64_mul(count, d, &count)) return 0;
  return mrt_dtype_bytes(t->dtype, count, &bytes) ? bytes : 0;
}

/* A recipe for the only result of a node, if keeping what it reads costs little. */
static mrt_status *write_recipe(mrt_node *n, size_t bytes, folding **out) {
  size_t kept = 0;
  int steps = 1;
  mrt_file_place where;
  mrt_model *m = n->graph->model;
  *out = NULL;
  if (n->n_out != 1 || n->n_in > MOST_INPUTS || bytes < LARGE) return NULL;
  for (int i = 0; i < n->n_in; ++i) {
    const mrt_tensor *t = n->in[i].var ? n->in[i].var->constant : NULL;
    if (t && t->strided) return NULL;
    steps += mrt_tensor_steps(t);
    if (t && !t->recipe && !mrt_tensor_file_place(t, &where)) kept += t->bytes;
  }
  if (kept > bytes / 8 || steps > MRT_RECIPE_STEPS) return NULL;
  const mrt_node *copy; /* that in the graph goes and loses its inputs */
  MRT_TRY(mrt_node_detached(n, &copy));
  if (!copy) return NULL;
  folding *f = mrt_model_lasting(m, sizeof *f);
  if (!f) return mrt_status_oom();
  *f = (folding){.base = {fold_again, can_fold, steps, fold_origin}, .node = copy};
  f->in = mrt_model_lasting(m, ((size_t)n->n_in + 1) * sizeof *f->in);
  if (!f->in) return mrt_status_oom();
  for (int i = 0; i < n->n_in; ++i) f->in[i] = n->in[i].var ? n->in[i].var->constant : NULL;
  *out = f;
  return NULL;
}

static void keep_ingredients(const folding *f) {
  for (int i = 0; i < f->node->n_in; ++i) {
    if (!f->in[i]) continue;
    mrt_tensor_is_ingredient(f->in[i]);
    mrt_tensor_drop_pages(f->in[i]);
  }
}

static void use_recipe(folding *f, mrt_tensor *result) {
  for (int i = 0; i < f->node->n_in; ++i)
    if (f->in[i] && f->in[i]->data == result->data) return; /* handed through */
  keep_ingredients(f);
  result->recipe = &f->base;
}

/* Do only kernels read it, perhaps after further steps of folding? */
static bool is_for_kernels(const mrt_var *v, int depth) {
  enum { FEW = 4 };
  if (v->n_uses > FEW) return false; /* it is asked of every step */
  for (size_t i = 0; i < v->n_uses; ++i) {
    const mrt_node *n = v->uses[i].node;
    if (n->def && (n->def->flags & MRT_OP_WEIGHTS)) continue;
    if (!depth || !foldable(n) || n->n_out != 1 || !n->out[0] || n->out[0]->n_graph_outputs ||
        !is_for_kernels(n->out[0], depth - 1))
      return false;
  }
  return v->n_uses > 0;
}

/* Made later: what is wider than what it is made of, what moves such constants, and what only
 * kernels read. All of a network's weights would be there twice and more before the first one is
 * packed, and they may have been packed at an earlier start. */
static bool is_later(const mrt_pass_ctx *ctx, const mrt_node *n, const folding *recipe) {
  const mrt_tensor *x = n->n_in > 0 && n->in[0].var ? n->in[0].var->constant : NULL;
  const mrt_type *t = n->n_out == 1 && n->out[0] ? n->out[0]->type : NULL;
  int64_t dims[MRT_MAX_RANK];
  if (!recipe || ctx->at_once || !x || !out_bytes(n) || n->out[0]->n_graph_outputs) return false;
  for (int i = 0; i < t->rank; ++i)
    if (!mrt_expr_is_const(t->dims[i], &dims[i])) return false;
  const bool widens =
      (n->def->flags & MRT_OP_WIDENS) || (!*n->domain && !strcmp(n->op_type, "Cast"));
  enum { DEPTH = 4 };
  if (!mrt_tensor_may_be_later(t->dtype, t->rank, dims)) return false;
  return is_for_kernels(n->out[0], DEPTH) ||
         (mrt_tensor_is_forgotten(x) ? (n->def->flags & MRT_OP_BYTES) != 0
                                     : widens && mrt_dtype_bits((mrt_dtype)x->dtype) <= 16);
}

static mrt_status *make_later(mrt_node *n, const folding *recipe, int *fired) {
  int64_t dims[MRT_MAX_RANK];
  mrt_var *v = n->out[0];
  mrt_tensor *t;
  for (int i = 0; i < v->type->rank; ++i) (void)mrt_expr_is_const(v->type->dims[i], &dims[i]);
  MRT_TRY(mrt_tensor_create_later(n->graph->model->alloc, v->type->dtype, v->type->rank, dims,
                                  &recipe->base, &t));
  keep_ingredients(recipe);
  mrt_node_remove(n);
  ++*fired;
  return mrt_var_set_constant(v, t);
}

/* A Constant's tensor as it lies in the file. */
static mrt_status *adopt(mrt_node *n, int *fired) {
  const mrt_attr *a = mrt_node_attr(n, "value");
  mrt_var *v = n->out[0];
  mrt_node_remove(n);
  ++*fired;
  return mrt_var_adopt(v, a->tensor);
}
static bool is_plain_constant(const mrt_node *n) {
  const mrt_attr *a = strcmp(n->op_type, "Constant") == 0 && !*n->domain && n->n_out == 1
                          ? mrt_node_attr(n, "value")
                          : NULL;
  return a && n->out[0] && a->kind == MRT_ATTR_TENSOR && a->tensor && !a->tensor->strided;
}

/* Removes a folded node; constants that nothing else reads are given up at once. */
static void remove_folded(mrt_node *n) {
  mrt_var *few[MOST_INPUTS];
  const int n_in = n->n_in < MOST_INPUTS ? n->n_in : MOST_INPUTS; /* the sweep finds others */
  for (int i = 0; i < n_in; ++i) few[i] = n->in[i].var;
  mrt_node_remove(n);
  for (int i = 0; i < n_in; ++i) {
    const mrt_var *v = few[i];
    if (v && v->constant && !v->n_uses && !v->n_graph_outputs && !v->is_input)
      mrt_tensor_forget(v->constant);
  }
}

static mrt_status *fold_node(mrt_pass_ctx *ctx, mrt_node *n, int *fired) {
  if (!foldable(n) || (!ctx->late && kept_compact(n))) return NULL;
  mrt_status *st = NULL;
  folding *recipe = NULL;
  if (is_plain_constant(n)) return adopt(n, fired);
  if (n->n_out == 1 && n->out[0]) {
    mrt_tensor *t = NULL;
    MRT_TRY(from_elems(ctx, n->out[0], &t));
    if (t) {
      mrt_var *v = n->out[0];
      mrt_node_remove(n);
      ++*fired;
      return mrt_var_set_constant(v, t);
    }
  }
  for (int i = 0; i < n->n_in; ++i)
    if (n->in[i].var && !n->in[i].var->constant) return NULL;
  if (too_big(ctx, n)) return NULL;
  mrt_value **vals = NULL;
  size_t total = (size_t)n->n_in + (size_t)n->n_out + 1;
  MRT_TRY(mrt_mem_new_zero(ctx->model->alloc, total * sizeof *vals, (void **)&vals));
  mrt_value **outs = vals + n->n_in;
  st = write_recipe(n, out_bytes(n), &recipe);
  if (!st && is_later(ctx, n, recipe)) {
    st = make_later(n, recipe, fired);
    goto done;
  }
  for (int i = 0; i < n->n_in && !st; ++i)
    if (n->in[i].var) st = mrt_var_align(n->in[i].var);
  if (st) goto done;
  for (int i = 0; i < n->n_in; ++i) vals[i] = n->in[i].var ? &n->in[i].var->constant->base : NULL;
  st = mrt_eval_node(ctx->model->alloc, n, vals, outs);
  if (st) { /* a node that fails here fails again, with its name, when it is really run */
    if (mrt_status_code(st) == MRT_OUT_OF_MEMORY) goto done;
    MRT_LOG(ctx->logger, MRT_INFO, "not folded: %s: %s", n->name, mrt_status_message(st));
    mrt_status_free(st);
    st = NULL;
    goto done;
  }
  for (int i = 0; i < n->n_out; ++i)
    if (n->out[i] && !mrt_value_tensor(outs[i])) goto done;
  if (recipe) use_recipe(recipe, mrt_value_tensor(outs[0]));
  int n_out = n->n_out;
  mrt_var **out_vars = n->out;
  remove_folded(n);
  ++*fired;
  for (int i = 0; i < n_out && !st; ++i) {
    if (!out_vars[i]) continue;
    st = mrt_var_set_constant(out_vars[i], mrt_value_tensor(outs[i]));
    outs[i] = NULL;
  }
done:
  for (size_t i = (size_t)n->n_in; i + 1 < total; ++i) mrt_value_release(vals[i]);
  mrt_mem_free(ctx->model->alloc, vals);
  return st;
}

static mrt_status *fold_nodes(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    char buf[256];
    MRT_TRY_CTX(fold_node(ctx, n, fired), "folding %s", mrt_node_describe(n, buf, sizeof buf));
  }
  return NULL;
}

/* What branches of constant conditions leave is folded with the rest. */
static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  const mrt_pass *branch = mrt_pass_find("branch");
  for (int taken = 1; taken; *fired += taken) {
    taken = 0;
    MRT_TRY(fold_nodes(ctx, g, fired));
    if (!mrt_list_has(ctx->disabled, branch->name)) MRT_TRY(branch->run(ctx, g, &taken));
    mrt_tally_add(ctx->tally, branch->name, taken);
  }
  return NULL;
}

MRT_PASS(fold) = {
    .name = "fold", .doc = "constant folding by the reference kernels", .level = 1, .run = run};
