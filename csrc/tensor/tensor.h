/* Runtime values. Every value is a counted object that begins with mrt_value; a tensor is the most
 * common kind. Tensors describe memory they may or may not own: `release` is called once when the
 * last reference goes (NULL: memory of somebody else, who outlives the tensor).
 *
 * A value that carries MRT_VALUE_BORROWED lives inside a run frame and its memory is reused after
 * the run: whoever wants to keep it calls mrt_value_keep, which copies it then. */
#ifndef MRT_TENSOR_TENSOR_H
#define MRT_TENSOR_TENSOR_H

#include <stdatomic.h>

#include "base/file.h"
#include "base/str.h"
#include "tensor/dtype.h"

#define MRT_MAX_RANK 16

typedef enum mrt_kind {
  MRT_KIND_NONE = 0,
  MRT_KIND_TENSOR,
  MRT_KIND_SEQUENCE,
  MRT_KIND_MAP,
  MRT_KIND_OPTIONAL,
  MRT_KIND_SPARSE,
} mrt_kind;

/* Device numbers are OrtDevice's; MRT_DEVICE_TEST is the provider that proves the contracts. */
typedef enum mrt_device_type {
  MRT_DEVICE_CPU = 0,
  MRT_DEVICE_GPU = 1,
  MRT_DEVICE_FPGA = 2,
  MRT_DEVICE_NPU = 3,
  MRT_DEVICE_TEST = 100,
} mrt_device_type;

typedef struct mrt_device {
  uint8_t type;     /* mrt_device_type */
  uint8_t mem_type; /* 0 default */
  uint16_t vendor;  /* PCI vendor id, 0 none */
  int32_t id;
} mrt_device;
#define MRT_HOST ((mrt_device){0})
/* Only then may code outside a provider touch `data`. */
static inline bool mrt_device_is_host(mrt_device d) { return d.type == MRT_DEVICE_CPU; }
static inline bool mrt_device_same(mrt_device a, mrt_device b) {
  return a.type == b.type && a.id == b.id && a.vendor == b.vendor && a.mem_type == b.mem_type;
}

/* Physical arrangement of a value inside one provider's plan; dims stay logical (N, C, H, W). */
typedef enum mrt_layout {
  MRT_LAYOUT_PLAIN = 0, /* row major over dims */
  MRT_LAYOUT_C16,       /* [N, ceil(C/16), spatial..., 16] */
  MRT_LAYOUT_NHWC,      /* [N, spatial..., C] */
} mrt_layout;

enum {
  MRT_VALUE_BORROWED = 1,
  MRT_VALUE_READONLY = 2,
  MRT_VALUE_FORGOTTEN = 4,
  MRT_VALUE_UNLOADED = 8,
  MRT_VALUE_INGREDIENT = 16,
  MRT_VALUE_NESTED = 32 /* of a model's constant: only subgraphs read it, perhaps no run does */
};

typedef struct mrt_value {
  atomic_int refs;
  uint8_t kind;  /* mrt_kind */
  uint8_t flags; /* MRT_VALUE_ */
} mrt_value;

/* How a constant that was computed when a model was loaded is computed again. It reads tensors that
 * live as long as the constant, and says whether they can still be read. Those may have recipes
 * themselves: `steps` counts this one and all that it leads to, as often as it leads there, and is
 * bounded, so that making one ends soon and needs little stack. */
typedef struct mrt_tensor mrt_tensor;
typedef struct mrt_recipe mrt_recipe;
enum { MRT_RECIPE_STEPS = 64 }; /* at most; results of more have no recipe */
struct mrt_recipe {
  mrt_status *(*make)(const mrt_recipe *r, const mrt_alloc *alloc, mrt_tensor **out);
  bool (*intact)(const mrt_recipe *r);
  int steps;
  /* Adds what decides the result, see mrt_tensor_origin; NULL: cannot say. */
  bool (*origin)(const mrt_recipe *r, mrt_str *out);
};

