// y = saturate(round(pairing((a - a_zero) a_scale, (b - b_zero) b_scale) / y_scale) + y_zero) of bytes.
//
// a, b, y  (count), u8 or i8 each;  scales f32 and zeros (of a's, b's and y's kind), one each
// Tile: x = `tile` bytes. Scratch: none. Nothing may alias.
//
// Each product, the sum and the quotient are rounded, as they are where the three steps are three
// operations in single precision.
#include "bindings.h"
#include "quant.h"
#include "requantise.h"

typedef struct side {
  const uint8_t *bytes;
  v128_t zero, scale;  // i16, f32
  int is_signed;
} side;

static side side_of(const tw_dispatch *d, uint32_t first, int is_signed) {
  uint8_t zero = *TW_DATA(const uint8_t, d, first + 2);
  return (side){TW_DATA(const uint8_t, d, first),
                wasm_i16x8_splat(is_signed ? (int8_t)zero : zero),
                wasm_f32x4_splat(*TW_DATA(const float, d, first + 1)), is_signed};
}

// 16 bytes as numbers.
TW_INLINE void open(const side *s, v128_t bytes, v128_t to[4]) {
  v128_t low, high;
  if (s->is_signed)
    low = wasm_i16x8_extend_low_i8x16(bytes), high = wasm_i16x8_extend_high_i8x16(bytes);
  else
    low = wasm_u16x8_extend_low_u8x16(bytes), high = wasm_u16x8_extend_high_u8x16(bytes);
  low = wasm_i16x8_sub(low, s->zero), high = wasm_i16x8_sub(high, s->zero);
  to[0] = wasm_i32x4_extend_low_i16x8(low), to[1] = wasm_i32x4_extend_high_i16x8(low);
  to[2] = wasm_i32x4_extend_low_i16x8(high), to[3] = wasm_i32x4_extend_high_i16x8(high);
  for (int q = 0; q < 4; q++) to[q] = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(to[q]), s->scale);
}

TW_INLINE v128_t paired(const side *a, const side *b, v128_t x, v128_t y, quant_pairing pairing,
                        v128_t y_scale, const tw_requantiser *q) {
  v128_t u[4], v[4];
  open(a, x, u);
  open(b, y, v);
  for (int i = 0; i < 4; i++) {
    v128_t z = pairing == QUANT_PAIRING_ADD ? wasm_f32x4_add(u[i], v[i]) : wasm_f32x4_mul(u[i], v[i]);
    u[i] = tw_round_4(q, wasm_f32x4_div(z, y_scale));
  }
  v128_t low = wasm_i16x8_narrow_i32x4(u[0], u[1]), high = wasm_i16x8_narrow_i32x4(u[2], u[3]);
  return q->is_signed ? wasm_i8x16_narrow_i16x8(low, high) : wasm_u8x16_narrow_i16x8(low, high);
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
  uint8_t zero = *TW_DATA(const uint8_t, d, I8_PAIR_Y_ZERO);
  int is_signed = p->y_signed != 0;
  tw_requantiser q =
      tw_requantiser_of(is_signed ? (int8_t)zero : zero, p->least, p->most, is_signed);
  v128_t y_scale = wasm_f32x4_splat(*TW_DATA(const float, d, I8_PAIR_Y_SCALE));
  uint8_t *y = TW_DATA(uint8_t, d, I8_PAIR_Y);
  tw_span span = tw_piece(t->x, p->tile, p->count);
  uint32_t i = span.first;
  for (; i + 16 <= span.last; i += 16)
    wasm_v128_store(y + i, paired(&a, &b, wasm_v128_load(a.bytes + i), wasm_v128_load(b.bytes + i),
                                  p->pairing, y_scale, &q));
  if (i == span.last) return TW_OK;
  uint8_t some[3][16] = {{0}};
  copy(some[0], a.bytes + i, span.last - i);
  copy(some[1], b.bytes + i, span.last - i);
  wasm_v128_store(some[2], paired(&a, &b, wasm_v128_load(some[0]), wasm_v128_load(some[1]),
                                  p->pairing, y_scale, &q));
  copy(y + i, some[2], span.last - i);
  return TW_OK;
}
