// The formulas of f32_compare, i32_compare and i64_compare: y[i] = a[i] op b[i], one byte, 0 or 1.
// Comparisons with NaN are false.
#ifndef TW_COMPARE_H
#define TW_COMPARE_H
#include "broadcast.h"
#include "elementwise.h"

#define TW_COMPARE(KERNEL, T)                                                                    \
  static inline uint8_t op_equal(T a, T b) { return a == b; }                                    \
  static inline uint8_t op_less(T a, T b) { return a < b; }                                      \
  static inline uint8_t op_less_equal(T a, T b) { return a <= b; }                               \
  static inline uint8_t op_greater(T a, T b) { return a > b; }                                   \
  static inline uint8_t op_greater_equal(T a, T b) { return a >= b; }                            \
  TW_SCALAR_ROW(row_equal, T, uint8_t, op_equal)                                                 \
  TW_SCALAR_ROW(row_less, T, uint8_t, op_less)                                                   \
  TW_SCALAR_ROW(row_less_equal, T, uint8_t, op_less_equal)                                       \
  TW_SCALAR_ROW(row_greater, T, uint8_t, op_greater)                                             \
  TW_SCALAR_ROW(row_greater_equal, T, uint8_t, op_greater_equal)                                 \
  static inline void row_of(elementwise_comparison op, const T *a, uint32_t sa, const T *b,      \
                            uint32_t sb, uint8_t *y, uint32_t n) {                               \
    switch (op) {                                                                                \
      case ELEMENTWISE_COMPARISON_EQUAL: row_equal(a, sa, b, sb, y, n); break;                   \
      case ELEMENTWISE_COMPARISON_LESS: row_less(a, sa, b, sb, y, n); break;                     \
      case ELEMENTWISE_COMPARISON_LESS_EQUAL: row_less_equal(a, sa, b, sb, y, n); break;         \
      case ELEMENTWISE_COMPARISON_GREATER: row_greater(a, sa, b, sb, y, n); break;               \
      case ELEMENTWISE_COMPARISON_GREATER_EQUAL: row_greater_equal(a, sa, b, sb, y, n); break;   \
    }                                                                                            \
  }                                                                                              \
  uint32_t KERNEL(const tw_dispatch *d, const tw_tile *t) {                                      \
    const compare_params *p = d->params;                                                         \
    tw_span s;                                                                                   \
    uint32_t status = tw_check_two(d, p->sizes, p->a_strides, p->b_strides, p->tile_elements,    \
                                   sizeof(T), 1, t->x, &s);                                      \
    if (status) return status;                                                                   \
    const T *a = TW_DATA(T, d, 0), *b = TW_DATA(T, d, 1);                                        \
    uint8_t *y = TW_DATA(uint8_t, d, 2);                                                         \
    if (p->op > ELEMENTWISE_COMPARISON_GREATER_EQUAL) return TW_INVALID_PARAMS;                  \
    TW_FOR_RUNS(p, s, a, b, y, row_of);                                                          \
    return TW_OK;                                                                                \
  }

#endif
