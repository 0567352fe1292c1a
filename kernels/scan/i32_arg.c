// i32_arg: where along an axis the largest or smallest element is; see scan.wit and arg.h.
//
// Bindings: x (outer, axis, inner), y (outer, inner) of i64, dense, aligned to their elements.
// Tile: x = tile_lines of the outer * inner lines.
#include "arg.h"

#define IS_NAN(x) 0
TW_ARG(i32_arg, int32_t, IS_NAN)
