// Functions of four floats in registers: exponentials, logarithms, erf and what is made of them.
// Loads, stores and multiply-add are in simd.h.
//
// The polynomials are ours: each is a minimax fit (Lawson's reweighted least squares on Chebyshev
// points, against the double-precision functions of CPython's math module), rounded to float;
// math_fit.py makes the logarithm's again. The largest errors stated here are held by
// tests/kernels/test_math.py, in both builds. NaN in gives NaN out everywhere.
#ifndef TW_MATH_H
#define TW_MATH_H
#include "simd.h"

// Constants in all lanes, loaded from a table: TW_AT(i) is its i-th. V8 makes a vector constant by
// several instructions, and again in every round of a loop; a load is one. Worth 5 % to softmax,
// 15 % to sigmoid, 20 % to exp and GELU, 25 % to erf (Chromium 156, Zen 5, 2026-11). The empty
// assembly keeps the compiler from undoing it.
#define TW_TABLE(...)                                                                            \
  static const float table_[] = {__VA_ARGS__};                                                   \
  const float *c_ = table_;                                                                      \
  __asm__("" : "+r"(c_))
#define TW_AT(i) wasm_v128_load32_splat(c_ + (i))

// x between low and high. pmin and pmax are one instruction each and, with x first, keep NaN.
TW_INLINE v128_t tw_clamp(v128_t x, float low, float high) {
  return wasm_f32x4_pmax(wasm_f32x4_pmin(x, tw_splat(high)), tw_splat(low));
}

// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which also appears in the sum's
// low bits: cheaper than nearest and trunc_sat on x86.
#define TW_ROUNDER 12582912.0f

// 2^f for |f| <= 0.5, relative error 7.6e-8.
TW_INLINE v128_t tw_exp2_fraction(v128_t f) {
  v128_t p = tw_splat(0.001327624311670661f);
  p = tw_madd(p, f, tw_splat(0.009675770066678524f));
  p = tw_madd(p, f, tw_splat(0.05550715699791908f));
  p = tw_madd(p, f, tw_splat(0.24022115767002106f));
  p = tw_madd(p, f, tw_splat(0.6931469440460205f));
  return tw_madd(p, f, tw_splat(1.0f));
}

// e^r - 1 for |r| <= ln(2)/2, error 3.1e-9 before rounding.
TW_INLINE v128_t tw_expm1_fraction(v128_t r) {
  v128_t p = tw_splat(0.001381446490995586f);
  p = tw_madd(p, r, tw_splat(0.008368780836462975f));
  p = tw_madd(p, r, tw_splat(0.04166839271783829f));
  p = tw_madd(p, r, tw_splat(0.1666651964187622f));
  p = tw_madd(p, r, tw_splat(0.4999999403953552f));
  return tw_madd(wasm_f32x4_mul(p, r), r, r);
}

TW_INLINE v128_t tw_exp_fraction(v128_t r) {
  return wasm_f32x4_add(tw_expm1_fraction(r), tw_splat(1.0f));
}

// x - n ln(2), with ln(2) in two parts; the first has 9 significant bits, so n times it is exact.
TW_INLINE v128_t tw_exp_reduce(v128_t x, v128_t n) {
  return tw_nmadd(n, tw_splat(-2.12194440e-4f), tw_nmadd(n, tw_splat(0.693359375f), x));
}

// e^x, at most 2 ulp, over the whole range: denormal results, 0 and infinity included.
TW_INLINE v128_t tw_exp(v128_t x) {
  x = tw_clamp(x, -104.0f, 89.0f);
  v128_t t = tw_madd(x, tw_splat(1.44269504f), tw_splat(TW_ROUNDER));
  v128_t r = tw_exp_reduce(x, wasm_f32x4_sub(t, tw_splat(TW_ROUNDER)));
  // 2^n in two factors, for n lies in -150 .. 128.
  v128_t n = wasm_i32x4_sub(t, tw_splat(TW_ROUNDER));
  v128_t half = wasm_i32x4_shr(n, 1), bias = wasm_i32x4_splat(127);
  v128_t s0 = wasm_i32x4_shl(wasm_i32x4_add(half, bias), 23);
  v128_t s1 = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_sub(n, half), bias), 23);
  return wasm_f32x4_mul(wasm_f32x4_mul(tw_exp_fraction(r), s0), s1);
}

