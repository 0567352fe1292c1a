// f32_binary: y[i] = a[i] op b[i] with broadcasting.
//
// Bindings: a, b (read through strides; 4-byte aligned), y (dense; may be a
// or b if those are dense).
// Tile: x = tile_elements consecutive elements of y.
//
// The four-lane loops cover the strides that occur in practice (1 and 0); any other stride collects
// four elements first. A tail goes through the same collection, so nothing outside is touched.
// pow is computed in double precision, two lanes at a time, which makes it right to half an ulp;
// exponents 2, 0.5, 1 and -1 that all elements share are recognised.
#include "broadcast.h"
#include "elementwise.h"
#include "math.h"
#include "power.h"

typedef v128_t (*operation)(v128_t, v128_t);

TW_INLINE v128_t gather(const float *p, uint32_t stride, uint32_t n) {
  v128_t v = wasm_v128_load32_splat(p);
  if (n > 1) v = wasm_v128_load32_lane(p + stride, v, 1);
  if (n > 2) v = wasm_v128_load32_lane(p + 2 * stride, v, 2);
  if (n > 3) v = wasm_v128_load32_lane(p + 3 * stride, v, 3);
  return v;
}

// `op` is a constant at each call, so that it is inlined.
TW_INLINE void row(operation op, const float *a, uint32_t sa, const float *b, uint32_t sb, float *y,
                   uint32_t n) {
  uint32_t i = 0;
  if (sa == 1 && sb == 1) {
    for (; i + 16 <= n; i += 16) {
      v128_t y0 = op(tw_load(a + i), tw_load(b + i));
      v128_t y1 = op(tw_load(a + i + 4), tw_load(b + i + 4));
      v128_t y2 = op(tw_load(a + i + 8), tw_load(b + i + 8));
      v128_t y3 = op(tw_load(a + i + 12), tw_load(b + i + 12));
      tw_store(y + i, y0), tw_store(y + i + 4, y1);
      tw_store(y + i + 8, y2), tw_store(y + i + 12, y3);
    }
    for (; i + 4 <= n; i += 4) tw_store(y + i, op(tw_load(a + i), tw_load(b + i)));
  } else if (sa == 1 && sb == 0) {
    const v128_t scalar = wasm_v128_load32_splat(b);
    for (; i + 16 <= n; i += 16) {
      v128_t y0 = op(tw_load(a + i), scalar), y1 = op(tw_load(a + i + 4), scalar);
      v128_t y2 = op(tw_load(a + i + 8), scalar), y3 = op(tw_load(a + i + 12), scalar);
      tw_store(y + i, y0), tw_store(y + i + 4, y1);
      tw_store(y + i + 8, y2), tw_store(y + i + 12, y3);
    }
    for (; i + 4 <= n; i += 4) tw_store(y + i, op(tw_load(a + i), scalar));
  } else if (sa == 0 && sb == 1) {
    const v128_t scalar = wasm_v128_load32_splat(a);
    for (; i + 4 <= n; i += 4) tw_store(y + i, op(scalar, tw_load(b + i)));
  } else {
    for (; i + 4 <= n; i += 4)
      tw_store(y + i, op(gather(a + i * sa, sa, 4), gather(b + i * sb, sb, 4)));
  }
  if (i < n)
    tw_store_tail(y + i, op(gather(a + i * sa, sa, n - i), gather(b + i * sb, sb, n - i)), n - i);
}

TW_INLINE v128_t op_add(v128_t a, v128_t b) { return wasm_f32x4_add(a, b); }
TW_INLINE v128_t op_sub(v128_t a, v128_t b) { return wasm_f32x4_sub(a, b); }
TW_INLINE v128_t op_mul(v128_t a, v128_t b) { return wasm_f32x4_mul(a, b); }
TW_INLINE v128_t op_div(v128_t a, v128_t b) { return wasm_f32x4_div(a, b); }
TW_INLINE v128_t op_min(v128_t a, v128_t b) { return wasm_f32x4_min(a, b); }
TW_INLINE v128_t op_max(v128_t a, v128_t b) { return wasm_f32x4_max(a, b); }
TW_INLINE v128_t op_prelu(v128_t a, v128_t b) {
  return wasm_v128_bitselect(wasm_f32x4_mul(a, b), a, wasm_f32x4_lt(a, tw_splat(0.0f)));
}
TW_INLINE v128_t op_square(v128_t a, v128_t b) { return (void)b, wasm_f32x4_mul(a, a); }
TW_INLINE v128_t op_reciprocal(v128_t a, v128_t b) {
  return (void)b, wasm_f32x4_div(tw_splat(1.0f), a);
}
// pow(-inf, 0.5) is inf and pow(-0, 0.5) is 0, which sqrt says otherwise
TW_INLINE v128_t op_root(v128_t a, v128_t b) {
  (void)b;
  v128_t infinite = wasm_f32x4_eq(a, tw_splat(-__builtin_inff()));
  v128_t y = wasm_f32x4_sqrt(wasm_f32x4_add(a, tw_splat(0.0f)));
  return wasm_v128_bitselect(tw_splat(__builtin_inff()), y, infinite);
}

