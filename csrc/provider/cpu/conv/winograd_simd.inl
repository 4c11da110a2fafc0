/* Transforms of Winograd F(2x2, 3x3) and F(4x4, 3x3) over primitives of the including file (see
 * conv_simd.inl). Input tile d (4x4 pixels) becomes B^T d B, sums m of the 16 products become A^T m
 * A (2x2): B^T = 1  0 -1  0    A^T = 1  1  1  0 0  1  1  0          0  1 -1 -1 0 -1  1  0 0  1  0
 * -1 */

INLINE void wino_rows_in(const vf a, const vf b, const vf c, const vf d, vf *o, const int step) {
  o[0] = a - c;
  o[step] = b + c;
  o[2 * step] = c - b;
  o[3 * step] = b - d;
}

/* Four columns of B^T d are kept from one tile to the next: neighbours share two pixel columns. */
static void wino_input(const float *const *rows, int64_t count, float *dst, int64_t f_stride) {
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

/* ---- F(4x4, 3x3) ----
 * Interpolation at 0, -a, a, -b, b and infinity, a = sqrt(1/2), b = sqrt(2), whose powers stay
 * close to 1 (an error of 1 to 3 plain loops; the points 1 and 2 give 4 to 11):
 *   B^T = 1  0 -5/2  0   1  0    A^T = 1   1    1    1    1   0
 *         0 -b  -2   a   1  0          0   a   -a    b   -b   0
 *         0  b  -2  -a   1  0          0  1/2  1/2   2    2   0
 *         0 -a -1/2  b   1  0          0  a/2 -a/2  2b  -2b   1
 *         0  a -1/2 -b   1  0
 *         0  1   0 -5/2  0  1 */
#define WINO4_A 0.70710678118654752440f
#define WINO4_B 1.41421356237309504880f
enum { WINO4_GROUP = 8 }; /* tiles whose first step is kept in L1 */

INLINE void wino4_in(const vf d[6], vf *o) {
  const vf a = v_set(WINO4_A), b = v_set(WINO4_B), five = v_set(-2.5f);
  const vf even = v_fma(v_set(-2.0f), d[2], d[4]), odd = v_fma(a, d[3], v_set(0.0f) - b * d[1]);
  const vf even2 = v_fma(v_set(-0.5f), d[2], d[4]), odd2 = v_fma(b, d[3], v_set(0.0f) - a * d[1]);
  o[0] = v_fma(five, d[2], d[0] + d[4]);
  o[1] = even + odd;
  o[2] = even - odd;
  o[3] = even2 + odd2;
  o[4] = even2 - odd2;
  o[5] = v_fma(five, d[3], d[1] + d[5]);
}

/* First all columns of some tiles, into `half`, then the rows of each tile. */
static void wino4_input(const float *const *rows, int64_t count, float *dst, int64_t f_stride) {
  float half[6][(4 * WINO4_GROUP + 2) * VW] __attribute__((aligned(64)));
  for (int64_t t0 = 0; t0 < count; t0 += WINO4_GROUP)
    for (int part = 0; part < 16 / VW; ++part) {
      const int64_t n = count - t0 < WINO4_GROUP ? count - t0 : WINO4_GROUP;
      for (int64_t x = 0; x < 4 * n + 2; ++x) {
        const int64_t at = (4 * t0 + x) * 16 + part * VW;
        vf d[6], y[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) d[i] = v_load(rows[i] + at);
        wino4_in(d, y);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) v_store(half[i] + x * VW, y[i]);
      }
      for (int i = 0; i < 6; ++i)
        for (int64_t t = 0; t < n; ++t) {
          float *o = dst + 6 * i * f_stride + (t0 + t) * 16 + part * VW;
          vf d[6], y[6];
#pragma GCC unroll 6
          for (int k = 0; k < 6; ++k) d[k] = v_load(half[i] + (4 * t + k) * VW);
          wino4_in(d, y);
#pragma GCC unroll 6
          for (int k = 0; k < 6; ++k) v_store(o + k * f_stride, y[k]);
        }
    }
}

INLINE void wino4_sum(const vf m[6], vf *y) {
  const vf s = m[1] + m[2], e = m[1] - m[2], s2 = m[3] + m[4], e2 = m[3] - m[4];
  y[0] = m[0] + s + s2;
  y[1] = v_fma(v_set(WINO4_A), e, v_set(WINO4_B) * e2);
  y[2] = v_fma(v_set(0.5f), s, v_set(2.0f) * s2);
  y[3] = v_fma(v_set(0.5f * WINO4_A), e, v_fma(v_set(2.0f * WINO4_B), e2, m[5]));
}

/* One tile and VW channels; false, and nothing is written, when a sum is not finite. */
INLINE bool wino4_tile_out(const mrt_wino_out *o, int64_t t, int part, const int cols) {
  const float *m = o->m + t * 16 + part * VW;
  const int64_t at = t * 64 + part * VW;
  const vf start = o->bias ? v_load(o->bias + part * VW) : v_set(0.0f);
  vf half[6][4], out[4][4], check = v_set(0.0f);
#pragma GCC unroll 6
  for (int k = 0; k < 6; ++k) {
    vf d[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) d[i] = v_load(m + (6 * i + k) * o->f_stride);
    wino4_sum(d, half[k]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const vf d[6] = {half[0][i] + start, half[1][i], half[2][i],
                     half[3][i],         half[4][i], half[5][i]};
    wino4_sum(d, out[i]);
#pragma GCC unroll 3
    for (int k = 1; k < 4; ++k) out[i][k] = out[i][k] + start;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) check = v_fma(out[i][k], v_set(0.0f), check);
  }
  if (v_any_nan(check)) return false;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    if (o->out[i])
#pragma GCC unroll 4
      for (int k = 0; k < cols; ++k)
        v_store(o->out[i] + at + k * 16, wino_finish(o, out[i][k], o->residual[i], at + k * 16));
  return true;
}

static void wino4_output(const mrt_wino_out *o) {
  for (int64_t t = 0; t < o->count; ++t) {
    const int cols = t + 1 < o->count ? 4 : o->last_cols;
    o->bad[t] = 0;
    for (int part = 0; part < 16 / VW && !o->bad[t]; ++part)
      if (!(cols == 4 ? wino4_tile_out(o, t, part, 4) : wino4_tile_out(o, t, part, cols)))
        o->bad[t] = (uint8_t)(1 + part * VW);
  }
}
