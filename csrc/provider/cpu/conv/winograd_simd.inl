/* Transforms of Winograd F(2x2, 3x3) over primitives of the including file (see conv_simd.inl).
 * Input tile d (4x4 pixels) becomes B^T d B, sums m of the 16 products become A^T m A (2x2):
 *   B^T = 1  0 -1  0    A^T = 1  1  1  0
 *         0  1  1  0          0  1 -1 -1
 *         0 -1  1  0
 *         0  1  0 -1 */

INLINE void wino_rows_in(const vf a, const vf b, const vf c, const vf d, vf *o, const int step) {
  o[0] = a - c;
  o[step] = b + c;
  o[2 * step] = c - b;
  o[3 * step] = b - d;
}

/* Four columns of B^T d are kept from one tile to the next: neighbours share two pixel columns. */
static void wino_input(const float *const rows[4], int64_t count, float *dst, int64_t f_stride) {
  for (int part = 0; part < 16 / VW; ++part) {
    const float *r[4] = {rows[0] + part * VW, rows[1] + part * VW, rows[2] + part * VW,
                         rows[3] + part * VW};
    vf x[4][4]; /* [column][row] after the first multiplication */
    for (int c = 0; c < 2; ++c)
      wino_rows_in(v_load(r[0] + c * 16), v_load(r[1] + c * 16), v_load(r[2] + c * 16),
                   v_load(r[3] + c * 16), x[c], 1);
    for (int64_t t = 0; t < count; ++t) {
#pragma GCC unroll 2
      for (int c = 2; c < 4; ++c) {
        const int64_t at = (2 * t + c) * 16;
        wino_rows_in(v_load(r[0] + at), v_load(r[1] + at), v_load(r[2] + at), v_load(r[3] + at),
                     x[c], 1);
      }
      float *o = dst + t * 16 + part * VW;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        vf y[4];
        wino_rows_in(x[0][i], x[1][i], x[2][i], x[3][i], y, 1);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) v_store(o + (4 * i + k) * f_stride, y[k]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) x[0][i] = x[2][i], x[1][i] = x[3][i];
    }
  }
}

INLINE vf wino_finish(const mrt_wino_out *o, vf x, const float *residual, int64_t at) {
  if (residual) x = x + v_load(residual + at);
  if (o->clip) x = v_min(v_set(o->hi), v_max(v_set(o->lo), x));
  return x;
}

/* One tile and VW channels; false, and nothing is written, when a sum is not finite. */
INLINE bool wino_tile_out(const mrt_wino_out *o, int64_t t, int part, const int cols) {
  const float *m = o->m + t * 16 + part * VW;
  const int64_t f = o->f_stride, at = t * 32 + part * VW;
  const vf start = o->bias ? v_load(o->bias + part * VW) : v_set(0.0f);
  vf y[2][4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const vf a = v_load(m + k * f), b = v_load(m + (4 + k) * f), c = v_load(m + (8 + k) * f),
             d = v_load(m + (12 + k) * f);
    y[0][k] = a + b + c;
    y[1][k] = b - c - d;
  }
  vf out[2][2], check = v_set(0.0f);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    out[i][0] = y[i][0] + y[i][1] + y[i][2] + start;
    out[i][1] = y[i][1] - y[i][2] - y[i][3] + start;
    check = v_fma(out[i][0], v_set(0.0f), check);
    check = v_fma(out[i][1], v_set(0.0f), check);
  }
  if (v_any_nan(check)) return false;
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    if (o->out[i]) {
      const float *residual = o->residual[i];
      v_store(o->out[i] + at, wino_finish(o, out[i][0], residual, at));
      if (cols > 1) v_store(o->out[i] + at + 16, wino_finish(o, out[i][1], residual, at + 16));
    }
  return true;
}

static void wino_output(const mrt_wino_out *o) {
  for (int64_t t = 0; t < o->count; ++t) {
    const bool whole = t + 1 < o->count || o->last_cols == 2;
    o->bad[t] = 0;
    for (int part = 0; part < 16 / VW && !o->bad[t]; ++part)
      if (!(whole ? wino_tile_out(o, t, part, 2) : wino_tile_out(o, t, part, 1)))
        o->bad[t] = (uint8_t)(1 + part * VW);
  }
}
