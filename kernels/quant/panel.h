// A packed panel: 8 columns of B, the second operand of every product of bytes.
//
//   tw_head | kp * 8 bytes of weights | order, u32 | rest indices, u32 | rest blocks, 32 bytes each
//
// The columns' bytes are i8; a u8 matrix is moved by -128, and so is its zero. kp is k rounded up
// to a multiple of 8, filled with zeros. Which order the weights have, and whether anything lies in
// the rest, is the panel's form:
//
//   WIDE      (kp / 2, 8, 2)  products of 16 bits, i32x4.dot_i16x8_s: exact on every engine
//   PAIRS     (kp / 8, 2, 8, 4)  pairs of byte products, added up in 16 bits: fours of steps of k,
//                             two by two, in an order of their own. First the `twos`, whose products
//                             may be added over all eight steps, then those that saturate beyond
//                             four. What would saturate even so is cut off, to the rest
//   UNSIGNED  (kp / 4, 8, 4)  i32x4.relaxed_dot where its second operand is all of u8
//   SIGNED    (kp / 4, 8, 4)  the same where its second operand is all of i8
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
  uint32_t rest;  // blocks: 4 steps of k each, (2, 8, 2) as in WIDE
  uint32_t twos;
  uint32_t unused[5];
} tw_head;

static inline uint64_t tw_padded(uint32_t k) {
  return ((uint64_t)k + TW_GROUP - 1) / TW_GROUP * TW_GROUP;
}

// Most blocks of the rest; a panel that needs more becomes WIDE.
static inline uint64_t tw_most_rest(uint32_t k) { return (tw_padded(k) / 256 + 1) * 4; }

static inline uint64_t tw_order_length(uint32_t k) { return (tw_padded(k) / 8 + 3) / 4 * 4; }

static inline uint64_t tw_panel_bytes(uint32_t k) {
  return sizeof(tw_head) + tw_padded(k) * TW_COLUMNS + tw_order_length(k) * 4 +
         tw_most_rest(k) * (4 + 32);
}

// Of PAIRS, for each two fours as they lie: which fours of k they are, the first in the low half.
static inline const uint32_t *tw_order(const tw_head *head, uint32_t k) {
  return (const uint32_t *)((const uint8_t *)(head + 1) + tw_padded(k) * TW_COLUMNS);
}

static inline const uint32_t *tw_rest_indices(const tw_head *head, uint32_t k) {
  return tw_order(head, k) + tw_order_length(k);
}

static inline const int8_t *tw_rest_blocks(const tw_head *head, uint32_t k) {
  return (const int8_t *)(tw_rest_indices(head, k) + tw_most_rest(k));
}

#endif
