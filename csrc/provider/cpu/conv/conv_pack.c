/* Packed weights of dense convolutions: [group][panel of 32 channels][k][32], as floats or in 2
 * bytes each; those of other ways to compute are packed by their own files. */
#include <string.h>

#include "provider/cpu/conv/conv_kernel.h"
#include "provider/cpu/conv/conv_split.h"
#include "tensor/dtype.h"

enum { PANEL = MRT_GEMM_PANEL };

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

void mrt_conv_narrow_to(mrt_conv_narrow narrow, const float *src, int64_t n, void *dst) {
  if (narrow == MRT_CONV_WIDE)
    memcpy(dst, src, (size_t)n * sizeof *src);
  else
    mrt_convert_from_f32(narrow == MRT_CONV_F16 ? MRT_FLOAT16 : MRT_BFLOAT16, dst, 0, n, src);
}

int64_t mrt_conv_group_size(const mrt_conv *p) {
  const int64_t k = p->cin / p->groups * p->kh * p->kw;
  return ceil_div(p->cout / p->groups, PANEL) * PANEL * k;
}

size_t mrt_conv_packed_size(const mrt_conv *p) {
  if (p->winograd) return mrt_conv_winograd_packed_size(p);
  if (p->parts) return mrt_conv_split_packed_size(p);
  if (mrt_conv_is_depthwise(p))
    return (size_t)(mrt_c16_blocks(p->cout) * 16 * p->kh * p->kw) * sizeof(float);
  return (size_t)(mrt_conv_group_size(p) * p->groups) * mrt_conv_width(p);
}

typedef struct pack_job {
  const mrt_conv *p;
  const float *weights;
  char *dst;
  int64_t panels, chunks; /* panels of a group */
} pack_job;

/* Row k of a panel: (ky, kx, channel), or (channel, ky, kx) when the input is plain. */
static void pack_panel(const pack_job *j, int64_t group, int64_t panel) {
  const mrt_conv *p = j->p;
  const int64_t cin = p->cin / p->groups, cout = p->cout / p->groups, taps = p->kh * p->kw;
  const int64_t at = group * mrt_conv_group_size(p) + panel * PANEL * cin * taps;
  char *dst = j->dst + (size_t)at * mrt_conv_width(p);
  float row[PANEL];
  const int64_t o0 = panel * PANEL, cols = min_i64(PANEL, cout - o0);
  for (int64_t c = 0; c < cin; ++c)
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t k = p->input_nchw ? c * taps + t : t * cin + c;
      for (int64_t o = 0; o < PANEL; ++o)
        row[o] = o < cols ? j->weights[((group * cout + o0 + o) * cin + c) * taps + t] : 0.0f;
      mrt_conv_narrow_to(p->narrow, row, PANEL, dst + (size_t)(k * PANEL) * mrt_conv_width(p));
    }
}

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const pack_job *j = arg;
  const int64_t units = j->panels * j->p->groups, end = mrt_par_begin(units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(units, j->chunks, chunk); u < end; ++u)
    pack_panel(j, u / j->panels, u % j->panels);
}

void mrt_conv_pack(const mrt_par *par, const mrt_conv *p, const float *weights, void *dst) {
  if (p->winograd) {
    mrt_conv_winograd_pack(par, p, weights, dst);
    return;
  }
  if (p->parts) {
    mrt_conv_split_pack(mrt_conv_split_kernels_get(), par, p, weights, dst);
    return;
  }
  if (mrt_conv_is_depthwise(p)) {
    mrt_conv_depthwise_pack(p, weights, dst);
    return;
  }
  pack_job j = {p, weights, dst, ceil_div(p->cout / p->groups, PANEL), 1};
  j.chunks =
      mrt_par_chunks(j.panels * p->groups, (double)(mrt_conv_group_size(p) * p->groups) * 2.0);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
}
