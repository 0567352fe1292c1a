// y[i] = a[i] op b[i] on integers of any size and on doubles, with broadcasting.
//
// Bindings: a, b (read through strides, aligned to their elements), y (dense; bytes 0 and 1 where op
// compares; may be a or b if those are dense and of its element size).
// Tile: x = tile_elements consecutive elements of y. Scratch: none.
//
// Pieces of a row are widened into a buffer, computed there and narrowed: small integers as int32,
// uint32 and int64 as int64. What wraps wraps the same in the wider type. One loop an operation and
// wide type is all there is, which the compiler turns into vectors.
#include "broadcast.h"
#include "numbers.h"

#define PIECE 256

typedef struct buffers {
  _Alignas(16) uint64_t a[PIECE];
  _Alignas(16) uint64_t b[PIECE];
  _Alignas(16) uint64_t y[PIECE];
} buffers;

// -- the operations, of one wide type --------------------------------------------------------------

#define EACH(OP, VALUE)                                                                          \
  case NUMBERS_OPERATION_##OP:                                                                   \
    _Pragma("clang loop vectorize(assume_safety)") for (uint32_t i = 0; i < n; i++) y[i] =       \
        VALUE;                                                                                   \
    break;

#define COMPARED                                                                                 \
  EACH(EQUAL, a[i] == b[i])                                                                      \
  EACH(LESS, a[i] < b[i])                                                                        \
  EACH(LESS_EQUAL, a[i] <= b[i])                                                                 \
  EACH(GREATER, a[i] > b[i])                                                                     \
  EACH(GREATER_EQUAL, a[i] >= b[i])

