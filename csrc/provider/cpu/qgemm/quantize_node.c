/* QuantizeLinear, DequantizeLinear (float and 8 bits, one scale) and DynamicQuantizeLinear on the
 * vector loops. Scales per axis and everything else: the reference kernel. */
#include "ops/quant.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qgemm.h"

static bool is_byte(mrt_dtype t) { return t == MRT_INT8 || t == MRT_UINT8; }
static bool match_q(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_node_in_dtype(node, 0) == MRT_FLOAT && mrt_node_in_dtype(node, 1) == MRT_FLOAT &&
         is_byte(mrt_node_out_dtype(node, 0)) && mrt_node_int(node, "precision") <= MRT_FLOAT;
}
static bool match_d(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return is_byte(mrt_node_in_dtype(node, 0)) && mrt_node_in_dtype(node, 1) == MRT_FLOAT &&
         mrt_node_out_dtype(node, 0) == MRT_FLOAT;
}

/* One call per run of elements that share a scale, where the runs are long enough. */
static mrt_status *run_linear(mrt_kctx *c, bool forth) {
  const mrt_tensor *x = mrt_in(c, 0), *scale = mrt_in(c, 1), *zero = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_qmap map;
  if (!y) return NULL;
  MRT_TRY(mrt_qmap_read(c->node, x, scale, zero, &map));
  if (!map.per_tensor && (map.block || map.inner < 32)) return c->node->def->run(c);
  const bool is_signed = (forth ? y : x)->dtype == MRT_INT8;
  const int64_t n = mrt_tensor_count(x);
  for (int64_t at = 0; at < n;) {
    int64_t first;
    int step;
    const int64_t len = mrt_qmap_run(&map, at, &first, &step);
    const float s = ((const float *)scale->data)[first];
    const int32_t z =
        zero ? (int32_t)mrt_elem_get_i64((mrt_dtype)zero->dtype, zero->data, first) : 0;
    if (forth)
      mrt_quantize_u8(&c->par, (const float *)x->data + at, len, s, z, is_signed,
                      (uint8_t *)y->data + at);
    else
      mrt_dequantize_u8(&c->par, (const uint8_t *)x->data + at, len, s, z, is_signed,
                        (float *)y->data + at);
    at += len;
  }
  return NULL;
}
static mrt_status *run_q(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  return run_linear(c, true);
}
static mrt_status *run_d(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  return run_linear(c, false);
}

static mrt_status *run_dynamic(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0), *ys = mrt_out(c, 1), *yz = mrt_out(c, 2);
  const int64_t n = mrt_tensor_count(x);
  float lo, hi, scale;
  int32_t zero;
  mrt_quantize_range(&c->par, x->data, n, &lo, &hi);
  mrt_quant_params_u8(lo, hi, &scale, &zero);
  if (ys) *(float *)ys->data = scale;
  if (yz) *(uint8_t *)yz->data = (uint8_t)zero;
  if (y) mrt_quantize_u8(&c->par, x->data, n, scale, zero, false, y->data);
  return NULL;
}

static mrt_status *create_q(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "quantize", run_q, NULL, out);
}
static mrt_status *create_d(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "dequantize", run_d, NULL, out);
}
static mrt_status *create_dynamic(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "quantize_dynamic", run_dynamic, NULL,
                        out);
}
MRT_CPU_KERNEL(quantize) = {"", "QuantizeLinear", match_q, create_q};
MRT_CPU_KERNEL(dequantize) = {"", "DequantizeLinear", match_d, create_d};
MRT_CPU_KERNEL(ms_quantize) = {"com.microsoft", "QuantizeLinear", match_q, create_q};
MRT_CPU_KERNEL(ms_dequantize) = {"com.microsoft", "DequantizeLinear", match_d, create_d};
MRT_CPU_KERNEL(quantize_dynamic) = {"", "DynamicQuantizeLinear", NULL, create_dynamic};