struct mrt_tensor {
  mrt_value base;
  uint8_t dtype;   /* mrt_dtype */
  uint8_t layout;  /* mrt_layout */
  bool strided;    /* false: contiguous, strides not filled in */
  uint8_t readers; /* of a model's constant: see mrt_model_sweep */
  uint8_t narrow;  /* of a float32 constant: the type of 2 bytes that holds all of its elements
                      exactly, MRT_FLOAT16 or MRT_BFLOAT16; 0: none is known */
  uint8_t parts;   /* of a value in MRT_LAYOUT_C16: so many bf16 numbers whose sum is the element
                      stand in its place (provider/cpu/conv/conv_split.h), said by who has made it
                      for the only one who reads it; 0: floats */
  int rank;
  void *data;   /* element 0; on mrt_device_is_host(device) only */
  size_t bytes; /* of the contiguous contents */
  mrt_device device;
  void (*release)(void *ctx, struct mrt_tensor *tensor);
  void *ctx;
  const mrt_alloc *alloc;   /* of this object (and its data when release is NULL and owns) */
  const mrt_recipe *recipe; /* NULL: none */
  /* The last: counted tensors end behind those that they have, see mrt_tensor_look. */
  int64_t dims[MRT_MAX_RANK];
  int64_t strides[MRT_MAX_RANK]; /* in elements, may be negative or 0; only if strided */
};

typedef struct mrt_string { /* immutable, counted; NULL pointer = empty string */
  atomic_int refs;
  size_t len;
  char bytes[]; /* len bytes + 0, UTF-8 or whatever the model held */
} mrt_string;

/* --- any value --- */
mrt_value *mrt_value_retain(mrt_value *v); /* atomic; NULL stays NULL; not for borrowed values */
void mrt_value_release(mrt_value *v);      /* NULL is fine */
/* A reference that may be kept: retains, or copies a borrowed (host) tensor. */
mrt_status *mrt_value_keep(const mrt_alloc *alloc, mrt_value *v, mrt_value **out) MRT_MUST_CHECK;
static inline mrt_tensor *mrt_value_tensor(const mrt_value *v) { /* NULL if not a tensor */
  return v && v->kind == MRT_KIND_TENSOR ? (mrt_tensor *)v : NULL;
}

/* --- tensors --- */
/* Own host memory, 64-byte aligned, uninitialised (strings: all empty). */
mrt_status *mrt_tensor_create(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                              const int64_t *dims, mrt_tensor **out) MRT_MUST_CHECK;
/* The same for a layout: `bytes` and the memory are those of mrt_layout_bytes. */
mrt_status *mrt_tensor_create_in(const mrt_alloc *alloc, mrt_dtype dtype, mrt_layout layout,
                                 int rank, const int64_t *dims, mrt_tensor **out) MRT_MUST_CHECK;
/* Over foreign memory. strides NULL: contiguous. release may be NULL. On failure release is not
 * called. */
mrt_status *mrt_tensor_wrap(const mrt_alloc *alloc, mrt_dtype dtype, int rank, const int64_t *dims,
                            const int64_t *strides, void *data, mrt_device device,
                            void (*release)(void *ctx, mrt_tensor *tensor), void *ctx,
                            mrt_tensor **out) MRT_MUST_CHECK;
/* Over n bytes of a blob, which it keeps alive; n must be what the shape needs. The bytes may lie
 * misaligned, as in most model files: see mrt_tensor_is_aligned. */
mrt_status *mrt_tensor_over_blob(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                                 const int64_t *dims, mrt_blob *blob, const void *data, size_t n,
                                 mrt_tensor **out) MRT_MUST_CHECK;
/* The same, but a copy in memory until it is unloaded: then it is what lies in the blob. */
mrt_status *mrt_tensor_from_blob(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                                 const int64_t *dims, mrt_blob *blob, const void *data, size_t n,
                                 mrt_tensor **out) MRT_MUST_CHECK;
/* May its elements be read as such? Tensors of other memories count as aligned, forgotten ones
 * do not. Kernels see aligned
 * tensors only; what reads constants earlier (passes) asks, or uses mrt_var_align. */
bool mrt_tensor_is_aligned(const mrt_tensor *t);
/* Of a tensor over a mapped file: its pages are not needed soon (they were packed). */
void mrt_tensor_drop_pages(const mrt_tensor *t);
/* The same of one that hardly anybody will read again. A constant with a recipe gives its memory
 * back (mrt_tensor_is_forgotten) if nobody else holds it. */
void mrt_tensor_unload(mrt_tensor *t);
/* A contiguous, aligned copy of what was unloaded, whose pages of a file are given back again;
 * MRT_FAIL if its file has changed. What a recipe made has that recipe too. */
mrt_status *mrt_tensor_again(const mrt_alloc *alloc, const mrt_tensor *t,
                             mrt_tensor **out) MRT_MUST_CHECK;