// S is whether T is signed. An unsigned type's -1 divides like any other number.
#define INTEGERS(NAME, T, U, S)                                                                  \
  static inline T NAME##_div(T a, T b) {                                                         \
    return b == 0 ? 0 : S && b == (T)-1 ? (T)(0 - (U)a) : a / b;                                 \
  }                                                                                              \
  static inline T NAME##_fmod(T a, T b) { return b == 0 || (S && b == (T)-1) ? 0 : a % b; }      \
  static inline T NAME##_mod(T a, T b) {                                                         \
    T r = NAME##_fmod(a, b);                                                                     \
    return S && r != 0 && (r < 0) != (b < 0) ? r + b : r;                                        \
  }                                                                                              \
  static __attribute__((noinline)) void NAME(numbers_operation op, const T *a, const T *b, T *y, \
                                             uint32_t n,                                         \
                                             uint32_t bits) {                                    \
    switch (op) {                                                                                \
      EACH(ADD, (T)((U)a[i] + (U)b[i]))                                                          \
      EACH(SUB, (T)((U)a[i] - (U)b[i]))                                                          \
      EACH(MUL, (T)((U)a[i] * (U)b[i]))                                                          \
      EACH(DIV, NAME##_div(a[i], b[i]))                                                          \
      EACH(LEAST, a[i] < b[i] ? a[i] : b[i])                                                     \
      EACH(LARGEST, a[i] > b[i] ? a[i] : b[i])                                                   \
      EACH(MOD, NAME##_mod(a[i], b[i]))                                                          \
      EACH(FMOD, NAME##_fmod(a[i], b[i]))                                                        \
      EACH(BITS_AND, a[i] & b[i])                                                                \
      EACH(BITS_OR, a[i] | b[i])                                                                 \
      EACH(BITS_XOR, a[i] ^ b[i])                                                                \
      EACH(SHIFT_LEFT, (U)b[i] < bits ? (T)((U)a[i] << (U)b[i]) : 0)                             \
      EACH(SHIFT_RIGHT, (U)b[i] < bits ? a[i] >> (U)b[i] : S && a[i] < 0 ? (T)-1 : 0)            \
      COMPARED                                                                                   \
    }                                                                                            \
  }
INTEGERS(of_i32, int32_t, uint32_t, 1)
INTEGERS(of_i64, int64_t, uint64_t, 1)
INTEGERS(of_u64, uint64_t, uint64_t, 0)

static __attribute__((noinline)) void of_f64(numbers_operation op, const double *a,
                                             const double *b, double *y, uint32_t n) {
  switch (op) {
    EACH(ADD, a[i] + b[i])
    EACH(SUB, a[i] - b[i])
    EACH(MUL, a[i] * b[i])
    EACH(DIV, a[i] / b[i])
    EACH(LEAST, a[i] < b[i] || a[i] != a[i] ? a[i] : b[i])
    EACH(LARGEST, a[i] > b[i] || a[i] != a[i] ? a[i] : b[i])
    COMPARED
    default: break;  // refused before
  }
}

// -- to the wide type and back ---------------------------------------------------------------------

#define WIDEN(NAME, FROM, TO)                                                                    \
  static __attribute__((noinline)) void NAME(const void *x, uint32_t stride, void *y,            \
                                             uint32_t n) {                                       \
    const FROM *restrict from = x;                                                               \
    TO *restrict to = y;                                                                         \
    if (stride == 1)                                                                             \
      for (uint32_t i = 0; i < n; i++) to[i] = (TO)from[i];                                      \
    else                                                                                         \
      for (uint32_t i = 0; i < n; i++) to[i] = (TO)from[(size_t)i * stride];                     \
  }
WIDEN(widen_i8, int8_t, int32_t)
WIDEN(widen_u8, uint8_t, int32_t)
WIDEN(widen_i16, int16_t, int32_t)
WIDEN(widen_u16, uint16_t, int32_t)
WIDEN(widen_i32, int32_t, int32_t)
WIDEN(widen_u32, uint32_t, uint64_t)
WIDEN(widen_eight, uint64_t, uint64_t)

#define NARROW(NAME, FROM, TO)                                                                   \
  static __attribute__((noinline)) void NAME(const void *x, void *y, uint32_t n) {               \
    const FROM *restrict from = x;                                                               \
    TO *restrict to = y;                                                                         \
    for (uint32_t i = 0; i < n; i++) to[i] = (TO)from[i];                                        \
  }
// The compiler narrows lane by lane.
static __attribute__((noinline)) void four_to_one(const void *x, void *y, uint32_t n) {
  const uint32_t *from = x;
  uint8_t *to = y;
  v128_t low = wasm_i32x4_splat(0xff);
  uint32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    v128_t v[4];
    for (int k = 0; k < 4; k++) v[k] = wasm_v128_and(wasm_v128_load(from + i + 4 * k), low);
    v128_t a = wasm_u16x8_narrow_i32x4(v[0], v[1]), b = wasm_u16x8_narrow_i32x4(v[2], v[3]);
    wasm_v128_store(to + i, wasm_u8x16_narrow_i16x8(a, b));
  }
  for (; i < n; i++) to[i] = (uint8_t)from[i];
}
NARROW(four_to_two, uint32_t, uint16_t)
NARROW(eight_to_one, uint64_t, uint8_t)
NARROW(eight_to_four, uint64_t, uint32_t)
NARROW(double_to_one, double, uint8_t)

static const uint8_t sizes[9] = {1, 1, 2, 2, 4, 4, 8, 8, 8};  // by numbers_number

static void widen(numbers_number kind, const void *x, uint32_t stride, void *y, uint32_t n) {
  switch (kind) {
    case NUMBERS_NUMBER_INT8: widen_i8(x, stride, y, n); break;
    case NUMBERS_NUMBER_UINT8: widen_u8(x, stride, y, n); break;
    case NUMBERS_NUMBER_INT16: widen_i16(x, stride, y, n); break;
    case NUMBERS_NUMBER_UINT16: widen_u16(x, stride, y, n); break;
    case NUMBERS_NUMBER_INT32: widen_i32(x, stride, y, n); break;
    case NUMBERS_NUMBER_UINT32: widen_u32(x, stride, y, n); break;
    default: widen_eight(x, stride, y, n);
  }
}

static void compute(numbers_number kind, numbers_operation op, const void *a, const void *b,
                    void *y, uint32_t n) {
  uint32_t bits = 8u * sizes[kind];
  if (kind == NUMBERS_NUMBER_FLOAT64)
    of_f64(op, a, b, y, n);
  else if (kind == NUMBERS_NUMBER_UINT64)
    of_u64(op, a, b, y, n, bits);
  else if (kind >= NUMBERS_NUMBER_UINT32)
    of_i64(op, a, b, y, n, bits);
  else
    of_i32(op, a, b, y, n, bits);
}

static void narrow(numbers_number kind, int compared, const void *x, void *y, uint32_t n) {
  if (compared && kind == NUMBERS_NUMBER_FLOAT64)
    double_to_one(x, y, n);
  else if (compared || sizes[kind] == 1)
    (kind >= NUMBERS_NUMBER_UINT32 ? eight_to_one : four_to_one)(x, y, n);
  else if (sizes[kind] == 2)
    four_to_two(x, y, n);
  else
    eight_to_four(x, y, n);
}

uint32_t number_pair(const tw_dispatch *d, const tw_tile *t) {
  const pair_params *p = d->params;
  if (p->kind > NUMBERS_NUMBER_FLOAT64 || p->op > NUMBERS_OPERATION_GREATER_EQUAL ||
      (p->kind == NUMBERS_NUMBER_FLOAT64 && p->op >= NUMBERS_OPERATION_MOD &&
       p->op < NUMBERS_OPERATION_EQUAL))
    return TW_INVALID_PARAMS;
  int compared = p->op >= NUMBERS_OPERATION_EQUAL;
  uint32_t size = sizes[p->kind], size_y = compared ? 1 : size;
  tw_span s;
  uint32_t status = tw_check_two(d, p->sizes, p->a_strides, p->b_strides, p->tile_elements, size,
                                 size_y, t->x, &s);
  if (status) return status;
  if (s.first >= s.last) return TW_OK;
  const uint8_t *a = TW_DATA(uint8_t, d, NUMBER_PAIR_A), *b = TW_DATA(uint8_t, d, NUMBER_PAIR_B);
  uint8_t *y = TW_DATA(uint8_t, d, NUMBER_PAIR_Y);
  const uint32_t *strides[2] = {p->a_strides, p->b_strides};
  uint32_t sa = p->a_strides[TW_RANK - 1], sb = p->b_strides[TW_RANK - 1];
  // What is wide already is computed where it lies.
  int wide = p->kind == NUMBERS_NUMBER_INT32 || p->kind >= NUMBERS_NUMBER_INT64;
  int a_lies = wide && sa == 1, b_lies = wide && sb == 1, y_lies = wide && !compared;
  buffers o;
  tw_walk walk;
  tw_walk_start(&walk, p->sizes, strides, 2, s.first, s.last);
  do {
    for (uint32_t i = 0; i < walk.length; i += PIECE) {
      uint32_t n = walk.length - i < PIECE ? walk.length - i : PIECE;
      const uint8_t *from_a = a + ((size_t)walk.offset[0] + (size_t)i * sa) * size;
      const uint8_t *from_b = b + ((size_t)walk.offset[1] + (size_t)i * sb) * size;
      uint8_t *to = y + ((size_t)walk.position + i) * size_y;
      if (!a_lies) widen(p->kind, from_a, sa, o.a, n);
      if (!b_lies) widen(p->kind, from_b, sb, o.b, n);
      compute(p->kind, p->op, a_lies ? (const void *)from_a : o.a,
              b_lies ? (const void *)from_b : o.b, y_lies ? (void *)to : o.y, n);
      if (!y_lies) narrow(p->kind, compared, o.y, to, n);
    }
  } while (tw_walk_next(&walk, p->sizes, strides, 2, s.last));
  return TW_OK;
}
