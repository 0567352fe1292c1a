// Indices of two widths, and what putting an element does.
#ifndef TW_PLACES_H
#define TW_PLACES_H
#include "bindings.h"
#include "copy.h"
#include "index.h"

// The index at `i`, counted from the front; UINT32_MAX when it is outside the axis.
static inline uint32_t tw_index(const tw_dispatch *d, uint32_t binding, uint32_t size, uint32_t i,
                                uint32_t axis) {
  int64_t at = size == 4 ? TW_DATA(int32_t, d, binding)[i] : TW_DATA(int64_t, d, binding)[i];
  if (at < 0) at += axis;
  return at < 0 || at >= axis ? UINT32_MAX : (uint32_t)at;
}

static inline int tw_sizes_known(uint32_t element, uint32_t index) {
  return (element == 1 || element == 2 || element == 4 || element == 8) &&
         (index == 4 || index == 8);
}

static inline int tw_numbers_known(index_combination op, index_number kind, uint32_t element) {
  if (op > INDEX_COMBINATION_SMALLEST || kind > INDEX_NUMBER_INT64) return 0;
  if (kind == INDEX_NUMBER_RAW) return op == INDEX_COMBINATION_REPLACE;
  return element == (kind == INDEX_NUMBER_INT64 ? 8 : 4);
}

#define TW_COMBINE(T, ADD, MULTIPLY)                                          \
  {                                                                           \
    T *to = (T *)y + at, v = ((const T *)x)[from];                            \
    switch (op) {                                                             \
      case INDEX_COMBINATION_REPLACE: *to = v; break;                         \
      case INDEX_COMBINATION_ADD: *to = ADD; break;                           \
      case INDEX_COMBINATION_MULTIPLY: *to = MULTIPLY; break;                 \
      case INDEX_COMBINATION_LARGEST: *to = v > *to || v != v ? v : *to; break; \
      case INDEX_COMBINATION_SMALLEST: *to = v < *to || v != v ? v : *to; break; \
    }                                                                         \
    return;                                                                   \
  }

// y[at] op= x[from]; a NaN on either side stays.
static inline void tw_put(uint8_t *y, uint32_t at, const uint8_t *x, uint32_t from, uint32_t size,
                          index_combination op, index_number kind) {
  switch (kind) {
    case INDEX_NUMBER_FLOAT32: TW_COMBINE(float, *to + v, *to * v)
    case INDEX_NUMBER_INT32:
      TW_COMBINE(int32_t, (int32_t)((uint32_t)*to + (uint32_t)v),
                 (int32_t)((uint32_t)*to * (uint32_t)v))
    case INDEX_NUMBER_INT64:
      TW_COMBINE(int64_t, (int64_t)((uint64_t)*to + (uint64_t)v),
                 (int64_t)((uint64_t)*to * (uint64_t)v))
    default: break;
  }
  switch (size) {
    case 1: y[at] = x[from]; break;
    case 2: ((uint16_t *)y)[at] = ((const uint16_t *)x)[from]; break;
    case 4: ((uint32_t *)y)[at] = ((const uint32_t *)x)[from]; break;
    default: ((uint64_t *)y)[at] = ((const uint64_t *)x)[from];
  }
}

// Elements of batch * extents, and the offset of a row's place among them, in rows of `inner`.
static inline uint64_t tw_blocks(const rows_params *p) {
  uint64_t blocks = tw_elements(p->extents);
  return blocks > UINT32_MAX ? UINT64_MAX : blocks * p->batch;
}

static inline uint32_t tw_place(const tw_dispatch *d, const rows_params *p, uint32_t binding,
                                uint32_t row) {
  uint32_t at = row / p->rows;
  for (uint32_t i = 0, first = TW_RANK - p->depth; i < p->depth; i++) {
    uint32_t extent = p->extents[first + i];
    uint32_t index = tw_index(d, binding, p->index_size, row * p->depth + i, extent);
    if (index == UINT32_MAX) return UINT32_MAX;
    at = at * extent + index;
  }
  return at;
}

// What pick_rows and put_rows check; `data`, `places` and `rows` are their bindings.
static inline uint32_t tw_check_rows(const tw_dispatch *d, const rows_params *p, uint32_t data,
                                     uint32_t places, uint32_t rows) {
  uint64_t lines = (uint64_t)p->batch * p->rows, blocks = tw_blocks(p);
  if (p->tile_rows == 0 || p->depth == 0 || p->depth > TW_RANK ||
      !tw_sizes_known(p->element_size, p->index_size) || lines * p->depth > UINT32_MAX ||
      (p->inner && (blocks > UINT32_MAX / p->inner || lines > UINT32_MAX / p->inner)))
    return TW_INVALID_PARAMS;
  if (!tw_holds(d, data, blocks * p->inner, p->element_size) ||
      !tw_holds(d, places, lines * p->depth, p->index_size) ||
      !tw_holds(d, rows, lines * p->inner, p->element_size))
    return TW_BINDING_TOO_SHORT;
  return TW_OK;
}

#endif
