// strided_copy: target[target_offset + i . target_strides] =
// source[source_offset + i . source_strides] for every index i of the six extents.
//
// Bindings: source, target, aligned to element_size; no overlap. Elements of the target outside the
// index space are left alone. Two indices must not have the same target.
// Tile: x = tile_columns of the last extent, y = tile_rows of the product of the others.
//
// Five ways, chosen by the strides: runs (last stride 1 on both sides); where the last target stride
// and the last but one source stride are 1, columns of 1-byte elements and of 4-byte elements blocks of
// 4 x 4, or, when two or three lie densely in the target, lines interleaved; one by one.
#include "bindings.h"
#include "copy.h"
#include "move.h"

typedef struct rows {
  uint32_t index[TW_RANK - 1];
  uint32_t source, target;  // offsets of the row's first element; wrapping stands for negative
} rows;

static rows rows_at(const strided_copy_params *p, uint32_t row) {
  rows r;
  r.source = p->source_offset, r.target = p->target_offset;
  for (int i = TW_RANK - 2; i >= 0; i--) {
    r.index[i] = row % p->sizes[i];
    row /= p->sizes[i];
    r.source += r.index[i] * (uint32_t)p->source_strides[i];
    r.target += r.index[i] * (uint32_t)p->target_strides[i];
  }
  return r;
}

// `count` rows on, all within the fifth extent
static void rows_next(rows *r, const strided_copy_params *p, uint32_t count) {
  r->index[4] += count;
  r->source += count * (uint32_t)p->source_strides[4];
  r->target += count * (uint32_t)p->target_strides[4];
  for (int i = 4; i > 0 && r->index[i] == p->sizes[i]; i--) {
    r->index[i] = 0;
    r->index[i - 1]++;
    r->source += (uint32_t)p->source_strides[i - 1] - p->sizes[i] * (uint32_t)p->source_strides[i];
    r->target += (uint32_t)p->target_strides[i - 1] - p->sizes[i] * (uint32_t)p->target_strides[i];
  }
}

// (rows, columns) of words from source (column stride cs, row stride 1) to target (row stride rt,
// column stride 1), in blocks of 4 x 4.
static void transpose(const uint32_t *source, int32_t cs, uint32_t *target, int32_t rt,
                      uint32_t rows, uint32_t columns) {
  uint32_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const uint32_t *from = source + r;
    uint32_t *to = target + (int32_t)r * rt;
    uint32_t c = 0;
    for (; c + 4 <= columns; c += 4, from += 4 * cs) {
      v128_t a0 = wasm_v128_load(from), a1 = wasm_v128_load(from + cs);
      v128_t a2 = wasm_v128_load(from + 2 * cs), a3 = wasm_v128_load(from + 3 * cs);
      v128_t b0 = wasm_i32x4_shuffle(a0, a1, 0, 4, 1, 5);
      v128_t b1 = wasm_i32x4_shuffle(a2, a3, 0, 4, 1, 5);
      v128_t b2 = wasm_i32x4_shuffle(a0, a1, 2, 6, 3, 7);
      v128_t b3 = wasm_i32x4_shuffle(a2, a3, 2, 6, 3, 7);
      wasm_v128_store(to + c, wasm_i64x2_shuffle(b0, b1, 0, 2));
      wasm_v128_store(to + rt + c, wasm_i64x2_shuffle(b0, b1, 1, 3));
      wasm_v128_store(to + 2 * rt + c, wasm_i64x2_shuffle(b2, b3, 0, 2));
      wasm_v128_store(to + 3 * rt + c, wasm_i64x2_shuffle(b2, b3, 1, 3));
    }
    for (; c < columns; c++, from += cs)
      for (uint32_t i = 0; i < 4; i++) to[(int32_t)i * rt + (int32_t)c] = from[i];
  }
  for (; r < rows; r++)
    for (uint32_t c = 0; c < columns; c++)
      target[(int32_t)r * rt + (int32_t)c] = source[(int32_t)c * cs + (int32_t)r];
}

// Two or three lines of words from source (cs apart) to target, a word of each in turn.
static void interleave(const uint32_t *source, int32_t cs, uint32_t *target, uint32_t rows,
                       uint32_t lines) {
  uint32_t r = 0;
  for (; r + 4 <= rows; r += 4, target += 4 * lines) {
    v128_t a = wasm_v128_load(source + r), b = wasm_v128_load(source + r + cs);
    v128_t first = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5);
    if (lines == 2) {
      wasm_v128_store(target, first);
      wasm_v128_store(target + 4, wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
    } else {
      v128_t c = wasm_v128_load(source + r + 2 * cs);
      v128_t second = wasm_i32x4_shuffle(b, c, 1, 5, 2, 6);
      v128_t third = wasm_i32x4_shuffle(c, a, 2, 7, 3, 3);
      wasm_v128_store(target, wasm_i32x4_shuffle(first, c, 0, 1, 4, 2));
      wasm_v128_store(target + 4, wasm_i32x4_shuffle(second, a, 0, 1, 6, 2));
      wasm_v128_store(target + 8, wasm_i32x4_shuffle(third, b, 0, 1, 7, 2));
    }
  }
  for (; r < rows; r++)
    for (uint32_t i = 0; i < lines; i++) *target++ = source[(int32_t)r + (int32_t)i * cs];
}