// One out-of-line function for each operation: code that V8 optimises piece by piece.
#define ROW(NAME)                                                                                \
  static __attribute__((noinline)) void row_##NAME(const float *a, uint32_t sa, const float *b,  \
                                                   uint32_t sb, float *y, uint32_t n) {          \
    row(op_##NAME, a, sa, b, sb, y, n);                                                          \
  }
ROW(add)
ROW(sub)
ROW(mul)
ROW(div)
ROW(min)
ROW(max)
ROW(prelu)
ROW(square)
ROW(reciprocal)
ROW(root)

static __attribute__((noinline)) void row_pow(const float *a, uint32_t sa, const float *b,
                                              uint32_t sb, float *y, uint32_t n) {
  if (sb == 0 && *b == 2.0f) return row_square(a, sa, b, 0, y, n);
  if (sb == 0 && *b == 0.5f) return row_root(a, sa, b, 0, y, n);
  if (sb == 0 && *b == -1.0f) return row_reciprocal(a, sa, b, 0, y, n);
  for (uint32_t i = 0; i < n; i += 4) {
    uint32_t k = n - i < 4 ? n - i : 4;
    v128_t v = tw_pow(gather(a + i * sa, sa, k), gather(b + i * sb, sb, k));
    if (k == 4) tw_store(y + i, v);
    else tw_store_tail(y + i, v, k);
  }
}

// Exact, by subtracting multiples of |b| whose quotient has at most 28 bits: products are exact in
// double precision.
static float fmod_one(float a, float b) {
  if (!(__builtin_fabsf(a) < __builtin_inff()) || b == 0.0f || b != b) return __builtin_nanf("");
  double x = __builtin_fabsf(a), y = __builtin_fabsf(b);
  if (y == __builtin_inff()) return a;
  while (x >= y) {
    double step = y;
    while (x >= step * 0x1p28) step *= 0x1p27;
    double q = __builtin_trunc(x / step);
    x -= q * step;
    if (x < 0) x += step;  // the quotient was rounded up to an integer
  }
  return __builtin_copysignf((float)x, a);
}
static float mod_one(float a, float b) {
  float rest = fmod_one(a, b);
  if (rest == 0) return __builtin_copysignf(0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}
TW_STRIDED_ROW(row_fmod, float, float, fmod_one)
TW_STRIDED_ROW(row_mod, float, float, mod_one)

static inline void row_of(elementwise_binary op, const float *a, uint32_t sa, const float *b,
                          uint32_t sb, float *y, uint32_t n) {
  switch (op) {
    case ELEMENTWISE_BINARY_ADD: row_add(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_SUB: row_sub(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_MUL: row_mul(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_DIV: row_div(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_MIN: row_min(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_MAX: row_max(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_POW: row_pow(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_FMOD: row_fmod(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_PRELU: row_prelu(a, sa, b, sb, y, n); break;
    case ELEMENTWISE_BINARY_MOD: row_mod(a, sa, b, sb, y, n); break;
  }
}

uint32_t f32_binary(const tw_dispatch *d, const tw_tile *t) {
  const binary_params *p = d->params;
  tw_span s;
  uint32_t status = tw_check_two(d, p->sizes, p->a_strides, p->b_strides, p->tile_elements, 4, 4,
                                 t->x, &s);
  if (status) return status;
  const float *a = TW_DATA(float, d, F32_BINARY_A), *b = TW_DATA(float, d, F32_BINARY_B);
  float *y = TW_DATA(float, d, F32_BINARY_Y);
  if (p->op > ELEMENTWISE_BINARY_MOD) return TW_INVALID_PARAMS;
  TW_FOR_RUNS(p, s, a, b, y, row_of);
  return TW_OK;
}
