/* Packing of constant right sides through the store of packed weights. */
#include "provider/cpu/gemm/matmul_pack.h"

#include <string.h>

#include "ops/common.h"
#include "provider/cpu/gemm/gemm_split.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/half/narrow.h"
#include "tensor/dtype.h"

enum {
  FLAG_BYTES = 64, /* behind bf16 tiles: a byte that says whether something overflowed */
  MEDIUM_ROWS = 32 /* which bf16 tiles are packed for */
};

typedef struct widen_job {
  const mrt_tensor *t;
  int64_t first;
  float *out;
} widen_job;
static void widen_range(void *arg, int64_t begin, int64_t end) {
  const widen_job *j = arg;
  mrt_convert_to_f32((mrt_dtype)j->t->dtype, j->t->data, j->first + begin, end - begin,
                     j->out + begin);
}
void mrt_matmul_widen(const mrt_par *par, const mrt_tensor *t, int64_t first, int64_t n,
                      float *out) {
  widen_job j = {t, first, out};
  mrt_par_range(par, n, 1.0, widen_range, &j);
}

/* Matrix i of b as float32: in place, or widened to fresh memory (*wide). */
static mrt_status *matrix(const mrt_matmul_pack *w, const mrt_tensor *b, int64_t i, float **wide,
                          const float **out) {
  const mrt_par par = {0};
  const int64_t one = w->k * w->n;
  *out = (const float *)b->data + i * one;
  if (b->dtype == MRT_FLOAT) return NULL;
  if (!*wide)
    MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), (size_t)one * sizeof(float), MRT_ALIGN,
                                (void **)wide));
  mrt_matmul_widen(&par, b, i * one, one, *wide);
  *out = *wide;
  return NULL;
}

static mrt_status *pack_f32(const void *arg, const mrt_tensor *b, void *dst) {
  const mrt_matmul_pack *w = arg;
  const mrt_par par = {0};
  const size_t size = mrt_gemm_packed_size(w->n, w->k);
  mrt_status *st = NULL;
  float *wide = NULL;
  for (int64_t i = 0; i < w->batch && !st; ++i) {
    const float *src;
    st = matrix(w, b, i, &wide, &src);
    if (!st)
      mrt_gemm_pack_b(&par, src, w->trans ? w->k : w->n, w->trans, w->k, w->n,
                      (float *)((char *)dst + (size_t)i * size));
  }
  mrt_mem_free(mrt_alloc_default(), wide);
  return st;
}

/* ---- bf16 tiles, panel by panel ---- */
typedef struct bf16_job {
  const mrt_matmul_pack *w;
  const float *src;
  float *panels; /* one float32 panel a worker */
  uint16_t *dst;
  int parts;
  atomic_int large;
} bf16_job;

/* Finite numbers that round to infinity, and NaN, some of which become infinity too. */
static bool overflows(const float *x, int64_t n) {
  uint32_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t u;
    memcpy(&u, x + i, 4);
    u &= 0x7fffffff;
    found |= u >= 0x7f7f8000 && u != 0x7f800000;
  }
  return found != 0;
}

static void bf16_chunk(void *arg, int64_t chunk, int worker) {
  bf16_job *j = arg;
  const mrt_matmul_pack *w = j->w;
  const mrt_par serial = {.threads = 1};
  const int64_t n0 = chunk * MRT_GEMM_PANEL, left = w->n - n0;
  float *panel = j->panels + worker * w->k * MRT_GEMM_PANEL;
  mrt_gemm_pack_b(&serial, j->src + (w->trans ? n0 * w->k : n0), w->trans ? w->k : w->n, w->trans,
                  w->k, left < MRT_GEMM_PANEL ? left : MRT_GEMM_PANEL, panel);
  if (overflows(panel, w->k * MRT_GEMM_PANEL)) atomic_store(&j->large, 1);
  mrt_gemm_pack_panel16(mrt_split_kernels_get(), j->parts, panel, w->k, chunk, j->dst);
}

static mrt_status *pack_parts(const mrt_matmul_pack *w, int parts, const mrt_tensor *b, void *dst) {
  const mrt_par par = {0};
  bf16_job j = {.w = w, .dst = dst, .parts = parts};
  float *wide = NULL;
  size_t bytes;
  if (!mrt_size_mul((size_t)mrt_par_workers(&par) * MRT_GEMM_PANEL * sizeof(float), (size_t)w->k,
                    &bytes))
    return mrt_status_oom();
  MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), bytes, MRT_ALIGN, (void **)&j.panels));
  mrt_status *st = matrix(w, b, 0, &wide, &j.src);
  if (!st) {
    mrt_par_run(&par, (w->n + MRT_GEMM_PANEL - 1) / MRT_GEMM_PANEL, bf16_chunk, &j);
    uint8_t *flag = (uint8_t *)dst + mrt_gemm_packed16_size(parts, w->n, w->k);
    memset(flag, 0, FLAG_BYTES);
    *flag = atomic_load(&j.large) != 0;
  }
  mrt_mem_free(mrt_alloc_default(), wide);
  mrt_mem_free(mrt_alloc_default(), j.panels);
  return st;
}