// The same of bytes, a column after the other: columns may be as few as a picture's three channels.
static void transpose_bytes(const uint8_t *source, int32_t cs, uint8_t *target, int32_t rt,
                            uint32_t rows, uint32_t columns) {
  for (uint32_t c = 0; c < columns; c++, source += cs, target++) {
    uint8_t *to = target;
    uint32_t r = 0;
    for (; r + 4 <= rows; r += 4, to += 4 * rt) {
      uint8_t a = source[r], b = source[r + 1], e = source[r + 2], f = source[r + 3];
      to[0] = a, to[rt] = b, to[2 * rt] = e, to[3 * rt] = f;
    }
    for (; r < rows; r++, to += rt) *to = source[r];
  }
}

#define ONE_BY_ONE(T)                                                                            \
  {                                                                                              \
    const T *from = (const T *)source;                                                           \
    T *to = (T *)target;                                                                         \
    if (ss == 0 && st == 1) {                                                                    \
      const T value = *from;                                                                     \
      for (uint32_t i = 0; i < n; i++) to[i] = value;                                            \
    } else {                                                                                     \
      for (uint32_t i = 0; i < n; i++) to[(int32_t)i * st] = from[(int32_t)i * ss];              \
    }                                                                                            \
    return;                                                                                      \
  }

static void one_row(const uint8_t *source, int32_t ss, uint8_t *target, int32_t st, uint32_t n,
                    uint32_t size) {
  switch (size) {
    case 1: ONE_BY_ONE(uint8_t)
    case 2: ONE_BY_ONE(uint16_t)
    case 4: ONE_BY_ONE(uint32_t)
    default: ONE_BY_ONE(uint64_t)
  }
}

// Whether every reached element lies within `elements`.
static int within(const uint32_t *sizes, const int32_t *strides, uint32_t offset,
                  uint64_t elements) {
  int64_t low = offset, high = offset;  // cannot wrap, as the product of the sizes fits 32 bits
  for (int i = 0; i < TW_RANK; i++) {
    int64_t span = (int64_t)(sizes[i] - 1) * strides[i];
    if (span < 0) low += span;
    else high += span;
  }
  return low >= 0 && (uint64_t)high < elements;
}

uint32_t strided_copy(const tw_dispatch *d, const tw_tile *t) {
  const strided_copy_params *p = d->params;
  const uint32_t size = p->element_size;
  if (p->tile_rows == 0 || p->tile_columns == 0) return TW_INVALID_PARAMS;
  if (size != 1 && size != 2 && size != 4 && size != 8) return TW_INVALID_PARAMS;
  uint64_t total = tw_elements(p->sizes);
  if (total == 0) return TW_OK;
  if (total == UINT64_MAX) return TW_INVALID_PARAMS;
  if (!within(p->sizes, p->source_strides, p->source_offset,
              d->bindings[STRIDED_COPY_SOURCE].length / size) ||
      !within(p->sizes, p->target_strides, p->target_offset,
              d->bindings[STRIDED_COPY_TARGET].length / size))
    return TW_BINDING_TOO_SHORT;

  const uint8_t *source = TW_DATA(uint8_t, d, STRIDED_COPY_SOURCE);
  uint8_t *target = TW_DATA(uint8_t, d, STRIDED_COPY_TARGET);
  const int32_t ss = p->source_strides[5], st = p->target_strides[5];
  tw_span columns = tw_piece(t->x, p->tile_columns, p->sizes[5]);
  tw_span span = tw_piece(t->y, p->tile_rows, total / p->sizes[5]);
  if (columns.first == columns.last || span.first == span.last) return TW_OK;
  const uint32_t n = columns.last - columns.first;
  rows r = rows_at(p, span.first);
  r.source += columns.first * (uint32_t)ss, r.target += columns.first * (uint32_t)st;
  const int run = ss == 1 && st == 1;
  const int block = (size == 4 || size == 1) && st == 1 && p->source_strides[4] == 1;
  const int dense = p->target_strides[4] == (int32_t)n && (n == 2 || n == 3);
  for (uint32_t row = span.first; row < span.last;) {
    const uint8_t *from = source + r.source * size;
    uint8_t *to = target + r.target * size;
    uint32_t count = 1;
    if (run) {
      tw_copy(to, from, n * size);
    } else if (block) {
      count = p->sizes[4] - r.index[4];
      if (count > span.last - row) count = span.last - row;
      if (size == 1)
        transpose_bytes(from, ss, to, p->target_strides[4], count, n);
      else if (dense)
        interleave((const uint32_t *)from, ss, (uint32_t *)to, count, n);
      else
        transpose((const uint32_t *)from, ss, (uint32_t *)to, p->target_strides[4], count, n);
    } else {
      one_row(from, ss, to, st, n, size);
    }
    row += count;
    rows_next(&r, p, count);
  }
  return TW_OK;
}
