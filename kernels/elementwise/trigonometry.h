// sin and cos of four floats, at most 2 ulp for every finite argument; of infinities NaN.
//
// x = n pi/2 + r with |r| <= pi/4. Below 2^24 the subtraction is done in double precision with pi/2
// in two parts, the first of 28 bits, so that n times it is exact; above, each lane takes the 96
// bits of 2/pi that matter for it (Payne and Hanek 1983). The polynomials are from ../math_fit.py.
#ifndef TW_TRIGONOMETRY_H
#define TW_TRIGONOMETRY_H
#include "math.h"

typedef struct tw_angle {
  v128_t r;         // radians
  v128_t quadrant;  // integers; the two low bits count
} tw_angle;

// For 2^24 <= |x| < infinity: r, and the quadrant.
static inline float tw_far_angle(float x, int32_t *quadrant) {
  // 2/pi, after one word of zeros
  static const uint32_t two_over_pi[8] = {0,          0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                          0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  uint64_t m = (bits & 0x7fffff) | 0x800000;
  int32_t e = (int32_t)((bits >> 23) & 255) - 150;  // |x| = m 2^e
  // Bits of 2/pi worth more than 2^(2 - e) only add multiples of 4 quadrants.
  uint32_t position = (uint32_t)(32 + e - 2);
  uint64_t w[3];
  for (uint32_t i = 0; i < 3; i++) {
    const uint32_t *p = two_over_pi + position / 32 + i;
    w[i] = (((uint64_t)p[0] << 32 | p[1]) << (position % 32)) >> 32;
  }
  // m times the 96 bits, modulo 4 quadrants; 62 bits after the point are kept
  uint64_t product = ((m * w[0]) << 32) + m * w[1] + ((m * w[2]) >> 32);
  uint64_t n = (product + (1ull << 61)) >> 62;
  double r = (double)(int64_t)(product - (n << 62)) * 0x1.921fb54442d18p-62;
  *quadrant = x < 0 ? -(int32_t)n : (int32_t)n;
  return (float)(x < 0 ? -r : r);
}

// Two lanes in double precision; *n are two integers as doubles.
TW_INLINE v128_t tw_near_angle(v128_t x, v128_t *n) {
  *n = wasm_f64x2_nearest(wasm_f64x2_mul(x, wasm_f64x2_splat(0x1.45f306dc9c883p-1)));
  v128_t r = wasm_f64x2_sub(x, wasm_f64x2_mul(*n, wasm_f64x2_splat(0x1.921fb54p+0)));
  return wasm_f64x2_sub(r, wasm_f64x2_mul(*n, wasm_f64x2_splat(0x1.10b4611a62633p-30)));
}

TW_INLINE tw_angle tw_reduce_angle(v128_t x) {
  v128_t n0, n1;
  v128_t r0 = tw_near_angle(wasm_f64x2_promote_low_f32x4(x), &n0);
  v128_t r1 = tw_near_angle(
      wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(x, x, 2, 3, 2, 3)), &n1);
  tw_angle angle;
  angle.r = wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(r0), wasm_f32x4_demote_f64x2_zero(r1),
                               0, 2);
  angle.quadrant = wasm_i64x2_shuffle(wasm_i32x4_trunc_sat_f64x2_zero(n0),
                                      wasm_i32x4_trunc_sat_f64x2_zero(n1), 0, 2);
  v128_t size = wasm_f32x4_abs(x);
  v128_t far = wasm_v128_and(wasm_f32x4_ge(size, tw_splat(16777216.0f)),
                             wasm_f32x4_lt(size, tw_splat(__builtin_inff())));
  if (wasm_v128_any_true(far)) {
    float in[4], r[4];
    int32_t quadrant[4], mask[4];
    wasm_v128_store(in, x), wasm_v128_store(mask, far);
    wasm_v128_store(r, angle.r), wasm_v128_store(quadrant, angle.quadrant);
    for (int i = 0; i < 4; i++)
      if (mask[i]) r[i] = tw_far_angle(in[i], &quadrant[i]);
    angle.r = wasm_v128_load(r), angle.quadrant = wasm_v128_load(quadrant);
  }
  return angle;
}

// sin(r + quadrant pi/2): a sine or a cosine of r, or its negative
TW_INLINE v128_t tw_sin_of(v128_t r, v128_t quadrant) {
  v128_t s = wasm_f32x4_mul(r, r);
  v128_t p = tw_madd(s, tw_splat(2.80413178e-06f), tw_splat(-0.000198502821f));
  p = tw_madd(p, s, tw_splat(0.00833337288f));
  p = tw_madd(p, s, tw_splat(-0.166666672f));
  v128_t sine = tw_madd(wasm_f32x4_mul(s, p), r, r);
  v128_t q = tw_madd(s, tw_splat(-2.86999153e-07f), tw_splat(2.48201613e-05f));
  q = tw_madd(q, s, tw_splat(-0.00138889754f));
  q = tw_madd(q, s, tw_splat(0.0416666679f));
  v128_t c = tw_nmadd(s, tw_splat(0.5f), tw_splat(1.0f));
  v128_t cosine = tw_madd(wasm_f32x4_mul(s, s), q, c);
  v128_t odd = wasm_i32x4_ne(wasm_v128_and(quadrant, wasm_i32x4_splat(1)), wasm_i32x4_splat(0));
  v128_t sign = wasm_i32x4_shl(wasm_v128_and(quadrant, wasm_i32x4_splat(2)), 30);
  return wasm_v128_xor(wasm_v128_bitselect(cosine, sine, odd), sign);
}

TW_INLINE v128_t tw_sin(v128_t x) {
  tw_angle a = tw_reduce_angle(x);
  return tw_sin_of(a.r, a.quadrant);
}

TW_INLINE v128_t tw_cos(v128_t x) {
  tw_angle a = tw_reduce_angle(x);
  return tw_sin_of(a.r, wasm_i32x4_add(a.quadrant, wasm_i32x4_splat(1)));
}

#endif