static mrt_status *pack_bf16(const void *arg, const mrt_tensor *b, void *dst) {
  return pack_parts(arg, 1, b, dst);
}
static mrt_status *pack_bf16x2(const void *arg, const mrt_tensor *b, void *dst) {
  return pack_parts(arg, 2, b, dst);
}

bool mrt_matmul_few(const mrt_gemm *g) {
  return g->precision == MRT_PRECISION_MEDIUM && g->m <= MRT_NARROW_ROWS && !g->a_trans &&
         mrt_gemm_split_parts(g->precision, g->m, g->n, g->k) == 0 &&
         mrt_gemm_split_parts(g->precision, MEDIUM_ROWS, g->n, g->k) == 1;
}

/* ---- forms ---- */
static bool has_bf16(const mrt_matmul_pack *w) {
  return w->batch == 1 && mrt_split_kernels_get() && mrt_gemm_packed16_size(2, w->n, w->k);
}

static mrt_status *get(const mrt_matmul_pack *w, const mrt_tensor *source, int form,
                       const void **out) {
  _Atomic(mrt_packed *) *at = (_Atomic(mrt_packed *) *)&w->forms[form];
  mrt_packed *have = atomic_load(at), *none = NULL;
  if (!have) {
    mrt_packer packer = {.format = form == MRT_MATMUL_BF16     ? "gemm.bf16.tiles.1"
                                   : form == MRT_MATMUL_BF16X2 ? "gemm.bf16x2.tiles.1"
                                                               : "gemm.f32.panel32.1",
                         .params = {w->batch, w->k, w->n, w->trans},
                         .pack = form == MRT_MATMUL_BF16     ? pack_bf16
                                 : form == MRT_MATMUL_BF16X2 ? pack_bf16x2
                                                             : pack_f32,
                         .arg = w};
    if (form != MRT_MATMUL_F32)
      packer.bytes =
          mrt_gemm_packed16_size(form == MRT_MATMUL_BF16 ? 1 : 2, w->n, w->k) + FLAG_BYTES;
    else if (!mrt_size_mul(mrt_gemm_packed_size(w->n, w->k), (size_t)w->batch, &packer.bytes))
      return mrt_status_oom();
    MRT_TRY(mrt_packed_get(source, &packer, &have));
    if (!atomic_compare_exchange_strong(at, &none, have)) { /* another run was faster */
      mrt_packed_release(have);
      have = none;
    }
  }
  *out = mrt_packed_data(have);
  return NULL;
}

mrt_status *mrt_matmul_pack_f32(const mrt_matmul_pack *w, const mrt_tensor *source,
                                const float **out) {
  const void *data;
  MRT_TRY(get(w, source, MRT_MATMUL_F32, &data));
  *out = data;
  return NULL;
}

mrt_status *mrt_matmul_pack_bf16(const mrt_matmul_pack *w, const mrt_tensor *source, int parts,
                                 const uint16_t **out) {
  const void *data;
  *out = NULL;
  if (!has_bf16(w)) return NULL;
  MRT_TRY(get(w, source, parts == 1 ? MRT_MATMUL_BF16 : MRT_MATMUL_BF16X2, &data));
  if (!((const uint8_t *)data)[mrt_gemm_packed16_size(parts, w->n, w->k)]) *out = data;
  return NULL;
}

void mrt_matmul_pack_describe(mrt_matmul_pack *w, const mrt_tensor *b, bool trans) {
  size_t bytes;
  w->trans = trans;
  w->k = b->dims[b->rank - (trans ? 1 : 2)];
  w->n = b->dims[b->rank - (trans ? 2 : 1)];
  const int64_t one = w->k * w->n;
  w->batch = one ? mrt_tensor_count(b) / one : 0;
  if (!mrt_size_mul(mrt_gemm_packed_size(w->n, w->k), (size_t)w->batch, &bytes)) w->batch = 0;
}

mrt_status *mrt_matmul_pack_init(mrt_matmul_pack *w, const mrt_tensor *b, bool trans, int precision,
                                 int64_t columns) {
  const void *data;
  mrt_matmul_pack_describe(w, b, trans);
  if (!w->batch) return NULL;
  const mrt_precision now = mrt_precision_now(precision);
  /* A guess at the rows; other forms are made when a run asks. */
  const int64_t rows = now == MRT_PRECISION_MEDIUM ? MEDIUM_ROWS : 128;
  const int parts =
      has_bf16(w) ? mrt_gemm_split_parts(now, rows, columns ? columns : w->n, w->k) : 0;
  return get(w, b,
             parts == 1   ? MRT_MATMUL_BF16
             : parts == 2 ? MRT_MATMUL_BF16X2
                          : MRT_MATMUL_F32,
             &data);
}

void mrt_matmul_pack_free(mrt_matmul_pack *w) {
  for (int i = 0; i < MRT_MATMUL_FORMS; ++i) mrt_packed_release(atomic_load(&w->forms[i]));
}
