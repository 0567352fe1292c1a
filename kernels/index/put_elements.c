// put_elements: y[o, indices[o, j, i], i] op= updates[o, j, i].
//
// Bindings: indices, updates (outer, count, inner), y (outer, axis, inner); dense, aligned to their
// elements, no overlap.
// Tile: x = tile_rows of outer, so that whatever meets one element is in one tile, in order.
#include "places.h"

uint32_t put_elements(const tw_dispatch *d, const tw_tile *t) {
  const put_elements_params *p = d->params;
  uint64_t rows = (uint64_t)p->outer * p->count, lines = (uint64_t)p->outer * p->axis;
  if (p->tile_rows == 0 || !tw_sizes_known(p->element_size, p->index_size) ||
      !tw_numbers_known(p->op, p->kind, p->element_size))
    return TW_INVALID_PARAMS;
  if (rows == 0 || p->inner == 0) return TW_OK;
  if (rows > UINT32_MAX / p->inner || lines > UINT32_MAX / p->inner) return TW_INVALID_PARAMS;
  if (!tw_holds(d, PUT_ELEMENTS_INDICES, rows * p->inner, p->index_size) ||
      !tw_holds(d, PUT_ELEMENTS_UPDATES, rows * p->inner, p->element_size) ||
      !tw_holds(d, PUT_ELEMENTS_Y, lines * p->inner, p->element_size))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *updates = TW_DATA(uint8_t, d, PUT_ELEMENTS_UPDATES);
  uint8_t *y = TW_DATA(uint8_t, d, PUT_ELEMENTS_Y);
  tw_span s = tw_piece(t->x, p->tile_rows, p->outer);
  for (uint32_t o = s.first; o < s.last; o++)
    for (uint32_t j = 0; j < p->count; j++)
      for (uint32_t i = 0; i < p->inner; i++) {
        uint32_t from = (o * p->count + j) * p->inner + i;
        uint32_t at = tw_index(d, PUT_ELEMENTS_INDICES, p->index_size, from, p->axis);
        if (at == UINT32_MAX) return TW_INDEX_OUT_OF_RANGE;
        uint32_t to = (o * p->axis + at) * p->inner + i;
        tw_put(y, to, updates, from, p->element_size, p->op, p->kind);
      }
  return TW_OK;
}
