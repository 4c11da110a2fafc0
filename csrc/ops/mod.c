/* Mod: integer remainder with the divisor's sign, or with fmod = 1 C's remainder (the dividend's
 * sign), which floating types must ask for. */
#include "ops/binary.h"

#define MRT_TEMPLATE "ops/mod.inl"
#include "tensor/each_int.h"

static void fmod_f32(const float *a, int64_t sa, const float *b, int64_t sb, float *out,
                     int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = fmodf(a[i * sa], b[i * sb]);
}
static void fmod_f64(const double *a, int64_t sa, const double *b, int64_t sb, double *out,
                     int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = fmod(a[i * sa], b[i * sb]);
}
static const mrt_row2 mod_table[MRT_DTYPE_COUNT] = {
    [MRT_INT8] = (mrt_row2)mod_i8,    [MRT_INT16] = (mrt_row2)mod_i16,
    [MRT_INT32] = (mrt_row2)mod_i32,  [MRT_INT64] = (mrt_row2)mod_i64,
    [MRT_UINT8] = (mrt_row2)mod_u8,   [MRT_UINT16] = (mrt_row2)mod_u16,
    [MRT_UINT32] = (mrt_row2)mod_u32, [MRT_UINT64] = (mrt_row2)mod_u64};
static const mrt_row2 fmod_table[MRT_DTYPE_COUNT] = {
    [MRT_INT8] = (mrt_row2)fmod_i8,    [MRT_INT16] = (mrt_row2)fmod_i16,
    [MRT_INT32] = (mrt_row2)fmod_i32,  [MRT_INT64] = (mrt_row2)fmod_i64,
    [MRT_UINT8] = (mrt_row2)fmod_u8,   [MRT_UINT16] = (mrt_row2)fmod_u16,
    [MRT_UINT32] = (mrt_row2)fmod_u32, [MRT_UINT64] = (mrt_row2)fmod_u64,
    [MRT_FLOAT] = (mrt_row2)fmod_f32,  [MRT_DOUBLE] = (mrt_row2)fmod_f64};

/* a mod b = a - floor(a / b) * b, where both are known not to be negative. */
static const mrt_expr *fold_mod(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b) {
  int64_t lo, hi, l2, h2;
  if (!a || !b) return NULL;
  mrt_expr_bounds(a, &lo, &hi);
  mrt_expr_bounds(b, &l2, &h2);
  if (lo < 0 || l2 <= 0) return NULL;
  return mrt_expr_sub(t, a, mrt_expr_mul(t, mrt_expr_floordiv(t, a, b), b));
}
static mrt_status *mod_infer(mrt_infer *c) {
  mrt_dtype d = mrt_infer_dtype(c, 0);
  int64_t fm = mrt_node_int(c->node, "fmod");
  if (fm != 0 && fm != 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "fmod must have value either 0 or 1");
  if (d && !mrt_dtype_is_int(d) && !fm)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "fmod attribute must be true for floating point types");
  return mrt_infer_pair(c, fold_mod);
}
static mrt_status *mod_run(mrt_kctx *c) {
  bool fm = mrt_node_int(c->node, "fmod") != 0;
  mrt_dtype d = (mrt_dtype)mrt_in(c, 0)->dtype;
  if (!fm && !mrt_dtype_is_int(d))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "fmod attribute must be true for floating point types");
  return mrt_run_pair(c, fm ? fmod_table : mod_table);
}

static const mrt_op_version mod_v[] = {{10}, {13}, {0}};
MRT_OP(Mod) = {.domain = "",
               .name = "Mod",
               .doc = "remainder of a / b",
               .in = "A:T, B:T",
               .out = "C:T",
               .types = "T=" MRT_T_NUMERIC,
               .attrs = "fmod:int=0",
               .versions = mod_v,
               .flags = MRT_OP_ELEMENTWISE,
               .infer = mod_infer,
               .run = mod_run};
