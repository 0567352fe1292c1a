// What the kernels of this family share: checks, and a tile's lines one by one.
#ifndef TW_LINES_H
#define TW_LINES_H
#include "bindings.h"
#include "scan.h"

// Where line `line` of (outer, axis, inner) begins in x, and in a result with `axis` extent `n`.
static inline uint32_t tw_line(uint32_t line, uint32_t inner, uint32_t n) {
  return line / inner * (n * inner) + line % inner;
}

// The lines of a tile; `status` says why there are none. Bindings 0 and 1 have `axis` and `out`
// elements a line.
static inline tw_span tw_lines(const tw_dispatch *d, const tw_tile *t, uint32_t outer,
                               uint32_t axis, uint32_t inner, uint32_t tile, uint32_t x_size,
                               uint32_t out, uint32_t out_size, uint32_t *status) {
  const tw_span none = {0, 0};
  *status = TW_OK;
  uint64_t lines = (uint64_t)outer * inner;
  if (tile == 0 || lines > UINT32_MAX) return *status = TW_INVALID_PARAMS, none;
  if (lines == 0) return none;
  if (axis > UINT32_MAX / lines || out > UINT32_MAX / lines ||
      !tw_holds(d, 0, lines * axis, x_size) || !tw_holds(d, 1, lines * out, out_size))
    return *status = TW_BINDING_TOO_SHORT, none;
  return tw_piece(t->x, tile, lines);
}

#endif
