/* What becomes of the sums of an integer tile, with AVX-512: sums[rows][32] in memory. */

/* Any output, 16 results of row i; `at` from c. */
INLINE void store16(const mrt_qtile *t, __m512i x, int i, int64_t at, const int half, __mmask16 m) {
  if (t->b_zero)
    x = _mm512_sub_epi32(x, _mm512_mullo_epi32(_mm512_loadu_si512(t->b_zero + 16 * half),
                                               _mm512_set1_epi32(t->a_sum[i])));
  if (t->out == MRT_Q_S32) {
    _mm512_mask_storeu_epi32((int32_t *)t->c + at, m, x);
    return;
  }
  if (t->shifted) x = _mm512_sub_epi32(x, _mm512_set1_epi32(MRT_QSHIFT)); /* bias is 0 */
  __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), _mm512_loadu_ps(t->scale + 16 * half),
                             _mm512_loadu_ps(t->bias + 16 * half));
  if (t->out == MRT_Q_F32) {
    if (t->residual)
      v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, t->residual + i * t->r_row + 16 * half));
    v = _mm512_min_ps(_mm512_set1_ps(t->hi), _mm512_max_ps(_mm512_set1_ps(t->lo), v));
    _mm512_mask_storeu_ps((float *)t->c + at, m, v);
    return;
  }
  v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(t->lo)), _mm512_set1_ps(t->hi));
  int32_t zero = t->zero;
  if (t->add) {
    const __m128i b = _mm_maskz_loadu_epi8(m, t->add + at);
    const __m512i o = t->out == MRT_Q_S8 ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b);
    const __m512 z = _mm512_cvtepi32_ps(_mm512_sub_epi32(o, _mm512_set1_epi32(t->add_zero)));
    v = _mm512_fmadd_ps(_mm512_roundscale_ps(v, 8), _mm512_set1_ps(t->ra),
                        _mm512_mul_ps(z, _mm512_set1_ps(t->rb)));
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(t->add_lo)), _mm512_set1_ps(t->add_hi));
    zero = t->add_out;
  }
  const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(zero));
  _mm_mask_storeu_epi8((uint8_t *)t->c + at, m, _mm512_cvtepi32_epi8(q)); /* in range already */
}

static __attribute__((noinline)) void store_any(const mrt_qtile *t, const int32_t *sums) {
  const __mmask16 m0 = (__mmask16)(t->cols >= 16 ? 0xffff : (1u << t->cols) - 1);
  const __mmask16 m1 = (__mmask16)(t->cols > 16 ? (1u << (t->cols - 16)) - 1 : 0);
  for (int s = 0; s < t->n_segments; ++s) {
    const mrt_qsegment *g = &t->segments[s];
    for (int k = 0; k < g->count; ++k) {
      const int i = g->first + k;
      const int64_t at = g->at + k * t->c_row;
      store16(t, _mm512_loadu_si512(sums + 32 * i), i, at, 0, m0);
      if (m1) store16(t, _mm512_loadu_si512(sums + 32 * i + 16), i, at + 16, 1, m1);
    }
  }
}

/* Floats. */
static __attribute__((noinline)) void store_f32(const mrt_qtile *t, const int32_t *sums) {
  const __mmask16 m0 = (__mmask16)(t->cols >= 16 ? 0xffff : (1u << t->cols) - 1);
  const __mmask16 m1 = (__mmask16)(t->cols > 16 ? (1u << (t->cols - 16)) - 1 : 0);
  const int second = t->cols > 16 ? 16 : 0;
  const __m512 s0 = _mm512_loadu_ps(t->scale), s1 = _mm512_loadu_ps(t->scale + second),
               b0 = _mm512_loadu_ps(t->bias), b1 = _mm512_loadu_ps(t->bias + second),
               lo = _mm512_set1_ps(t->lo), hi = _mm512_set1_ps(t->hi);
  for (int s = 0; s < t->n_segments; ++s) {
    const mrt_qsegment *g = &t->segments[s];
    const int32_t *from = sums + 32 * g->first;
    float *y = (float *)t->c + g->at;
    const float *r = t->residual ? t->residual + g->first * t->r_row : NULL;
    for (int k = 0; k < g->count; ++k, from += 32, y += t->c_row) {
      __m512 v0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(from)), s0, b0);
      __m512 v1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(from + second)), s1, b1);
      if (r) {
        v0 = _mm512_add_ps(v0, _mm512_maskz_loadu_ps(m0, r));
        v1 = _mm512_add_ps(v1, _mm512_maskz_loadu_ps(m1, r + second));
        r += t->r_row;
      }
      v0 = _mm512_min_ps(hi, _mm512_max_ps(lo, v0));
      v1 = _mm512_min_ps(hi, _mm512_max_ps(lo, v1));
      _mm512_mask_storeu_ps(y, m0, v0);
      _mm512_mask_storeu_ps(y + 16, m1, v1);
    }
  }
}

