/* Which products are split, and how: costs from measurements, B kept as bf16 parts, and how one
 * product is cut into super-blocks, k-blocks and chunks. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/gemm/gemm_split_job.h"

enum {
  A_BYTES = 1088 << 10, /* parts of a super-block and k-block */
  SUMS_BYTES = 512 << 10,
  SUMS_BYTES_1 = 1024 << 10, /* of one part on tiles, whose A takes less beside them */
  MAX_STRIPS = 8,            /* in a super-block */
  MIN_STRIPS = 8,   /* shorten the k-block rather than go below: B is read for each super-block */
  MAX_SLICE = 24,   /* groups of one part of B, which stay near L1 */
  SHORT_SLICE = 16, /* and in L1, where several strips use them */
  DOT_SLICE = 8,    /* the same where rows are not read past L1 */
  LEAN_PIECE = 4,   /* groups of B that are split at a time */
  LONG_K = 32,      /* groups beyond which a k-block of one part is a slice: A and sums fit L2 */
  LONG = 8,         /* times the usual work in a chunk */
  TWO = 4           /* the same where there are two, of one part */
};

const mrt_split_kernels *mrt_split_kernels_get(void) {
#ifdef MRT_HAVE_AMX
  if (mrt_cpu_get()->isa & MRT_ISA_AMX) return &mrt_gemm_split_amx;
#endif
#ifdef MRT_HAVE_AVX512BF16
  if (mrt_cpu_get()->dot_bf16) return &mrt_gemm_split_dot;
#endif
  return NULL;
}

/* ---- which way ---- */
/* Nanoseconds on one core, from measurements; only ratios matter. */
double mrt_split_cost(int parts, int64_t m, int64_t n, int64_t k) {
  const mrt_split_kernels *kern = mrt_split_kernels_get();
  const mrt_split_costs *cost = kern ? &kern->costs : &mrt_gemm_split_model.costs;
  const double groups = (double)split_ceil(k, 32),
               strips = (double)(split_ceil(m, cost->rows) * cost->rows) / 32,
               panels = (double)split_ceil(n, 16) / 2,
               supers = (double)split_ceil(m, 32 * MAX_STRIPS);
  const double tiles = strips * cost->product[parts], split = supers * cost->split_b[parts];
  /* One strip does not hide the split of a panel, whose floats come from L3 or farther. */
  const double seen = strips > 1 ? 0.6 : 1.5;
  const double both = tiles + seen * split > split ? tiles + seen * split : split;
  const double first = panels < 1 ? panels : 1;
  return 150.0 + cost->block * strips * panels +
         groups * (first * tiles + (panels - first) * both) +
         2 * groups * (split + strips * cost->split_a[parts]); /* each worker for itself */
}
static double cost_fma(int64_t m, int64_t n, int64_t k) {
  const double panels = (double)split_ceil(n, 32) * 32;
  return 20.0 + panels * (double)k * ((double)m < 4 ? 4.0 : (double)m) / 115.0;
}

int mrt_gemm_split_parts(mrt_precision precision, int64_t m, int64_t n, int64_t k) {
  static const int first[] = {3, 2, 1};
  const mrt_split_kernels *kern = mrt_split_kernels_get();
  if (m < 8 || n < 16 || k < 32 || !kern) return 0;
  int best = 0;
  double cost = cost_fma(m, n, k);
  for (int parts = first[precision]; parts <= kern->most_parts; ++parts) {
    const double c = mrt_split_cost(parts, m, n, k);
    if (c < cost) {
      cost = c;
      best = parts;
    }
  }
  return best;
}

/* ---- B as bf16 ---- */
size_t mrt_gemm_packed16_size(int parts, int64_t n, int64_t k) {
  size_t tiles, bytes;
  if (!mrt_size_mul((size_t)split_ceil(n, MRT_GEMM_PANEL), (size_t)split_ceil(k, MRT_SPLIT_GROUP),
                    &tiles) ||
      !mrt_size_mul(tiles, (size_t)parts * MRT_SPLIT_GROUP_PART * sizeof(uint16_t), &bytes))
    return 0;
  return bytes;
}

void mrt_gemm_pack_panel16(const mrt_split_kernels *kern, int parts, const float *panel, int64_t k,
                           int64_t index, uint16_t *dst) {
  kern->split_b(panel, k, MRT_GEMM_PANEL, parts,
                dst + index * split_ceil(k, MRT_SPLIT_GROUP) * parts * MRT_SPLIT_GROUP_PART);
}

