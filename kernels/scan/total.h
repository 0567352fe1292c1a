// The body of i32_total and i64_total: T is the element, U the unsigned type in which it wraps.
#ifndef TW_TOTAL_H
#define TW_TOTAL_H
#include "lines.h"

#define TW_TOTAL(KERNEL, T, U, LOWEST, HIGHEST)                                                  \
  static inline T add(T a, T b) { return (T)((U)a + (U)b); }                                     \
  static inline T multiply(T a, T b) { return (T)((U)a * (U)b); }                                \
  static inline T larger(T a, T b) { return a > b ? a : b; }                                     \
  static inline T smaller(T a, T b) { return a < b ? a : b; }                                    \
  static inline __attribute__((always_inline)) T fold(T (*op)(T, T), T start, const T *x,        \
                                                      uint32_t n, uint32_t inner) {              \
    if (inner == 1)                                                                              \
      for (uint32_t i = 0; i < n; i++) start = op(start, x[i]);                                  \
    else                                                                                         \
      for (uint32_t i = 0; i < n; i++) start = op(start, x[(size_t)i * inner]);                  \
    return start;                                                                                \
  }                                                                                              \
  uint32_t KERNEL(const tw_dispatch *d, const tw_tile *t) {                                      \
    const total_params *p = d->params;                                                           \
    uint32_t status;                                                                             \
    if (p->op > SCAN_TOTAL_SMALLEST) return TW_INVALID_PARAMS;                                   \
    tw_span s = tw_lines(d, t, p->outer, p->axis, p->inner, p->tile_lines, sizeof(T), 1,         \
                         sizeof(T), &status);                                                    \
    T *y = TW_DATA(T, d, 1);                                                                     \
    for (uint32_t l = s.first; l < s.last; l++) {                                                \
      const T *x = TW_DATA(T, d, 0) + tw_line(l, p->inner, p->axis);                             \
      switch (p->op) {                                                                           \
        case SCAN_TOTAL_SUM: y[l] = fold(add, 0, x, p->axis, p->inner); break;                   \
        case SCAN_TOTAL_PRODUCT: y[l] = fold(multiply, 1, x, p->axis, p->inner); break;          \
        case SCAN_TOTAL_LARGEST: y[l] = fold(larger, LOWEST, x, p->axis, p->inner); break;       \
        default: y[l] = fold(smaller, HIGHEST, x, p->axis, p->inner);                            \
      }                                                                                          \
    }                                                                                            \
    return status;                                                                               \
  }

#endif
