// Panels of weights of few bits: 8 columns, block after block of k, as quant.wit says.
#ifndef TW_QUANT_BLOCKS_H
#define TW_QUANT_BLOCKS_H
#include <stdint.h>

#define TW_BLOCK_HEAD 48  // 8 scales, 8 zeros, 8 unused bytes
#define TW_BLOCK_MOST 512

static inline int tw_block_valid(uint32_t bits, uint32_t block) {
  return (bits == 4 || bits == 8) && block >= 16 && block % 16 == 0 && block <= TW_BLOCK_MOST;
}

static inline uint64_t tw_block_bytes(uint32_t bits, uint32_t block) {
  return TW_BLOCK_HEAD + (uint64_t)block * bits;
}

#endif
