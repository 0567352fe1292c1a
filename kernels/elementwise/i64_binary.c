// i64_binary: y[i] = a[i] op b[i] on int64 with broadcasting; formulas in integer_binary.h.
//
// Bindings: a, b (read through strides; 8-byte aligned), y (dense; may be a
// or b if those are dense).
// Tile: x = tile_elements consecutive elements of y.
#include "integer_binary.h"

TW_INTEGER_BINARY(i64_binary, int64_t, uint64_t)
