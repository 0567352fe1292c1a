// bool_logical: y[i] = a[i] op b[i] on booleans (bytes, anything but 0 is true) with broadcasting.
//
// Bindings: a, b (read through strides), y (dense, 0 or 1; may be a or b if those are dense).
// Tile: x = tile_elements consecutive elements of y.
#include "broadcast.h"
#include "elementwise.h"

static inline uint8_t op_and(uint8_t a, uint8_t b) { return (a != 0) & (b != 0); }
static inline uint8_t op_or(uint8_t a, uint8_t b) { return (a | b) != 0; }
static inline uint8_t op_xor(uint8_t a, uint8_t b) { return (a != 0) ^ (b != 0); }
static inline uint8_t op_equal(uint8_t a, uint8_t b) { return (a != 0) == (b != 0); }
TW_SCALAR_ROW(row_and, uint8_t, uint8_t, op_and)
TW_SCALAR_ROW(row_or, uint8_t, uint8_t, op_or)
TW_SCALAR_ROW(row_xor, uint8_t, uint8_t, op_xor)
TW_SCALAR_ROW(row_equal, uint8_t, uint8_t, op_equal)

static inline void row_of(elementwise_logical op, const uint8_t *a, uint32_t sa, const uint8_t *b,
                          uint32_t sb, uint8_t *y, uint32_t n) {
  switch (op) {
    case ELEMENTWISE_LOGICAL_AND: row_and(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_LOGICAL_OR: row_or(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_LOGICAL_XOR: row_xor(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_LOGICAL_EQUAL: row_equal(a, sa, b, sb, y, n); break;
  }
}

uint32_t bool_logical(const tw_dispatch *d, const tw_tile *t) {
  const logical_params *p = d->params;
  tw_span s;
  uint32_t status = tw_check_two(d, p->sizes, p->a_strides, p->b_strides, p->tile_elements, 1, 1,
                                 t->x, &s);
  if (status) return status;
  const uint8_t *a = TW_DATA(uint8_t, d, BOOL_LOGICAL_A), *b = TW_DATA(uint8_t, d, BOOL_LOGICAL_B);
  uint8_t *y = TW_DATA(uint8_t, d, BOOL_LOGICAL_Y);
  if (p->op > ELEMENTWISE_LOGICAL_EQUAL) return TW_INVALID_PARAMS;
  TW_FOR_RUNS(p, s, a, b, y, row_of);
  return TW_OK;
}
