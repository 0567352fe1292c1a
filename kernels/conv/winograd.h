// Winograd's minimal filtering F(4 x 4, 3 x 3) in both directions: a square of 4 x 4 outputs is made
// of 36 products of transformed inputs and filters.
//
//   y = T' ((G g G') . (B d B')) T    (S. Winograd, Arithmetic Complexity of Computations, 1980;
//                                      A. Lavin and S. Gray, arXiv:1509.09308)
//
// The six points are 0, +-a, +-b and infinity. With a = 3/4, b = 3/2 all coefficients of B and T are
// exact and the result is off by 1.2e-6 .. 3.5e-6 of the largest output (64 and 256 channels, normally
// distributed), where a plain running sum is by 0.6e-6 .. 1.8e-6 and the customary points 1, 2 by
// 5e-6 .. 7e-6.
#ifndef TW_CONV_WINOGRAD_H
#define TW_CONV_WINOGRAD_H
#include "simd.h"

#define SQUARE 4  // outputs along an axis
#define PATCH 6   // inputs along an axis
#define PRODUCTS (PATCH * PATCH)

#define POINT_A 0.75f
#define POINT_B 1.5f
#define A2 (POINT_A * POINT_A)
#define B2 (POINT_B * POINT_B)

// B d: the input side.
TW_INLINE void inwards(const v128_t d[PATCH], v128_t v[PATCH]) {
  v128_t even = tw_nmadd(tw_splat(B2), d[2], d[4]);
  v128_t odd = wasm_f32x4_mul(tw_splat(POINT_A), tw_nmadd(tw_splat(B2), d[1], d[3]));
  v[1] = wasm_f32x4_add(even, odd);
  v[2] = wasm_f32x4_sub(even, odd);
  even = tw_nmadd(tw_splat(A2), d[2], d[4]);
  odd = wasm_f32x4_mul(tw_splat(POINT_B), tw_nmadd(tw_splat(A2), d[1], d[3]));
  v[3] = wasm_f32x4_add(even, odd);
  v[4] = wasm_f32x4_sub(even, odd);
  v[0] = tw_madd(tw_splat(A2 * B2), d[0], tw_nmadd(tw_splat(A2 + B2), d[2], d[4]));
  v[5] = tw_madd(tw_splat(A2 * B2), d[1], tw_nmadd(tw_splat(A2 + B2), d[3], d[5]));
}

// T' m: the output side.
TW_INLINE void outwards(const v128_t m[PATCH], v128_t y[SQUARE]) {
  v128_t s = wasm_f32x4_add(m[1], m[2]), t = wasm_f32x4_sub(m[1], m[2]);
  v128_t u = wasm_f32x4_add(m[3], m[4]), w = wasm_f32x4_sub(m[3], m[4]);
  y[0] = wasm_f32x4_add(m[0], wasm_f32x4_add(s, u));
  y[1] = tw_madd(tw_splat(POINT_A), t, wasm_f32x4_mul(tw_splat(POINT_B), w));
  y[2] = tw_madd(tw_splat(A2), s, wasm_f32x4_mul(tw_splat(B2), u));
  y[3] = tw_madd(tw_splat(A2 * POINT_A), t,
                 tw_madd(tw_splat(B2 * POINT_B), w, m[5]));
}

// G g along one axis: three taps to six numbers. In double, for this is done once a session.
static inline void filter_row(const double g[3], double u[PATCH]) {
  const double a = POINT_A, b = POINT_B, a2 = a * a, b2 = b * b;
  const double at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2));
  u[0] = g[0] / (a2 * b2);
  u[1] = (g[0] + a2 * g[2] + a * g[1]) * at_a;
  u[2] = (g[0] + a2 * g[2] - a * g[1]) * at_a;
  u[3] = (g[0] + b2 * g[2] + b * g[1]) * at_b;
  u[4] = (g[0] + b2 * g[2] - b * g[1]) * at_b;
  u[5] = g[2];
}

#endif
