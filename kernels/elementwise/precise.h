// Functions of one double, good to some 1e-11 relative: what a float's last place does not see.
//
// Sources: Taylor's series, after the usual reductions of the argument (Cody and Waite, Software
// Manual for the Elementary Functions, 1980).
#ifndef TW_PRECISE_H
#define TW_PRECISE_H
#include <stdint.h>

#define TW_INFINITE __builtin_inf()

static inline double tw_power_of_two(int n) {
  uint64_t bits = (uint64_t)(n + 1023) << 52;
  double x;
  __builtin_memcpy(&x, &bits, 8);
  return x;
}

// e^x; beyond doubles 0 or infinity.
static inline double tw_exp_of(double x) {
  if (x != x) return x;
  if (x > 700) return TW_INFINITE;
  if (x < -700) return 0;
  double n = __builtin_rint(x * 1.4426950408889634);
  double r = x - n * 0.6931471805599453, term = 1, sum = 1;
  for (int i = 1; i < 11; i++) term *= r / i, sum += term;
  return sum * tw_power_of_two((int)n);
}

// Half the logarithm of (1 + s) / (1 - s), |s| < 0.2.
static inline double tw_atanh_of_small(double s) {
  double square = s * s, power = s, sum = s;
  for (int i = 3; i < 17; i += 2) power *= square, sum += power / i;
  return sum;
}

// log(x), of a normal number or infinity; NaN below 0.
static inline double tw_log_of(double x) {
  if (!(x > 0)) return x == 0 ? -TW_INFINITE : __builtin_nan("");
  if (x == TW_INFINITE) return x;
  uint64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  int exponent = (int)(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffff) | 0x3ff0000000000000;
  double m;
  __builtin_memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) m *= 0.5, exponent++;
  return 2 * tw_atanh_of_small((m - 1) / (m + 1)) + exponent * 0.6931471805599453;
}

// log(1 + x)
static inline double tw_log1p_of(double x) {
  return x > -0.3 && x < 0.4 ? 2 * tw_atanh_of_small(x / (2 + x)) : tw_log_of(1 + x);
}

static inline double tw_atan_of(double x) {
  double a = __builtin_fabs(x), start = 0, sign = 1;
  if (a > 1) a = 1 / a, start = 1.5707963267948966, sign = -1;
  double turn = 0;
  if (a > 0.41421356237309503) a = (a - 1) / (a + 1), turn = 0.7853981633974483;
  double square = a * a, power = a, sum = a;
  for (int i = 3; i < 29; i += 2) power *= -square, sum += power / i;
  return __builtin_copysign(start + sign * (turn + sum), x);
}

// Sine and cosine for |x| < pi / 4 and a little more.
static inline double tw_sin_of_small(double x) {
  double square = x * x, term = x, sum = x;
  for (int i = 2; i < 14; i += 2) term *= -square / (i * (i + 1)), sum += term;
  return sum;
}
static inline double tw_cos_of_small(double x) {
  double square = x * x, term = 1, sum = 1;
  for (int i = 1; i < 14; i += 2) term *= -square / (i * (i + 1)), sum += term;
  return sum;
}

#endif
