/* The graph: SSA values (mrt_var) and nodes, with subgraphs for If/Loop/Scan. A model owns one
 * arena and one symbol table for its main graph, all subgraphs and functions; nothing in it is
 * freed before the model is compacted (ir/compact.h) or goes (passes may drop nodes freely), except
 * tensors, which are counted.
 *
 * The graph holds the model as written by its source; the upgrade pass leaves only the newest form
 * of each operator. Loaders and the builder make it, passes rewrite it, nobody else changes it.
 *
 * Node order: the node list of a graph is in a topological order after mrt_graph_verify; insertion
 * functions say where. A subgraph may use vars of enclosing graphs (captures). */
#ifndef MRT_IR_IR_H
#define MRT_IR_IR_H

#include "ir/expr.h"
#include "tensor/tensor.h"

typedef struct mrt_model mrt_model;
typedef struct mrt_graph mrt_graph;
typedef struct mrt_node mrt_node;
typedef struct mrt_var mrt_var;
typedef struct mrt_op_def mrt_op_def;     /* ir/op.h */
typedef struct mrt_op_table mrt_op_table; /* ir/op.h */

/* --- types: immutable, in the model's arena --- */
typedef struct mrt_type {
  mrt_kind kind;
  mrt_dtype dtype;             /* tensor, sparse: of elements; map: of values */
  mrt_dtype key_dtype;         /* map */
  int rank;                    /* tensor, sparse: -1 unknown */
  const mrt_expr *const *dims; /* [rank]; an element may be NULL: unknown */
  const char *const *
      dim_names; /* dim_param as written, for NodeArg.shape; NULL or [rank], elements may be NULL */
  const char *const *dim_denotations; /* "DATA_BATCH" ...; as dim_names */
  const struct mrt_type *elem;        /* sequence, optional */
} mrt_type;
/* dims are copied. NULL on no memory (sticky in the model: mrt_model_check). */
const mrt_type *mrt_type_tensor(mrt_model *model, mrt_dtype dtype, int rank,
                                const mrt_expr *const *dims);
const mrt_type *mrt_type_of_kind(mrt_model *model, mrt_kind kind, const mrt_type *elem);
const mrt_type *mrt_type_map(mrt_model *model, mrt_dtype key, mrt_dtype value);
const mrt_type *mrt_type_of_value(mrt_model *model, const mrt_value *v);
void mrt_type_format(const mrt_type *type,
                     mrt_str *out); /* "tensor(float)", "seq(tensor(int64))" */

/* --- attributes --- */
typedef enum mrt_attr_kind { /* numbers of AttributeProto */
                             MRT_ATTR_FLOAT = 1,
                             MRT_ATTR_INT = 2,
                             MRT_ATTR_STRING = 3,
                             MRT_ATTR_TENSOR = 4,
                             MRT_ATTR_GRAPH = 5,
                             MRT_ATTR_FLOATS = 6,
                             MRT_ATTR_INTS = 7,
                             MRT_ATTR_STRINGS = 8,
                             MRT_ATTR_TENSORS = 9,
                             MRT_ATTR_GRAPHS = 10,
                             MRT_ATTR_SPARSE = 11,
                             MRT_ATTR_TYPE = 13,
                             MRT_ATTR_REF = 100, /* inside a function body: the name of the caller's
                                                    attribute, in s */
} mrt_attr_kind;
typedef struct mrt_attr {
  const char *name;
  mrt_attr_kind kind;
  bool is_default; /* filled in from the schema: not written out */
  float f;
  int64_t i;
  const char *s; /* 0-terminated; s_len counts bytes (may hold 0 bytes) */
  size_t n;      /* elements of the plural kinds; STRING: bytes of s */
  const float *floats;
  const int64_t *ints;
  const char *const *strings;
  const size_t *string_lens;
  mrt_tensor *tensor; /* owned reference (released with the model) */
  mrt_tensor *const *tensors;
  mrt_graph *graph;
  mrt_graph *const *graphs;
  mrt_sparse *sparse;
  const mrt_type *type;
} mrt_attr;

/* --- vars --- */
typedef struct mrt_use {
  mrt_node *node;
  int index; /* of the node's input */
} mrt_use;
struct mrt_var {
  mrt_graph *graph;
  const char *name;     /* unique in its graph; "" never */
  const mrt_type *type; /* NULL: unknown */
  mrt_node *producer;   /* NULL: graph input, initializer or capture source outside */
  int out_index;
  mrt_use *uses; /* uses in this graph and in nested ones; no order */
  size_t n_uses, cap_uses;
  int n_graph_outputs;          /* times it stands among its graph's outputs */
  bool is_input;                /* in graph->inputs */
  bool inferred;                /* type is inference\'s own: its fresh dim symbols may be kept */
  mrt_tensor *constant;         /* initializer or folded constant; owned reference */
  const mrt_expr *const *elems; /* symbolic contents of a small integer tensor, row major */
  int n_elems;                  /* -1: not known */
  mrt_layout layout;            /* assigned by a provider */
  mrt_device device;            /* where it lives after partition */
  int id;                       /* scratch number for whoever walks the graph (plan: slot) */
  const char *doc;
};

