// i32_total: sum, product, largest or smallest along an axis; see scan.wit and total.h.
//
// Bindings: x (outer, axis, inner), y (outer, inner), dense, aligned to their element.
// Tile: x = tile_lines of the outer * inner lines.
#include "total.h"

TW_TOTAL(i32_total, int32_t, uint32_t, INT32_MIN, INT32_MAX)
