// Weights of 4 or 8 bits in blocks of k, as ONNX has them: B is (n, blocks, block bits / 8 bytes), low
// bits first, so a column is a run of bytes that is read in order, and nothing is ever packed.
//
// 16 bytes are a unit, four lanes of 32 bits with `vectors` = 32 / bits numbers each: vector j of a
// unit has number j of each lane, so elements j, j + vectors, j + 2 vectors, j + 3 vectors of k. It
// comes out by a mask alone and is then too large by 2^(bits i), i being j modulo vectors / 2, for
// which the other factor makes up. Blocks of 16 numbers of 4 bits are units of 8 bytes, the other
// two lanes 0.
#ifndef TW_QUANT_BLOCKS_H
#define TW_QUANT_BLOCKS_H
#include <stdint.h>

#include "simd.h"

#define TW_BLOCK_MOST 512
#define TW_UNIT_MOST 8  // vectors

typedef struct tw_weights {
  const uint8_t *b, *zeros;
  const float *scales;
  uint64_t blocks;  // of a column
  uint32_t n, bits, block;
} tw_weights;

static inline int tw_block_valid(uint32_t bits, uint32_t block) {
  return (bits == 4 || bits == 8) && block >= 16 && block % 16 == 0 && block <= TW_BLOCK_MOST &&
         (bits == 8 || block % 32 == 0 || block == 16);
}

static inline uint32_t tw_block_bytes(uint32_t bits, uint32_t block) { return block * bits / 8; }
static inline uint32_t tw_block_units(uint32_t bits, uint32_t block) {
  return (tw_block_bytes(bits, block) + 15) / 16;
}

// Zero of a block of a column; the middle where there are none.
static inline uint32_t tw_block_zero(const uint8_t *zeros, uint32_t bits, uint64_t blocks,
                                     uint64_t column, uint64_t block) {
  if (!zeros) return 1u << (bits - 1);
  if (bits == 8) return zeros[column * blocks + block];
  return zeros[column * ((blocks + 1) / 2) + block / 2] >> block % 2 * 4 & 15;
}

// The masks of vectors. Hidden from Clang, which would write each as a constant where it is used:
// four instructions in V8.
typedef struct tw_masks {
  v128_t of[4];
} tw_masks;

TW_INLINE tw_masks tw_unit_masks(const int bits) {
  tw_masks m;
  for (int i = 0; i < 4; i++) {
    m.of[i] = wasm_i32x4_splat((bits == 4 ? 15 : 255) << bits * (i % (16 / bits)));
    __asm__("" : "+r"(m.of[i]));
  }
  return m;
}

// Vector j of a unit, of which `high` is what 16 bits shifted right makes; 2^(bits i) too large.
TW_INLINE v128_t tw_unit_vector(v128_t unit, v128_t high, const tw_masks *m, const int bits,
                                int j) {
  const int half = 16 / bits;
  return wasm_f32x4_convert_i32x4(wasm_v128_and(j < half ? unit : high, m->of[j % half]));
}

// 2^(-bits i) for vector j.
TW_INLINE float tw_unit_factor(const int bits, int j) {
  return 1.0f / (float)(1 << bits * (j % (16 / bits)));
}

// Lanes of four vectors exchanged: x[j] lane l is what x[l] lane j was.
TW_INLINE void tw_lanes_turned(v128_t x[4]) {
  v128_t low01 = wasm_i32x4_shuffle(x[0], x[1], 0, 4, 1, 5);
  v128_t low23 = wasm_i32x4_shuffle(x[2], x[3], 0, 4, 1, 5);
  v128_t high01 = wasm_i32x4_shuffle(x[0], x[1], 2, 6, 3, 7);
  v128_t high23 = wasm_i32x4_shuffle(x[2], x[3], 2, 6, 3, 7);
  x[0] = wasm_i64x2_shuffle(low01, low23, 0, 2);
  x[1] = wasm_i64x2_shuffle(low01, low23, 1, 3);
  x[2] = wasm_i64x2_shuffle(high01, high23, 0, 2);
  x[3] = wasm_i64x2_shuffle(high01, high23, 1, 3);
}

#endif
