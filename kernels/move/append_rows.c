// append_rows: a key-value cache with new rows behind those that it has, and 0 behind them.
//
// Bindings: past (batch, heads, held rows), new (batch, heads, fresh rows, by strides), lengths
// (batch of i32, may be absent), present (batch, heads, whole of `room` rows); no overlap, but that
// present may be past if both have as many rows: then only the new ones are written. Nor is more
// where past is absent, for present has its rows.
// Tile: x = head, y = sequence of the batch.
#include "bindings.h"
#include "copy.h"
#include "move.h"

uint32_t append_rows(const tw_dispatch *d, const tw_tile *t) {
  const append_params *p = d->params;
  const uint64_t lines = (uint64_t)p->heads * d->count_y, row = p->row_bytes;
  if (t->x >= p->heads || lines == 0 || row == 0) return TW_OK;
  const int there = !tw_present(d, APPEND_ROWS_PAST);
  if (p->held * row > UINT32_MAX || p->room * row > UINT32_MAX || p->room < p->whole)
    return TW_INVALID_PARAMS;
  const uint64_t last = (uint64_t)(d->count_y - 1) * p->new_batch +
                        (uint64_t)(p->heads - 1) * p->new_head +
                        (p->fresh ? (uint64_t)(p->fresh - 1) * p->new_row + row : 0);
  if ((!there && !tw_holds(d, APPEND_ROWS_PAST, lines * p->held, p->row_bytes)) ||
      !tw_holds(d, APPEND_ROWS_PRESENT, (lines - 1) * p->room + p->whole, p->row_bytes) ||
      (p->fresh && !tw_holds(d, APPEND_ROWS_NEW, last, 1)))
    return TW_BINDING_TOO_SHORT;
  int64_t before = p->before;
  if (tw_present(d, APPEND_ROWS_LENGTHS)) {
    if (!tw_holds(d, APPEND_ROWS_LENGTHS, d->count_y, 4)) return TW_BINDING_TOO_SHORT;
    before = (int64_t)TW_DATA(int32_t, d, APPEND_ROWS_LENGTHS)[t->y] + 1 - p->fresh;
  }
  const int64_t end = before + p->fresh;
  if (before < 0 || before > p->held || end > p->whole) return TW_INDEX_OUT_OF_RANGE;
  if (there && before != p->before) return TW_INDEX_OUT_OF_RANGE;
  const uint32_t line = t->y * p->heads + t->x;
  const uint32_t copied = (uint32_t)(before * row), rest = (uint32_t)((p->whole - end) * row);
  const uint8_t *new = TW_DATA(uint8_t, d, APPEND_ROWS_NEW) + t->y * p->new_batch +
                       t->x * p->new_head;
  uint8_t *present = TW_DATA(uint8_t, d, APPEND_ROWS_PRESENT) + line * p->room * row;
  int moved = 1;  // what is not new
  if (!there) {
    const uint8_t *past = TW_DATA(uint8_t, d, APPEND_ROWS_PAST) + line * p->held * row;
    moved = past != present || p->held != p->whole;
    if (copied && moved) tw_copy(present, past, copied);
  }
  present += copied;
  for (uint32_t i = 0; i < p->fresh; i++, present += p->row_bytes)
    tw_copy(present, new + i * p->new_row, p->row_bytes);
  if (rest && moved) __builtin_memset(present, 0, rest);
  return TW_OK;
}
