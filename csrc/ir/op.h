/* What an operator is. A row (mrt_op_def) says everything about it: signature, versions and how to
 * rewrite older forms, shape inference, and the reference kernel that says what it means. Rows live
 * in ops/, one file per operator or tight family; the build lists them (lines that start with
 * MRT_OP). Nobody else has a switch over operators.
 *
 * Inference is the only place that knows an operator's output shape. It runs at load time on
 * symbolic types, and again at run time on concrete shapes and values where load time could not
 * know; kernels get their outputs allocated with the inferred shape. Only operators whose output
 * size depends on computed data (NonZero, Unique, ...) say MRT_OP_DYNAMIC and allocate themselves.
 */
#ifndef MRT_IR_OP_H
#define MRT_IR_OP_H

#include <stdatomic.h>

#include "base/threads.h"
#include "ir/ir.h"

/* ---------------- inference ---------------- */
typedef struct mrt_infer {
  const mrt_node *node;
  mrt_symtab *sym;
  mrt_model *model; /* types and memory come from here (mrt_infer_alloc) */
  mrt_arena *arena;
  int n_in, n_out;                        /* = node's */
  const mrt_type *const *in_types;        /* [n_in]; NULL: absent input or unknown type */
  const mrt_tensor *const *in_consts;     /* [n_in]; host tensor known now, else NULL */
  const mrt_expr *const *const *in_elems; /* [n_in]; symbolic contents, else NULL */
  const int *in_n_elems;
  const mrt_type **out_types; /* [n_out], set by infer; left NULL = unknown */
  const mrt_expr *const **out_elems;
  int *out_n_elems;
  bool concrete; /* run time: all types known, all consts there */
  /* Subgraph inference (If/Loop/Scan): set by whoever drives; NULL: cannot. Gives the subgraph's
   * inputs these types (NULL entries: keep declared), infers it, returns output types. */
  mrt_status *(*subgraph)(struct mrt_infer *ctx, mrt_graph *g, int n_in,
                          const mrt_type *const *in_types, const mrt_type **out_types);
  /* Equality that symbolic inference relied on (guard); set by whoever drives. */
  mrt_status *(*guard)(struct mrt_infer *ctx, const mrt_expr *a, const mrt_expr *b, int kind);
  void *driver;
} mrt_infer;

/* All of these are safe with absent inputs and unknown ranks. */
bool mrt_infer_has(const mrt_infer *c, int i);        /* input i is connected */
mrt_dtype mrt_infer_dtype(const mrt_infer *c, int i); /* MRT_UNDEFINED if not known */
int mrt_infer_rank(const mrt_infer *c, int i);        /* -1 if not known */
const mrt_expr *mrt_infer_dim(const mrt_infer *c, int i,
                              int axis); /* NULL if not known; axis >= 0 */
const mrt_tensor *mrt_infer_const(const mrt_infer *c, int i);
/* Integer contents of input i (a constant or symbolic elements) as expressions; *n = -1 if not
 * known. Elements may be NULL one by one. */
const mrt_expr *const *mrt_infer_ints(const mrt_infer *c, int i, int *n);
/* The same where all are plain numbers; false if not. Copies up to cap. */
bool mrt_infer_const_ints(const mrt_infer *c, int i, int cap, int64_t *out, int *n);
mrt_status *mrt_infer_out(mrt_infer *c, int i, mrt_dtype dtype, int rank,
                          const mrt_expr *const *dims) MRT_MUST_CHECK; /* rank -1: unknown */
mrt_status *mrt_infer_out_type(mrt_infer *c, int i, const mrt_type *type) MRT_MUST_CHECK;
/* Same shape as input `in`, with this dtype (MRT_UNDEFINED: of input `in`). */
mrt_status *mrt_infer_out_like(mrt_infer *c, int i, int in, mrt_dtype dtype) MRT_MUST_CHECK;
/* Symbolic contents of output i (integer tensors of at most 64 elements). */
mrt_status *mrt_infer_out_elems(mrt_infer *c, int i, int n,
                                const mrt_expr *const *elems) MRT_MUST_CHECK;
