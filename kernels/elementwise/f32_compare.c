// f32_compare: y[i] = a[i] op b[i] with broadcasting; formulas in compare.h.
//
// Bindings: a, b (read through strides; 4-byte aligned), y (dense bytes, 0 or 1; not a or b).
// Tile: x = tile_elements consecutive elements of y.
#include "compare.h"

TW_COMPARE(f32_compare, float)