// e^x for -87 <= x <= 88, at most 2 ulp; beyond, a number without meaning.
TW_INLINE v128_t tw_exp_moderate(v128_t x) {
  TW_TABLE(0.001381446490995586f, 0.008368780836462975f, 0.04166839271783829f, 0.1666651964187622f,
           0.4999999403953552f, 1.44269504f, TW_ROUNDER, 0.693359375f, -2.12194440e-4f, 1.0f);
  v128_t rounder = TW_AT(6), one = TW_AT(9);
  v128_t t = tw_madd(x, TW_AT(5), rounder);
  v128_t n = wasm_f32x4_sub(t, rounder);
  v128_t r = tw_nmadd(n, TW_AT(8), tw_nmadd(n, TW_AT(7), x));
  v128_t p = tw_madd(TW_AT(0), r, TW_AT(1));
  p = tw_madd(p, r, TW_AT(2));
  p = tw_madd(p, r, TW_AT(3));
  p = tw_madd(p, r, TW_AT(4));
  p = wasm_f32x4_add(tw_madd(wasm_f32x4_mul(p, r), r, r), one);
  return wasm_f32x4_mul(p, wasm_i32x4_add(wasm_i32x4_shl(t, 23), one));  // one's bits are 127 << 23
}

// e^x for x <= 0, at most 2 ulp where the result is a normal number; 0 below -87.
TW_INLINE v128_t tw_exp_nonpositive(v128_t x) {
  return wasm_v128_andnot(tw_exp_moderate(x), wasm_f32x4_lt(x, tw_splat(-87.0f)));
}

// e^x for x <= 0, for weights that are summed: two thirds of tw_exp_nonpositive's time. The error
// is at most 1e-7 (2 + |x|) of the result, so 1.5e-7 of the largest weight; 0 below -87.
TW_INLINE v128_t tw_exp_weight(v128_t x) {
  v128_t log2e = tw_splat(1.44269504f), rounder = tw_splat(TW_ROUNDER);
  v128_t t = tw_madd(x, log2e, rounder);
  v128_t f = tw_madd(x, log2e, wasm_f32x4_sub(rounder, t));
  v128_t s = wasm_i32x4_add(wasm_i32x4_shl(t, 23), tw_splat(1.0f));
  v128_t y = wasm_f32x4_mul(tw_exp2_fraction(f), s);
  return wasm_v128_andnot(y, wasm_f32x4_lt(x, tw_splat(-87.0f)));
}

