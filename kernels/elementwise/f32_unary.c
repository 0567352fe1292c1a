// f32_unary: y[i] = op(x[i]); formulas in elementwise.wit, vector functions in ../math.h.
//
// Bindings: x, y, dense, 4-byte aligned; y may be x.
// Tile: x = tile_elements consecutive elements.
#include "bindings.h"
#include "elementwise.h"
#include "math.h"
#include "trigonometry.h"

typedef struct constants {
  v128_t alpha, beta;
} constants;

typedef v128_t (*operation)(v128_t, const constants *);

// `op` is a constant at each call, so that it is inlined.
TW_INLINE void light_row(operation op, const float *x, float *y, uint32_t n, float alpha,
                         float beta) {
  const constants c = {tw_splat(alpha), tw_splat(beta)};
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    v128_t y0 = op(tw_load(x + i), &c), y1 = op(tw_load(x + i + 4), &c);
    tw_store(y + i, y0), tw_store(y + i + 4, y1);
  }
  if (i + 4 <= n) {
    tw_store(y + i, op(tw_load(x + i), &c));
    i += 4;
  }
  if (i < n) tw_store_tail(y + i, op(tw_load_tail(x + i, n - i), &c), n - i);
}

// With one copy of a long formula; the branch for the tail is always predicted.
TW_INLINE void heavy_row(operation op, const float *x, float *y, uint32_t n, float alpha,
                         float beta) {
  const constants c = {tw_splat(alpha), tw_splat(beta)};
  for (uint32_t i = 0; i < n; i += 4) {
    uint32_t left = n - i;
    v128_t v = op(left >= 4 ? tw_load(x + i) : tw_load_tail(x + i, left), &c);
    if (left >= 4) tw_store(y + i, v);
    else tw_store_tail(y + i, v, left);
  }
}

#define ROW(WEIGHT, NAME, RESULT)                                                                \
  TW_INLINE v128_t op_##NAME(v128_t x, const constants *c) { return (void)c, RESULT; }           \
  static __attribute__((noinline)) void row_##NAME(const float *x, float *y, uint32_t n,         \
                                                   float alpha, float beta) {                    \
    WEIGHT##_row(op_##NAME, x, y, n, alpha, beta);                                               \
  }

#define ZERO tw_splat(0.0f)
#define ONE tw_splat(1.0f)
#define BELOW_ZERO(then, otherwise) wasm_v128_bitselect(then, otherwise, wasm_f32x4_lt(x, ZERO))

// 1 above 0, -1 below, 0 at both zeros, NaN at NaN
TW_INLINE v128_t sign(v128_t x) {
  v128_t above = wasm_v128_and(wasm_f32x4_gt(x, ZERO), ONE);
  v128_t below = wasm_v128_and(wasm_f32x4_lt(x, ZERO), tw_splat(-1.0f));
  return wasm_v128_bitselect(wasm_v128_or(above, below), x, wasm_f32x4_eq(x, x));
}

// max(x, 0) with NaN kept
TW_INLINE v128_t relu(v128_t x) { return wasm_f32x4_pmax(x, ZERO); }

TW_INLINE v128_t hard_sigmoid(v128_t x, v128_t alpha, v128_t beta) {
  return wasm_f32x4_pmin(relu(tw_madd(x, alpha, beta)), ONE);
}

// Where no lane is near the ends of the range, 2^n is one factor: 1.0 instead of 1.4 ns an element
// (Chromium 156, Zen 5, November 2026).
TW_INLINE v128_t exponential(v128_t x) {
  v128_t moderate = wasm_f32x4_lt(wasm_f32x4_abs(x), tw_splat(87.0f));
  return wasm_i32x4_all_true(moderate) ? tw_exp_moderate(x) : tw_exp(x);
}

TW_INLINE v128_t elu(v128_t x, v128_t alpha) {
  return BELOW_ZERO(wasm_f32x4_mul(alpha, tw_expm1_nonpositive(x)), x);
}