/* a and b must be equal: error when both are known and differ; a guard when symbolic. *out = the
 * more specific of the two. */
mrt_status *mrt_infer_same_dim(mrt_infer *c, const mrt_expr *a, const mrt_expr *b, const char *what,
                               const mrt_expr **out) MRT_MUST_CHECK;
/* numpy broadcasting of inputs first..first+n-1 (absent ones skipped). *rank -1 when unknown. */
mrt_status *mrt_infer_broadcast(mrt_infer *c, int first, int n, int *rank,
                                const mrt_expr **dims) MRT_MUST_CHECK;
/* One dim of a broadcast: the larger of the two where they agree or one is 1 (else an error, or a
 * guard when symbolic). */
mrt_status *mrt_infer_broadcast_dim(mrt_infer *c, const mrt_expr *a, const mrt_expr *b,
                                    const mrt_expr **out) MRT_MUST_CHECK;
/* Axis attribute or input normalised to [0, rank); error text of ONNX Runtime when out of range. */
mrt_status *mrt_infer_axis(const mrt_infer *c, int64_t axis, int rank, int *out) MRT_MUST_CHECK;
void *mrt_infer_alloc(mrt_infer *c, size_t bytes); /* zeroed arena memory; NULL: no memory */
/* "[ShapeInferenceError] ..." is prepended by the driver: messages say only what is wrong. */

/* Ready-made ones. */
mrt_status *mrt_infer_same_shape(mrt_infer *c);  /* out0 like in0 */
mrt_status *mrt_infer_elementwise(mrt_infer *c); /* broadcast of all inputs, dtype of in0 */
mrt_status *mrt_infer_compare(mrt_infer *c);     /* broadcast of all inputs, bool */

/* ---------------- kernels ---------------- */
/* A slot holds what a var is bound to during a run. */
typedef struct mrt_slot {
  mrt_value *value;   /* NULL: nothing there (absent optional, or not yet produced) */
  mrt_tensor *tensor; /* of a frame: storage for a planned one, value == &tensor->base then */
} mrt_slot;

typedef struct mrt_kctx mrt_kctx;
typedef struct mrt_kctx_vtbl {
  mrt_status *(*scratch)(mrt_kctx *c, size_t bytes, void **out);
  mrt_status *(*alloc_output)(mrt_kctx *c, int i, mrt_dtype dtype, int rank, const int64_t *dims,
                              mrt_tensor **out);
  mrt_status *(*set_output)(mrt_kctx *c, int i, mrt_value *take);
  mrt_status *(*run_subgraph)(mrt_kctx *c, int which, int n_in, mrt_value *const *in, int n_out,
                              mrt_value **out);
} mrt_kctx_vtbl;
struct mrt_kctx {
  const mrt_node *node;
  mrt_slot *const *in;  /* [n_in]; NULL: absent */
  mrt_slot *const *out; /* [n_out]; NULL: unwanted */
  int n_in, n_out;
  mrt_par par;
  const mrt_alloc *alloc; /* for values that outlive the call */
  void *stream;           /* the provider's queue; NULL on the CPU */
  /* Runs of this node in its session so far, counted by operators with MRT_OP_RANDOM; NULL: each
   * run is the first. */
  atomic_ullong *draws;
  const mrt_kctx_vtbl *v;
  void *frame;
  const void *step; /* the frame's; a copy of this struct serves as well */
};

