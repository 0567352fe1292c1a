// y = (x - zero) scale, x u8 or i8.
//
// x, y  (outer, axis, inner), dense;  scale, zero  (axis); an absent zero is 0
// Tile: x = `tile_lines` lines of `inner` elements. Nothing may alias.
#include "bindings.h"
#include "quant.h"
#include "simd.h"

static void run(float *y, const uint8_t *x, uint32_t count, float scale, int32_t zero,
                int is_signed) {
  v128_t factor = wasm_f32x4_splat(scale), start = wasm_i16x8_splat((int16_t)zero);
  for (; count >= 8; count -= 8, x += 8, y += 8) {
    v128_t v = is_signed ? wasm_i16x8_load8x8(x) : wasm_u16x8_load8x8(x);
    v = wasm_i16x8_sub(v, start);
    v128_t low = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(v));
    v128_t high = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(v));
    tw_store(y, wasm_f32x4_mul(low, factor));
    tw_store(y + 4, wasm_f32x4_mul(high, factor));
  }
  for (; count != 0; count--, x++, y++)
    *y = (float)((is_signed ? (int8_t)*x : (int32_t)*x) - zero) * scale;
}

uint32_t f32_dequantize(const tw_dispatch *d, const tw_tile *t) {
  const quantize_params *p = d->params;
  if (p->tile_lines == 0 || d->binding_count != F32_DEQUANTIZE_BINDINGS) return TW_INVALID_PARAMS;
  uint64_t lines = (uint64_t)p->outer * p->axis;
  if (lines > UINT32_MAX || !tw_holds(d, F32_DEQUANTIZE_X, lines * p->inner, 1) ||
      !tw_holds(d, F32_DEQUANTIZE_Y, lines * p->inner, 4) ||
      !tw_holds(d, F32_DEQUANTIZE_SCALE, p->axis, 4) ||
      (tw_present(d, F32_DEQUANTIZE_ZERO) && !tw_holds(d, F32_DEQUANTIZE_ZERO, p->axis, 1)))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *zeros =
      tw_present(d, F32_DEQUANTIZE_ZERO) ? TW_DATA(const uint8_t, d, F32_DEQUANTIZE_ZERO) : 0;
  tw_span span = tw_piece(t->x, p->tile_lines, lines);
  for (uint32_t l = span.first; l < span.last; l++) {
    uint32_t channel = l % p->axis;
    int32_t zero = !zeros ? 0 : p->is_signed ? (int8_t)zeros[channel] : zeros[channel];
    run(TW_DATA(float, d, F32_DEQUANTIZE_Y) + (uint64_t)l * p->inner,
        TW_DATA(const uint8_t, d, F32_DEQUANTIZE_X) + (uint64_t)l * p->inner, p->inner,
        TW_DATA(const float, d, F32_DEQUANTIZE_SCALE)[channel], zero, (int)p->is_signed);
  }
  return TW_OK;
}