/* Recipes read it: it stays in memory unless it lies in a file or has one itself. */
void mrt_tensor_is_ingredient(mrt_tensor *t);
static inline int mrt_tensor_steps(const mrt_tensor *t) { /* of its recipe; NULL is fine */
  return t && t->recipe ? t->recipe->steps : 0;
}
/* A constant that is made when somebody needs it: forgotten from the start. */
mrt_status *mrt_tensor_create_later(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                                    const int64_t *dims, const mrt_recipe *recipe,
                                    mrt_tensor **out) MRT_MUST_CHECK;
/* May a constant of that kind be made later? Large float32 matrices, which nothing but kernels
 * (and recipes) reads: the engine hands those to a kernel that is made. */
bool mrt_tensor_may_be_later(mrt_dtype dtype, int rank, const int64_t *dims);
/* Of a tensor over a mapped file that was not unloaded and may be read at each run: notes its pages
 * for mrt_tensor_settle, unless they may stay the file's (see mrt_blob_keeps_all). */
mrt_status *mrt_tensor_keep(const mrt_tensor *t) MRT_MUST_CHECK;
mrt_status *mrt_tensor_settle(const mrt_tensor *t) MRT_MUST_CHECK;
/* Adds bytes that are equal only for constants of equal contents, as far as that can be said
 * without reading much: places in files, steps of folding. false: it cannot (some may have been
 * added). */
bool mrt_tensor_origin(const mrt_tensor *t, mrt_str *out);
/* May it be read, perhaps from its file again? */
bool mrt_tensor_is_intact(const mrt_tensor *t);
/* Unloads, or frees the contents of a tensor that nobody else holds: data is NULL then. */
void mrt_tensor_forget(mrt_tensor *t);
static inline bool mrt_tensor_is_forgotten(const mrt_tensor *t) {
  return t->base.flags & MRT_VALUE_FORGOTTEN;
}
/* Where its bytes lie in a file; false: in none (or nobody knows). */
bool mrt_tensor_file_place(const mrt_tensor *t, mrt_file_place *out);
/* Fills a caller's tensor struct (a frame slot) over memory that it does not own: no failure. The
 * dims must have been checked (mrt_shape_bytes). */
void mrt_tensor_init_view(mrt_tensor *t, mrt_dtype dtype, int rank, const int64_t *dims, void *data,
                          size_t bytes, mrt_device device);
/* The caller's struct describes what t does, and is not counted. (Assignment would read dims that t
 * has no memory for.) */
void mrt_tensor_look(mrt_tensor *out, const mrt_tensor *t);
/* Contiguous copy in host memory (source: any strides, host). */
mrt_status *mrt_tensor_copy(const mrt_alloc *alloc, const mrt_tensor *src,
                            mrt_tensor **out) MRT_MUST_CHECK;
/* Copies elements between host tensors of equal shape and dtype, any strides. */
mrt_status *mrt_tensor_copy_into(mrt_tensor *dst, const mrt_tensor *src) MRT_MUST_CHECK;
static inline void mrt_tensor_retain(mrt_tensor *t) { mrt_value_retain(&t->base); }
static inline void mrt_tensor_release(mrt_tensor *t) { mrt_value_release(t ? &t->base : NULL); }
int64_t mrt_tensor_count(const mrt_tensor *t); /* elements */
bool mrt_tensor_is_contiguous(const mrt_tensor *t);

/* --- shapes --- */
/* Elements / bytes of a shape; MRT_INVALID_ARGUMENT on a negative dim, MRT_FAIL on overflow. */
mrt_status *mrt_shape_count(int rank, const int64_t *dims, int64_t *out) MRT_MUST_CHECK;
mrt_status *mrt_shape_bytes(mrt_dtype dtype, int rank, const int64_t *dims,
                            size_t *out) MRT_MUST_CHECK;
/* Bytes of a tensor in a layout (C16 rounds channels up). */
mrt_status *mrt_layout_bytes(mrt_dtype dtype, mrt_layout layout, int rank, const int64_t *dims,
                             size_t *out) MRT_MUST_CHECK;
bool mrt_shape_equal(int rank_a, const int64_t *a, int rank_b, const int64_t *b);
/* "{2,3}" into buf; returns buf. */
const char *mrt_shape_format(char *buf, size_t cap, int rank, const int64_t *dims);

