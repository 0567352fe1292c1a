// What every kernel does first: find its bindings, see that they are long enough, and find its part
// of the work.
#ifndef TW_BINDINGS_H
#define TW_BINDINGS_H
#include "abi.h"

#define TW_DATA(type, d, index) ((type *)(d)->bindings[index].data)

// Whether binding `index` has at least `elements` of `size` bytes. 64-bit, so that no product of
// parameters can wrap into a small number.
static inline int tw_holds(const tw_dispatch *d, uint32_t index, uint64_t elements, uint32_t size) {
  uint64_t most = d->bindings[index].length / size;
  return elements <= most;
}

static inline int tw_present(const tw_dispatch *d, uint32_t index) {
  return d->bindings[index].length != 0;
}

#define TW_RANK 6  // extents of an index space, outermost first, unused ones 1

// Elements of the whole result; UINT64_MAX where they would not fit a 32-bit address space.
static inline uint64_t tw_elements(const uint32_t sizes[TW_RANK]) {
  uint64_t total = 1;
  for (int i = 0; i < TW_RANK; i++)
    if (sizes[i] == 0) return 0;
  for (int i = 0; i < TW_RANK; i++) {
    total *= sizes[i];
    if (total > UINT32_MAX) return UINT64_MAX;
  }
  return total;
}

// [first, last) is the x-th piece of `each` out of `total`; empty when x is past the end.
typedef struct tw_span {
  uint32_t first, last;
} tw_span;

static inline tw_span tw_piece(uint32_t x, uint32_t each, uint64_t total) {
  uint64_t first = (uint64_t)x * each, last = first + each;
  if (first > total) first = total;
  if (last > total) last = total;
  return (tw_span){(uint32_t)first, (uint32_t)last};
}

#endif
