// widen_half: y[i] = x[i], of float16 or bfloat16, in float32; exact.
//
// Bindings: x (2-byte aligned), y (4-byte aligned), dense, no overlap.
// Tile: x = tile_elements consecutive elements.
#include "half.h"

// `widen` is a constant at each call.
TW_INLINE void widened(v128_t (*widen)(v128_t), const uint16_t *x, float *y, tw_span s) {
  uint32_t i = s.first;
  for (; i + 4 <= s.last; i += 4) tw_store(y + i, widen(wasm_u32x4_load16x4(x + i)));
  for (; i < s.last; i++) y[i] = wasm_f32x4_extract_lane(widen(wasm_i32x4_splat(x[i])), 0);
}

uint32_t widen_half(const tw_dispatch *d, const tw_tile *t) {
  uint32_t status;
  tw_span s = tw_half_span(d, t, 2, 4, &status);
  const uint16_t *x = TW_DATA(uint16_t, d, WIDEN_HALF_X);
  float *y = TW_DATA(float, d, WIDEN_HALF_Y);
  if (((const half_params *)d->params)->format == CONVERT_HALF_FLOAT16)
    widened(tw_widen_float16, x, y, s);
  else
    widened(tw_widen_bfloat16, x, y, s);
  return status;
}
