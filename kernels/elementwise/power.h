// a to the power b on four floats, by way of double precision: 2^(b log2 |a|).
//
// log2 |a| = e + s Q(s^2) with s = (m - 1) / (m + 1), error 2^-43; 2^f by a polynomial on
// [-1/2, 1/2], error 2^-34. Both polynomials come from ../math_fit.py. So the
// result is the nearest float but for very near ties. Special values are those of C's powf.
#ifndef TW_POWER_H
#define TW_POWER_H
#include "math.h"

TW_INLINE v128_t tw_madd64(v128_t a, v128_t b, v128_t c) {
#ifdef TW_RELAXED
  return wasm_f64x2_relaxed_madd(a, b, c);
#else
  return wasm_f64x2_add(wasm_f64x2_mul(a, b), c);
#endif
}

// x^y for two doubles x >= 0 that are promoted floats (so never subnormal)
TW_INLINE v128_t tw_power_of_two_doubles(v128_t x, v128_t y) {
  const v128_t origin = wasm_i64x2_splat(0x3fe6a09e667f3bcdll);  // sqrt(1/2)
  const v128_t one = wasm_f64x2_splat(1.0);
  v128_t bits = wasm_i64x2_sub(x, origin);
  v128_t exponent = wasm_i64x2_shr(bits, 52);
  v128_t e = wasm_f64x2_convert_low_i32x4(wasm_i32x4_shuffle(exponent, exponent, 0, 2, 0, 2));
  v128_t m = wasm_i64x2_add(wasm_v128_and(bits, wasm_i64x2_splat(0xfffffffffffffll)), origin);
  v128_t s = wasm_f64x2_div(wasm_f64x2_sub(m, one), wasm_f64x2_add(m, one));
  v128_t z = wasm_f64x2_mul(s, s);
  v128_t p = tw_madd64(z, wasm_f64x2_splat(0.28291334150798064),
                       wasm_f64x2_splat(0.3199048559725403));
  p = tw_madd64(p, z, wasm_f64x2_splat(0.412209269689712));
  p = tw_madd64(p, z, wasm_f64x2_splat(0.5770779422497203));
  p = tw_madd64(p, z, wasm_f64x2_splat(0.9617966941132472));
  p = tw_madd64(p, z, wasm_f64x2_splat(2.8853900817778495));
  v128_t logarithm = tw_madd64(p, s, e);
  const v128_t infinity = wasm_f64x2_splat(__builtin_inf());
  logarithm = wasm_v128_bitselect(wasm_f64x2_neg(infinity), logarithm,
                                  wasm_f64x2_eq(x, wasm_f64x2_splat(0.0)));
  // infinity and NaN are their own logarithms
  logarithm = wasm_v128_bitselect(logarithm, x, wasm_f64x2_lt(x, infinity));

  v128_t t = wasm_f64x2_mul(logarithm, y);
  t = wasm_f64x2_pmin(t, wasm_f64x2_splat(300.0));
  t = wasm_f64x2_pmax(t, wasm_f64x2_splat(-300.0));
  v128_t n = wasm_f64x2_nearest(t), f = wasm_f64x2_sub(t, n);
  v128_t q = tw_madd64(f, wasm_f64x2_splat(1.5316461373771453e-05),
                       wasm_f64x2_splat(0.00015469731637314608));
  q = tw_madd64(q, f, wasm_f64x2_splat(0.0013333422647438498));
  q = tw_madd64(q, f, wasm_f64x2_splat(0.009618025604214129));
  q = tw_madd64(q, f, wasm_f64x2_splat(0.055504109761058094));
  q = tw_madd64(q, f, wasm_f64x2_splat(0.24022651213583499));
  q = tw_madd64(q, f, wasm_f64x2_splat(0.6931471805350289));
  q = tw_madd64(q, f, wasm_f64x2_splat(1.0));
  v128_t k = wasm_i64x2_extend_low_i32x4(wasm_i32x4_trunc_sat_f64x2_zero(n));
  v128_t scale = wasm_i64x2_shl(wasm_i64x2_add(k, wasm_i64x2_splat(1023)), 52);
  return wasm_f64x2_mul(q, scale);
}

TW_INLINE v128_t tw_pow(v128_t a, v128_t b) {
  const v128_t infinity = tw_splat(__builtin_inff());
  const v128_t zero = tw_splat(0.0f), one = tw_splat(1.0f);
  v128_t x = wasm_f32x4_abs(a);
  v128_t low = tw_power_of_two_doubles(wasm_f64x2_promote_low_f32x4(x),
                                       wasm_f64x2_promote_low_f32x4(b));
  v128_t high = tw_power_of_two_doubles(
      wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(x, x, 2, 3, 2, 3)),
      wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(b, b, 2, 3, 2, 3)));
  v128_t y = wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(low),
                                wasm_f32x4_demote_f64x2_zero(high), 0, 2);
  // an infinite exponent counts as an even integer
  v128_t integer = wasm_f32x4_eq(b, wasm_f32x4_nearest(b));
  v128_t half = wasm_f32x4_mul(b, tw_splat(0.5f));
  v128_t odd = wasm_v128_and(integer, wasm_f32x4_ne(half, wasm_f32x4_nearest(half)));
  v128_t negative = wasm_v128_and(wasm_f32x4_lt(a, zero), wasm_f32x4_lt(x, infinity));
  y = wasm_v128_or(y, wasm_v128_andnot(negative, integer));  // NaN
  v128_t sign = wasm_v128_and(a, wasm_i32x4_splat((int32_t)0x80000000));
  y = wasm_v128_xor(y, wasm_v128_and(sign, odd));
  v128_t unit = wasm_v128_or(wasm_f32x4_eq(a, one), wasm_f32x4_eq(b, zero));
  v128_t both = wasm_v128_and(wasm_f32x4_eq(x, one), wasm_f32x4_eq(wasm_f32x4_abs(b), infinity));
  return wasm_v128_bitselect(one, y, wasm_v128_or(unit, both));
}

#endif
