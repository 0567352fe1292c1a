// y = saturate(round(x / scale) + zero), halves to even, u8 or i8.
//
// x, y  (outer, axis, inner), dense;  scale, zero  (axis); an absent zero is 0
// Tile: x = `tile_lines` lines of `inner` elements. Nothing may alias.
#include "bindings.h"
#include "quant.h"
#include "quantize.h"

uint32_t f32_quantize(const tw_dispatch *d, const tw_tile *t) {
  const quantize_params *p = d->params;
  if (p->tile_lines == 0 || d->binding_count != F32_QUANTIZE_BINDINGS) return TW_INVALID_PARAMS;
  uint64_t lines = (uint64_t)p->outer * p->axis;
  if (lines > UINT32_MAX || !tw_holds(d, F32_QUANTIZE_X, lines * p->inner, 4) ||
      !tw_holds(d, F32_QUANTIZE_Y, lines * p->inner, 1) ||
      !tw_holds(d, F32_QUANTIZE_SCALE, p->axis, 4) ||
      (tw_present(d, F32_QUANTIZE_ZERO) && !tw_holds(d, F32_QUANTIZE_ZERO, p->axis, 1)))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *zeros =
      tw_present(d, F32_QUANTIZE_ZERO) ? TW_DATA(const uint8_t, d, F32_QUANTIZE_ZERO) : 0;
  tw_span span = tw_piece(t->x, p->tile_lines, lines);
  for (uint32_t l = span.first; l < span.last; l++) {
    uint32_t channel = l % p->axis;
    int32_t zero = !zeros ? 0 : p->is_signed ? (int8_t)zeros[channel] : zeros[channel];
    tw_quantizer q =
        tw_quantizer_of(TW_DATA(const float, d, F32_QUANTIZE_SCALE)[channel], zero, p->is_signed);
    tw_quantize_run(&q, TW_DATA(uint8_t, d, F32_QUANTIZE_Y) + (uint64_t)l * p->inner,
                    TW_DATA(const float, d, F32_QUANTIZE_X) + (uint64_t)l * p->inner, p->inner);
  }
  return TW_OK;
}
