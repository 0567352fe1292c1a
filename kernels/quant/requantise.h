// Sums of products to bytes: saturate(round(sum factor) + zero), halves to even, within [least, most].
#ifndef TW_QUANT_REQUANTISE_H
#define TW_QUANT_REQUANTISE_H
#include "simd.h"

typedef struct tw_requantiser {
  v128_t least, most;  // before the zero is added
  v128_t moved;        // what is taken from a number's bits, see tw_requantise_4
  int is_signed;
} tw_requantiser;

// A float of this size has no bits behind the point: adding it rounds, to even, and leaves the whole
// number in the low bits. One addition and one subtraction, where trunc_sat is eight instructions.
#define TW_WHOLE 12582912.0f  // 1.5 * 2^23
#define TW_WHOLE_BITS 0x4B400000

static inline tw_requantiser tw_requantiser_of(int32_t zero, int32_t least, int32_t most,
                                               int is_signed) {
  int32_t low = is_signed ? -128 : 0, high = low + 255;
  if (least < low) least = low;
  if (most > high) most = high;
  return (tw_requantiser){wasm_f32x4_splat((float)(least - zero)),
                          wasm_f32x4_splat((float)(most - zero)),
                          wasm_i32x4_splat(TW_WHOLE_BITS - zero), is_signed};
}

TW_INLINE v128_t tw_round_4(const tw_requantiser *q, v128_t x) {
  x = wasm_f32x4_pmin(q->most, wasm_f32x4_pmax(q->least, x));
  return wasm_i32x4_sub(wasm_f32x4_add(x, wasm_f32x4_splat(TW_WHOLE)), q->moved);
}

TW_INLINE v128_t tw_requantise_4(const tw_requantiser *q, v128_t sums, v128_t factor) {
  return tw_round_4(q, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sums), factor));
}

// Eight numbers as bytes, in the low half.
TW_INLINE v128_t tw_narrow_8(const tw_requantiser *q, v128_t low, v128_t high) {
  v128_t x = wasm_i16x8_narrow_i32x4(low, high);
  return q->is_signed ? wasm_i8x16_narrow_i16x8(x, x) : wasm_u8x16_narrow_i16x8(x, x);
}

#endif