/* Bytes of 32 columns, two rows at a time: packing with saturation does the clamping, and zero
 * points are added to 16-bit numbers. `more`: from the first row to the second, 0 for a lone one.
 */
typedef struct byte_store {
  __m512 scale[2], bias[2];
  __m512i zero, lo, hi, order;
  __mmask32 mask;
  int second; /* where the upper columns stand; 0: there are none */
  /* with a sum behind */
  __m512 low, high, ra, rb;
  __m512i other;
} byte_store;
enum { PLAIN, BOUNDED, SUM };
/* Where the zero point stands. LOWEST: it is the lowest number, as behind Relu; then numbers from 0
 * to 255 are packed and nothing is added. SHIFTED: that, and sums are shifted. */
enum { INSIDE, LOWEST, SHIFTED };

INLINE __m512 scaled(const byte_store *b, const int32_t *sums, const int half, const int zero) {
  const __m512i x = _mm512_loadu_si512(sums + (half ? b->second : 0));
  return _mm512_fmadd_ps(zero == SHIFTED ? _mm512_castsi512_ps(x) : _mm512_cvtepi32_ps(x),
                         b->scale[half], b->bias[half]);
}
/* The operations of QLinearAdd, one by one: its bits (mrt_qsum). */
INLINE __m512i summed(const byte_store *b, __m512 v, __m128i other, const bool is_signed) {
  const __m512i o = is_signed ? _mm512_cvtepi8_epi32(other) : _mm512_cvtepu8_epi32(other);
  v = _mm512_roundscale_ps(_mm512_min_ps(_mm512_max_ps(v, b->low), b->high), 8);
  const __m512 z = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(o, b->other)), b->rb);
  return _mm512_cvtps_epi32(_mm512_fmadd_ps(v, b->ra, z));
}
INLINE __m512i one_row(const byte_store *b, const int32_t *sums, const uint8_t *add,
                       const bool is_signed, const int kind, const int zero) {
  const __m512 v0 = scaled(b, sums, 0, zero), v1 = scaled(b, sums, 1, zero);
  __m512i p;
  if (kind == SUM) {
    const __m256i o = _mm256_maskz_loadu_epi8(b->mask, add);
    p = _mm512_packs_epi32(summed(b, v0, _mm256_castsi256_si128(o), is_signed),
                           summed(b, v1, _mm256_extracti128_si256(o, 1), is_signed));
  } else {
    p = _mm512_packs_epi32(_mm512_cvtps_epi32(v0), _mm512_cvtps_epi32(v1));
  }
  return zero == INSIDE ? _mm512_adds_epi16(p, b->zero) : p;
}
/* Two vectors of 16-bit numbers to bytes, in the order of `order`. */
INLINE __m512i packed(const byte_store *b, __m512i p, __m512i q, const bool is_signed,
                      const int kind, const int zero) {
  const bool packs_signed = is_signed && zero == INSIDE;
  p = packs_signed ? _mm512_packs_epi16(p, q) : _mm512_packus_epi16(p, q);
  if (kind != PLAIN) {
    p = packs_signed ? _mm512_max_epi8(p, b->lo) : _mm512_max_epu8(p, b->lo);
    p = packs_signed ? _mm512_min_epi8(p, b->hi) : _mm512_min_epu8(p, b->hi);
  }
  if (is_signed && zero != INSIDE) p = _mm512_xor_si512(p, _mm512_set1_epi8((char)0x80));
  return _mm512_permutexvar_epi32(b->order, p);
}
INLINE void store_two(const byte_store *b, const int32_t *sums, int more, uint8_t *y,
                      const uint8_t *add, int64_t step, const bool is_signed, const int kind,
                      const int zero) {
  __m512i p = one_row(b, sums, add, is_signed, kind, zero),
          q = more ? one_row(b, sums + more, add + step, is_signed, kind, zero) : p;
  p = packed(b, p, q, is_signed, kind, zero);
  _mm256_mask_storeu_epi8(y, b->mask, _mm512_castsi512_si256(p));
  if (more) _mm256_mask_storeu_epi8(y + step, b->mask, _mm512_extracti64x4_epi64(p, 1));
}
/* Four rows of 16 columns or fewer. */
INLINE void store_four(const byte_store *b, const int32_t *sums, uint8_t *y, int64_t step,
                       const bool is_signed, const int kind, const int zero) {
  __m512i n[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) n[i] = _mm512_cvtps_epi32(scaled(b, sums + 32 * i, 0, zero));
  __m512i p = _mm512_packs_epi32(n[0], n[1]), q = _mm512_packs_epi32(n[2], n[3]);
  if (zero == INSIDE) p = _mm512_adds_epi16(p, b->zero), q = _mm512_adds_epi16(q, b->zero);
  p = packed(b, p, q, is_signed, kind, zero);
  if (step == 16 && b->mask == 0xffff) {
    _mm512_storeu_si512(y, p);
    return;
  }
  const __mmask16 m = (__mmask16)b->mask;
  _mm_mask_storeu_epi8(y, m, _mm512_castsi512_si128(p));
  _mm_mask_storeu_epi8(y + step, m, _mm512_extracti32x4_epi32(p, 1));
  _mm_mask_storeu_epi8(y + 2 * step, m, _mm512_extracti32x4_epi32(p, 2));
  _mm_mask_storeu_epi8(y + 3 * step, m, _mm512_extracti32x4_epi32(p, 3));
}
INLINE void store_segments(const mrt_qtile *t, const int32_t *sums, const bool is_signed,
                           const int kind, const int at) {
  const float lo = kind == SUM ? t->add_lo : t->lo, hi = kind == SUM ? t->add_hi : t->hi;
  const int32_t zero = at != INSIDE ? 0 : kind == SUM ? t->add_out : t->zero;
  byte_store b = {.mask = t->cols >= 32 ? 0xffffffffu : (1u << t->cols) - 1,
                  .second = t->cols > 16 ? 16 : 0,
                  .zero = _mm512_set1_epi16((int16_t)zero),
                  .order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)};
  b.lo = _mm512_set1_epi8((char)((int)__builtin_rintf(lo) + zero));
  b.hi = _mm512_set1_epi8((char)((int)__builtin_rintf(hi) + zero));
  for (int h = 0; h < 2; ++h) {
    b.scale[h] = _mm512_loadu_ps(t->scale + h * b.second);
    b.bias[h] = at == SHIFTED ? _mm512_mul_ps(b.scale[h], _mm512_set1_ps(-0x1p23f))
                              : _mm512_loadu_ps(t->bias + h * b.second);
  }
  if (kind == SUM) {
    b.low = _mm512_set1_ps(t->lo), b.high = _mm512_set1_ps(t->hi);
    b.ra = _mm512_set1_ps(t->ra), b.rb = _mm512_set1_ps(t->rb);
    b.other = _mm512_set1_epi32(t->add_zero);
  }
  for (int s = 0; s < t->n_segments; ++s) {
    const mrt_qsegment *g = &t->segments[s];
    const int32_t *from = sums + 32 * g->first;
    uint8_t *y = (uint8_t *)t->c + g->at;
    const uint8_t *add = kind == SUM ? t->add + g->at : NULL;
    int i = 0;
    for (; kind != SUM && !b.second && i + 4 <= g->count; i += 4, from += 128, y += 4 * t->c_row)
      store_four(&b, from, y, t->c_row, is_signed, kind, at);
    for (; i + 2 <= g->count; i += 2, from += 64, y += 2 * t->c_row) {
      store_two(&b, from, 32, y, add, t->c_row, is_signed, kind, at);
      if (kind == SUM) add += 2 * t->c_row;
    }
    if (i < g->count) store_two(&b, from, 0, y, add, 0, is_signed, kind, at);
  }
}
#define STORE(name, is_signed, kind)                                                    \
  static __attribute__((noinline)) void name(const mrt_qtile *t, const int32_t *sums) { \
    const int32_t zero = (kind) == SUM ? t->add_out : t->zero;                          \
    if ((kind) != SUM && t->shifted)                                                    \
      store_segments(t, sums, is_signed, kind, SHIFTED);                                \
    else if (zero == (is_signed ? -128 : 0))                                            \
      store_segments(t, sums, is_signed, kind, LOWEST);                                 \
    else                                                                                \
      store_segments(t, sums, is_signed, kind, INSIDE);                                 \
  }
