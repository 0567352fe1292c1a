// Weights of 4 or 8 bits in blocks of k to panels of 8 columns; quant.wit has both layouts.
//
// Tile: x = `tile_panels` panels. Scratch: none. Nothing may alias. Columns beyond n have scale 0.
#include "bindings.h"
#include "blocks.h"
#include "quant.h"

uint32_t f32_gemm_blocks_pack(const tw_dispatch *d, const tw_tile *t) {
  const blocks_pack_params *p = d->params;
  if (!tw_block_valid(p->bits, p->block) || p->tile_panels == 0 ||
      d->binding_count != F32_GEMM_BLOCKS_PACK_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t blocks = ((uint64_t)p->k + p->block - 1) / p->block;
  uint64_t panels = ((uint64_t)p->n + 7) / 8, each = tw_block_bytes(p->bits, p->block);
  uint64_t blob = (uint64_t)p->block * p->bits / 8, zero_bytes = (blocks * p->bits + 7) / 8;
  if (!tw_holds(d, F32_GEMM_BLOCKS_PACK_B, p->n * blocks * blob, 1) ||
      !tw_holds(d, F32_GEMM_BLOCKS_PACK_SCALES, p->n * blocks, 4) ||
      (tw_present(d, F32_GEMM_BLOCKS_PACK_ZEROS) &&
       !tw_holds(d, F32_GEMM_BLOCKS_PACK_ZEROS, p->n * zero_bytes, 1)) ||
      !tw_holds(d, F32_GEMM_BLOCKS_PACK_PACKED, panels * blocks * each, 1))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *b = TW_DATA(const uint8_t, d, F32_GEMM_BLOCKS_PACK_B);
  const float *scales = TW_DATA(const float, d, F32_GEMM_BLOCKS_PACK_SCALES);
  const uint8_t *zeros = tw_present(d, F32_GEMM_BLOCKS_PACK_ZEROS)
                             ? TW_DATA(const uint8_t, d, F32_GEMM_BLOCKS_PACK_ZEROS)
                             : 0;
  tw_span span = tw_piece(t->x, p->tile_panels, panels);
  for (uint32_t panel = span.first; panel < span.last; panel++)
    for (uint32_t block = 0; block < blocks; block++) {
      uint8_t *to = TW_DATA(uint8_t, d, F32_GEMM_BLOCKS_PACK_PACKED) +
                    (panel * blocks + block) * each;
      for (uint32_t j = 0; j < 8; j++) {
        uint64_t column = (uint64_t)panel * 8 + j;
        int there = column < p->n;
        uint64_t at = column * blocks + block;
        uint8_t zero = (uint8_t)(1 << (p->bits - 1));
        if (there && zeros && p->bits == 8) zero = zeros[at];
        if (there && zeros && p->bits == 4)
          zero = zeros[column * zero_bytes + block / 2] >> block % 2 * 4 & 15;
        ((float *)to)[j] = there ? scales[at] : 0;
        to[32 + j] = zero;
        to[40 + j] = 0;
        const uint8_t *from = b + at * blob;
        for (uint32_t i = 0; i < blob; i++) to[TW_BLOCK_HEAD + i * 8 + j] = there ? from[i] : zero;
      }
    }
  return TW_OK;
}
