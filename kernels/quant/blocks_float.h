// One row of A by weights in blocks, in floats: A's numbers are spread into the order of B's units, a
// column is a sum of products, scaled block by block. 28 instructions for 32 numbers of 4 bits, besides
// loads of A: three each (mask, conversion, product).
#ifndef TW_QUANT_BLOCKS_FLOAT_H
#define TW_QUANT_BLOCKS_FLOAT_H
#include "blocks.h"
#include "microkernel.h"

// One unit of A: `count` numbers, the rest 0, in the order of B's vectors.
TW_INLINE v128_t spread_unit(float *to, const float *x, uint32_t count, const int bits) {
  const int vectors = 32 / bits;
  float some[4 * TW_UNIT_MOST] = {0};
  if (count < 4 * (uint32_t)vectors) {
    for (uint32_t i = 0; i < count; i++) some[i] = x[i];
    x = some;
  }
  v128_t sum = tw_splat(0);
  TW_UNROLLED for (int h = 0; h < vectors; h += 4) {
    v128_t rows[4];
    TW_UNROLLED for (int l = 0; l < 4; l++) rows[l] = wasm_v128_load(x + l * vectors + h);
    tw_lanes_turned(rows);
    TW_UNROLLED for (int j = 0; j < 4; j++) {
      sum = wasm_f32x4_add(sum, rows[j]);
      v128_t factor = tw_splat(tw_unit_factor(bits, h + j));
      wasm_v128_store(to + (h + j) * 4, wasm_f32x4_mul(rows[j], factor));
    }
  }
  return sum;
}

// A row of A by units, and the sum of each block's numbers times `zero`.
TW_INLINE void spread(float *to, float *sums, const float *x, uint32_t k, uint32_t block,
                      float zero, const int bits) {
  const uint32_t vectors = 32 / (uint32_t)bits, unit = block < 4 * vectors ? block : 4 * vectors;
  for (uint32_t i = 0; i < k; sums++) {
    v128_t sum = tw_splat(0);
    for (uint32_t end = i + block; i < end; i += unit, to += 4 * vectors) {
      uint32_t count = i >= k ? 0 : k - i < unit ? k - i : unit;
      sum = wasm_f32x4_add(sum, spread_unit(to, x + (count ? i : 0), count, bits));
    }
    *sums = wasm_f32x4_extract_lane(tw_sum(sum), 0) * zero;
  }
}

// A column's numbers times A's, by units of `step` bytes; zeros not taken off.
TW_INLINE v128_t column(const tw_weights *w, const uint8_t *b, const float *scales, const float *x,
                        const tw_masks *masks, const uint32_t units, const int bits,
                        const int step) {
  const int vectors = 32 / bits;
  const tw_masks m = *masks;
  v128_t sum = tw_splat(0);
  for (uint64_t block = w->blocks; block != 0; block--, scales++) {
    v128_t even = tw_splat(0), odd = even;
    for (uint32_t u = units; u != 0; u--, b += step, x += 4 * vectors) {
      v128_t unit = step == 8 ? wasm_v128_load64_zero(b) : wasm_v128_load(b);
      v128_t high = wasm_u32x4_shr(unit, 16);
      TW_UNROLLED for (int j = 0; j < vectors; j += 2) {
        even = tw_madd(tw_unit_vector(unit, high, &m, bits, j), wasm_v128_load(x + 4 * j), even);
        odd = tw_madd(tw_unit_vector(unit, high, &m, bits, j + 1), wasm_v128_load(x + 4 * j + 4), odd);
      }
    }
    sum = tw_madd(wasm_f32x4_add(even, odd), wasm_v128_load32_splat(scales), sum);
  }
  return sum;
}


// What the zeros make too much: scales times sums, times the zeros where those are not in the sums.
static float excess(const tw_weights *w, uint64_t column, const float *scales, const float *sums) {
  uint64_t i = 0;
  float total = 0;
  if (!w->zeros) {
    v128_t sum = tw_splat(0);
    for (; i + 4 <= w->blocks; i += 4)
      sum = tw_madd(wasm_v128_load(scales + i), wasm_v128_load(sums + i), sum);
    total = wasm_f32x4_extract_lane(tw_sum(sum), 0);
    for (; i < w->blocks; i++) total += scales[i] * sums[i];
    return total;
  }
  for (; i < w->blocks; i++)
    total += scales[i] * sums[i] * (float)tw_block_zero(w->zeros, w->bits, w->blocks, column, i);
  return total;
}

// Columns [first, last) of one row, which is spread at x; c and bias are those of column 0.
#define ROW_OF(name, units, bits, step)                                                            \
  static __attribute__((noinline)) void name(const tw_weights *w, const float *x, const float *sums, \
                                             float *c, const float *bias, uint32_t first,         \
                                             uint32_t last) {                                      \
    const tw_masks m = tw_unit_masks(bits);                                                        \
    uint64_t each = w->blocks * tw_block_bytes(bits, w->block);                                    \
    const uint8_t *b = w->b + first * each;                                                        \
    const float *scales = w->scales + first * w->blocks;                                           \
    for (; first < last; first++, b += each, scales += w->blocks) {                                \
      v128_t sum = tw_sum(column(w, b, scales, x, &m, units, bits, step));                             \
      float less = excess(w, first, scales, sums);                                                 \
      c[first] = wasm_f32x4_extract_lane(sum, 0) - less + (bias ? bias[first] : 0);                \
    }                                                                                              \
  }
ROW_OF(row_4_short, 1, 4, 8)
ROW_OF(row_4_once, 1, 4, 16)
ROW_OF(row_4, tw_block_units(4, w->block), 4, 16)
ROW_OF(row_8, tw_block_units(8, w->block), 8, 16)

#endif
