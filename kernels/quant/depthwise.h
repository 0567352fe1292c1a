// Blocks of 16 channels of a depthwise convolution of bytes: int32 sums[16], then for each pair of
// taps int16 (16 channels, 2), the weights less their zero. An odd last tap is paired with zeros.
#ifndef TW_QUANT_DEPTHWISE_H
#define TW_QUANT_DEPTHWISE_H
#include "simd.h"

#define TW_LANES 16

static inline uint64_t tw_block_bytes(uint64_t taps) { return 64 + (taps + 1) / 2 * 64; }

// The last block repeats channels where there are 16 at all.
static inline uint32_t tw_block_first(uint32_t block, uint32_t channels) {
  uint32_t first = block * TW_LANES, last = channels > TW_LANES ? channels - TW_LANES : 0;
  return first < last ? first : last;
}

#endif
