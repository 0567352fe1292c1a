// The discrete Fourier transform of four lines at once, a line in each lane: Stockham's, which needs
// no reordering, in stages of 4, 2, 3, 5 and of primes up to 31.
//
// Source: Van Loan, Computational Frameworks for the FFT, 1992, section 1.7. A point is two vectors,
// real and imaginary parts. Stage by stage, radix r: of n points left with stride s, m = n / r,
//   b[q + s (r p + j)] = turn(p j s) sum over k of a[q + s (p + m k)] exp(-2 pi i j k / r).
#ifndef TW_SIGNAL_TRANSFORM_H
#define TW_SIGNAL_TRANSFORM_H
#include "simd.h"

#define MOST_RADIX 31

typedef struct point {
  v128_t re, im;
} point;

TW_INLINE point plus(point a, point b) {
  return (point){wasm_f32x4_add(a.re, b.re), wasm_f32x4_add(a.im, b.im)};
}
TW_INLINE point minus(point a, point b) {
  return (point){wasm_f32x4_sub(a.re, b.re), wasm_f32x4_sub(a.im, b.im)};
}
// a times w, of numbers that all lanes share
TW_INLINE point times(point a, const float *w) {
  v128_t re = wasm_v128_load32_splat(w), im = wasm_v128_load32_splat(w + 1);
  return (point){tw_nmadd(a.im, im, wasm_f32x4_mul(a.re, re)),
                 tw_madd(a.im, re, wasm_f32x4_mul(a.re, im))};
}
TW_INLINE point scaled(point a, float by) {
  v128_t s = tw_splat(by);
  return (point){wasm_f32x4_mul(a.re, s), wasm_f32x4_mul(a.im, s)};
}
// a + i b, a - i b
TW_INLINE point plus_i(point a, point b) {
  return (point){wasm_f32x4_sub(a.re, b.im), wasm_f32x4_add(a.im, b.re)};
}
TW_INLINE point minus_i(point a, point b) {
  return (point){wasm_f32x4_add(a.re, b.im), wasm_f32x4_sub(a.im, b.re)};
}

TW_INLINE void of_two(point *a) {
  point b = a[1];
  a[1] = minus(a[0], b);
  a[0] = plus(a[0], b);
}
TW_INLINE void of_three(point *a) {
  point sum = plus(a[1], a[2]), apart = scaled(minus(a[1], a[2]), 0.86602540378443864676f);
  point middle = plus(a[0], scaled(sum, -0.5f));
  a[0] = plus(a[0], sum);
  a[1] = minus_i(middle, apart);
  a[2] = plus_i(middle, apart);
}
TW_INLINE void of_four(point *a) {
  point even = plus(a[0], a[2]), odd = plus(a[1], a[3]);
  point left = minus(a[0], a[2]), right = minus(a[1], a[3]);
  a[0] = plus(even, odd);
  a[1] = minus_i(left, right);
  a[2] = minus(even, odd);
  a[3] = plus_i(left, right);
}
TW_INLINE void of_five(point *a) {
  const float c1 = 0.30901699437494742410f, c2 = -0.80901699437494742410f;
  const float s1 = 0.95105651629515357212f, s2 = 0.58778525229247312917f;
  point p = plus(a[1], a[4]), q = plus(a[2], a[3]), u = minus(a[1], a[4]), v = minus(a[2], a[3]);
  point first = plus(a[0], plus(scaled(p, c1), scaled(q, c2)));
  point second = plus(a[0], plus(scaled(p, c2), scaled(q, c1)));
  point turn = plus(scaled(u, s1), scaled(v, s2)), back = minus(scaled(u, s2), scaled(v, s1));
  a[0] = plus(a[0], plus(p, q));
  a[1] = minus_i(first, turn);
  a[4] = plus_i(first, turn);
  a[2] = minus_i(second, back);
  a[3] = plus_i(second, back);
}

// One stage; `turns` are the transform's, `every` of them a step of 1 / radix of a turn.
TW_INLINE void stage(uint32_t radix, int known, const point *from, point *to, const float *turns,
                     uint32_t left, uint32_t stride, uint32_t every) {
  uint32_t part = left / radix;
  point a[MOST_RADIX], sums[MOST_RADIX];
  for (uint32_t p = 0; p < part; p++)
    for (uint32_t q = 0; q < stride; q++) {
      for (uint32_t j = 0; j < radix; j++) a[j] = from[q + stride * (p + part * j)];
      if (known) {
        if (radix == 2) of_two(a);
        if (radix == 3) of_three(a);
        if (radix == 4) of_four(a);
        if (radix == 5) of_five(a);
      } else {
        for (uint32_t j = 0; j < radix; j++) {
          sums[j] = a[0];
          for (uint32_t k = 1; k < radix; k++)
            sums[j] = plus(sums[j], times(a[k], turns + 2 * (size_t)(j * k % radix * every)));
        }
        for (uint32_t j = 0; j < radix; j++) a[j] = sums[j];
      }
      to[q + stride * (radix * p)] = a[0];
      for (uint32_t j = 1; j < radix; j++)
        to[q + stride * (radix * p + j)] =
            p == 0 ? a[j] : times(a[j], turns + 2 * (size_t)(p * j * stride));
    }
}

#define STAGE(NAME, RADIX, KNOWN)                                                                \
  static __attribute__((noinline)) void NAME(const point *from, point *to, const float *turns,   \
                                             uint32_t left, uint32_t stride, uint32_t every,     \
                                             uint32_t radix) {                                   \
    (void)radix;                                                                                 \
    stage(RADIX, KNOWN, from, to, turns, left, stride, every);                                   \
  }
STAGE(stage_two, 2, 1)
STAGE(stage_three, 3, 1)
STAGE(stage_four, 4, 1)
STAGE(stage_five, 5, 1)
STAGE(stage_prime, radix, 0)

// The factor that the next stage takes of `left`; 0 where it has none that there is a stage for.
static uint32_t next_radix(uint32_t left) {
  if (left % 4 == 0) return 4;
  for (uint32_t radix = 2; radix <= MOST_RADIX; radix++)
    if (left % radix == 0) return radix;
  return 0;
}

static int transformable(uint32_t points) {
  while (points > 1) {
    uint32_t radix = next_radix(points);
    if (radix == 0) return 0;
    points /= radix;
  }
  return points == 1;
}

// Where the transform of `a` lies then: in a itself or in b, which both hold `points`.
static point *transformed(point *a, point *b, const float *turns, uint32_t points) {
  for (uint32_t left = points, stride = 1; left > 1;) {
    uint32_t radix = next_radix(left);
    void (*run)(const point *, point *, const float *, uint32_t, uint32_t, uint32_t, uint32_t) =
        radix == 2 ? stage_two : radix == 3 ? stage_three : radix == 4 ? stage_four
        : radix == 5 ? stage_five : stage_prime;
    run(a, b, turns, left, stride, points / radix, radix);
    point *swapped = a;
    a = b;
    b = swapped;
    left /= radix;
    stride *= radix;
  }
  return a;
}

#endif
