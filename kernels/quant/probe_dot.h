// What the relaxed dot products of this engine compute outside the range that the standard defines.
//
// The second operand is promised to be exact for 0 .. 127 only. x86 takes it as u8: with VNNI all
// of u8 is exact, without it pairs of products saturate to 16 bits. ARM takes it as i8, exactly.
// The same instruction gives the same result for as long as a page lives, so whoever packs asks
// here, a few instructions a tile, and what is packed says how it is to be multiplied.
#ifndef TW_QUANT_PROBE_DOT_H
#define TW_QUANT_PROBE_DOT_H
#include "panel.h"

#ifdef TW_RELAXED
static inline int tw_dot_is(int first, int second, int expected) {
  v128_t sum = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(
      wasm_i8x16_splat((int8_t)first), wasm_i8x16_splat((int8_t)second), wasm_i32x4_splat(0));
  return wasm_i32x4_all_true(wasm_i32x4_eq(sum, wasm_i32x4_splat(expected)));
}

static inline int tw_pair_is(int first0, int first1, int second, int expected) {
  v128_t first = wasm_i16x8_splat((int16_t)((first0 & 255) | (first1 & 255) << 8));
  v128_t sum = wasm_i16x8_relaxed_dot_i8x16_i7x16(first, wasm_i8x16_splat((int8_t)second));
  return wasm_i16x8_all_true(wasm_i16x8_eq(sum, wasm_i16x8_splat((int16_t)expected)));
}
#endif

// The best form that is exact here.
static inline tw_form tw_probe_dot(void) {
#ifdef TW_RELAXED
  if (tw_dot_is(-128, 255, -4 * 128 * 255) && tw_dot_is(127, 255, 4 * 127 * 255) &&
      tw_dot_is(127, 128, 4 * 127 * 128))
    return TW_FORM_UNSIGNED;
  if (tw_dot_is(-128, 255, 4 * 128) && tw_dot_is(127, 128, -4 * 127 * 128) &&
      tw_dot_is(-128, 128, 4 * 128 * 128))
    return TW_FORM_SIGNED;
  if (tw_pair_is(64, 64, 255, 32640) && tw_pair_is(-128, 0, 255, -32640) &&
      tw_pair_is(1, 127, 255, 32640) && tw_pair_is(-64, -64, 255, -32640) &&
      tw_pair_is(127, -128, 255, -255) && tw_pair_is(1, 0, 128, 128))
    return TW_FORM_PAIRS;
#endif
  return TW_FORM_WIDE;
}

#endif
