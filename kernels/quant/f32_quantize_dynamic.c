// DynamicQuantizeLinear once the range is known: y = saturate(round(x / scale) + zero), u8.
//
// x  `count` elements;  ranges  `ranges` pairs of f32_range;  y  `count` bytes
// scale, zero  one element each, written by tile 0
// Tile: x = `tile` elements. Nothing may alias. Every tile looks through all ranges by itself.
#include "bindings.h"
#include "quant.h"
#include "quantize.h"

uint32_t f32_quantize_dynamic(const tw_dispatch *d, const tw_tile *t) {
  const dynamic_params *p = d->params;
  if (p->tile == 0 || d->binding_count != F32_QUANTIZE_DYNAMIC_BINDINGS) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_QUANTIZE_DYNAMIC_X, p->count, 4) ||
      !tw_holds(d, F32_QUANTIZE_DYNAMIC_RANGES, 2 * (uint64_t)p->ranges, 4) ||
      !tw_holds(d, F32_QUANTIZE_DYNAMIC_Y, p->count, 1) ||
      !tw_holds(d, F32_QUANTIZE_DYNAMIC_SCALE, 1, 4) ||
      !tw_holds(d, F32_QUANTIZE_DYNAMIC_ZERO, 1, 1))
    return TW_BINDING_TOO_SHORT;
  const float *ranges = TW_DATA(const float, d, F32_QUANTIZE_DYNAMIC_RANGES);
  v128_t low = tw_splat(0), high = tw_splat(0);
  for (uint32_t i = 0; i < p->ranges; i++) {
    low = wasm_f32x4_min(low, tw_splat(ranges[2 * i]));
    high = wasm_f32x4_max(high, tw_splat(ranges[2 * i + 1]));
  }
  float least = wasm_f32x4_extract_lane(low, 0), most = wasm_f32x4_extract_lane(high, 0);
  float scale = least == most ? 1 : (most - least) / 255;
  v128_t zeros = wasm_f32x4_splat(-least / scale);
  zeros = wasm_f32x4_pmin(wasm_f32x4_splat(255), wasm_f32x4_pmax(zeros, wasm_f32x4_splat(0)));
  zeros = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(zeros));
  int32_t zero = wasm_i32x4_extract_lane(zeros, 0);
  if (t->x == 0) {
    *TW_DATA(float, d, F32_QUANTIZE_DYNAMIC_SCALE) = scale;
    *TW_DATA(uint8_t, d, F32_QUANTIZE_DYNAMIC_ZERO) = (uint8_t)zero;
  }
  tw_quantizer q = tw_quantizer_of(scale, zero, 0);
  tw_span span = tw_piece(t->x, p->tile, p->count);
  tw_quantize_run(&q, TW_DATA(uint8_t, d, F32_QUANTIZE_DYNAMIC_Y) + span.first,
                  TW_DATA(const float, d, F32_QUANTIZE_DYNAMIC_X) + span.first,
                  span.last - span.first);
  return TW_OK;
}
