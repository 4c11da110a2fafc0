/* Storing results of an integer tile with AVX-512: scaled, clamped, rounded. */

/* One vector of 16 results; half is 0 or 1. */
INLINE void store16(const mrt_qtile *t, __m512i x, const int i, const int half, __mmask16 m) {
  const int64_t at = i * t->c_row + half * t->c_col16;
  if (t->out == MRT_Q_S32) {
    _mm512_mask_storeu_epi32((int32_t *)t->c + at, m, x);
    return;
  }
  __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), _mm512_loadu_ps(t->scale + 16 * half),
                             _mm512_loadu_ps(t->bias + 16 * half));
  if (t->out == MRT_Q_F32) {
    if (t->residual)
      v = _mm512_add_ps(v,
                        _mm512_maskz_loadu_ps(m, t->residual + i * t->r_row + half * t->r_col16));
    v = _mm512_min_ps(_mm512_set1_ps(t->hi), _mm512_max_ps(_mm512_set1_ps(t->lo), v));
    _mm512_mask_storeu_ps((float *)t->c + at, m, v);
    return;
  }
  v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(t->lo)), _mm512_set1_ps(t->hi));
  const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(t->zero));
  const __m128i bytes = _mm512_cvtepi32_epi8(q); /* in range already: truncation is exact */
  if (m == 0xffff)
    _mm_storeu_si128((__m128i *)((uint8_t *)t->c + at), bytes);
  else
    _mm_mask_storeu_epi8((uint8_t *)t->c + at, m, bytes);
}