ROW(light, neg, wasm_f32x4_neg(x))
ROW(light, abs, wasm_f32x4_abs(x))
ROW(light, sign, sign(x))
ROW(light, sqrt, wasm_f32x4_sqrt(x))
ROW(light, reciprocal, wasm_f32x4_div(ONE, x))
ROW(light, square, wasm_f32x4_mul(x, x))
ROW(light, floor, wasm_f32x4_floor(x))
ROW(light, ceil, wasm_f32x4_ceil(x))
ROW(light, round, wasm_f32x4_nearest(x))
ROW(heavy, exp, exponential(x))
ROW(heavy, log, tw_log(x))
ROW(heavy, sin, tw_sin(x))
ROW(heavy, cos, tw_cos(x))
ROW(heavy, erf, tw_erf(x))
ROW(heavy, tanh, tw_tanh(x))
ROW(heavy, sigmoid, tw_sigmoid(x))
ROW(heavy, softplus, tw_softplus(x))
ROW(light, softsign, wasm_f32x4_div(x, wasm_f32x4_add(ONE, wasm_f32x4_abs(x))))
ROW(light, relu, relu(x))
ROW(light, leaky_relu, BELOW_ZERO(wasm_f32x4_mul(x, c->alpha), x))
ROW(heavy, elu, elu(x, c->alpha))
ROW(heavy, selu, wasm_f32x4_mul(c->beta, elu(x, c->alpha)))
ROW(light, hard_sigmoid, hard_sigmoid(x, c->alpha, c->beta))
ROW(light, hard_swish, wasm_f32x4_mul(x, hard_sigmoid(x, c->alpha, c->beta)))
ROW(heavy, gelu, tw_gelu(x))
ROW(heavy, gelu_tanh, tw_gelu_tanh(x))
ROW(heavy, silu, tw_silu(x, c->alpha))
ROW(light, clip, wasm_f32x4_pmin(wasm_f32x4_pmax(x, c->alpha), c->beta))
ROW(light, affine, tw_madd(x, c->alpha, c->beta))

uint32_t f32_unary(const tw_dispatch *d, const tw_tile *t) {
  const unary_params *p = d->params;
  if (p->tile_elements == 0) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_UNARY_X, p->count, 4) || !tw_holds(d, F32_UNARY_Y, p->count, 4))
    return TW_BINDING_TOO_SHORT;
  tw_span s = tw_piece(t->x, p->tile_elements, p->count);
  const float *x = TW_DATA(float, d, F32_UNARY_X) + s.first;
  float *y = TW_DATA(float, d, F32_UNARY_Y) + s.first;
  uint32_t n = s.last - s.first;
  switch (p->op) {
#define CASE(UPPER, NAME)                                                                        \
  case ELEMENTWISE_UNARY_##UPPER: row_##NAME(x, y, n, p->alpha, p->beta); break;
    CASE(NEG, neg)
    CASE(ABS, abs)
    CASE(SIGN, sign)
    CASE(SQRT, sqrt)
    CASE(RECIPROCAL, reciprocal)
    CASE(SQUARE, square)
    CASE(FLOOR, floor)
    CASE(CEIL, ceil)
    CASE(ROUND, round)
    CASE(EXP, exp)
    CASE(LOG, log)
    CASE(SIN, sin)
    CASE(COS, cos)
    CASE(ERF, erf)
    CASE(TANH, tanh)
    CASE(SIGMOID, sigmoid)
    CASE(SOFTPLUS, softplus)
    CASE(SOFTSIGN, softsign)
    CASE(RELU, relu)
    CASE(LEAKY_RELU, leaky_relu)
    CASE(ELU, elu)
    CASE(SELU, selu)
    CASE(HARD_SIGMOID, hard_sigmoid)
    CASE(HARD_SWISH, hard_swish)
    CASE(GELU, gelu)
    CASE(GELU_TANH, gelu_tanh)
    CASE(SILU, silu)
    CASE(CLIP, clip)
    CASE(AFFINE, affine)
    default: return TW_INVALID_PARAMS;
  }
  return TW_OK;
}
