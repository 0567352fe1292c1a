// One row of A by weights of 4 bits in blocks, A rounded to 16 bits block by block (its largest becomes
// 32767): the products of a block and their sum are exact. 16 instructions for 32 numbers where floats
// take 28 (blocks_float.h). A unit is eight lanes of 16 bits here, lane l with numbers 4 l .. 4 l + 3;
// every other comes out 16 times too large, which is an exact shift of the sum.
#ifndef TW_QUANT_BLOCKS_ROUNDED_H
#define TW_QUANT_BLOCKS_ROUNDED_H
#include "blocks.h"
#include "microkernel.h"

#define TW_SMALLEST 1e-30f  // a block without larger ones counts as zeros
#define TW_FOUR 4           // blocks that are done together; A's are padded by blocks of zeros

typedef struct tw_rounded {
  int16_t *numbers;  // by units of 32
  float *factors;    // of blocks
  int32_t *sums;     // of blocks; times the zero where all have the same
} tw_rounded;

// Numbers of one unit times `by`, to the nearest integers, in the order of B's vectors; from `count`
// to 32 they are 0. Returns their sum by lanes.
TW_INLINE v128_t tw_round_unit(int16_t *to, const float *x, uint32_t count, float by) {
  float some[32];
  if (count < 32) {
    for (uint32_t i = 0; i < 32; i++) some[i] = i < count ? x[i] : 0;
    x = some;
  }
  const v128_t magic = tw_splat(12582912), factor = tw_splat(by);  // 1.5 * 2^23
  v128_t rows[8], sum = tw_splat(0);
  TW_UNROLLED for (int i = 0; i < 8; i++) {
    v128_t y = wasm_f32x4_mul(wasm_v128_load(x + 4 * i), factor);
    rows[i] = wasm_f32x4_add(y, magic);
  }
  tw_lanes_turned(rows);
  tw_lanes_turned(rows + 4);
  TW_UNROLLED for (int j = 0; j < 4; j++) {
    v128_t y = wasm_i16x8_shuffle(rows[j], rows[j + 4], 0, 2, 4, 6, 8, 10, 12, 14);
    sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(y, wasm_i16x8_splat(1)));
    wasm_v128_store(to + 8 * j, y);
  }
  return sum;
}

static inline int32_t tw_lanes_sum(v128_t x) {
  x = wasm_i32x4_add(x, wasm_i32x4_shuffle(x, x, 2, 3, 0, 1));
  return wasm_i32x4_extract_lane(wasm_i32x4_add(x, wasm_i32x4_shuffle(x, x, 1, 0, 3, 2)), 0);
}

// A row of A. NaN in a block makes its factor NaN.
static void tw_round_row(const tw_rounded *to, const float *x, uint32_t k, uint32_t block,
                         int32_t zero) {
  uint32_t i = 0, n = 0, unit = block < 32 ? block : 32;
  int16_t *numbers = to->numbers;
  for (; i < k; n++) {
    uint32_t end = k - i < block ? k : i + block, j = i;
    v128_t high = tw_splat(0), sum = high;
    for (; j + 4 <= end; j += 4)
      high = wasm_f32x4_max(high, wasm_f32x4_abs(wasm_v128_load(x + j)));
    if (j < end) high = wasm_f32x4_max(high, wasm_f32x4_abs(tw_load_tail(x + j, end - j)));
    float largest = wasm_f32x4_extract_lane(tw_highest(high), 0);
    float by = largest >= TW_SMALLEST ? 32767 / largest : 0;
    for (uint32_t u = 0; u < block; u += unit, i += unit, numbers += 32) {
      uint32_t count = i >= end ? 0 : end - i < unit ? end - i : unit;
      sum = wasm_i32x4_add(sum, tw_round_unit(numbers, x + (count ? i : 0), count, by));
    }
    to->factors[n] = largest / 32767;
    to->sums[n] = tw_lanes_sum(sum) * zero;
  }
  for (; n % TW_FOUR; n++) to->factors[n] = 0, to->sums[n] = 0;
}

// A block's products by lanes, of units of `step` bytes.
TW_INLINE v128_t tw_rounded_block(const uint8_t *b, const int16_t *x, v128_t low, v128_t second,
                                  const uint32_t units, const int step) {
  v128_t even = tw_splat(0), odd = even;
  for (uint32_t u = 0; u < units; u++, b += step, x += 32) {
    v128_t unit = step == 8 ? wasm_v128_load64_zero(b) : wasm_v128_load(b);
    v128_t high = wasm_u16x8_shr(unit, 8);
    v128_t x0 = wasm_v128_load(x), x1 = wasm_v128_load(x + 8);
    v128_t x2 = wasm_v128_load(x + 16), x3 = wasm_v128_load(x + 24);
    v128_t e = wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_v128_and(unit, low), x0),
                              wasm_i32x4_dot_i16x8(wasm_v128_and(high, low), x2));
    v128_t o = wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_v128_and(unit, second), x1),
                              wasm_i32x4_dot_i16x8(wasm_v128_and(high, second), x3));
    even = u ? wasm_i32x4_add(even, e) : e;
    odd = u ? wasm_i32x4_add(odd, o) : o;
  }
  return wasm_i32x4_add(even, wasm_i32x4_shr(odd, 4));
}

