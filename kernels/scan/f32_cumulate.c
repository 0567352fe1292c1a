// f32_cumulate: running sums or products along an axis; see scan.wit, the body is in cumulate.h.
//
// Bindings: x, y (outer, axis, inner), dense, aligned to their element; y may be x.
// Tile: x = tile_lines of the outer * inner lines.
#include "cumulate.h"

TW_CUMULATE(f32_cumulate, float, double)
