// i64_total: sum, product, largest or smallest along an axis; see scan.wit and total.h.
//
// Bindings: x (outer, axis, inner), y (outer, inner), dense, aligned to their element.
// Tile: x = tile_lines of the outer * inner lines.
#include "total.h"

TW_TOTAL(i64_total, int64_t, uint64_t, INT64_MIN, INT64_MAX)
