/* The constant right side of a product in its packed forms: float32 panels (mrt_gemm_pack_b) and
 * bf16 tiles (mrt_gemm.b16). Each form is made when it is first asked for; any number of threads
 * may ask. */
#ifndef MRT_PROVIDER_CPU_GEMM_MATMUL_PACK_H
#define MRT_PROVIDER_CPU_GEMM_MATMUL_PACK_H

#include <stdatomic.h>

#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/weights/packed.h"

enum { MRT_MATMUL_F32, MRT_MATMUL_BF16, MRT_MATMUL_BF16X2, MRT_MATMUL_FORMS };
typedef struct mrt_matmul_pack {
  int64_t k, n, batch; /* batch matrices; 0: nothing is packed */
  bool trans;
  _Atomic(mrt_packed *) forms[MRT_MATMUL_FORMS];
} mrt_matmul_pack;

/* Shapes alone; forms are made when they are asked for. */
void mrt_matmul_pack_describe(mrt_matmul_pack *w, const mrt_tensor *b, bool trans);
/* b: float32 or a half type, rank >= 2, [.., k, n] or, with trans, [.., n, k]; must stay readable
 * while the pack lives. Packs the form that `precision` (-1: the process default) wants in a
 * product of so many columns (0: b's own); sizes that overflow leave batch 0. */
mrt_status *mrt_matmul_pack_init(mrt_matmul_pack *w, const mrt_tensor *b, bool trans, int precision,
                                 int64_t columns) MRT_MUST_CHECK;
void mrt_matmul_pack_free(mrt_matmul_pack *w);

/* The packed form; source: the b of init. Of bf16 NULL when it cannot stand for the constant:
 * several matrices, no tiles on this machine, or finite numbers that bf16 would round to infinity.
 */
mrt_status *mrt_matmul_pack_f32(const mrt_matmul_pack *w, const mrt_tensor *source,
                                const float **out) MRT_MUST_CHECK;
mrt_status *mrt_matmul_pack_bf16(const mrt_matmul_pack *w, const mrt_tensor *source, int parts,
                                 const uint16_t **out) MRT_MUST_CHECK;

/* Few rows wait for weights from memory: with MEDIUM they read those that tiles would multiply,
 * rounded as the mode allows and half as large (MRT_NARROW_TILES), where more rows take tiles, so
 * that these are there anyway. */
bool mrt_matmul_few(const mrt_gemm *g);

/* Elements [first, first + n) of a half-float tensor as float32. */
void mrt_matmul_widen(const mrt_par *par, const mrt_tensor *t, int64_t first, int64_t n,
                      float *out);

#endif