static inline mrt_value *mrt_in_value(const mrt_kctx *c, int i) {
  return i < c->n_in && c->in[i] ? c->in[i]->value : NULL;
}
/* NULL: absent (or not a tensor). Contiguous and in host memory unless the kernel declared else. */
static inline const mrt_tensor *mrt_in(const mrt_kctx *c, int i) {
  return mrt_value_tensor(mrt_in_value(c, i));
}
/* The output tensor, allocated with the inferred shape; NULL: unwanted, or MRT_OP_DYNAMIC. */
static inline mrt_tensor *mrt_out(const mrt_kctx *c, int i) {
  return i < c->n_out && c->out[i] ? mrt_value_tensor(c->out[i]->value) : NULL;
}
static inline bool mrt_out_wanted(const mrt_kctx *c, int i) { return i < c->n_out && c->out[i]; }
/* MRT_OP_DYNAMIC operators: makes output i with this shape. Not for unwanted outputs. */
mrt_status *mrt_out_alloc(mrt_kctx *c, int i, mrt_dtype dtype, int rank, const int64_t *dims,
                          mrt_tensor **out) MRT_MUST_CHECK;
/* Sequences, maps, optionals (and tensors that exist already): gives the reference away, also on
 * failure. Unwanted: released. */
mrt_status *mrt_out_set(mrt_kctx *c, int i, mrt_value *take) MRT_MUST_CHECK;
/* 64-byte aligned memory until the kernel returns; calls add up; not zeroed. */
mrt_status *mrt_scratch(mrt_kctx *c, size_t bytes, void **out) MRT_MUST_CHECK;
/* Runs subgraph number `which` of the node (order of mrt_node_subgraphs) on `in` (borrowed); gives
 * owned references in `out` (NULL entries: skip). Polls for cancellation. */
mrt_status *mrt_run_subgraph(mrt_kctx *c, int which, int n_in, mrt_value *const *in, int n_out,
                             mrt_value **out) MRT_MUST_CHECK;

/* ---------------- the row ---------------- */
typedef struct mrt_op_version {
  int since;                              /* first opset of this form */
  mrt_status *(*upgrade)(mrt_node *node); /* rewrites to the next row's form; NULL: same form */
} mrt_op_version;

enum {
  MRT_OP_DYNAMIC = 1, /* allocates its outputs itself (data-dependent sizes, non-tensors) */
  MRT_OP_VIEW = 2,    /* output 0 is input 0's bytes under another shape */
  MRT_OP_COMMUTATIVE = 4,
  MRT_OP_RANDOM = 8,        /* never folded, never merged */
  MRT_OP_CONTROL = 16,      /* has subgraphs and runs them */
  MRT_OP_SHAPE_ONLY = 32,   /* reads only the shape of input 0 (Shape, Size) */
  MRT_OP_STRIDED = 64,      /* the reference kernel reads strided inputs */
  MRT_OP_ELEMENTWISE = 128, /* out[i] depends only on in[i] (broadcast): may be grouped, tiled */
  MRT_OP_ORDERED = 256,     /* side effects (collectives): keep the order among these */
  MRT_OP_TRANSFER = 512,    /* moves a value between memories: the engine makes the kernel */
  MRT_OP_BYTES = 1024,      /* the reference kernel moves input 0 as bytes: any alignment will do */
  MRT_OP_WIDENS = 2048,     /* a constant grows here (dequantised): folded after providers fused */
  MRT_OP_WEIGHTS = 4096, /* no pass or fusion looks at elements of its constants, only kernels do */
};

/* Signatures are small strings, parsed when a model is loaded:
 *   .in / .out  "X:T, W:T, B:T?"   name:type, `?` optional, `*` variadic (same type),
 *               `**` variadic (each its own type); type = a variable of .types, an element type
 *               ("int64"), seq(T), opt(T), or "any"
 *   .types      "T=float,double,float16; I=int32,int64"   (MRT_T_ sets below)
 *   .attrs      "axis:int=-1 keepdims:int=1 pads:ints mode:string=constant body:graph!
 *                value:tensor alpha:float=0.01"   `!` required; without `=` optional */
