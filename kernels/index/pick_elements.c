// pick_elements: y[o, j, i] = x[o, indices[o, j, i], i].
//
// Bindings: x (outer, axis, inner), indices (outer, count, inner), y of their shape; dense,
// aligned to their elements, no overlap.
// Tile: x = tile_rows of the outer * count rows.
#include "places.h"

uint32_t pick_elements(const tw_dispatch *d, const tw_tile *t) {
  const elements_params *p = d->params;
  uint64_t rows = (uint64_t)p->outer * p->count, lines = (uint64_t)p->outer * p->axis;
  if (p->tile_rows == 0 || !tw_sizes_known(p->element_size, p->index_size))
    return TW_INVALID_PARAMS;
  if (rows == 0 || p->inner == 0) return TW_OK;
  if (rows > UINT32_MAX / p->inner || lines > UINT32_MAX / p->inner) return TW_INVALID_PARAMS;
  if (!tw_holds(d, PICK_ELEMENTS_X, lines * p->inner, p->element_size) ||
      !tw_holds(d, PICK_ELEMENTS_INDICES, rows * p->inner, p->index_size) ||
      !tw_holds(d, PICK_ELEMENTS_Y, rows * p->inner, p->element_size))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *x = TW_DATA(uint8_t, d, PICK_ELEMENTS_X);
  uint8_t *y = TW_DATA(uint8_t, d, PICK_ELEMENTS_Y);
  tw_span s = tw_piece(t->x, p->tile_rows, rows);
  for (uint32_t row = s.first; row < s.last; row++)
    for (uint32_t i = 0; i < p->inner; i++) {
      uint32_t to = row * p->inner + i;
      uint32_t at = tw_index(d, PICK_ELEMENTS_INDICES, p->index_size, to, p->axis);
      if (at == UINT32_MAX) return TW_INDEX_OUT_OF_RANGE;
      uint32_t from = (row / p->count * p->axis + at) * p->inner + i;
      tw_put(y, to, x, from, p->element_size, INDEX_COMBINATION_REPLACE, INDEX_NUMBER_RAW);
    }
  return TW_OK;
}