// erf(x), at most 2 ulp. |x| < 1: x + x P(x^2); else 1 - 2^-Q(|x|).
TW_INLINE v128_t tw_erf(v128_t x) {
  TW_TABLE(7.853861461626366e-05f, -0.0008010193705558777f, 0.005188327748328447f,
           -0.026853812858462334f, 0.1128358542919159f, -0.3761262595653534f,
           0.12837916612625122f,
           -0.00026772695127874613f, 0.004240959417074919f, -0.03145843371748924f,
           0.14865152537822723f, 0.9207649827003479f, 1.6259751319885254f, 0.0005103051662445068f,
           0.001327624311670661f, 0.009675770066678524f, 0.05550715699791908f,
           0.24022115767002106f, 0.6931469440460205f,
           1.0f, 4.0f, TW_ROUNDER);
  v128_t one = TW_AT(19), rounder = TW_AT(21);
  v128_t a = wasm_f32x4_abs(x);
  v128_t s = wasm_f32x4_mul(x, x);
  v128_t p = tw_madd(TW_AT(0), s, TW_AT(1));
  p = tw_madd(p, s, TW_AT(2));
  p = tw_madd(p, s, TW_AT(3));
  p = tw_madd(p, s, TW_AT(4));
  p = tw_madd(p, s, TW_AT(5));
  p = tw_madd(p, s, TW_AT(6));
  v128_t small = tw_madd(p, x, x);

  v128_t b = wasm_f32x4_pmin(a, TW_AT(20));
  v128_t q = tw_madd(TW_AT(7), b, TW_AT(8));
  q = tw_madd(q, b, TW_AT(9));
  q = tw_madd(q, b, TW_AT(10));
  q = tw_madd(q, b, TW_AT(11));
  q = tw_madd(q, b, TW_AT(12));
  q = tw_madd(q, b, TW_AT(13));
  v128_t t = wasm_f32x4_sub(rounder, q);
  v128_t f = wasm_f32x4_sub(wasm_f32x4_sub(rounder, t), q);  // n - q
  v128_t power = wasm_i32x4_add(wasm_i32x4_shl(t, 23), one);
  v128_t e = tw_madd(TW_AT(14), f, TW_AT(15));
  e = tw_madd(e, f, TW_AT(16));
  e = tw_madd(e, f, TW_AT(17));
  e = tw_madd(e, f, TW_AT(18));
  e = tw_madd(e, f, one);
  v128_t large = tw_nmadd(e, power, one);
  large = wasm_v128_bitselect(x, large, wasm_i32x4_splat(0x80000000));
  return wasm_v128_bitselect(large, small, wasm_f32x4_ge(a, one));
}

// tanh(x), at most 2 ulp. |x| < 0.625: x + x P(x^2); else 1 - 2 e / (1 + e), e = e^-2|x|.
TW_INLINE v128_t tw_tanh(v128_t x) {
  v128_t a = wasm_f32x4_abs(x);
  v128_t s = wasm_f32x4_mul(x, x);
  v128_t p = tw_splat(-0.005704983603209257f);
  p = tw_madd(p, s, tw_splat(0.0206390842795372f));
  p = tw_madd(p, s, tw_splat(-0.05373971536755562f));
  p = tw_madd(p, s, tw_splat(0.13331441581249237f));
  p = tw_madd(p, s, tw_splat(-0.3333328068256378f));
  v128_t small = tw_madd(wasm_f32x4_mul(p, s), x, x);

  v128_t e = tw_exp_nonpositive(wasm_f32x4_mul(a, tw_splat(-2.0f)));
  v128_t one = tw_splat(1.0f);
  v128_t large = wasm_f32x4_div(wasm_f32x4_add(e, e), wasm_f32x4_add(one, e));
  large = wasm_f32x4_sub(one, large);
  large = wasm_v128_bitselect(x, large, wasm_i32x4_splat(0x80000000));
  return wasm_v128_bitselect(large, small, wasm_f32x4_ge(a, tw_splat(0.625f)));
}

