// where: y[i] = condition[i] ? a[i] : b[i] with broadcasting.
//
// Bindings: condition (booleans, bytes), a, b (all read through strides; a and b aligned to
// element_size), y (dense; may be a or b if those are dense, or condition if element_size is 1).
// Tile: x = tile_elements consecutive elements of y.
#include "broadcast.h"
#include "elementwise.h"

#define LOOP(C, A, B)                                                                            \
  _Pragma("clang loop vectorize(assume_safety)") for (uint32_t i = 0; i < n; i++)                \
      y[i] = (C) ? (A) : (B)

#define ROW(NAME, T)                                                                             \
  static __attribute__((noinline)) void NAME(const uint8_t *c, uint32_t sc, const T *a,          \
                                             uint32_t sa, const T *b, uint32_t sb, T *y,         \
                                             uint32_t n) {                                       \
    if (sc == 1 && sa == 1 && sb == 1)                                                           \
      LOOP(c[i], a[i], b[i]);                                                                    \
    else if (sc == 1 && sa == 1 && sb == 0) {                                                    \
      const T scalar = *b;                                                                       \
      LOOP(c[i], a[i], scalar);                                                                  \
    } else if (sc == 1 && sa == 0 && sb == 1) {                                                  \
      const T scalar = *a;                                                                       \
      LOOP(c[i], scalar, b[i]);                                                                  \
    } else if (sc == 1 && sa == 0 && sb == 0) {                                                  \
      const T first = *a, second = *b;                                                           \
      LOOP(c[i], first, second);                                                                 \
    } else                                                                                       \
      for (uint32_t i = 0; i < n; i++) y[i] = c[i * sc] ? a[i * sa] : b[i * sb];                 \
  }
ROW(row_byte, uint8_t)
ROW(row_half, uint16_t)
ROW(row_word, uint32_t)
ROW(row_long, uint64_t)

#define RUNS(ROW, T)                                                                             \
  do {                                                                                           \
    const T *a = TW_DATA(T, d, WHERE_A), *b = TW_DATA(T, d, WHERE_B);                            \
    T *y = TW_DATA(T, d, WHERE_Y);                                                               \
    do ROW(c + w.offset[0], strides[0][5], a + w.offset[1], strides[1][5], b + w.offset[2],      \
           strides[2][5], y + w.position, w.length);                                             \
    while (tw_walk_next(&w, p->sizes, strides, 3, s.last));                                      \
  } while (0)

uint32_t where(const tw_dispatch *d, const tw_tile *t) {
  const where_params *p = d->params;
  if (p->tile_elements == 0) return TW_INVALID_PARAMS;
  if (p->element_size != 1 && p->element_size != 2 && p->element_size != 4 &&
      p->element_size != 8)
    return TW_INVALID_PARAMS;
  uint64_t total = tw_elements(p->sizes);
  if (total == 0) return TW_OK;
  if (!tw_holds(d, WHERE_Y, total, p->element_size) ||
      !tw_holds(d, WHERE_CONDITION, tw_extent(p->sizes, p->condition_strides), 1) ||
      !tw_holds(d, WHERE_A, tw_extent(p->sizes, p->a_strides), p->element_size) ||
      !tw_holds(d, WHERE_B, tw_extent(p->sizes, p->b_strides), p->element_size))
    return TW_BINDING_TOO_SHORT;
  tw_span s = tw_piece(t->x, p->tile_elements, total);
  if (s.first == s.last) return TW_OK;
  const uint32_t *strides[3] = {p->condition_strides, p->a_strides, p->b_strides};
  const uint8_t *c = TW_DATA(uint8_t, d, WHERE_CONDITION);
  tw_walk w;
  tw_walk_start(&w, p->sizes, strides, 3, s.first, s.last);
  switch (p->element_size) {
    case 1: RUNS(row_byte, uint8_t); break;
    case 2: RUNS(row_half, uint16_t); break;
    case 4: RUNS(row_word, uint32_t); break;
    default: RUNS(row_long, uint64_t); break;
  }
  return TW_OK;
}
