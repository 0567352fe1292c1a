// y[i] = codes[number of steps that x[i] has reached], by halving; convert.wit has the order.
//
// Bindings: x, steps (i32), codes (bytes), y (bytes), dense. Nothing may alias.
// Tile: x = tile_elements consecutive elements. Scratch: none.
#include "bindings.h"
#include "convert.h"

#define MOST_STEPS 1024

uint32_t f32_steps(const tw_dispatch *d, const tw_tile *t) {
  const steps_params *p = d->params;
  if (p->tile_elements == 0 || p->steps > MOST_STEPS) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_STEPS_X, p->count, 4) || !tw_holds(d, F32_STEPS_Y, p->count, 1) ||
      !tw_holds(d, F32_STEPS_STEPS, p->steps, 4) ||
      !tw_holds(d, F32_STEPS_CODES, (uint64_t)p->steps + 1, 1))
    return TW_BINDING_TOO_SHORT;
  const int32_t *bits = TW_DATA(int32_t, d, F32_STEPS_X);
  const int32_t *steps = TW_DATA(int32_t, d, F32_STEPS_STEPS);
  const uint8_t *codes = TW_DATA(uint8_t, d, F32_STEPS_CODES);
  uint8_t *y = TW_DATA(uint8_t, d, F32_STEPS_Y);
  tw_span s = tw_piece(t->x, p->tile_elements, p->count);
  for (uint32_t i = s.first; i < s.last; i++) {
    if ((bits[i] & 0x7fffffff) > 0x7f800000) {
      y[i] = bits[i] < 0 ? p->minus_nan : p->nan;
      continue;
    }
    int32_t key = bits[i] ^ (bits[i] >> 31 & 0x7fffffff);
    uint32_t low = 0;
    for (uint32_t left = p->steps; left > 0;) {
      uint32_t half = left / 2;
      int reached = steps[low + half] <= key;
      low = reached ? low + half + 1 : low;
      left = reached ? left - half - 1 : half;
    }
    y[i] = codes[low];
  }
  return TW_OK;
}