// The same for gates and for what is rounded after it, at most 2.2 ulp. With e = e^-2|x|: below 0.625
// -m / (2 + m), m = e - 1 without cancellation, above it 1 - 2 e / (1 + e), both by one division:
// y = k / (k + 1 + small), k = e - small, and tanh = large - (1 + large) y. 5.4 ns a vector where
// tw_tanh takes 8.5 (V8 14, Zen 4, 2026-11).
TW_INLINE v128_t tw_tanh_gate(v128_t x) {
  TW_TABLE(0.001381446490995586f, 0.008368780836462975f, 0.04166839271783829f, 0.1666651964187622f,
           0.4999999403953552f, -2.88539008f, TW_ROUNDER, 0.693359375f, -2.12194440e-4f, 1.0f,
           10.0f, -2.0f, 0.625f);
  v128_t rounder = TW_AT(6), one = TW_AT(9);
  v128_t a = wasm_f32x4_pmin(wasm_f32x4_abs(x), TW_AT(10));  // beyond, tanh is 1
  v128_t t = tw_madd(a, TW_AT(5), rounder);
  v128_t n = wasm_f32x4_sub(t, rounder);
  v128_t r = tw_nmadd(n, TW_AT(8), tw_nmadd(n, TW_AT(7), wasm_f32x4_mul(a, TW_AT(11))));
  v128_t p = tw_madd(TW_AT(0), r, TW_AT(1));
  p = tw_madd(p, r, TW_AT(2));
  p = tw_madd(p, r, TW_AT(3));
  p = tw_madd(p, r, TW_AT(4));
  p = tw_madd(wasm_f32x4_mul(p, r), r, r);
  v128_t power = wasm_i32x4_add(wasm_i32x4_shl(t, 23), one);
  v128_t large = wasm_v128_and(wasm_f32x4_ge(a, TW_AT(12)), one);
  v128_t small = wasm_f32x4_sub(one, large);
  v128_t k = tw_madd(p, power, wasm_f32x4_sub(power, small));
  v128_t y = wasm_f32x4_div(k, wasm_f32x4_add(k, wasm_f32x4_add(one, small)));
  y = tw_nmadd(wasm_f32x4_add(one, large), y, large);
  return wasm_v128_bitselect(x, y, wasm_i32x4_splat(0x80000000));
}

// 1 / (1 + e^-x), at most 1.9 ulp where the result is a normal number, 0 below -88.
TW_INLINE v128_t tw_sigmoid(v128_t x) {
  v128_t one = tw_splat(1.0f);
  v128_t e = tw_exp_moderate(wasm_f32x4_neg(wasm_f32x4_pmin(x, tw_splat(87.0f))));
  v128_t d = wasm_f32x4_add(one, e), y = wasm_f32x4_div(one, d);
  // What rounding has taken from d, the larger of the two first.
  v128_t more = wasm_f32x4_max(one, e), less = wasm_f32x4_min(one, e);
  v128_t lost = wasm_f32x4_sub(less, wasm_f32x4_sub(d, more));
  y = tw_nmadd(wasm_f32x4_mul(lost, y), y, y);
  return wasm_v128_andnot(y, wasm_f32x4_lt(x, tw_splat(-88.0f)));
}

// The same for gates, at most 2.4 ulp where the result is a normal number. At -88.9 the exponential is
// infinite, whose scale of 2^128 is infinity's bits, and the result 0.
TW_INLINE v128_t tw_sigmoid_gate(v128_t x) {
  TW_TABLE(87.0f, -88.9f, 1.0f);
  x = wasm_f32x4_pmax(wasm_f32x4_pmin(x, TW_AT(0)), TW_AT(1));
  v128_t e = tw_exp_moderate(wasm_f32x4_neg(x)), one = TW_AT(2);
  return wasm_f32x4_div(one, wasm_f32x4_add(one, e));
}

// x / (1 + e^(-alpha x)): SiLU, and with alpha 1.702 quick GELU.
TW_INLINE v128_t tw_silu(v128_t x, v128_t alpha) {
  TW_TABLE(87.0f, -88.9f, 1.0f);
  v128_t scaled = wasm_f32x4_pmin(wasm_f32x4_mul(x, alpha), TW_AT(0));
  v128_t e = tw_exp_moderate(wasm_f32x4_neg(wasm_f32x4_pmax(scaled, TW_AT(1))));
  return wasm_f32x4_div(x, wasm_f32x4_add(TW_AT(2), e));
}

// alpha x + beta within 0 .. 1. NaN in is NaN out: pmin and pmax keep it where x is first.
TW_INLINE v128_t tw_hard_sigmoid(v128_t x, v128_t alpha, v128_t beta) {
  return wasm_f32x4_pmin(wasm_f32x4_pmax(tw_madd(x, alpha, beta), tw_splat(0)), tw_splat(1));
}

