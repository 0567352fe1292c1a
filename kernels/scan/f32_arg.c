// f32_arg: where along an axis the largest or smallest element is; see scan.wit and arg.h.
//
// Bindings: x (outer, axis, inner), y (outer, inner) of i64, dense, aligned to their elements.
// Tile: x = tile_lines of the outer * inner lines.
#include "arg.h"

#define IS_NAN(x) ((x) != (x))
TW_ARG(f32_arg, float, IS_NAN)