STORE(store_u8, false, PLAIN)
STORE(store_s8, true, PLAIN)
STORE(store_bounded_u8, false, BOUNDED)
STORE(store_bounded_s8, true, BOUNDED)
STORE(store_sum_u8, false, SUM)
STORE(store_sum_s8, true, SUM)

static void finish512(const mrt_qtile *t, const int32_t *sums) {
  const bool s8 = t->out == MRT_Q_S8;
  if (t->out == MRT_Q_F32 && !t->b_zero)
    store_f32(t, sums);
  else if (!t->in_range || t->b_zero || (!s8 && t->out != MRT_Q_U8))
    store_any(t, sums);
  else if (t->shifted && (t->add || t->zero != (s8 ? -128 : 0)))
    store_any(t, sums); /* tables for another end */
  else if (t->add && !(__builtin_fabsf(t->ra) < 1e6f && __builtin_fabsf(t->rb) < 1e6f))
    store_any(t, sums);
  else if (t->add)
    s8 ? store_sum_s8(t, sums) : store_sum_u8(t, sums);
  else if (t->lo > (float)((s8 ? -128 : 0) - t->zero) ||
           t->hi < (float)((s8 ? 127 : 255) - t->zero))
    s8 ? store_bounded_s8(t, sums) : store_bounded_u8(t, sums);
  else
    s8 ? store_s8(t, sums) : store_u8(t, sums);
}
