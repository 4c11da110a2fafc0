/* Linear quantization of whole arrays, shared out in pieces of some thousand elements. */
#include "provider/cpu/qgemm/qgemm_kernel.h"

typedef struct array_job {
  const void *x;
  void *y;
  int64_t n, chunks;
  float scale;
  int32_t zero;
  bool is_signed;
  float lo[16], hi[16]; /* range: one pair per chunk, at most 16 */
} array_job;

static void quantize_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const array_job *j = arg;
  const int64_t i = mrt_par_begin(j->n, j->chunks, chunk),
                end = mrt_par_begin(j->n, j->chunks, chunk + 1);
  mrt_qgemm_kernels_get()->quantize((const float *)j->x + i, end - i, j->scale, j->zero,
                                    j->is_signed, (uint8_t *)j->y + i);
}

static void dequantize_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const array_job *j = arg;
  const int64_t i = mrt_par_begin(j->n, j->chunks, chunk),
                end = mrt_par_begin(j->n, j->chunks, chunk + 1);
  mrt_qgemm_kernels_get()->dequantize((const uint8_t *)j->x + i, end - i, j->scale, j->zero,
                                      j->is_signed, (float *)j->y + i);
}

static void range_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  array_job *j = arg;
  const int64_t i = mrt_par_begin(j->n, j->chunks, chunk),
                end = mrt_par_begin(j->n, j->chunks, chunk + 1);
  mrt_qgemm_kernels_get()->range((const float *)j->x + i, end - i, &j->lo[chunk], &j->hi[chunk]);
}

static void run(const mrt_par *par, array_job *j, mrt_chunk_fn fn) {
  j->chunks = mrt_par_chunks(j->n, (double)j->n * 0.1);
  mrt_par_run(par, j->chunks, fn, j);
}

void mrt_quantize_u8(const mrt_par *par, const float *x, int64_t n, float scale, int32_t zero,
                     bool is_signed, void *y) {
  array_job j = {.x = x, .y = y, .n = n, .scale = scale, .zero = zero, .is_signed = is_signed};
  if (n > 0) run(par, &j, quantize_chunk);
}

void mrt_dequantize_u8(const mrt_par *par, const void *x, int64_t n, float scale, int32_t zero,
                       bool is_signed, float *y) {
  array_job j = {.x = x, .y = y, .n = n, .scale = scale, .zero = zero, .is_signed = is_signed};
  if (n > 0) run(par, &j, dequantize_chunk);
}

void mrt_quantize_range(const mrt_par *par, const float *x, int64_t n, float *out_min,
                        float *out_max) {
  array_job j = {.x = x, .n = n};
  *out_min = *out_max = 0.0f;
  if (n <= 0) return;
  run(par, &j, range_chunk);
  for (int64_t i = 0; i < j.chunks; ++i) {
    if (j.lo[i] < *out_min) *out_min = j.lo[i];
    if (j.hi[i] > *out_max) *out_max = j.hi[i];
  }
}
