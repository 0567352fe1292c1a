// What the two norms share: the row s = x + residual and its sums.
#ifndef TW_ROWS_H
#define TW_ROWS_H
#include "bindings.h"
#include "norm.h"
#include "simd.h"

// Elements a lane sums in single precision before the sum goes on in double precision.
#define TW_SUM_PIECE 256

// Four elements, or the n - i that are left; lanes beyond are 0.
TW_INLINE v128_t tw_part(const float *p, uint32_t i, uint32_t n) {
  return n - i >= 4 ? tw_load(p + i) : tw_load_tail(p + i, n - i);
}

TW_INLINE void tw_put(float *p, uint32_t i, uint32_t n, v128_t v) {
  if (n - i >= 4) tw_store(p + i, v);
  else tw_store_tail(p + i, v, n - i);
}

static inline void tw_add_rows(const float *x, const float *residual, float *s, uint32_t n) {
  for (uint32_t i = 0; i < n; i += 4)
    tw_put(s, i, n, wasm_f32x4_add(tw_part(x, i, n), tw_part(residual, i, n)));
}

// Sum of s (squared: of (s - mean)^2, the lanes of `mean` being equal) over a row.
TW_INLINE double tw_row_sum(const float *s, uint32_t n, int squared, v128_t mean) {
  double total = 0;
  uint32_t i = 0;
  while (i + 16 <= n) {
    uint32_t end = n - i > 16 * TW_SUM_PIECE ? i + 16 * TW_SUM_PIECE : n;
    v128_t a[4] = {tw_splat(0), tw_splat(0), tw_splat(0), tw_splat(0)};
    for (; i + 16 <= end; i += 16)
      for (int j = 0; j < 4; j++) {
        v128_t v = tw_load(s + i + 4 * j);
        if (squared) v = wasm_f32x4_sub(v, mean), a[j] = tw_madd(v, v, a[j]);
        else a[j] = wasm_f32x4_add(a[j], v);
      }
    v128_t all = wasm_f32x4_add(wasm_f32x4_add(a[0], a[1]), wasm_f32x4_add(a[2], a[3]));
    total += wasm_f32x4_extract_lane(tw_sum(all), 0);
  }
  for (; i < n; i += 4) {
    v128_t v = n - i >= 4 ? tw_load(s + i) : tw_load_tail_or(s + i, n - i, mean);
    if (squared) v = wasm_f32x4_sub(v, mean), v = wasm_f32x4_mul(v, v);
    total += wasm_f32x4_extract_lane(tw_sum(v), 0);
  }
  return total;
}

// Checks of both norms. gamma, beta and sum are binding numbers; beta may be -1 for none.
static inline uint32_t tw_check_norm(const tw_dispatch *d, int residual, int gamma, int beta, int y,
                                     int sum) {
  const norm_params *p = d->params;
  if (p->tile_rows == 0) return TW_INVALID_PARAMS;
  const uint64_t count = (uint64_t)p->rows * p->columns;
  const int whole[4] = {0, residual, y, sum}, row[2] = {gamma, beta};
  for (int i = 0; i < 4; i++) {
    int optional = whole[i] == residual || whole[i] == sum;
    if (optional && !tw_present(d, (uint32_t)whole[i])) continue;
    if (!tw_holds(d, (uint32_t)whole[i], count, 4)) return TW_BINDING_TOO_SHORT;
  }
  for (int i = 0; i < 2; i++) {
    if (row[i] < 0 || !tw_present(d, (uint32_t)row[i])) continue;
    if (!tw_holds(d, (uint32_t)row[i], p->columns, 4)) return TW_BINDING_TOO_SHORT;
  }
  return TW_OK;
}

// An optional row's elements, or null.
static inline const float *tw_optional(const tw_dispatch *d, uint32_t index) {
  return tw_present(d, index) ? TW_DATA(float, d, index) : 0;
}

// Row `row` of s, which is x itself where there is neither residual nor sum; otherwise it is put
// together in `sum`, or in y, which the result overwrites element by element.
static inline const float *tw_row(const tw_dispatch *d, uint32_t row, int residual, int y,
                                  int sum) {
  const norm_params *p = d->params;
  const uint32_t at = row * p->columns;
  const float *x = TW_DATA(float, d, 0) + at;
  float *s = TW_DATA(float, d, tw_present(d, (uint32_t)sum) ? sum : y) + at;
  if (tw_present(d, (uint32_t)residual)) {
    tw_add_rows(x, TW_DATA(float, d, residual) + at, s, p->columns);
    return s;
  }
  if (tw_present(d, (uint32_t)sum) && s != x)
    __builtin_memcpy(s, x, (size_t)p->columns * 4);
  return x;
}

#endif
