/* The products of attention_split.h. A block's sums leave their buffer after the products of the
 * next one, so that nothing waits for tiles that were only just stored. */
#include "provider/cpu/attention/attention_split.h"

#include "base/alloc.h"

enum { AREA = MRT_STRIP * MRT_STRIP };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

double mrt_attn_tiles_cost(int parts, int64_t sq, int64_t sk, int64_t d, int64_t dv) {
  const mrt_split_kernels *kern = mrt_split_kernels_get();
  const mrt_split_costs *costs = kern ? &kern->costs : &mrt_gemm_split_model.costs;
  const double *product = costs->product, *split = costs->split_a;
  const double panels = (double)ceil_div(sk, 32), groups = (double)ceil_div(d, 32),
               wide = (double)ceil_div(dv, 32), strips = (double)ceil_div(sq, 16) / 2;
  if (!parts) return (double)sq * 32 * (panels * (double)d + wide * (double)sk) / 100;
  return strips * (panels * (groups * product[parts] + 150) + groups * split[parts]) +
         strips * (wide * (panels * product[parts] + 150) + panels * split[parts]) +
         panels * (groups + wide) * split[parts];
}

bool mrt_attn_side_size(int parts, int64_t k, int64_t cols, size_t *bytes) {
  size_t n;
  return mrt_size_mul((size_t)ceil_div(k, MRT_SPLIT_GROUP), (size_t)(cols / MRT_STRIP), &n) &&
         mrt_size_mul(n, (size_t)parts * MRT_SPLIT_GROUP_PART * sizeof(uint16_t), bytes);
}

bool mrt_attn_tiles_size(int parts, int64_t k, size_t *bytes) {
  return mrt_attn_side_size(parts, k, MRT_STRIP, bytes) &&
         mrt_size_add(*bytes, 2 * AREA * sizeof(float), bytes);
}

static uint16_t *panel_of(const mrt_attn_tiles *t, const mrt_attn_side *b, int64_t panel) {
  return b->split +
         panel * ceil_div(b->k, MRT_SPLIT_GROUP) * t->parts * (int64_t)MRT_SPLIT_GROUP_PART;
}

void mrt_attn_side_split(const mrt_attn_tiles *t, const mrt_attn_side *b) {
  for (int64_t p = 0; p < b->cols / MRT_STRIP; ++p)
    t->kern->split_b(b->panels + p * b->k * MRT_STRIP, b->k, MRT_STRIP, t->parts,
                     panel_of(t, b, p));
}

/* One strip of A. */
typedef struct strip {
  const float *a;
  float *c;
  int64_t lda, ldc, k;
  int rows;
} strip;

static void finish(const mrt_attn_tiles *t, const mrt_attn_side *b, const strip *s, int64_t panel,
                   const float *sums) {
  float *c = s->c + panel * MRT_STRIP;
  if (t->kern->suspicious(sums, s->rows, MRT_STRIP)) {
    t->fma->panel(c, s->ldc, s->a, s->lda, b->panels + panel * b->k * MRT_STRIP, s->rows, s->k);
    return;
  }
  const mrt_tile tile = {.c = c, .c_row = s->ldc, .c_col16 = 16, .alpha = 1, .cols = MRT_STRIP};
  t->kern->finish(sums, s->rows, &tile);
}

void mrt_attn_tiles_run(const mrt_attn_tiles *t, float *c, int64_t ldc, const float *a, int64_t lda,
                        const mrt_attn_side *b, int64_t m, int64_t k, int64_t cols) {
  float *sums = t->own;
  uint16_t *split = (uint16_t *)(sums + 2 * (size_t)AREA);
  const int64_t groups = ceil_div(k, MRT_SPLIT_GROUP), panels = cols / MRT_STRIP;
  const mrt_kblock whole = {0, (int32_t)k};
  mrt_split_rows src = {.blocks = &whole, .n_blocks = 1};
  strip last = {0};
  int64_t done = 0, last_panel = 0;
  for (int64_t r0 = 0; r0 < m; r0 += MRT_STRIP) {
    const strip s = {.a = a + r0 * lda,
                     .c = c + r0 * ldc,
                     .lda = lda,
                     .ldc = ldc,
                     .k = k,
                     .rows = (int)(m - r0 < MRT_STRIP ? m - r0 : MRT_STRIP)};
    src.rows = s.rows;
    for (int i = 0; i < s.rows; ++i) src.row[i] = s.a + i * lda;
    t->kern->split_a(&src, t->parts, split);
    for (int64_t p = 0; p < panels; ++p, ++done) {
      t->kern->multiply(split, panel_of(t, b, p), groups, t->parts, s.rows, MRT_STRIP, false,
                        sums + (done & 1) * AREA);
      if (done) finish(t, b, &last, last_panel, sums + (~done & 1) * AREA);
      last = s;
      last_panel = p;
    }
  }
  if (done) finish(t, b, &last, last_panel, sums + (~done & 1) * AREA);
}
