// w (channels, taps) bytes, less its zero, to the blocks of depthwise.h.
//
// w       dense;  w_zero  one, or (channels), optional
// packed  ceil(channels / 16) blocks; 16 bytes
// Tile: x = `tile_blocks` blocks. Scratch: none.
#include "bindings.h"
#include "depthwise.h"
#include "quant.h"

static int32_t number(const uint8_t *from, int is_signed) {
  return is_signed ? (int8_t)*from : *from;
}

uint32_t i8_depthwise_pack(const tw_dispatch *d, const tw_tile *t) {
  const depthwise_pack_params *p = d->params;
  if (p->tile_blocks == 0 || d->binding_count != I8_DEPTHWISE_PACK_BINDINGS)
    return TW_INVALID_PARAMS;
  const tw_binding *zero = &d->bindings[I8_DEPTHWISE_PACK_W_ZERO];
  uint64_t blocks = ((uint64_t)p->channels + TW_LANES - 1) / TW_LANES;
  uint64_t bytes = tw_block_bytes(p->taps);
  if (!tw_holds(d, I8_DEPTHWISE_PACK_W, (uint64_t)p->channels * p->taps, 1) ||
      bytes > UINT32_MAX || !tw_holds(d, I8_DEPTHWISE_PACK_PACKED, blocks, (uint32_t)bytes) ||
      (zero->length > 1 && zero->length < p->channels))
    return TW_BINDING_TOO_SHORT;
  tw_span span = tw_piece(t->x, p->tile_blocks, blocks);
  for (uint32_t block = span.first; block < span.last; block++) {
    int32_t *sums = (int32_t *)(TW_DATA(uint8_t, d, I8_DEPTHWISE_PACK_PACKED) + block * bytes);
    int16_t *to = (int16_t *)(sums + TW_LANES);
    uint32_t first = tw_block_first(block, p->channels);
    for (uint32_t j = 0; j < TW_LANES; j++) {
      uint32_t channel = first + j;
      int there = channel < p->channels;
      int32_t moved = 0, sum = 0;
      if (there && zero->length)
        moved = number((const uint8_t *)zero->data + (zero->length > 1 ? channel : 0), p->w_signed);
      const uint8_t *from = TW_DATA(const uint8_t, d, I8_DEPTHWISE_PACK_W) + (size_t)channel * p->taps;
      for (uint32_t i = 0; i < p->taps + p->taps % 2; i++) {
        int32_t weight = there && i < p->taps ? number(from + i, p->w_signed) - moved : 0;
        to[i / 2 * 2 * TW_LANES + 2 * j + i % 2] = (int16_t)weight;
        sum += weight;
      }
      sums[j] = sum;
    }
  }
  return TW_OK;
}
