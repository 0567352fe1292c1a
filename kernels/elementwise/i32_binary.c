// i32_binary: y[i] = a[i] op b[i] on int32 with broadcasting; formulas in integer_binary.h.
//
// Bindings: a, b (read through strides; 4-byte aligned), y (dense; may be a
// or b if those are dense).
// Tile: x = tile_elements consecutive elements of y.
#include "integer_binary.h"

TW_INTEGER_BINARY(i32_binary, int32_t, uint32_t)
