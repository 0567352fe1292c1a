// ranges[2 i], ranges[2 i + 1] = the least and the largest of 0 and tile i's elements, f32.
//
// x       `count` elements;  ranges  two for each tile
// Tile: x = `tile` elements. NaN where an element is. Nothing may alias.
#include "bindings.h"
#include "quant.h"
#include "simd.h"

TW_INLINE void include(v128_t x, v128_t *low, v128_t *high, v128_t *none) {
  *low = tw_fast_min(*low, x);
  *high = tw_fast_max(*high, x);
  *none = wasm_v128_or(*none, wasm_f32x4_ne(x, x));
}

uint32_t f32_range(const tw_dispatch *d, const tw_tile *t) {
  const range_params *p = d->params;
  if (p->tile == 0 || d->binding_count != F32_RANGE_BINDINGS) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_RANGE_X, p->count, 4) ||
      !tw_holds(d, F32_RANGE_RANGES, 2 * (uint64_t)t->x + 2, 4))
    return TW_BINDING_TOO_SHORT;
  tw_span span = tw_piece(t->x, p->tile, p->count);
  const float *x = TW_DATA(const float, d, F32_RANGE_X);
  // NaN is found apart: f32x4.min takes seven instructions to pass it on, this all four.
  v128_t low[4], high[4], none = tw_splat(0);
  for (int u = 0; u < 4; u++) low[u] = high[u] = tw_splat(0);
  uint32_t i = span.first;
  for (; i + 16 <= span.last; i += 16)
    for (int u = 0; u < 4; u++) include(tw_load(x + i + 4 * u), &low[u], &high[u], &none);
  for (; i + 4 <= span.last; i += 4) include(tw_load(x + i), &low[0], &high[0], &none);
  if (i < span.last)
    include(tw_load_tail(x + i, span.last - i), &low[0], &high[0], &none);
  for (int u = 1; u < 4; u++) {
    low[0] = tw_fast_min(low[0], low[u]);
    high[0] = tw_fast_max(high[0], high[u]);
  }
  if (wasm_v128_any_true(none)) low[0] = high[0] = wasm_f32x4_splat(__builtin_nanf(""));
  float *to = TW_DATA(float, d, F32_RANGE_RANGES) + 2 * (uint64_t)t->x;
  to[0] = wasm_f32x4_extract_lane(tw_lowest(low[0]), 0);
  to[1] = wasm_f32x4_extract_lane(tw_highest(high[0]), 0);
  return TW_OK;
}