typedef struct mrt_metadata { /* a line of metadata_props: kept for whoever wrote it */
  const char *key, *value;
} mrt_metadata;

/* --- nodes --- */
typedef struct mrt_operand {
  mrt_var *var; /* NULL: absent optional input */
  size_t use;   /* position in var->uses */
} mrt_operand;
struct mrt_node {
  mrt_graph *graph;
  mrt_node *prev, *next;
  const char *name; /* as written, may be "" */
  const char *op_type;
  const char *domain; /* "" = ai.onnx (never "ai.onnx") */
  const char *overload;
  int version;         /* opset version by which to read it; newest after upgrade */
  const char *orig_op; /* as in the source, for messages: "Conv-11" is orig_op, orig_version */
  int orig_version;
  const char *doc;
  const mrt_metadata *metadata;
  int n_metadata;
  const mrt_op_def *def; /* NULL until resolved */
  mrt_operand *in;
  int n_in;
  mrt_var **out; /* elements may be NULL: unwanted optional output */
  int n_out;
  mrt_attr *attrs;
  int n_attrs, cap_attrs;
  int provider; /* index in the session's list; -1 not assigned */
  int id;       /* scratch */
  int order;    /* position, valid after mrt_graph_number */
};

/* --- graphs and models --- */
struct mrt_graph {
  mrt_model *model;
  mrt_graph *parent; /* enclosing graph; NULL for the main graph and functions */
  mrt_node *owner;   /* node whose attribute this is */
  const char *name, *doc;
  const mrt_metadata *metadata;
  int n_metadata;
  mrt_node *first, *last;
  size_t n_nodes;
  mrt_var **inputs, **outputs;
  int n_inputs, n_outputs, cap_inputs, cap_outputs;
  mrt_var **vars; /* every var made in this graph, also dead ones (NULL-free) */
  size_t n_vars, cap_vars;
  mrt_map by_name; /* name -> mrt_var */
};
typedef struct mrt_opset {
  const char *domain;
  int64_t version;
} mrt_opset;
typedef struct mrt_function { /* model-local function; body inputs/outputs by position */
  const char *domain, *name, *overload;
  mrt_graph *body;
  const mrt_attr *attr_defaults; /* attribute_proto */
  int n_attr_defaults;
  const char *const *attr_names; /* attributes without default */
  int n_attr_names;
  const mrt_opset *opsets;
  int n_opsets;
} mrt_function;
struct mrt_model {
  const mrt_alloc *alloc;
  mrt_arena *arena;
  mrt_arena *lasting; /* graphs, recipes of constants: see mrt_model_lasting */
  mrt_symtab *sym;
  mrt_graph *graph;
  int64_t ir_version, model_version;
  const char *producer_name, *producer_version, *domain, *doc;
  const char *path; /* for messages; "" from bytes */
  mrt_opset *opsets;
  int n_opsets;
  const mrt_metadata *metadata;
  int n_metadata;
  mrt_function *functions;
  int n_functions;
  uint64_t next_name;  /* for fresh names */
  bool strict_shapes;  /* a declared shape that inference contradicts is an error, not ignored */
  bool failed;         /* out of memory in a function that returns a pointer */
  void *private_state; /* ir's own bookkeeping (list of tensors to release) */
};

/* --- life --- */
mrt_status *mrt_model_create(const mrt_alloc *alloc, mrt_model **out) MRT_MUST_CHECK;
void mrt_model_destroy(mrt_model *model); /* releases tensors, arena, symbols */
/* Zeroed memory that stays when the model is compacted: for what constants keep (recipes). NULL: no
 * memory. */
void *mrt_model_lasting(mrt_model *model, size_t size);
/* The model releases the value when it dies; on failure it is released at once. */
mrt_status *mrt_model_own(mrt_model *model, mrt_value *take) MRT_MUST_CHECK;
/* Takes back what is owned more than once: a tensor handed from node to node is, once for each. */
mrt_status *mrt_model_own_once(mrt_model *model) MRT_MUST_CHECK;
mrt_value *const *mrt_model_owned(const mrt_model *model, size_t *n); /* all of those */
/* When nothing but kernels and subgraphs will read the model: forgets the constants that have no
 * reader, and counts the readers of the others (mrt_tensor.readers). keep[n]: read elsewhere. */
