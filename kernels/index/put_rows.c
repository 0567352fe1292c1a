// put_rows: y[b, indices[b, r, :]..., :] op= updates[b, r, :].
//
// Bindings: indices (batch, rows, depth), updates (batch, rows, inner), y (batch, extents...,
// inner); dense, aligned to their elements, no overlap.
// Tile: x = tile_rows of the batch * rows rows. Tiles may run at once: where rows meet, one tile
// has to have them all.
#include "places.h"

uint32_t put_rows(const tw_dispatch *d, const tw_tile *t) {
  const rows_params *p = d->params;
  if (!tw_numbers_known(p->op, p->kind, p->element_size)) return TW_INVALID_PARAMS;
  uint32_t status = tw_check_rows(d, p, PUT_ROWS_Y, PUT_ROWS_INDICES, PUT_ROWS_UPDATES);
  if (status) return status;
  const uint8_t *updates = TW_DATA(uint8_t, d, PUT_ROWS_UPDATES);
  uint8_t *y = TW_DATA(uint8_t, d, PUT_ROWS_Y);
  uint32_t inner = p->inner, bytes = inner * p->element_size;
  tw_span s = tw_piece(t->x, p->tile_rows, (uint64_t)p->batch * p->rows);
  for (uint32_t row = s.first; row < s.last; row++) {
    uint32_t at = tw_place(d, p, PUT_ROWS_INDICES, row);
    if (at == UINT32_MAX) return TW_INDEX_OUT_OF_RANGE;
    if (p->op == INDEX_COMBINATION_REPLACE) {
      tw_copy(y + at * bytes, updates + row * bytes, bytes);
      continue;
    }
    for (uint32_t i = 0; i < inner; i++)
      tw_put(y, at * inner + i, updates, row * inner + i, p->element_size, p->op, p->kind);
  }
  return TW_OK;
}
