// The body of f32_cumulate, i32_cumulate and i64_cumulate: T is the element, A what is totalled in.
#ifndef TW_CUMULATE_H
#define TW_CUMULATE_H
#include "lines.h"

#define TW_CUMULATE(KERNEL, T, A)                                                                \
  static inline void cumulate(const T *x, T *y, uint32_t n, uint32_t inner, int product,         \
                              int exclusive, int reverse) {                                      \
    A total = (A)(product ? 1 : 0);                                                              \
    for (uint32_t i = 0; i < n; i++) {                                                           \
      uint32_t at = (reverse ? n - 1 - i : i) * inner;                                           \
      A v = (A)x[at];                                                                            \
      A next = product ? total * v : total + v;                                                  \
      y[at] = (T)(exclusive ? total : next);                                                     \
      total = next;                                                                              \
    }                                                                                            \
  }                                                                                              \
  uint32_t KERNEL(const tw_dispatch *d, const tw_tile *t) {                                      \
    const cumulate_params *p = d->params;                                                        \
    uint32_t status;                                                                             \
    if (p->op > SCAN_CUMULATION_PRODUCT) return TW_INVALID_PARAMS;                               \
    tw_span s = tw_lines(d, t, p->outer, p->axis, p->inner, p->tile_lines, sizeof(T), p->axis,   \
                         sizeof(T), &status);                                                    \
    const T *x = TW_DATA(T, d, 0);                                                               \
    T *y = TW_DATA(T, d, 1);                                                                     \
    for (uint32_t l = s.first; l < s.last; l++) {                                                \
      uint32_t at = tw_line(l, p->inner, p->axis);                                               \
      cumulate(x + at, y + at, p->axis, p->inner, p->op == SCAN_CUMULATION_PRODUCT,              \
               p->exclusive, p->reverse);                                                        \
    }                                                                                            \
    return status;                                                                               \
  }

#endif
