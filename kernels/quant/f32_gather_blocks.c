// y[i, :] = (number - zero) scale of row indices[i] of a table of 4 or 8 bits in blocks along k.
//
// b       (rows, blocks, block bits / 8 bytes), low bits first; scales (rows, blocks); zeros (rows,
//         bytes of `blocks` numbers), optional
// indices (count) of i32 or i64; a negative one counts from the end
// y       (count, k)
// Tile: x = `tile_rows` of the result. Scratch: none. Nothing may alias.
#include "bindings.h"
#include "blocks.h"
#include "quant.h"

uint32_t f32_gather_blocks(const tw_dispatch *d, const tw_tile *t) {
  const gather_blocks_params *p = d->params;
  if (!tw_block_valid(p->bits, p->block) || p->tile_rows == 0 ||
      (p->index_size != 4 && p->index_size != 8))
    return TW_INVALID_PARAMS;
  uint64_t blocks = ((uint64_t)p->k + p->block - 1) / p->block, most = p->rows * blocks;
  uint64_t zero_bytes = p->bits == 8 ? blocks : (blocks + 1) / 2;
  uint32_t bytes = tw_block_bytes(p->bits, p->block);
  if (!tw_holds(d, F32_GATHER_BLOCKS_B, most, bytes) ||
      !tw_holds(d, F32_GATHER_BLOCKS_INDICES, p->count, p->index_size) ||
      !tw_holds(d, F32_GATHER_BLOCKS_SCALES, most, 4) ||
      (tw_present(d, F32_GATHER_BLOCKS_ZEROS) &&
       !tw_holds(d, F32_GATHER_BLOCKS_ZEROS, p->rows * zero_bytes, 1)) ||
      !tw_holds(d, F32_GATHER_BLOCKS_Y, (uint64_t)p->count * p->k, 4))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *zeros = tw_present(d, F32_GATHER_BLOCKS_ZEROS)
                             ? TW_DATA(const uint8_t, d, F32_GATHER_BLOCKS_ZEROS)
                             : 0;
  const int32_t *words = TW_DATA(const int32_t, d, F32_GATHER_BLOCKS_INDICES);
  const int64_t *longs = TW_DATA(const int64_t, d, F32_GATHER_BLOCKS_INDICES);
  tw_span span = tw_piece(t->x, p->tile_rows, p->count);
  for (uint32_t i = span.first; i < span.last; i++) {
    int64_t row = p->index_size == 4 ? words[i] : longs[i];
    if (row < 0) row += p->rows;
    if (row < 0 || row >= p->rows) return TW_INDEX_OUT_OF_RANGE;
    float *y = TW_DATA(float, d, F32_GATHER_BLOCKS_Y) + (uint64_t)i * p->k;
    for (uint32_t block = 0; block < blocks; block++) {
      uint64_t at = (uint64_t)row * blocks + block;
      const uint8_t *from = TW_DATA(const uint8_t, d, F32_GATHER_BLOCKS_B) + at * bytes;
      float scale = TW_DATA(const float, d, F32_GATHER_BLOCKS_SCALES)[at];
      int32_t zero = (int32_t)tw_block_zero(zeros, p->bits, blocks, (uint64_t)row, block);
      uint32_t left = p->k - block * p->block, n = left < p->block ? left : p->block;
      for (uint32_t j = 0; j < n; j++, y++) {
        int32_t number = p->bits == 8 ? from[j] : from[j / 2] >> j % 2 * 4 & 15;
        *y = (float)(number - zero) * scale;
      }
    }
  }
  return TW_OK;
}