// x (1 + erf(x / sqrt 2)) / 2 as max(x, 0) - |x| 2^-Q(|x|), Q a fit of -log2(erfc(t / sqrt 2) / 2):
// one branch and no division. At most 4 ulp for x > 0; below 0, where the sum of the formula
// cancels, the error is absolute, at most 1.5e-7 |x|. 3.5 ns a vector, 4.5 with constants that are
// not loaded, 6.5 through tw_erf (Chromium 156, Zen 5, 2026-11).
TW_INLINE v128_t tw_gelu(v128_t x) {
  TW_TABLE(2.1062792256998364e-06f, -3.180326530127786e-05f, 0.0001553890178911388f,
           0.0001994224585359916f, -0.007130367215722799f, 0.05253291875123978f,
           0.45919907093048096f, 1.1511058807373047f, 1.0f,
           0.001327624311670661f, 0.009675770066678524f, 0.05550715699791908f,
           0.24022115767002106f, 0.6931469440460205f,
           14.0f, 126.0f, TW_ROUNDER);
  v128_t one = TW_AT(8);
  v128_t a = wasm_f32x4_pmin(wasm_f32x4_abs(x), TW_AT(14));
  v128_t q = tw_madd(TW_AT(0), a, TW_AT(1));
  q = tw_madd(q, a, TW_AT(2));
  q = tw_madd(q, a, TW_AT(3));
  q = tw_madd(q, a, TW_AT(4));
  q = tw_madd(q, a, TW_AT(5));
  q = tw_madd(q, a, TW_AT(6));
  q = tw_madd(q, a, TW_AT(7));
  q = wasm_f32x4_pmin(tw_madd(q, a, one), TW_AT(15));
  v128_t rounder = TW_AT(16);
  v128_t t = wasm_f32x4_sub(rounder, q);
  v128_t f = wasm_f32x4_sub(wasm_f32x4_sub(rounder, t), q);  // n - q
  v128_t power = wasm_i32x4_add(wasm_i32x4_shl(t, 23), one);
  v128_t p = tw_madd(TW_AT(9), f, TW_AT(10));
  p = tw_madd(p, f, TW_AT(11));
  p = tw_madd(p, f, TW_AT(12));
  p = tw_madd(p, f, TW_AT(13));
  p = tw_madd(p, f, one);
  // max(x, 0) as a product, so that -inf gives NaN as the formula does
  v128_t above = wasm_f32x4_mul(x, wasm_v128_and(one, wasm_f32x4_gt(x, tw_splat(0))));
  return tw_nmadd(wasm_f32x4_mul(p, a), power, above);
}