// Zeros of `count` blocks of a column from `block` on.
static v128_t tw_zeros_of(const tw_weights *w, uint64_t column, uint64_t block, uint32_t count) {
  int32_t z[TW_FOUR] = {0};
  for (uint32_t i = 0; i < count; i++)
    z[i] = (int32_t)tw_block_zero(w->zeros, 4, w->blocks, column, block + i);
  return wasm_v128_load(z);
}

// `count` of four blocks: their sums, lane by lane, times scales and factors, added to `sum`.
TW_INLINE v128_t tw_rounded_four(const tw_weights *w, const tw_rounded *a, uint64_t column,
                                 uint64_t block, const uint8_t *b, v128_t low, v128_t second,
                                 v128_t sum, const uint32_t count, const uint32_t units,
                                 const int step) {
  v128_t x[TW_FOUR];
  const int16_t *numbers = a->numbers + block * units * 32;
  TW_UNROLLED for (uint32_t i = 0; i < TW_FOUR; i++)
    x[i] = i < count ? tw_rounded_block(b + i * units * (uint32_t)step, numbers + i * units * 32,
                                        low, second, units, step)
                     : tw_splat(0);
  v128_t first = wasm_i32x4_add(wasm_i32x4_shuffle(x[0], x[1], 0, 4, 1, 5),
                                wasm_i32x4_shuffle(x[0], x[1], 2, 6, 3, 7));
  v128_t last = wasm_i32x4_add(wasm_i32x4_shuffle(x[2], x[3], 0, 4, 1, 5),
                               wasm_i32x4_shuffle(x[2], x[3], 2, 6, 3, 7));
  v128_t all = wasm_i32x4_add(wasm_i64x2_shuffle(first, last, 0, 2),
                              wasm_i64x2_shuffle(first, last, 1, 3));
  v128_t less = wasm_v128_load(a->sums + block);
  if (w->zeros) less = wasm_i32x4_mul(less, tw_zeros_of(w, column, block, count));
  all = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(all, less));
  const float *scales = w->scales + column * w->blocks + block;
  v128_t scale = count == TW_FOUR ? wasm_v128_load(scales) : tw_load_tail(scales, count);
  return tw_madd(all, wasm_f32x4_mul(scale, wasm_v128_load(a->factors + block)), sum);
}

// Columns [first, last) of one row; c and bias are those of column 0.
#define TW_ROUNDED_ROW_OF(name, units, step)                                                       \
  static __attribute__((noinline)) void name(const tw_weights *w, const tw_rounded *a, float *c,   \
                                             const float *bias, uint32_t first, uint32_t last) {   \
    v128_t low = wasm_i16x8_splat(15), second = wasm_i16x8_splat(240);                             \
    __asm__("" : "+r"(low));                                                                       \
    __asm__("" : "+r"(second));                                                                    \
    const uint64_t bytes = (units) * step;                                                         \
    const uint8_t *b = w->b + first * w->blocks * bytes;                                           \
    for (; first < last; first++) {                                                                \
      v128_t sum = tw_splat(0);                                                                    \
      uint64_t block = 0;                                                                          \
      for (; block + TW_FOUR <= w->blocks; block += TW_FOUR, b += TW_FOUR * bytes)                 \
        sum = tw_rounded_four(w, a, first, block, b, low, second, sum, TW_FOUR, units, step);      \
      uint32_t rest = (uint32_t)(w->blocks - block);                                               \
      if (rest)                                                                                    \
        sum = tw_rounded_four(w, a, first, block, b, low, second, sum, rest, units, step);         \
      b += rest * bytes;                                                                           \
      c[first] = wasm_f32x4_extract_lane(tw_sum(sum), 0) + (bias ? bias[first] : 0);               \
    }                                                                                              \
  }
TW_ROUNDED_ROW_OF(tw_rounded_row_short, 1, 8)
TW_ROUNDED_ROW_OF(tw_rounded_row_once, 1, 16)
TW_ROUNDED_ROW_OF(tw_rounded_row, tw_block_units(4, w->block), 16)

#endif
