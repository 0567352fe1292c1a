// The body of f32_arg, i32_arg and i64_arg.
#ifndef TW_ARG_H
#define TW_ARG_H
#include "lines.h"

// NAN(a): whether a is more extreme than any number.
#define TW_ARG(KERNEL, T, NAN)                                                                   \
  static inline uint32_t place(const T *x, uint32_t n, uint32_t inner, int smallest, int last) { \
    uint32_t found = 0;                                                                          \
    T best = x[0];                                                                               \
    for (uint32_t i = 1; i < n; i++) {                                                           \
      T v = x[(size_t)i * inner];                                                                \
      int more = smallest ? v < best : v > best, same = v == best;                               \
      if (NAN(v)) more = !NAN(best), same = !more;                                               \
      else if (NAN(best)) continue;                                                              \
      if (more || (last && same)) best = v, found = i;                                           \
    }                                                                                            \
    return found;                                                                                \
  }                                                                                              \
  uint32_t KERNEL(const tw_dispatch *d, const tw_tile *t) {                                      \
    const arg_params *p = d->params;                                                             \
    uint32_t status;                                                                             \
    if (p->op > SCAN_EXTREME_SMALLEST || p->axis == 0) return TW_INVALID_PARAMS;                 \
    tw_span s = tw_lines(d, t, p->outer, p->axis, p->inner, p->tile_lines, sizeof(T), 1, 8,      \
                         &status);                                                               \
    const T *x = TW_DATA(T, d, 0);                                                               \
    int64_t *y = TW_DATA(int64_t, d, 1);                                                         \
    for (uint32_t l = s.first; l < s.last; l++)                                                  \
      y[l] = place(x + tw_line(l, p->inner, p->axis), p->axis, p->inner,                         \
                   p->op == SCAN_EXTREME_SMALLEST, p->last);                                     \
    return status;                                                                               \
  }

#endif
