// Floats to bytes: saturate(round(x / scale) + zero), halves to even, as the standard divides.
#ifndef TW_QUANT_QUANTIZE_H
#define TW_QUANT_QUANTIZE_H
#include "simd.h"

typedef struct tw_quantizer {
  v128_t scale, least, most, zero;  // least and most before the zero is added
  int is_signed;
} tw_quantizer;

static inline tw_quantizer tw_quantizer_of(float scale, int32_t zero, int is_signed) {
  return (tw_quantizer){wasm_f32x4_splat(scale),
                        wasm_f32x4_splat((float)((is_signed ? -128 : 0) - zero)),
                        wasm_f32x4_splat((float)((is_signed ? 127 : 255) - zero)),
                        wasm_i32x4_splat(zero), is_signed};
}

// Rounding does not change the order, so saturating first is the same. NaN becomes the lowest byte,
// as in onnxruntime; the operands of the first maximum are in the order that does so.
TW_INLINE v128_t tw_quantize_4(const tw_quantizer *q, v128_t x) {
  x = wasm_f32x4_div(x, q->scale);
  x = wasm_f32x4_pmin(wasm_f32x4_pmax(q->least, x), q->most);
  return wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(x)), q->zero);
}

TW_INLINE v128_t tw_quantize_16(const tw_quantizer *q, const float *x) {
  v128_t a = tw_quantize_4(q, tw_load(x)), b = tw_quantize_4(q, tw_load(x + 4));
  v128_t c = tw_quantize_4(q, tw_load(x + 8)), e = tw_quantize_4(q, tw_load(x + 12));
  v128_t low = wasm_i16x8_narrow_i32x4(a, b), high = wasm_i16x8_narrow_i32x4(c, e);
  return q->is_signed ? wasm_i8x16_narrow_i16x8(low, high) : wasm_u8x16_narrow_i16x8(low, high);
}

static inline void tw_quantize_run(const tw_quantizer *q, uint8_t *y, const float *x,
                                   uint32_t count) {
  for (; count >= 16; count -= 16, x += 16, y += 16) wasm_v128_store(y, tw_quantize_16(q, x));
  if (count == 0) return;
  float some[16] = {0};
  for (uint32_t i = 0; i < count; i++) some[i] = x[i];
  uint8_t bytes[16];
  wasm_v128_store(bytes, tw_quantize_16(q, some));
  for (uint32_t i = 0; i < count; i++) y[i] = bytes[i];
}

#endif