#define MRT_T_FLOATS  "float,double,float16,bfloat16"
#define MRT_T_INTS    "int8,int16,int32,int64,uint8,uint16,uint32,uint64"
#define MRT_T_NUMERIC MRT_T_FLOATS "," MRT_T_INTS
#define MRT_T_FLOAT8  "float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz"
#define MRT_T_SMALL   "int4,uint4,float4e2m1,float8e8m0,int2,uint2"
#define MRT_T_ANY     MRT_T_NUMERIC ",bool,string,complex64,complex128," MRT_T_FLOAT8 "," MRT_T_SMALL

struct mrt_op_def {
  const char *domain; /* "" ai.onnx, "com.microsoft", "macart" (internal fused ones), ... */
  const char *name;
  const char *doc; /* one line: what it computes */
  const char *in, *out, *types, *attrs;
  const mrt_op_version *versions; /* ascending, ends with {0} */
  int removed_in;                 /* first opset without it; 0: still there */
  uint32_t flags;
  /* Output i may take over input inplace[k].in when that input dies here and sizes agree. */
  struct {
    int8_t in, out;
  } inplace[4];                       /* `in` is 1-BASED here; {0} ends the list */
  mrt_status *(*infer)(mrt_infer *c); /* NULL: nothing known, outputs allocated by the kernel */
  mrt_status *(*run)(mrt_kctx *c);    /* reference kernel; NULL: none (must be decomposed) */
  /* Internal fused operators: replaces the node by ONNX nodes (writing out an optimized model). */
  mrt_status *(*decompose)(mrt_node *node, const mrt_op_table *ops);
  /* Operators defined by a function: replaces the node by its body (version after upgrade).
   * NULL: not a function. Used when there is neither kernel nor reference, and by tests. */
  mrt_status *(*expand)(mrt_node *node, const mrt_op_table *ops);
};
#define MRT_OP(id)         const mrt_op_def mrt_op_##id
#define MRT_OP_IN(tag, id) const mrt_op_def mrt_op_##tag##_##id
/* both forms stand at the start of a line: MRT_OP(Relu) = {...};  MRT_OP_IN(ms, Gelu) = {...}; */

/* Tables are chained: a session looks in its own (custom operators) first, then the built-in. */
struct mrt_op_table {
  const mrt_op_table *next;
  const mrt_op_def *const *rows; /* sorted by (domain, name) */
  size_t n_rows;
};
const mrt_op_def *mrt_op_find(const mrt_op_table *table, const char *domain, const char *name);
const mrt_op_table *mrt_ops_builtin(void); /* ops/registry.c */

/* Signature parsing (also for docs and checks). */
typedef struct mrt_param {
  const char *name;
  size_t name_len;
  const char *type;
  size_t type_len;
  bool optional, variadic, heterogeneous;
} mrt_param;
/* Parameter k of a signature string; false past the end (a trailing variadic repeats). */
bool mrt_sig_param(const char *sig, int k, mrt_param *out);
void mrt_sig_arity(const char *sig, int *min, int *max); /* max -1: no limit */
/* Is dtype in the set of that variable / type word? */
bool mrt_sig_allows(const mrt_op_def *def, const char *type, size_t type_len, mrt_dtype dtype);
typedef struct mrt_attr_spec {
  const char *name;
  size_t name_len;
  mrt_attr_kind kind;
  bool required, has_default;
  const char *def_text;
  size_t def_len;
} mrt_attr_spec;
bool mrt_sig_attr(const char *attrs, int k, mrt_attr_spec *out);

/* Finds the row, checks arity, attributes ("Unrecognized attribute: foo for operator Softmax",
 * required ones) and fills in defaults. Errors are ONNX Runtime's texts and codes. */
mrt_status *mrt_node_resolve(mrt_node *node, const mrt_op_table *ops) MRT_MUST_CHECK;
/* Type check of a resolved, inferred node against .in/.types ("Type Error: Type parameter (T) of
 * Optype (Add) bound to different types ..."). */
mrt_status *mrt_node_check_types(const mrt_node *node) MRT_MUST_CHECK;

#endif
