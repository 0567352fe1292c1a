// f32_distance: z[r, c] = sum over k of |x[r, k] - y[k, c]| ^ power.
//
// Bindings: x (rows, features), y (features, columns), z (rows, columns), dense, 4-byte aligned, no
// overlap. Tile: tile_columns columns of tile_rows rows.
//
// Sixteen columns side by side, one feature after the other: y is read along its rows, x is a
// number that all lanes share. Sums are of pieces of PIECE terms, which are summed apart, so that
// their error does not grow with the number of features.
#include "bindings.h"
#include "distance.h"
#include "simd.h"

#define PIECE 128

// `power` is 1, 2, or 0 for any other, `n`.
TW_INLINE v128_t add_term(uint32_t power, uint32_t n, v128_t sum, v128_t d) {
  if (power == 1) return wasm_f32x4_add(sum, wasm_f32x4_abs(d));
  if (power == 2) return tw_madd(d, d, sum);
  v128_t size = wasm_f32x4_abs(d), term = size;
  for (uint32_t i = 1; i < n; i++) term = wasm_f32x4_mul(term, size);
  return wasm_f32x4_add(sum, term);
}

// `width` vectors of four columns; the last has `last` of them.
TW_INLINE void block(uint32_t power, int width, const distance_params *p, const float *x,
                     const float *y, float *z, uint32_t last) {
  v128_t total[4], sum[4];
  for (int i = 0; i < width; i++) total[i] = tw_splat(0);
  for (uint32_t k = 0; k < p->features;) {
    uint32_t end = p->features - k > PIECE ? k + PIECE : p->features;
    for (int i = 0; i < width; i++) sum[i] = tw_splat(0);
    for (; k < end; k++) {
      const float *row = y + (uint64_t)k * p->columns;
      v128_t own = tw_splat(x[k]);
      for (int i = 0; i < width; i++) {
        v128_t other = last < 4 ? tw_load_tail(row, last) : tw_load(row + 4 * i);
        sum[i] = add_term(power, p->power, sum[i], wasm_f32x4_sub(own, other));
      }
    }
    for (int i = 0; i < width; i++) total[i] = wasm_f32x4_add(total[i], sum[i]);
  }
  if (last < 4)
    tw_store_tail(z, total[0], last);
  else
    for (int i = 0; i < width; i++) tw_store(z + 4 * i, total[i]);
}

TW_INLINE void row_of(uint32_t power, const distance_params *p, const float *x, const float *y,
                      float *z, tw_span columns) {
  uint32_t c = columns.first;
  for (; c + 16 <= columns.last; c += 16) block(power, 4, p, x, y + c, z + c, 4);
  for (; c + 4 <= columns.last; c += 4) block(power, 1, p, x, y + c, z + c, 4);
  if (c < columns.last) block(power, 1, p, x, y + c, z + c, columns.last - c);
}

uint32_t f32_distance(const tw_dispatch *d, const tw_tile *t) {
  const distance_params *p = d->params;
  if (p->tile_rows == 0 || p->tile_columns == 0 || p->power == 0) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_DISTANCE_X, (uint64_t)p->rows * p->features, 4) ||
      !tw_holds(d, F32_DISTANCE_Y, (uint64_t)p->features * p->columns, 4) ||
      !tw_holds(d, F32_DISTANCE_Z, (uint64_t)p->rows * p->columns, 4))
    return TW_BINDING_TOO_SHORT;
  tw_span columns = tw_piece(t->x, p->tile_columns, p->columns);
  tw_span rows = tw_piece(t->y, p->tile_rows, p->rows);
  const float *y = TW_DATA(float, d, F32_DISTANCE_Y);
  for (uint32_t r = rows.first; r < rows.last; r++) {
    const float *x = TW_DATA(float, d, F32_DISTANCE_X) + (uint64_t)r * p->features;
    float *z = TW_DATA(float, d, F32_DISTANCE_Z) + (uint64_t)r * p->columns;
    if (p->power == 1)
      row_of(1, p, x, y, z, columns);
    else if (p->power == 2)
      row_of(2, p, x, y, z, columns);
    else
      row_of(0, p, x, y, z, columns);
  }
  return TW_OK;
}
