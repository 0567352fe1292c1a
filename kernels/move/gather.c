// gather: target[o, i, :] = source[o, indices[i], :].
//
// Bindings: source (outer, axis, inner_bytes), indices (count of i32 or i64, aligned to their
// size), target (outer, count, inner_bytes); dense, no overlap.
// Tile: x = tile_rows of the outer * count rows of the target.
#include "bindings.h"
#include "copy.h"
#include "move.h"

uint32_t gather(const tw_dispatch *d, const tw_tile *t) {
  const gather_params *p = d->params;
  if (p->tile_rows == 0 || (p->index_size != 4 && p->index_size != 8)) return TW_INVALID_PARAMS;
  uint64_t rows = (uint64_t)p->outer * p->count, lines = (uint64_t)p->outer * p->axis;
  if (rows == 0 || p->inner_bytes == 0) return TW_OK;
  if (rows > UINT32_MAX || lines > UINT32_MAX) return TW_INVALID_PARAMS;
  if (!tw_holds(d, GATHER_SOURCE, lines, p->inner_bytes) ||
      !tw_holds(d, GATHER_INDICES, p->count, p->index_size) ||
      !tw_holds(d, GATHER_TARGET, rows, p->inner_bytes))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *source = TW_DATA(uint8_t, d, GATHER_SOURCE);
  const int32_t *words = TW_DATA(int32_t, d, GATHER_INDICES);
  const int64_t *longs = TW_DATA(int64_t, d, GATHER_INDICES);
  uint8_t *target = TW_DATA(uint8_t, d, GATHER_TARGET);
  const uint32_t inner = p->inner_bytes;
  tw_span s = tw_piece(t->x, p->tile_rows, rows);
  uint32_t o = s.first / p->count, i = s.first % p->count;
  for (uint32_t row = s.first; row < s.last; row++) {
    int64_t index = p->index_size == 4 ? words[i] : longs[i];
    if (index < 0) index += p->axis;
    if (index < 0 || index >= p->axis) return TW_INDEX_OUT_OF_RANGE;
    uint32_t line = o * p->axis + (uint32_t)index;
    if (inner == 4) {
      ((uint32_t *)target)[row] = ((const uint32_t *)source)[line];
    } else {
      tw_copy(target + row * inner, source + line * inner, inner);
    }
    if (++i == p->count) i = 0, o++;
  }
  return TW_OK;
}