// e^x - 1 for x <= 0, without cancellation, at most 2 ulp.
TW_INLINE v128_t tw_expm1_nonpositive(v128_t x) {
  x = wasm_f32x4_pmax(x, tw_splat(-87.0f));
  v128_t t = tw_madd(x, tw_splat(1.44269504f), tw_splat(TW_ROUNDER));
  v128_t r = tw_exp_reduce(x, wasm_f32x4_sub(t, tw_splat(TW_ROUNDER)));
  v128_t s = wasm_i32x4_shl(wasm_i32x4_add(t, wasm_i32x4_splat(127)), 23);
  return tw_madd(tw_expm1_fraction(r), s, wasm_f32x4_sub(s, tw_splat(1.0f)));
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
TW_INLINE v128_t tw_gelu_tanh(v128_t x) {
  v128_t h = wasm_f32x4_mul(x, tw_splat(0.5f));
  v128_t c = tw_madd(wasm_f32x4_mul(x, x), tw_splat(0.0356774081f), tw_splat(0.797884561f));
  return tw_madd(h, tw_tanh_gate(wasm_f32x4_mul(x, c)), h);
}

// -- logarithms ----------------------------------------------------------------------------------

// log(1 + f) for sqrt(1/2) <= 1 + f < sqrt(2), plus e ln 2
TW_INLINE v128_t tw_log_reduced(v128_t f, v128_t e) {
  TW_TABLE(-0.0763747096f, 0.127627313f, -0.131594718f, 0.14201501f, -0.166234136f, 0.200012445f,
           -0.250008196f, 0.333333313f, -2.12194440e-4f, 0.5f, 0.693359375f);
  v128_t s = wasm_f32x4_mul(f, f);
  v128_t p = tw_madd(f, TW_AT(0), TW_AT(1));
  p = tw_madd(p, f, TW_AT(2));
  p = tw_madd(p, f, TW_AT(3));
  p = tw_madd(p, f, TW_AT(4));
  p = tw_madd(p, f, TW_AT(5));
  p = tw_madd(p, f, TW_AT(6));
  p = tw_madd(p, f, TW_AT(7));
  v128_t y = wasm_f32x4_mul(wasm_f32x4_mul(f, s), p);
  y = tw_madd(e, TW_AT(8), y);
  y = tw_nmadd(s, TW_AT(9), y);
  return tw_madd(e, TW_AT(10), wasm_f32x4_add(f, y));
}

// x = 2^e m with sqrt(1/2) <= m < sqrt(2), for normal positive x
TW_INLINE v128_t tw_log_split(v128_t x, v128_t *e) {
  const v128_t origin = wasm_i32x4_splat(0x3f3504f3);  // sqrt(1/2)
  v128_t bits = wasm_i32x4_sub(x, origin);
  *e = wasm_f32x4_convert_i32x4(wasm_i32x4_shr(bits, 23));
  return wasm_i32x4_add(wasm_v128_and(bits, wasm_i32x4_splat(0x7fffff)), origin);
}

// Natural logarithm; of 0 -inf, below 0 NaN.
TW_INLINE v128_t tw_log(v128_t x) {
  v128_t tiny = wasm_f32x4_lt(x, tw_splat(1.17549435e-38f));
  v128_t scaled = wasm_v128_bitselect(wasm_f32x4_mul(x, tw_splat(8388608.0f)), x, tiny);
  v128_t e, m = tw_log_split(scaled, &e);
  e = wasm_f32x4_sub(e, wasm_v128_and(tiny, tw_splat(23.0f)));
  v128_t y = tw_log_reduced(wasm_f32x4_sub(m, tw_splat(1.0f)), e);
  v128_t finite = wasm_f32x4_lt(x, tw_splat(__builtin_inff()));  // false for NaN
  y = wasm_v128_bitselect(y, x, finite);
  y = wasm_v128_bitselect(tw_splat(-__builtin_inff()), y, wasm_f32x4_eq(x, tw_splat(0.0f)));
  return wasm_v128_or(y, wasm_f32x4_lt(x, tw_splat(0.0f)));
}

// log(1 + x) for 0 <= x <= 1: log(u) and what rounding u = 1 + x lost, over u
TW_INLINE v128_t tw_log1p_unit(v128_t x) {
  v128_t one = tw_splat(1.0f);
  v128_t u = wasm_f32x4_add(one, x);
  v128_t lost = wasm_f32x4_sub(x, wasm_f32x4_sub(u, one));
  v128_t e, m = tw_log_split(u, &e);
  v128_t y = tw_log_reduced(wasm_f32x4_sub(m, one), e);
  return wasm_f32x4_add(y, wasm_f32x4_div(lost, u));
}

// log(1 + e^x)
TW_INLINE v128_t tw_softplus(v128_t x) {
  v128_t e = tw_exp_nonpositive(wasm_f32x4_neg(wasm_f32x4_abs(x)));
  return wasm_f32x4_add(wasm_f32x4_max(x, tw_splat(0.0f)), tw_log1p_unit(e));
}

#endif
