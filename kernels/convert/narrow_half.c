// narrow_half: y[i] = x[i], of float32, in float16 or bfloat16, rounded half to even.
//
// Bindings: x (4-byte aligned), y (2-byte aligned), dense, no overlap.
// Tile: x = tile_elements consecutive elements.
#include "half.h"

// `narrow` is a constant at each call; its results are below 2^16.
TW_INLINE void narrowed(v128_t (*narrow)(v128_t), const float *x, uint16_t *y, tw_span s) {
  uint32_t i = s.first;
  for (; i + 8 <= s.last; i += 8) {
    v128_t low = narrow(tw_load(x + i)), high = narrow(tw_load(x + i + 4));
    wasm_v128_store(y + i, wasm_u16x8_narrow_i32x4(low, high));
  }
  for (; i < s.last; i++) y[i] = (uint16_t)wasm_i32x4_extract_lane(narrow(tw_splat(x[i])), 0);
}

uint32_t narrow_half(const tw_dispatch *d, const tw_tile *t) {
  uint32_t status;
  tw_span s = tw_half_span(d, t, 4, 2, &status);
  const float *x = TW_DATA(float, d, NARROW_HALF_X);
  uint16_t *y = TW_DATA(uint16_t, d, NARROW_HALF_Y);
  if (((const half_params *)d->params)->format == CONVERT_HALF_FLOAT16)
    narrowed(tw_narrow_float16, x, y, s);
  else
    narrowed(tw_narrow_bfloat16, x, y, s);
  return status;
}
