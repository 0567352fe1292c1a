// The largest byte of each window, channel by channel; the kernels say whether bytes are signed.
//
// x  (n, d, h, w, channels), pixels `x_pixel` bytes apart;  y likewise. Nothing may alias.
// Tile: x = `tile_channels` channels, y = `tile_rows` rows of output pixels. Scratch: none.
// A window without any place inside the input is the least byte.
#ifndef TW_POOL_BYTE_POOL_H
#define TW_POOL_BYTE_POOL_H
#include "pool.h"
#include "space.h"

TW_INLINE void byte_window(const uint8_t *x, uint8_t *y, tw_span part, const taps at[3],
                           const size_t step[3], int is_signed) {
  uint32_t c = part.first, width = 16;
  uint8_t least = is_signed ? 0x80 : 0;
  for (; c < part.last; c += width) {
    if (part.last - c < 16) width = 1;
    v128_t wide = wasm_i8x16_splat((int8_t)least);
    uint8_t single = least;
    for (uint32_t d = at[0].first; d < at[0].last; d++)
      for (uint32_t h = at[1].first; h < at[1].last; h++) {
        const uint8_t *from = x + d * step[0] + h * step[1] + at[2].first * step[2] + c;
        for (uint32_t w = at[2].first; w < at[2].last; w++, from += step[2]) {
          if (width == 16) {
            v128_t v = wasm_v128_load(from);
            wide = is_signed ? wasm_i8x16_max(wide, v) : wasm_u8x16_max(wide, v);
          } else if (is_signed ? (int8_t)*from > (int8_t)single : *from > single) {
            single = *from;
          }
        }
      }
    if (width == 16)
      wasm_v128_store(y + c, wide);
    else
      y[c] = single;
  }
}

TW_INLINE uint32_t byte_max_pool(const tw_dispatch *d, const tw_tile *t, int is_signed) {
  const max_pool_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_rows == 0 || p->tile_channels == 0 || !space_valid(&s)) return TW_INVALID_PARAMS;
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  if (!tw_holds(d, U8_MAX_POOL_X, pixels_reach(inputs, p->x_pixel, p->channels), 1) ||
      !tw_holds(d, U8_MAX_POOL_Y, pixels_reach(pixels, p->y_pixel, p->channels), 1))
    return TW_BINDING_TOO_SHORT;
  if (pixels == 0) return TW_OK;
  uint32_t width = p->output[2];
  size_t line = (size_t)p->input[2] * p->x_pixel, plane = line * p->input[1];
  size_t step[3] = {plane * p->dilation[0], line * p->dilation[1],
                    (size_t)p->x_pixel * p->dilation[2]};
  tw_span part = tw_piece(t->x, p->tile_channels, p->channels);
  tw_span rows = tw_piece(t->y, p->tile_rows, pixels / width);
  for (uint32_t number = rows.first; number < rows.last; number++) {
    place at = place_of_row(&s, number);
    taps inside[3] = {taps_of(&s, 0, at.d), taps_of(&s, 1, at.h), {0, 0, 0}};
    const uint8_t *x = TW_DATA(uint8_t, d, U8_MAX_POOL_X) + (size_t)at.image * p->input[0] * plane +
                       (ptrdiff_t)inside[0].at * (ptrdiff_t)plane +
                       (ptrdiff_t)inside[1].at * (ptrdiff_t)line;
    uint8_t *y = TW_DATA(uint8_t, d, U8_MAX_POOL_Y) + (size_t)number * width * p->y_pixel;
    for (uint32_t i = 0; i < width; i++, y += p->y_pixel) {
      inside[2] = taps_of(&s, 2, i);
      byte_window(x + (ptrdiff_t)inside[2].at * p->x_pixel, y, part, inside, step, is_signed);
    }
  }
  return TW_OK;
}

#endif