/* ---- how it is cut ---- */
void mrt_split_layout(split_layout *l, const mrt_par *par, int parts, int64_t m, int64_t n,
                      int64_t k, bool a_trans, bool lean) {
  const int64_t group_bytes = parts * 2 * MRT_SPLIT_GROUP_PART;
  const int64_t fit = A_BYTES / group_bytes; /* strips x groups */
  l->groups = split_max(1, split_ceil(k, MRT_SPLIT_GROUP));
  l->strips = split_ceil(m, MRT_STRIP);
  l->panels = split_ceil(n, MRT_GEMM_PANEL);
  const int64_t most = split_min(split_max(fit / l->groups, MIN_STRIPS), MAX_STRIPS);
  l->supers = split_ceil(l->strips, most);
  l->super = split_ceil(l->strips, split_max(1, l->supers));
  l->blocks = split_ceil(l->groups, split_max(1, fit / split_max(1, l->super)));
  const mrt_split_kernels *kern = mrt_split_kernels_get();
  const bool dot = kern && kern->most_parts == 1, one = parts == 1 && !dot;
  const int64_t strip_sums = MRT_STRIP * MRT_STRIP * (int64_t)sizeof(float);
  const int64_t sums = l->panels * l->super * strip_sums, kept = one ? SUMS_BYTES_1 : SUMS_BYTES;
  if (one && l->super > 1 && l->groups > LONG_K && (l->blocks > 1 || sums <= kept))
    l->blocks = split_ceil(l->groups, SHORT_SLICE);
  l->block = split_ceil(l->groups, l->blocks);
  const int64_t slice = l->super < (dot ? MAX_STRIPS : 3) ? MAX_SLICE
                        : dot                             ? DOT_SLICE
                                                          : SHORT_SLICE;
  l->slice = parts == 1 ? split_ceil(l->block, split_ceil(l->block, slice)) : l->block;
  l->piece = l->block;
  if (lean && parts > 1) l->piece = split_ceil(l->block, split_ceil(l->block, LEAN_PIECE));
  /* Chunks: a few of a thread; one where each splits A anew. How it is cut changes no bits: sums
   * are made in the order of k, whatever is kept where. */
  const double cost = mrt_split_cost(parts, m, n, k);
  const int64_t halves = one ? split_min(2, mrt_par_chunks(l->panels, cost / TWO)) : 1,
                want = split_max(halves, mrt_par_chunks(l->panels * l->supers, cost / LONG));
  l->ranges = split_ceil(l->blocks > 1 ? split_min(want, mrt_par_workers(par)) : want,
                         split_max(1, l->supers));
  if (l->blocks > 1) l->ranges = split_max(l->ranges, split_ceil(sums, kept));
  l->ranges = split_min(split_max(l->ranges, 1), split_max(l->panels, 1));
  l->range = split_ceil(l->panels, l->ranges);
  l->a = (size_t)(l->super * l->block * group_bytes);
  l->shared = 0;
  if (lean && l->supers == 1 && l->blocks == 1 && mrt_par_workers(par) > 1) {
    l->shared = mrt_worker_pitch(l->a);
    l->a = 0;
  }
  l->b = (size_t)(2 * l->piece * group_bytes);
  l->whole = l->slice >= l->groups && l->piece >= l->groups;
  const int64_t kept_strips = l->whole ? 1 : l->blocks > 1 ? l->super * l->range : l->super;
  l->acc = (size_t)((kept_strips + 1) * strip_sums);
  l->gather = a_trans ? split_align((size_t)(l->groups * 32 * MRT_STRIP) * sizeof(float)) : 0;
  l->worker = l->a + l->b + l->acc + l->gather;
}

size_t mrt_gemm_split_scratch(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans,
                              bool lean) {
  size_t most = 0, shared = 0;
  for (int parts = 1; parts <= 3; ++parts) {
    split_layout l;
    mrt_split_layout(&l, par, parts, m, n, k, a_trans, lean);
    if (l.worker > most) most = l.worker;
    if (l.shared > shared) shared = l.shared;
  }
  return (size_t)mrt_par_workers(par) * split_worker_pitch(most) + shared + MRT_WORKER_PAGE;
}