/* --- numpy broadcasting --- */
/* Walks an output shape while reading inputs with stride 0 where they are broadcast. Adjacent dims
 * are merged, so most loops have rank 1 or 2. */
#define MRT_BCAST_MAX 8 /* inputs */
typedef struct mrt_bcast {
  int n_in;
  int rank;                                     /* after merging, >= 1 */
  int64_t dims[MRT_MAX_RANK];                   /* output */
  int64_t strides[MRT_BCAST_MAX][MRT_MAX_RANK]; /* elements */
} mrt_bcast;
/* MRT_INVALID_ARGUMENT when an input does not broadcast to out_dims. Inputs may be strided. */
mrt_status *mrt_bcast_init(mrt_bcast *b, int n_in, const mrt_tensor *const *in, int out_rank,
                           const int64_t *out_dims) MRT_MUST_CHECK;
/* Calls fn once per innermost row: offsets[i] = element offset of input i, `out` = element offset
 * of the (contiguous) output, n = row length; input i's step along the row is
 * b->strides[i][b->rank-1]. */
typedef void (*mrt_bcast_row_fn)(void *arg, const int64_t *offsets, int64_t out, int64_t n);
void mrt_bcast_each_row(const mrt_bcast *b, mrt_bcast_row_fn fn, void *arg);
mrt_status *mrt_broadcast_shapes(int rank_a, const int64_t *a, int rank_b, const int64_t *b,
                                 int *out_rank, int64_t *out) MRT_MUST_CHECK;

/* --- strings --- */
mrt_status *mrt_string_create(const mrt_alloc *alloc, const char *bytes, size_t len,
                              mrt_string **out) MRT_MUST_CHECK; /* len 0 gives NULL */
mrt_string *mrt_string_retain(mrt_string *s);                   /* NULL stays NULL */
void mrt_string_release(mrt_string *s); /* strings remember nothing: they use the default
                                           allocator whatever `alloc` was */
static inline const char *mrt_string_bytes(const mrt_string *s) { return s ? s->bytes : ""; }
static inline size_t mrt_string_len(const mrt_string *s) { return s ? s->len : 0; }
/* After a raw move of pointers into a string tensor: takes one reference for each element. */
void mrt_tensor_retain_strings(mrt_tensor *t);

/* --- other kinds --- */
typedef struct mrt_sequence {
  mrt_value base;
  const mrt_alloc *alloc;
  uint8_t elem_dtype; /* of tensor elements; MRT_UNDEFINED if elements are not tensors */
  size_t n, cap;
  mrt_value **items; /* owned references */
} mrt_sequence;
typedef struct mrt_mapping { /* map(K, V): two 1-D tensors of equal length */
  mrt_value base;
  const mrt_alloc *alloc;
  mrt_tensor *keys, *values; /* keys int64 or string */
} mrt_mapping;
typedef struct mrt_optional {
  mrt_value base;
  const mrt_alloc *alloc;
  mrt_value *item; /* NULL: empty */
} mrt_optional;
typedef struct mrt_sparse { /* COO */
  mrt_value base;
  const mrt_alloc *alloc;
  int rank;
  int64_t dims[MRT_MAX_RANK];
  mrt_tensor *values;  /* [nnz] */
  mrt_tensor *indices; /* int64 [nnz] linear or [nnz, rank] */
} mrt_sparse;

mrt_status *mrt_sequence_create(const mrt_alloc *alloc, mrt_dtype elem_dtype,
                                mrt_sequence **out) MRT_MUST_CHECK;
mrt_status *mrt_sequence_append(mrt_sequence *s,
                                mrt_value *take) MRT_MUST_CHECK; /* owns it, even on failure */
mrt_status *mrt_mapping_create(const mrt_alloc *alloc, mrt_tensor *take_keys,
                               mrt_tensor *take_values, mrt_mapping **out) MRT_MUST_CHECK;
mrt_status *mrt_optional_create(const mrt_alloc *alloc, mrt_value *take_item,
                                mrt_optional **out) MRT_MUST_CHECK;
mrt_status *mrt_sparse_create(const mrt_alloc *alloc, int rank, const int64_t *dims,
                              mrt_tensor *take_values, mrt_tensor *take_indices,
                              mrt_sparse **out) MRT_MUST_CHECK;
/* Dense host copy. */
mrt_status *mrt_sparse_to_dense(const mrt_alloc *alloc, const mrt_sparse *s,
                                mrt_tensor **out) MRT_MUST_CHECK;

#endif
