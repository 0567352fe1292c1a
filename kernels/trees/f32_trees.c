// y = what the leaves of all trees say of each row; walk.h has the formula, trees.wit the layouts.
//
// Bindings: x (rows, features), roots (trees), nodes, votes, base (targets), y (rows, targets).
// Tile: x = tile_rows rows. Scratch: 512 bytes a target.
#include "walk.h"

TW_TREES(f32_trees, float)
