// Sums and products of numbers that bytes stand for, as bytes:
//
//   add  y = saturate(round(a ra + (b rb + fixed))),  ra = a_scale / y_scale, rb likewise,
//        fixed = y_zero - (ra a_zero + rb b_zero)
//   mul  y = saturate(round((a - a_zero) (b - b_zero) r + y_zero)),  r = a_scale b_scale / y_scale
//
// a, b, y  (count), u8 or i8 each;  scales f32 and zeros (of a's, b's and y's kind), one each
// Tile: x = `tile` bytes. Scratch: none. Nothing may alias.
//
// The formulas are onnxruntime's, step by step, so that where a half is near, both round it the same
// way; its sums are fused where the CPU can, as ours are in the relaxed build.
#include "bindings.h"
#include "quant.h"
#include "requantise.h"

typedef struct side {
  const uint8_t *bytes;
  float scale;
  int32_t zero;
  int is_signed;
} side;

static int32_t number(uint8_t byte, int is_signed) { return is_signed ? (int8_t)byte : byte; }

static side side_of(const tw_dispatch *d, uint32_t first, int is_signed) {
  return (side){TW_DATA(const uint8_t, d, first), *TW_DATA(const float, d, first + 1),
                number(*TW_DATA(const uint8_t, d, first + 2), is_signed), is_signed};
}

// What both formulas need, in all lanes.
typedef struct pairing {
  v128_t a_factor, b_factor, fixed;  // of a sum
  v128_t a_zero, b_zero, factor, y_zero;  // of a product: i16, i16, f32, f32
  int a_signed, b_signed;
  tw_requantiser q;
} pairing;

static pairing pairing_of(const side *a, const side *b, float y_scale, int32_t y_zero) {
  pairing p = {.a_factor = tw_splat(a->scale / y_scale), .b_factor = tw_splat(b->scale / y_scale),
               .a_zero = wasm_i16x8_splat((int16_t)a->zero),
               .b_zero = wasm_i16x8_splat((int16_t)b->zero),
               .factor = tw_splat(a->scale * b->scale / y_scale),
               .y_zero = tw_splat((float)y_zero),
               .a_signed = a->is_signed, .b_signed = b->is_signed};
  v128_t moved = wasm_f32x4_mul(p.b_factor, tw_splat((float)b->zero));
  moved = tw_madd(p.a_factor, tw_splat((float)a->zero), moved);
  p.fixed = wasm_f32x4_sub(p.y_zero, moved);
  return p;
}

// 16 bytes less `zero` (i16) as numbers.
TW_INLINE void open(v128_t bytes, int is_signed, v128_t zero, v128_t to[4]) {
  v128_t low, high;
  if (is_signed)
    low = wasm_i16x8_extend_low_i8x16(bytes), high = wasm_i16x8_extend_high_i8x16(bytes);
  else
    low = wasm_u16x8_extend_low_u8x16(bytes), high = wasm_u16x8_extend_high_u8x16(bytes);
  low = wasm_i16x8_sub(low, zero), high = wasm_i16x8_sub(high, zero);
  to[0] = wasm_i32x4_extend_low_i16x8(low), to[1] = wasm_i32x4_extend_high_i16x8(low);
  to[2] = wasm_i32x4_extend_low_i16x8(high), to[3] = wasm_i32x4_extend_high_i16x8(high);
  for (int q = 0; q < 4; q++) to[q] = wasm_f32x4_convert_i32x4(to[q]);
}

TW_INLINE v128_t paired(const pairing *p, v128_t x, v128_t y, quant_pairing kind) {
  v128_t u[4], v[4], none = wasm_i16x8_splat(0);
  open(x, p->a_signed, kind == QUANT_PAIRING_ADD ? none : p->a_zero, u);
  open(y, p->b_signed, kind == QUANT_PAIRING_ADD ? none : p->b_zero, v);
  for (int i = 0; i < 4; i++) {
    v128_t z;
    if (kind == QUANT_PAIRING_ADD)
      z = tw_madd(u[i], p->a_factor, tw_madd(v[i], p->b_factor, p->fixed));
    else
      z = wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_mul(u[i], v[i]), p->factor), p->y_zero);
    u[i] = tw_round_4(&p->q, z);
  }
  v128_t low = wasm_i16x8_narrow_i32x4(u[0], u[1]), high = wasm_i16x8_narrow_i32x4(u[2], u[3]);
  return p->q.is_signed ? wasm_i8x16_narrow_i16x8(low, high) : wasm_u8x16_narrow_i16x8(low, high);
}

static void copy(uint8_t *to, const uint8_t *from, uint32_t n) {
  const volatile uint8_t *bytes = from;  // else it is a call of memcpy
  for (uint32_t i = 0; i < n; i++) to[i] = bytes[i];
}

uint32_t i8_pair(const tw_dispatch *d, const tw_tile *t) {
  const pair_params *p = d->params;
  if (p->tile == 0 || p->pairing > QUANT_PAIRING_MUL || d->binding_count != I8_PAIR_BINDINGS)
    return TW_INVALID_PARAMS;
  if (!tw_holds(d, I8_PAIR_A, p->count, 1) || !tw_holds(d, I8_PAIR_B, p->count, 1) ||
      !tw_holds(d, I8_PAIR_Y, p->count, 1) || !tw_holds(d, I8_PAIR_A_SCALE, 1, 4) ||
      !tw_holds(d, I8_PAIR_B_SCALE, 1, 4) || !tw_holds(d, I8_PAIR_Y_SCALE, 1, 4) ||
      !tw_holds(d, I8_PAIR_A_ZERO, 1, 1) || !tw_holds(d, I8_PAIR_B_ZERO, 1, 1) ||
      !tw_holds(d, I8_PAIR_Y_ZERO, 1, 1))
    return TW_BINDING_TOO_SHORT;
  side a = side_of(d, I8_PAIR_A, p->a_signed != 0), b = side_of(d, I8_PAIR_B, p->b_signed != 0);
  int is_signed = p->y_signed != 0;
  int32_t zero = number(*TW_DATA(const uint8_t, d, I8_PAIR_Y_ZERO), is_signed);
  pairing made = pairing_of(&a, &b, *TW_DATA(const float, d, I8_PAIR_Y_SCALE), zero);
  made.q = tw_requantiser_of(0, p->least, p->most, is_signed);
  uint8_t *y = TW_DATA(uint8_t, d, I8_PAIR_Y);
  tw_span span = tw_piece(t->x, p->tile, p->count);
  uint32_t i = span.first;
  for (; i + 16 <= span.last; i += 16)
    wasm_v128_store(y + i, paired(&made, wasm_v128_load(a.bytes + i), wasm_v128_load(b.bytes + i),
                                  p->pairing));
  if (i == span.last) return TW_OK;
  uint8_t some[3][16] = {{0}};
  copy(some[0], a.bytes + i, span.last - i);
  copy(some[1], b.bytes + i, span.last - i);
  wasm_v128_store(some[2],
                  paired(&made, wasm_v128_load(some[0]), wasm_v128_load(some[1]), p->pairing));
  copy(y + i, some[2], span.last - i);
  return TW_OK;
}