mrt_status *mrt_model_sweep(mrt_model *model, mrt_tensor *const *keep, int n_keep) MRT_MUST_CHECK;
/* After the sweep: folded matrices of kernels go until the kernels are made, if they are few bytes
 * in all, so that making them again takes next to no time. */
void mrt_model_postpone(mrt_model *model, size_t most);
enum { MRT_MANY_READERS = UINT8_MAX }; /* that many, or some that are no kernels */
/* When kernels are made: what they still read of mapped files is settled (mrt_tensor_keep). */
mrt_status *mrt_model_settle(mrt_model *model) MRT_MUST_CHECK;
mrt_status *mrt_model_check(const mrt_model *model) MRT_MUST_CHECK; /* OOM if failed */
/* parent NULL: a main graph (or a function body). */
mrt_status *mrt_graph_create(mrt_model *model, mrt_graph *parent, const char *name,
                             mrt_graph **out) MRT_MUST_CHECK;
int64_t mrt_model_opset(const mrt_model *model, const char *domain); /* 0: not imported */
mrt_status *mrt_model_set_opset(mrt_model *model, const char *domain,
                                int64_t version) MRT_MUST_CHECK;

/* --- build --- (names are copied; NULL name: a fresh one) */
/* MRT_FAIL "... Duplicate definition of name (X)." when the name is taken in this graph. */
mrt_status *mrt_graph_add_var(mrt_graph *g, const char *name, const mrt_type *type,
                              mrt_var **out) MRT_MUST_CHECK;
mrt_status *mrt_graph_add_input(mrt_graph *g, mrt_var *var) MRT_MUST_CHECK;
mrt_status *mrt_graph_add_output(mrt_graph *g, mrt_var *var) MRT_MUST_CHECK;
/* A constant var; takes the reference to the tensor, also on failure. */
mrt_status *mrt_graph_add_constant(mrt_graph *g, const char *name, mrt_tensor *take,
                                   mrt_var **out) MRT_MUST_CHECK;
/* Makes the var a constant (folding, initializers); its producer must be gone. Takes the ref. */
mrt_status *mrt_var_set_constant(mrt_var *var, mrt_tensor *take) MRT_MUST_CHECK;
/* The same with a tensor that the model owns already. */
mrt_status *mrt_var_adopt(mrt_var *var, mrt_tensor *owned) MRT_MUST_CHECK;
/* before NULL: at the end. Inputs/outputs may hold NULL (absent). Output vars must have no
 * producer. `def` may be NULL for now (mrt_node_resolve finds it later). */
mrt_status *mrt_graph_add_node(mrt_graph *g, mrt_node *before, const char *domain,
                               const char *op_type, const char *name, int n_in, mrt_var *const *in,
                               int n_out, mrt_var *const *out, mrt_node **out_node) MRT_MUST_CHECK;
/* For passes: adds a node of the newest form whose single output is a new var of that type;
 * resolves it in `ops` and fills attribute defaults. Attributes are set afterwards. */
mrt_status *mrt_graph_insert(mrt_graph *g, mrt_node *before, const mrt_op_table *ops,
                             const char *domain, const char *op_type, int n_in, mrt_var *const *in,
                             const mrt_type *type, mrt_node **out_node,
                             mrt_var **out_var) MRT_MUST_CHECK;
mrt_var *mrt_graph_find(const mrt_graph *g, const char *name);       /* this graph only */
mrt_var *mrt_graph_find_outer(const mrt_graph *g, const char *name); /* and enclosing ones */

/* --- rewrite --- */
/* Copies a constant that lies misaligned in a file (mrt_tensor_is_aligned), makes one that was to
 * be made later: for passes that read elements. No constant, or an aligned one: nothing. */
mrt_status *mrt_var_align(mrt_var *var) MRT_MUST_CHECK;
mrt_status *mrt_node_set_input(mrt_node *node, int index,
                               mrt_var *var) MRT_MUST_CHECK; /* grows the list */
mrt_status *mrt_node_set_n_inputs(mrt_node *node, int n) MRT_MUST_CHECK;
mrt_status *mrt_node_set_output(mrt_node *node, int index, mrt_var *var) MRT_MUST_CHECK;
/* All uses and graph outputs of `old` read `with` instead. If `old` is a graph output, the output
 * keeps its name: names are swapped. */
