// f32_rare: y[i] = op(x[i]), of the functions in elementwise.wit's `rare`, in double precision.
//
// Bindings: x, y, dense, 4-byte aligned; y may be x.
// Tile: x = tile_elements consecutive elements.
//
//   asin x = atan(x / sqrt((1 - x)(1 + x)))       acos x = pi / 2 - asin x
//   asinh x = log1p(x + x x / (1 + sqrt(1 + x x)))   acosh x = log1p(t + sqrt(t (x + 1))), t = x - 1
//   atanh x = log1p(2 x / (1 - x)) / 2, each odd function of |x| and then with x's sign
//   tan x = sin r / cos r or -cos r / sin r, r = x - n pi / 2; for |x| > 1e5, where three parts of
//   pi / 2 do not suffice, from sine and cosine in single precision (4 ulp)
#include "bindings.h"
#include "elementwise.h"
#include "precise.h"
#include "trigonometry.h"

#define HALF_PI 1.5707963267948966

static double tangent(float x) {
  if (__builtin_fabsf(x) > 1e5f) {
    v128_t v = tw_splat(x);
    return wasm_f32x4_extract_lane(tw_sin(v), 0) / wasm_f32x4_extract_lane(tw_cos(v), 0);
  }
  double n = __builtin_rint(x * 0.6366197723675814);
  // pi / 2 in three parts; the first two have 33 bits, so n times them is exact.
  double r = ((x - n * 1.57079632673412561417e+00) - n * 6.07710050630396597660e-11) -
             n * 2.02226624879595063154e-21;
  double s = tw_sin_of_small(r), c = tw_cos_of_small(r);
  return (int64_t)n & 1 ? -c / s : s / c;
}

static double asine(double x) { return tw_atan_of(x / __builtin_sqrt((1 - x) * (1 + x))); }

static double sine(double x) {
  double a = __builtin_fabs(x);
  if (a < 0.5) {
    double square = x * x, term = x, sum = x;
    for (int i = 2; i < 12; i += 2) term *= square / (i * (i + 1)), sum += term;
    return sum;
  }
  double e = tw_exp_of(a);
  return __builtin_copysign((e - 1 / e) / 2, x);
}

static double compute(elementwise_rare op, float v) {
  double x = v, a = __builtin_fabs(x), t = x - 1;
  switch (op) {
    case ELEMENTWISE_RARE_TAN: return tangent(v);
    case ELEMENTWISE_RARE_ASIN: return asine(x);
    case ELEMENTWISE_RARE_ACOS: return HALF_PI - asine(x);
    case ELEMENTWISE_RARE_ATAN: return tw_atan_of(x);
    case ELEMENTWISE_RARE_SINH: return sine(x);
    case ELEMENTWISE_RARE_COSH: return (tw_exp_of(x) + tw_exp_of(-x)) / 2;
    case ELEMENTWISE_RARE_ASINH:
      if (a == TW_INFINITE) return x;
      return __builtin_copysign(tw_log1p_of(a + a * a / (1 + __builtin_sqrt(1 + a * a))), x);
    case ELEMENTWISE_RARE_ACOSH: return tw_log1p_of(t + __builtin_sqrt(t * (x + 1)));
    case ELEMENTWISE_RARE_ATANH:
      return __builtin_copysign(tw_log1p_of(2 * a / (1 - a)) / 2, x);
  }
  return x;
}

uint32_t f32_rare(const tw_dispatch *d, const tw_tile *t) {
  const rare_params *p = d->params;
  if (p->tile_elements == 0 || p->op > ELEMENTWISE_RARE_ATANH) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_RARE_X, p->count, 4) || !tw_holds(d, F32_RARE_Y, p->count, 4))
    return TW_BINDING_TOO_SHORT;
  const float *x = TW_DATA(float, d, F32_RARE_X);
  float *y = TW_DATA(float, d, F32_RARE_Y);
  tw_span s = tw_piece(t->x, p->tile_elements, p->count);
  for (uint32_t i = s.first; i < s.last; i++) y[i] = (float)compute(p->op, x[i]);
  return TW_OK;
}
