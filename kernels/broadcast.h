// The walk of broadcasting kernels: a piece of the result's flat index range as runs along the last
// extent, with each operand's offset at the run's start.
#ifndef TW_BROADCAST_H
#define TW_BROADCAST_H
#include "bindings.h"
#include "simd.h"

// Elements of an operand that are reached through `strides`, for a result that is not empty. Cannot
// wrap: the sum is at most (tw_elements(sizes) - 1) times the largest stride.
static inline uint64_t tw_extent(const uint32_t sizes[TW_RANK], const uint32_t strides[TW_RANK]) {
  uint64_t last = 0;
  for (int i = 0; i < TW_RANK; i++) last += (uint64_t)(sizes[i] - 1) * strides[i];
  return last + 1;
}

typedef struct tw_walk {
  uint32_t index[TW_RANK];
  uint32_t offset[3];  // of each operand, elements, at the run's start
  uint32_t position;   // of the result
  uint32_t length;     // of the run
} tw_walk;

// The run that starts at element `first` of the result, not beyond `last`; strides of absent
// operands are null.
static inline void tw_walk_start(tw_walk *w, const uint32_t *sizes, const uint32_t *const *strides,
                                 int operands, uint32_t first, uint32_t last) {
  uint32_t rest = first;
  for (int o = 0; o < operands; o++) w->offset[o] = 0;
  for (int i = TW_RANK - 1; i >= 0; i--) {
    w->index[i] = rest % sizes[i];
    rest /= sizes[i];
    for (int o = 0; o < operands; o++) w->offset[o] += w->index[i] * strides[o][i];
  }
  w->position = first;
  uint32_t run = sizes[TW_RANK - 1] - w->index[TW_RANK - 1];
  w->length = run < last - first ? run : last - first;
}

// On to the next run; false at the end.
static inline int tw_walk_next(tw_walk *w, const uint32_t *sizes, const uint32_t *const *strides,
                               int operands, uint32_t last) {
  w->position += w->length;
  if (w->position >= last) return 0;
  // the run ended at its extent's end, so the last index is 0 again
  for (int o = 0; o < operands; o++) {
    w->offset[o] -= w->index[TW_RANK - 1] * strides[o][TW_RANK - 1];
  }
  w->index[TW_RANK - 1] = 0;
  for (int i = TW_RANK - 2; i >= 0; i--) {
    for (int o = 0; o < operands; o++) w->offset[o] += strides[o][i];
    if (++w->index[i] < sizes[i]) break;
    for (int o = 0; o < operands; o++) w->offset[o] -= sizes[i] * strides[o][i];
    w->index[i] = 0;
  }
  uint32_t left = last - w->position, run = sizes[TW_RANK - 1];
  w->length = run < left ? run : left;
  return 1;
}

// What kernels of two operands have in common: y of `size_y` bytes, a and b of `size`. `*span` is
// the tile's part of the result.
static inline uint32_t tw_check_two(const tw_dispatch *d, const uint32_t *sizes,
                                    const uint32_t *a_strides, const uint32_t *b_strides,
                                    uint32_t tile, uint32_t size, uint32_t size_y, uint32_t x,
                                    tw_span *span) {
  uint64_t total = tw_elements(sizes);
  if (tile == 0) return TW_INVALID_PARAMS;
  *span = (tw_span){0, 0};
  if (total == 0) return TW_OK;
  if (!tw_holds(d, 2, total, size_y)) return TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, 0, tw_extent(sizes, a_strides), size)) return TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, 1, tw_extent(sizes, b_strides), size)) return TW_BINDING_TOO_SHORT;
  *span = tw_piece(x, tile, total);
  return TW_OK;
}

// Calls ROW(op, a, stride of a, b, stride of b, y, n) for each run of the tile. A, B and Y are the
// bindings' typed pointers. One walk for all operations: the choice among them is made run by run.
#define TW_FOR_RUNS(P, SPAN, A, B, Y, ROW)                                                       \
  do {                                                                                           \
    const uint32_t *strides_[2] = {(P)->a_strides, (P)->b_strides};                              \
    if ((SPAN).first < (SPAN).last) {                                                            \
      tw_walk walk_;                                                                             \
      tw_walk_start(&walk_, (P)->sizes, strides_, 2, (SPAN).first, (SPAN).last);                 \
      do {                                                                                       \
        ROW((P)->op, (A) + walk_.offset[0], strides_[0][5], (B) + walk_.offset[1],               \
            strides_[1][5], (Y) + walk_.position, walk_.length);                                 \
      } while (tw_walk_next(&walk_, (P)->sizes, strides_, 2, (SPAN).last));                      \
    }                                                                                            \
  } while (0)

// A row of y[i] = OP(a[i sa], b[i sb]) on scalars, which the compiler turns into vectors for the
// strides that occur most. Nothing is carried from one element to the next, and y may be a or b:
// assume_safety says so.
#define TW_SCALAR_LOOP(OP, A, B)                                                                 \
  _Pragma("clang loop vectorize(assume_safety)") for (uint32_t i = 0; i < n; i++)                \
      y[i] = OP(A, B)

// For any strides, one by one: for what has no vector form.
#define TW_STRIDED_ROW(NAME, TX, TY, OP)                                                         \
  static __attribute__((noinline)) void NAME(const TX *a, uint32_t sa, const TX *b, uint32_t sb, \
                                             TY *y, uint32_t n) {                                \
    for (uint32_t i = 0; i < n; i++) y[i] = OP(a[i * sa], b[i * sb]);                            \
  }

#define TW_SCALAR_ROW(NAME, TX, TY, OP)                                                          \
  static __attribute__((noinline)) void NAME(const TX *a, uint32_t sa, const TX *b, uint32_t sb, \
                                             TY *y, uint32_t n) {                                \
    if (sa == 1 && sb == 1)                                                                      \
      TW_SCALAR_LOOP(OP, a[i], b[i]);                                                            \
    else if (sa == 1 && sb == 0) {                                                               \
      const TX scalar = *b;                                                                      \
      TW_SCALAR_LOOP(OP, a[i], scalar);                                                          \
    } else if (sa == 0 && sb == 1) {                                                             \
      const TX scalar = *a;                                                                      \
      TW_SCALAR_LOOP(OP, scalar, b[i]);                                                          \
    } else                                                                                       \
      for (uint32_t i = 0; i < n; i++) y[i] = OP(a[i * sa], b[i * sb]);                          \
  }

#endif