mrt_status *mrt_var_replace(mrt_var *old, mrt_var *with) MRT_MUST_CHECK;
/* Unlinks the node, its uses and (recursively) its subgraphs' uses; its output vars stay without
 * producer. */
void mrt_node_remove(mrt_node *node);
void mrt_node_move_before(mrt_node *node, mrt_node *before); /* before NULL: to the end */
/* All nodes and vars of `body`, a subgraph of `before` without inputs, move to the graph of
 * `before`, in front of it; names that are taken there change. The body stays, empty. */
mrt_status *mrt_graph_splice(mrt_node *before, mrt_graph *body) MRT_MUST_CHECK;
/* Room for n attributes more: lists grow by doubling, and what they outgrow stays. */
mrt_status *mrt_node_reserve_attrs(mrt_node *node, size_t n) MRT_MUST_CHECK;
/* Renames operator and domain (upgrade, fusion); drops `def`. */
mrt_status *mrt_node_set_op(mrt_node *node, const char *domain, const char *op_type) MRT_MUST_CHECK;

/* --- attributes --- */
const mrt_attr *mrt_node_attr(const mrt_node *node, const char *name); /* NULL if absent */
/* Value, or 0 / 0.0 / "" when absent: defaults of the schema have been filled in by resolve. */
int64_t mrt_node_int(const mrt_node *node, const char *name);
float mrt_node_float(const mrt_node *node, const char *name);
const char *mrt_node_str(const mrt_node *node, const char *name);
/* Elements of an INTS attribute: NULL and *n = 0 if absent. */
const int64_t *mrt_node_ints(const mrt_node *node, const char *name, int *n);
const float *mrt_node_floats(const mrt_node *node, const char *name, int *n);
mrt_graph *mrt_node_graph(const mrt_node *node, const char *name); /* NULL if absent */
mrt_status *mrt_node_set_int(mrt_node *node, const char *name, int64_t v) MRT_MUST_CHECK;
mrt_status *mrt_node_set_float(mrt_node *node, const char *name, float v) MRT_MUST_CHECK;
mrt_status *mrt_node_set_str(mrt_node *node, const char *name, const char *v) MRT_MUST_CHECK;
mrt_status *mrt_node_set_ints(mrt_node *node, const char *name, int n,
                              const int64_t *v) MRT_MUST_CHECK;
mrt_status *mrt_node_set_attr(mrt_node *node, const mrt_attr *attr)
    MRT_MUST_CHECK; /* copies deep; graphs are moved */
bool mrt_node_take_attr(mrt_node *node, const char *name,
                        mrt_attr *out); /* removes; false if absent */
void mrt_node_del_attr(mrt_node *node, const char *name);
/* A copy of the node with its attributes in lasting memory, for recipes that run its operator: in
 * no graph; inputs and outputs are there or not, and nothing else. *out NULL: it has attributes
 * that cannot be copied (graphs, types, lists of tensors). */
mrt_status *mrt_node_detached(const mrt_node *node, const mrt_node **out) MRT_MUST_CHECK;
/* An INTS/INT attribute becomes a constant int64 1-D input at `index` (INT: one element). */
mrt_status *mrt_node_attr_to_input(mrt_node *node, const char *name, int index) MRT_MUST_CHECK;
/* Constant int64 1-D / float scalar var in the node's graph. */
mrt_status *mrt_graph_const_i64(mrt_graph *g, int n, const int64_t *v,
                                mrt_var **out) MRT_MUST_CHECK;
mrt_status *mrt_graph_const_f32(mrt_graph *g, float v, mrt_var **out) MRT_MUST_CHECK;

/* --- walk and check --- */
/* Subgraphs of a node, in attribute order; returns their number. */
int mrt_node_subgraphs(const mrt_node *node, mrt_graph **out, int cap);
/* Vars of enclosing graphs that this graph (and nested ones) reads, each once; arena memory. */
mrt_status *mrt_graph_captures(mrt_graph *g, mrt_var ***out, int *n) MRT_MUST_CHECK;
void mrt_graph_number(mrt_graph *g); /* node->order = position */
/* Structure: every input defined (message of ONNX Runtime: "Invalid model. Node input 'X' is not a
 * graph input, initializer, or output of a previous node."), outputs exist, no cycle ("... the
 * graph is not acyclic."), one producer each, uses consistent; sorts nodes topologically
 * (stable: order kept where legal). Recurses without limit on the C stack only up to depth 64. */
mrt_status *mrt_graph_verify(mrt_graph *g) MRT_MUST_CHECK;
/* "node 'conv1' (Conv-11)" for messages, into buf; returns buf. */
const char *mrt_node_describe(const mrt_node *node, char *buf, size_t cap);

#endif
