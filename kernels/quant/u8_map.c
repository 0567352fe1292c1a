// y = table[x], byte by byte: any function of one byte.
//
// x, y   (count);  table  256 bytes. y may be x.
// Tile: x = `tile` bytes. Scratch: none.
#include "bindings.h"
#include "quant.h"

uint32_t u8_map(const tw_dispatch *d, const tw_tile *t) {
  const map_params *p = d->params;
  if (p->tile == 0 || d->binding_count != U8_MAP_BINDINGS) return TW_INVALID_PARAMS;
  if (!tw_holds(d, U8_MAP_X, p->count, 1) || !tw_holds(d, U8_MAP_TABLE, 256, 1) ||
      !tw_holds(d, U8_MAP_Y, p->count, 1))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *x = TW_DATA(const uint8_t, d, U8_MAP_X), *table = TW_DATA(const uint8_t, d, U8_MAP_TABLE);
  uint8_t *y = TW_DATA(uint8_t, d, U8_MAP_Y);
  tw_span span = tw_piece(t->x, p->tile, p->count);
  uint32_t i = span.first;
  for (; i + 4 <= span.last; i += 4) {
    uint8_t a = table[x[i]], b = table[x[i + 1]], c = table[x[i + 2]], e = table[x[i + 3]];
    y[i] = a, y[i + 1] = b, y[i + 2] = c, y[i + 3] = e;
  }
  for (; i < span.last; i++) y[i] = table[x[i]];
  return TW_OK;
}
