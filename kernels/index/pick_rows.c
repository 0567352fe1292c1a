// pick_rows: y[b, r, :] = x[b, indices[b, r, :]..., :].
//
// Bindings: x (batch, extents..., inner), indices (batch, rows, depth), y (batch, rows, inner);
// dense, aligned to their elements, no overlap.
// Tile: x = tile_rows of the batch * rows rows.
#include "places.h"

uint32_t pick_rows(const tw_dispatch *d, const tw_tile *t) {
  const rows_params *p = d->params;
  uint32_t status = tw_check_rows(d, p, PICK_ROWS_X, PICK_ROWS_INDICES, PICK_ROWS_Y);
  if (status) return status;
  const uint8_t *x = TW_DATA(uint8_t, d, PICK_ROWS_X);
  uint8_t *y = TW_DATA(uint8_t, d, PICK_ROWS_Y);
  uint32_t bytes = p->inner * p->element_size;
  tw_span s = tw_piece(t->x, p->tile_rows, (uint64_t)p->batch * p->rows);
  for (uint32_t row = s.first; row < s.last; row++) {
    uint32_t at = tw_place(d, p, PICK_ROWS_INDICES, row);
    if (at == UINT32_MAX) return TW_INDEX_OUT_OF_RANGE;
    tw_copy(y + row * bytes, x + at * bytes, bytes);
  }
  return TW_OK;
}
