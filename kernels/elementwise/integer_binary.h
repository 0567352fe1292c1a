// The formulas of i32_binary and i64_binary: y[i] = a[i] op b[i], wrapping.
//
// T is the signed type, U the unsigned one in which wrapping is defined. A division by zero is 0
// and the smallest number divided by -1 is itself: WebAssembly's instruction would trap on both.
#ifndef TW_INTEGER_BINARY_H
#define TW_INTEGER_BINARY_H
#include "broadcast.h"
#include "elementwise.h"

#define TW_INTEGER_BINARY(KERNEL, T, U)                                                          \
  static inline T op_add(T a, T b) { return (T)((U)a + (U)b); }                                  \
  static inline T op_sub(T a, T b) { return (T)((U)a - (U)b); }                                  \
  static inline T op_mul(T a, T b) { return (T)((U)a * (U)b); }                                  \
  static inline T op_min(T a, T b) { return a < b ? a : b; }                                     \
  static inline T op_max(T a, T b) { return a > b ? a : b; }                                     \
  static inline T op_div(T a, T b) {                                                             \
    return b == 0 ? 0 : b == -1 ? (T)(0 - (U)a) : a / b;                                         \
  }                                                                                              \
  static inline T op_fmod(T a, T b) { return b == 0 || b == -1 ? 0 : a % b; }                    \
  static inline T op_mod(T a, T b) {                                                             \
    T r = op_fmod(a, b);                                                                         \
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;                                             \
  }                                                                                              \
  TW_SCALAR_ROW(row_add, T, T, op_add)                                                           \
  TW_SCALAR_ROW(row_sub, T, T, op_sub)                                                           \
  TW_SCALAR_ROW(row_mul, T, T, op_mul)                                                           \
  TW_SCALAR_ROW(row_min, T, T, op_min)                                                           \
  TW_SCALAR_ROW(row_max, T, T, op_max)                                                           \
  TW_STRIDED_ROW(row_div, T, T, op_div)                                                          \
  TW_STRIDED_ROW(row_fmod, T, T, op_fmod)                                                        \
  TW_STRIDED_ROW(row_mod, T, T, op_mod)                                                          \
  static inline void row_of(elementwise_integer op, const T *a, uint32_t sa, const T *b,         \
                            uint32_t sb, T *y, uint32_t n) {                                     \
    switch (op) {                                                                                \
      case ELEMENTWISE_INTEGER_ADD: row_add(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_SUB: row_sub(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_MUL: row_mul(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_DIV: row_div(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_MIN: row_min(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_MAX: row_max(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_MOD: row_mod(a, sa, b, sb, y, n); break;                          \
      case ELEMENTWISE_INTEGER_FMOD: row_fmod(a, sa, b, sb, y, n); break;                        \
    }                                                                                            \
  }                                                                                              \
  uint32_t KERNEL(const tw_dispatch *d, const tw_tile *t) {                                      \
    const integer_params *p = d->params;                                                         \
    tw_span s;                                                                                   \
    uint32_t status = tw_check_two(d, p->sizes, p->a_strides, p->b_strides, p->tile_elements,    \
                                   sizeof(T), sizeof(T), t->x, &s);                              \
    if (status) return status;                                                                   \
    const T *a = TW_DATA(T, d, 0), *b = TW_DATA(T, d, 1);                                        \
    T *y = TW_DATA(T, d, 2);                                                                     \
    if (p->op > ELEMENTWISE_INTEGER_FMOD) return TW_INVALID_PARAMS;                              \
    TW_FOR_RUNS(p, s, a, b, y, row_of);                                                          \
    return TW_OK;                                                                                \
  }

#endif
