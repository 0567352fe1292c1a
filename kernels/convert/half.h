// Four floats of two bytes, as the upper or lower halves of 32-bit lanes, from and to float32.
#ifndef TW_HALF_H
#define TW_HALF_H
#include "bindings.h"
#include "convert.h"
#include "simd.h"

#define TW_HALF_MIN 0x38800000  // bits of 2^-14, the smallest normal float16
#define TW_HALF_END 0x47800000  // bits of 2^16: from here on float16 has no exponent

// float16 in the low halves. Its exponent and fraction, moved to float32's place, are the number
// times 2^-112, also where it is subnormal; an exponent of all ones has to become one.
TW_INLINE v128_t tw_widen_float16(v128_t h) {
  v128_t sign = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x8000)), 16);
  v128_t size = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x7fff)), 13);
  v128_t special = wasm_i32x4_gt(size, wasm_i32x4_splat(0x0f7fffff));
  v128_t number = wasm_f32x4_mul(size, tw_splat(0x1p112f));
  v128_t ones = wasm_v128_or(size, wasm_i32x4_splat(0x7f800000));
  return wasm_v128_or(sign, wasm_v128_bitselect(ones, number, special));
}

// To float16 in the low halves. A normal number's fraction is rounded in place; a subnormal one's
// by adding 1/2, whose last place is float16's smallest number.
TW_INLINE v128_t tw_narrow_float16(v128_t x) {
  v128_t sign = wasm_u32x4_shr(wasm_v128_and(x, wasm_i32x4_splat((int32_t)0x80000000)), 16);
  v128_t size = wasm_v128_and(x, wasm_i32x4_splat(0x7fffffff));
  v128_t odd = wasm_v128_and(wasm_u32x4_shr(size, 13), wasm_i32x4_splat(1));
  v128_t up = wasm_i32x4_add(wasm_i32x4_add(size, wasm_i32x4_splat(0xfff)), odd);
  v128_t normal = wasm_u32x4_shr(wasm_i32x4_sub(up, wasm_i32x4_splat(0x38000000)), 13);
  v128_t tiny = wasm_i32x4_sub(wasm_f32x4_add(size, tw_splat(0.5f)), tw_splat(0.5f));
  v128_t h = wasm_v128_bitselect(tiny, normal, wasm_i32x4_lt(size, wasm_i32x4_splat(TW_HALF_MIN)));
  v128_t over = wasm_i32x4_gt(size, wasm_i32x4_splat(TW_HALF_END - 1));
  h = wasm_v128_bitselect(wasm_i32x4_splat(0x7c00), h, over);
  v128_t kept = wasm_v128_and(wasm_u32x4_shr(size, 13), wasm_i32x4_splat(0x3ff));
  v128_t nan = wasm_v128_or(wasm_i32x4_splat(0x7e00), kept);
  h = wasm_v128_bitselect(nan, h, wasm_i32x4_gt(size, wasm_i32x4_splat(0x7f800000)));
  return wasm_v128_or(h, sign);
}

TW_INLINE v128_t tw_widen_bfloat16(v128_t h) { return wasm_i32x4_shl(h, 16); }

TW_INLINE v128_t tw_narrow_bfloat16(v128_t x) {
  v128_t odd = wasm_v128_and(wasm_u32x4_shr(x, 16), wasm_i32x4_splat(1));
  v128_t up = wasm_i32x4_add(wasm_i32x4_add(x, wasm_i32x4_splat(0x7fff)), odd);
  v128_t nan = wasm_v128_or(x, wasm_i32x4_splat(0x400000));
  return wasm_u32x4_shr(wasm_v128_bitselect(nan, up, wasm_f32x4_ne(x, x)), 16);
}

// The elements of a tile, or a status in `status` where something does not fit.
TW_INLINE tw_span tw_half_span(const tw_dispatch *d, const tw_tile *t, uint32_t from, uint32_t to,
                               uint32_t *status) {
  const half_params *p = d->params;
  tw_span none = {0, 0};
  *status = TW_INVALID_PARAMS;
  if (p->tile_elements == 0 || p->format > CONVERT_HALF_BFLOAT16) return none;
  *status = TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, 0, p->count, from) || !tw_holds(d, 1, p->count, to)) return none;
  *status = TW_OK;
  return tw_piece(t->x, p->tile_elements, p->count);
}

#endif
