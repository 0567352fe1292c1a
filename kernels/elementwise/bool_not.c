// bool_not: y[i] = x[i] == 0 on booleans (bytes, anything but 0 is true).
//
// Bindings: x, y, dense; y may be x. Tile: x = tile_elements consecutive elements.
#include "bindings.h"
#include "elementwise.h"

uint32_t bool_not(const tw_dispatch *d, const tw_tile *t) {
  const not_params *p = d->params;
  if (p->tile_elements == 0) return TW_INVALID_PARAMS;
  if (!tw_holds(d, BOOL_NOT_X, p->count, 1) || !tw_holds(d, BOOL_NOT_Y, p->count, 1))
    return TW_BINDING_TOO_SHORT;
  tw_span s = tw_piece(t->x, p->tile_elements, p->count);
  const uint8_t *x = TW_DATA(uint8_t, d, BOOL_NOT_X);
  uint8_t *y = TW_DATA(uint8_t, d, BOOL_NOT_Y);
#pragma clang loop vectorize(assume_safety)
  for (uint32_t i = s.first; i < s.last; i++) y[i] = x[i] == 0;
  return TW_OK;
}
