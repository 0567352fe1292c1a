// A packed panel: 8 columns of B, the second operand of every product of bytes.
//
//   tw_head | room for weights, 32 bytes for each four steps of k | offsets, u16, one for each
//
// The columns' bytes are i8; a u8 matrix is moved by -128, and so is its zero. kp is k rounded up
// to a multiple of 8, filled with zeros. The panel's form says in which order the weights are:
//
//   WIDE      (kp / 2, 8, 2)  products of 16 bits, i32x4.dot_i16x8_s: exact on every engine
//   PAIRS     (fours, 8, 4)   pairs of byte products, added up in 16 bits: fours of steps of k in
//                             an order of their own, each with the offset of its bytes in a row of
//                             A. First the `twos`, two by two, whose products may be added over
//                             all eight steps; then those that would saturate beyond four
//   UNSIGNED  (kp / 4, 8, 4)  i32x4.relaxed_dot where its second operand is all of u8
//   SIGNED    (kp / 4, 8, 4)  the same where its second operand is all of i8
//
// A four of PAIRS that saturates by itself, because two neighbours in a column are too large
// together, has its steps in another order, (0, 2, 1, 3) or (0, 3, 2, 1), and finds A's bytes so in
// a copy of the row, kp or 2 kp behind it; such a panel is `turned`. One that saturates in all three
// orders, or is among few in its panel, is there twice, its weights divided between the two.
//
// A's bytes are made u8 for all forms but SIGNED, where they are i8.
#ifndef TW_QUANT_PANEL_H
#define TW_QUANT_PANEL_H
#include <stddef.h>
#include <stdint.h>

#include "simd.h"

#define TW_COLUMNS 8
#define TW_GROUP 8  // k is padded to a multiple of this

typedef enum tw_form { TW_FORM_WIDE, TW_FORM_PAIRS, TW_FORM_UNSIGNED, TW_FORM_SIGNED } tw_form;

typedef struct tw_head {
  int32_t sums[TW_COLUMNS];  // of each column, of the bytes as they are packed
  uint32_t form;
  uint32_t fours, twos;  // of PAIRS; 2 twos <= fours
  uint32_t turned;
  uint32_t unused[4];
} tw_head;

static inline uint64_t tw_padded(uint32_t k) {
  return ((uint64_t)k + TW_GROUP - 1) / TW_GROUP * TW_GROUP;
}

// 16 bytes in the orders of the two copies; each is its own inverse.
TW_INLINE v128_t tw_turned_once(v128_t x) {
  return wasm_i8x16_shuffle(x, x, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
}
TW_INLINE v128_t tw_turned_twice(v128_t x) {
  return wasm_i8x16_shuffle(x, x, 0, 3, 2, 1, 4, 7, 6, 5, 8, 11, 10, 9, 12, 15, 14, 13);
}

// Most fours of a panel; one that needs more is WIDE. Few filters of few weights need most.
static inline uint64_t tw_most_fours(uint32_t k) {
  uint64_t fours = tw_padded(k) / 4;
  return fours + fours / 10 + 8;
}

// Offsets are read 8 at a time.
static inline uint64_t tw_offsets_length(uint32_t k) { return (tw_most_fours(k) + 7) / 8 * 8; }

static inline uint64_t tw_panel_bytes(uint32_t k) {
  return sizeof(tw_head) + tw_most_fours(k) * 4 * TW_COLUMNS + tw_offsets_length(k) * 2;
}

static inline const uint16_t *tw_offsets(const tw_head *head, uint32_t k) {
  return (const uint16_t *)((const uint8_t *)(head + 1) + tw_most_fours(k) * 4 * TW_COLUMNS);
}

#endif
