// Four floats at a time: loads, stores, tails, multiply-add, sums over lanes. Functions of numbers
// are in math.h, what concerns a kernel's bindings in bindings.h.
//
// Nothing here reads or writes a byte outside the elements it is told of, because a binding may end
// where memory ends.
#ifndef TW_SIMD_H
#define TW_SIMD_H
#include <stdint.h>
#include <wasm_simd128.h>

#define TW_INLINE static inline __attribute__((always_inline))
#define TW_UNROLLED _Pragma("clang loop unroll(full)")

// a b + c, and c - a b. The relaxed build rounds once where the CPU has such an instruction, the
// simd build rounds twice; kernels must be right either way.
TW_INLINE v128_t tw_madd(v128_t a, v128_t b, v128_t c) {
#ifdef TW_RELAXED
  return wasm_f32x4_relaxed_madd(a, b, c);
#else
  return wasm_f32x4_add(wasm_f32x4_mul(a, b), c);
#endif
}

TW_INLINE v128_t tw_nmadd(v128_t a, v128_t b, v128_t c) {
#ifdef TW_RELAXED
  return wasm_f32x4_relaxed_nmadd(a, b, c);
#else
  return wasm_f32x4_sub(c, wasm_f32x4_mul(a, b));
#endif
}

TW_INLINE v128_t tw_splat(float x) { return wasm_f32x4_splat(x); }

TW_INLINE v128_t tw_load(const float *p) { return wasm_v128_load(p); }
TW_INLINE void tw_store(float *p, v128_t v) { wasm_v128_store(p, v); }

// The first n (1, 2 or 3) elements at p; the other lanes are 0.
TW_INLINE v128_t tw_load_tail(const float *p, uint32_t n) {
  if (n == 1) return wasm_v128_load32_zero(p);
  v128_t v = wasm_v128_load64_zero(p);
  return n == 2 ? v : wasm_v128_load32_lane(p + 2, v, 2);
}

// As tw_load_tail, the other lanes are those of `fill`.
TW_INLINE v128_t tw_load_tail_or(const float *p, uint32_t n, v128_t fill) {
  fill = wasm_v128_load32_lane(p, fill, 0);
  if (n > 1) fill = wasm_v128_load32_lane(p + 1, fill, 1);
  if (n > 2) fill = wasm_v128_load32_lane(p + 2, fill, 2);
  return fill;
}

// Lanes 0 to n-1 (n is 1, 2 or 3) to p.
TW_INLINE void tw_store_tail(float *p, v128_t v, uint32_t n) {
  if (n == 1) {
    wasm_v128_store32_lane(p, v, 0);
    return;
  }
  wasm_v128_store64_lane(p, v, 0);
  if (n == 3) wasm_v128_store32_lane(p + 2, v, 2);
}

// All four lanes are the sum (the product) of v's, taken pairwise.
TW_INLINE v128_t tw_sum(v128_t v) {
  v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
}
TW_INLINE v128_t tw_product(v128_t v) {
  v = wasm_f32x4_mul(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_mul(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
}

// The larger (smaller) of a and b by one machine instruction: a where b is NaN, NaN where a is. Use
// where NaN has been dealt with; otherwise wasm_f32x4_max and _min pass any NaN on.
TW_INLINE v128_t tw_fast_max(v128_t a, v128_t b) { return wasm_f32x4_pmax(a, b); }
TW_INLINE v128_t tw_fast_min(v128_t a, v128_t b) { return wasm_f32x4_pmin(a, b); }

// All four lanes are the largest (smallest) of v's; NaN if any is.
TW_INLINE v128_t tw_highest(v128_t v) {
  v = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
}
TW_INLINE v128_t tw_lowest(v128_t v) {
  v = wasm_f32x4_min(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_min(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
}

#endif
