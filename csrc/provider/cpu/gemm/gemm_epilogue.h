/* How the drivers of gemm/ turn a mrt_gemm_epilogue into the constants of a tile. */
#ifndef MRT_PROVIDER_CPU_GEMM_EPILOGUE_H
#define MRT_PROVIDER_CPU_GEMM_EPILOGUE_H

#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/gemm/gemm_kernel.h"

/* Sets alpha, beta, lo, hi and CLIP; returns the activation to apply afterwards, NULL if none. */
static inline mrt_ew_fn mrt_gemm_epilogue_tile(const mrt_gemm_epilogue *e, mrt_tile *t) {
  t->alpha = e->alpha;
  t->beta = e->beta;
  if (e->act.op == MRT_EW_RELU || e->act.op == MRT_EW_CLIP) {
    t->flags |= MRT_TILE_CLIP;
    t->lo = e->act.op == MRT_EW_RELU ? 0.0f : e->act.p[0];
    t->hi = e->act.op == MRT_EW_RELU ? __builtin_inff() : e->act.p[1];
    return NULL;
  }
  return e->act.op == MRT_EW_COPY ? NULL : mrt_ew_find(e->act.op);
}

/* The right side that panel `*panel` of the whole belongs to; *panel becomes its panel there. */
static inline const mrt_gemm_side *mrt_gemm_side_at(const mrt_gemm *g, int64_t *panel) {
  const mrt_gemm_side *s = g->sides;
  for (int64_t n; *panel >= (n = (s->n + MRT_GEMM_PANEL - 1) / MRT_GEMM_PANEL); ++s) *panel -= n;
  return s;
}
/* The only right side of a product without a list of them. */
static inline mrt_gemm_side mrt_gemm_side_of(const mrt_gemm *g) {
  return (mrt_gemm_side){g->n, g->b, g->b16, g->c, g->ldc, g->epi ? g->epi->bias : NULL};
}

/* Applies a transcendental activation to the tile just stored, still in L1. */
static inline void mrt_gemm_activate(mrt_ew_fn fn, const mrt_act *act, const mrt_tile *t,
                                     int64_t rows) {
  for (int64_t r = 0; r < rows; ++r)
    fn(t->c + r * t->c_row, t->c + r * t->c_row, NULL, NULL, act->p, t->cols);
}

#endif
