// The bytes that each output position of a convolution reads: y[c, i, j] is a line of positions,
//
//   y[n, c, i, j, oy, ox] = x[n, c, oy sh + i dh - top, ox sw + j dw - left], zero outside x
//
// x     (n, channels, height, width), dense;  zero  one byte, optional
// y     (n, channels, kh, kw, out_height, out_width), dense
// Tile: x = `tile_lines` lines, z = n. Scratch: none. Nothing may alias.
#include "bindings.h"
#include "quant.h"
#include "simd.h"

// Rows are short: V8 leaves wasm for memory.fill and memory.copy, which costs more than the bytes.
static void fill(uint8_t *to, uint8_t value, uint32_t count) {
  v128_t v = wasm_i8x16_splat((int8_t)value);
  for (; count >= 16; count -= 16, to += 16) wasm_v128_store(to, v);
  const volatile uint8_t byte = value;  // else Clang makes the loop a call of memset again
  while (count-- != 0) *to++ = byte;
}

static void copy(uint8_t *to, const uint8_t *from, uint32_t count) {
  for (; count >= 16; count -= 16, to += 16, from += 16) wasm_v128_store(to, wasm_v128_load(from));
  for (; count >= 4; count -= 4, to += 4, from += 4)
    wasm_v128_store32_lane(to, wasm_v128_load32_zero(from), 0);
  while (count-- != 0) *to++ = *from++;
}

// Outputs [first, last) of one row lie within x.
static void row(const columns_params *p, uint8_t *to, const uint8_t *x, uint8_t zero, int64_t left,
                uint32_t first, uint32_t last) {
  fill(to, zero, first);
  const uint8_t *from = x + ((int64_t)first * p->stride_width + left);
  if (p->stride_width == 1)
    copy(to + first, from, last - first);
  else
    for (uint32_t o = first; o < last; o++, from += p->stride_width) to[o] = *from;
  fill(to + last, zero, p->out_width - last);
}

static uint32_t clamp(int64_t x, uint32_t most) {
  return x < 0 ? 0 : x > most ? most : (uint32_t)x;
}

uint32_t u8_columns(const tw_dispatch *d, const tw_tile *t) {
  const columns_params *p = d->params;
  if (p->tile_lines == 0 || p->stride_height == 0 || p->stride_width == 0 ||
      d->binding_count != U8_COLUMNS_BINDINGS)
    return TW_INVALID_PARAMS;
  uint32_t sizes[TW_RANK] = {p->channels, p->kernel_height, p->kernel_width, p->out_height,
                             p->out_width, 1};
  uint64_t image = (uint64_t)p->channels * p->height * p->width, whole = tw_elements(sizes);
  if (whole == 0) return TW_OK;
  uint64_t taps = (uint64_t)p->kernel_height * p->kernel_width, lines = taps * p->channels;
  if (image > UINT32_MAX || whole > UINT32_MAX ||
      !tw_holds(d, U8_COLUMNS_X, (t->z + (uint64_t)1) * image, 1) ||
      !tw_holds(d, U8_COLUMNS_Y, (t->z + (uint64_t)1) * whole, 1))
    return TW_BINDING_TOO_SHORT;
  const uint8_t *x = TW_DATA(const uint8_t, d, U8_COLUMNS_X) + t->z * image;
  uint8_t *y = TW_DATA(uint8_t, d, U8_COLUMNS_Y) + t->z * whole;
  uint8_t zero = tw_present(d, U8_COLUMNS_ZERO) ? *TW_DATA(const uint8_t, d, U8_COLUMNS_ZERO) : 0;
  uint32_t plane = p->out_height * p->out_width;
  tw_span span = tw_piece(t->x, p->tile_lines, lines);
  for (uint32_t l = span.first; l < span.last; l++) {
    uint32_t channel = (uint32_t)(l / taps), i = (uint32_t)(l % taps) / p->kernel_width;
    uint32_t j = (uint32_t)(l % taps) % p->kernel_width;
    const uint8_t *from = x + (uint64_t)channel * p->height * p->width;
    uint8_t *to = y + (uint64_t)l * plane;
    // Positions o for which 0 <= o stride + left < width.
    int64_t left = (int64_t)j * p->dilation_width - p->pad_left, step = p->stride_width;
    uint32_t first = clamp(left >= 0 ? 0 : (step - 1 - left) / step, p->out_width);
    int64_t room = p->width - left;
    uint32_t last = clamp(room <= 0 ? 0 : (room + step - 1) / step, p->out_width);
    if (last < first) last = first;
    for (uint32_t o = 0; o < p->out_height; o++, to += p->out_width) {
      int64_t at = (int64_t)o * p->stride_height + (int64_t)i * p->dilation_height - p->pad_top;
      if (at < 0 || at >= p->height)
        fill(to, zero, p->out_width);
      else
        row(p, to, from + at * p->width, zero, left, first, last);
    }
  }
  return TW_OK;
}
