// One filter a channel: y = x * w of bytes, channels last, and what follows: scales, bias, activation,
// residual, or bytes again.
//
// x         (n, d, h, w, channels) bytes, pixels `x_pixel` apart
// packed    blocks of 16 channels as i8_depthwise_pack writes them (depthwise.h), or one for all; 16
//           bytes
// x_zero, x_scale, y_scale, y_zero  one each;  w_scale  one, or (channels)
// bias      (channels): f32, or i32 for targets of bytes
// y         (n, d, h, w, channels), pixels `y_pixel` apart;  residual as y, f32
// Tile: y = `tile_pixels` rows of output pixels. Scratch: quant.wit.
//
// Two taps of 16 channels are put side by side, widened and multiplied by i32x4.dot_i16x8_s: exact,
// 16 instructions for 32 products. What lies in the padding is read from a line of x's zero, so all
// windows are alike: addresses of their taps, which move along together where nothing is cut off.
#include "depthwise.h"
#include "activation.h"
#include "bindings.h"
#include "quant.h"
#include "requantise.h"
#include "space.h"

#define UNROLLED _Pragma("clang loop unroll(full)")

typedef struct line {
  const conv_params *p;
  const uint8_t *packed;
  uint32_t channels, pairs, block_bytes;
  // Of all channels, in scratch: where sums begin, what they are multiplied by, floats' bias, and a
  // pixel of padding.
  int32_t *start;
  float *factor, *bias;
  uint8_t *padding;
  uint32_t *at, *step;  // addresses of the taps of a window, and how they move
  tw_requantiser q;
} line;

// n bytes, the others 0.
static v128_t load_some(const uint8_t *from, uint32_t n) {
  uint8_t bytes[TW_LANES] = {0};
  for (uint32_t i = 0; i < n; i++) bytes[i] = from[i];
  return wasm_v128_load(bytes);
}

static void store_some(void *to, const v128_t *from, uint32_t bytes) {
  uint8_t all[64];
  for (uint32_t i = 0; i < (bytes + 15) / 16; i++) wasm_v128_store(all + 16 * i, from[i]);
  for (uint32_t i = 0; i < bytes; i++) ((uint8_t *)to)[i] = all[i];
}

// sums[16] of the channels from `c` on, of `lanes` of them where that is a constant less than 16.
TW_INLINE void add_taps(const line *l, const uint8_t *weights, uint32_t c, uint32_t pairs,
                        uint32_t lanes, int is_signed, v128_t sum[4]) {
  const uint32_t *at = l->at;
  for (uint32_t i = 0; i < pairs; i++, weights += 64) {
    const uint8_t *first = (const uint8_t *)(uintptr_t)at[2 * i] + c;
    const uint8_t *second = (const uint8_t *)(uintptr_t)at[2 * i + 1] + c;
    v128_t x = lanes == TW_LANES ? wasm_v128_load(first) : load_some(first, lanes);
    v128_t y = lanes == TW_LANES ? wasm_v128_load(second) : load_some(second, lanes);
    v128_t low = wasm_i8x16_shuffle(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    v128_t high = wasm_i8x16_shuffle(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                     31);
    v128_t wide[4];
    if (is_signed) {
      wide[0] = wasm_i16x8_extend_low_i8x16(low), wide[1] = wasm_i16x8_extend_high_i8x16(low);
      wide[2] = wasm_i16x8_extend_low_i8x16(high), wide[3] = wasm_i16x8_extend_high_i8x16(high);
    } else {
      wide[0] = wasm_u16x8_extend_low_u8x16(low), wide[1] = wasm_u16x8_extend_high_u8x16(low);
      wide[2] = wasm_u16x8_extend_low_u8x16(high), wide[3] = wasm_u16x8_extend_high_u8x16(high);
    }
    UNROLLED for (int q = 0; q < 4; q++)
      sum[q] = wasm_i32x4_add(
          sum[q], wasm_i32x4_dot_i16x8(wide[q], wasm_v128_load(weights + 16 * q)));
  }
}

// Whether to inline it is left to the compiler, for `window` is unrolled.
static v128_t activated(v128_t x, quant_activation activation) {
  return tw_quant_activate(x, activation);
}

// The window whose taps are at l->at, all channels, to `y`.
TW_INLINE void window(const line *l, uint8_t *y, const float *residual, uint32_t pairs,
                      int is_signed, int is_bytes) {
  const conv_params *p = l->p;
  const uint8_t *block = l->packed;
  uint32_t channels = l->channels, blocks = (channels + TW_LANES - 1) / TW_LANES;
  for (uint32_t n = 0; n < blocks; n++, block += l->block_bytes) {
    uint32_t c = tw_block_first(n, channels), lanes = channels < TW_LANES ? channels : TW_LANES;
    v128_t sum[4];
    UNROLLED for (int q = 0; q < 4; q++) sum[q] = wasm_v128_load(l->start + c + 4 * q);
    if (lanes == TW_LANES)
      add_taps(l, block + 64, c, pairs, TW_LANES, is_signed, sum);
    else
      add_taps(l, block + 64, c, pairs, lanes, is_signed, sum);
    const float *factor = l->factor + c;
    if (is_bytes) {
      UNROLLED for (int q = 0; q < 4; q++)
        sum[q] = tw_requantise_4(&l->q, sum[q], tw_load(factor + 4 * q));
      v128_t low = wasm_i16x8_narrow_i32x4(sum[0], sum[1]);
      v128_t high = wasm_i16x8_narrow_i32x4(sum[2], sum[3]);
      low = l->q.is_signed ? wasm_i8x16_narrow_i16x8(low, high) : wasm_u8x16_narrow_i16x8(low, high);
      if (lanes == TW_LANES)
        wasm_v128_store(y + c, low);
      else
        store_some(y + c, &low, lanes);
      continue;
    }
    if (p->target == QUANT_TARGET_FLOAT)
      for (int q = 0; q < 4; q++) {
        v128_t x = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sum[q]), tw_load(factor + 4 * q));
        sum[q] = activated(wasm_f32x4_add(x, tw_load(l->bias + c + 4 * q)), p->activation);
        if (residual && lanes == TW_LANES)
          sum[q] = wasm_f32x4_add(sum[q], tw_load(residual + c + 4 * q));
        else if (residual) {
          float more[4] = {0};
          for (uint32_t j = 0; j < 4 && 4 * (uint32_t)q + j < lanes; j++) more[j] = residual[4 * q + j];
          sum[q] = wasm_f32x4_add(sum[q], tw_load(more));
        }
      }
    if (lanes == TW_LANES)
      for (int q = 0; q < 4; q++) wasm_v128_store(y + 4 * (size_t)(c + 4 * q), sum[q]);
    else
      store_some(y + 4 * (size_t)c, sum, 4 * lanes);
  }
}

#define WINDOW(name, pairs, is_signed, is_bytes) \
  static __attribute__((noinline)) void name(const line *l, uint8_t *y, const float *residual) { \
    window(l, y, residual, pairs, is_signed, is_bytes); \
  }
WINDOW(nine_unsigned, 5, 0, 1)
WINDOW(nine_signed, 5, 1, 1)
WINDOW(any_unsigned, l->pairs, 0, 1)
WINDOW(any_signed, l->pairs, 1, 1)
WINDOW(floats_unsigned, l->pairs, 0, 0)
WINDOW(floats_signed, l->pairs, 1, 0)

typedef void (*window_kind)(const line *, uint8_t *, const float *);

static window_kind window_of(const conv_params *p, uint32_t taps) {
  if (p->target < QUANT_TARGET_BYTE) return p->x_signed ? floats_signed : floats_unsigned;
  if (taps == 9) return p->x_signed ? nine_signed : nine_unsigned;
  return p->x_signed ? any_signed : any_unsigned;
}

// What is one for each channel.
static void gather_channels(line *l, const tw_dispatch *d) {
  const conv_params *p = l->p;
  const tw_binding *scale = &d->bindings[I8_DEPTHWISE_W_SCALE];
  const tw_binding *bias = &d->bindings[I8_DEPTHWISE_BIAS];
  int bytes = p->target >= QUANT_TARGET_BYTE;
  int32_t zero = 0;
  if (tw_present(d, I8_DEPTHWISE_X_ZERO)) {
    uint8_t byte = *TW_DATA(const uint8_t, d, I8_DEPTHWISE_X_ZERO);
    zero = p->x_signed ? (int8_t)byte : byte;
  }
  float x_scale = 1, y_scale = 1;
  if (tw_present(d, I8_DEPTHWISE_X_SCALE)) x_scale = *TW_DATA(const float, d, I8_DEPTHWISE_X_SCALE);
  if (tw_present(d, I8_DEPTHWISE_Y_SCALE)) y_scale = *TW_DATA(const float, d, I8_DEPTHWISE_Y_SCALE);
  uint32_t blocks = (l->channels + TW_LANES - 1) / TW_LANES;
  const uint8_t *block = l->packed;
  for (uint32_t n = 0; n < blocks; n++, block += l->block_bytes) {
    const int32_t *sums = (const int32_t *)block;
    uint32_t first = tw_block_first(n, l->channels);
    for (uint32_t j = 0; j < TW_LANES; j++) {
      uint32_t c = first + j;
      int there = c < l->channels;
      float own = 1;
      if (scale->length) own = ((const float *)scale->data)[scale->length == 4 || !there ? 0 : c];
      l->factor[c] = own * x_scale;
      if (bytes) l->factor[c] /= y_scale;
      l->start[c] = (int32_t)(0u - (uint32_t)zero * (uint32_t)sums[j]);
      l->bias[c] = 0;
      if (!there || !bias->length) continue;
      if (bytes)
        l->start[c] = (int32_t)((uint32_t)l->start[c] + ((const uint32_t *)bias->data)[c]);
      else
        l->bias[c] = ((const float *)bias->data)[c];
    }
  }
  for (uint32_t c = 0; c < blocks * TW_LANES; c++) l->padding[c] = (uint8_t)zero;
}

// The taps of the window of output column `o`; x is the image, or the first of its rows.
static void find_taps(line *l, const uint8_t *x, const space *s, taps d, taps h, taps w) {
  const conv_params *p = l->p;
  size_t row = (size_t)p->input[2] * p->x_pixel, plane = row * p->input[1];
  uint32_t *at = l->at, *step = l->step, padding = (uint32_t)(uintptr_t)l->padding;
  for (uint32_t kd = 0; kd < p->kernel[0]; kd++)
    for (uint32_t kh = 0; kh < p->kernel[1]; kh++)
      for (uint32_t kw = 0; kw < p->kernel[2]; kw++, at++, step++) {
        int inside = kd >= d.first && kd < d.last && kh >= h.first && kh < h.last;
        *step = inside ? s->stride[2] * p->x_pixel : 0;
        *at = padding;
        if (!inside || kw < w.first || kw >= w.last) continue;
        ptrdiff_t place = (ptrdiff_t)(d.at + (int32_t)(kd * p->dilation[0])) * (ptrdiff_t)plane +
                          (ptrdiff_t)(h.at + (int32_t)(kh * p->dilation[1])) * (ptrdiff_t)row +
                          (ptrdiff_t)(w.at + (int32_t)(kw * p->dilation[2])) * (ptrdiff_t)p->x_pixel;
        *at = (uint32_t)(uintptr_t)(x + place);
      }
  for (; at < l->at + 2 * l->pairs; at++, step++) *at = padding, *step = 0;
}

static void move_taps(line *l) {
  uint32_t n = 2 * l->pairs, i = 0;
  for (; i + 4 <= n; i += 4)
    wasm_v128_store(l->at + i,
                    wasm_i32x4_add(wasm_v128_load(l->at + i), wasm_v128_load(l->step + i)));
  for (; i < n; i++) l->at[i] += l->step[i];
}

uint32_t i8_depthwise(const tw_dispatch *d, const tw_tile *t) {
  const conv_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_pixels == 0 || p->activation > QUANT_ACTIVATION_GELU_TANH ||
      p->target > QUANT_TARGET_SIGNED_BYTE || p->channels != 1 || p->filters != 1 ||
      !space_valid(&s) || d->binding_count != I8_DEPTHWISE_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t taps = pixels_of(1, s.kernel);
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  uint64_t blocks = ((uint64_t)p->groups + TW_LANES - 1) / TW_LANES;
  uint64_t block_bytes = tw_block_bytes(taps), scale = d->bindings[I8_DEPTHWISE_W_SCALE].length;
  uint32_t size = p->target >= QUANT_TARGET_BYTE ? 1 : 4;
  if (block_bytes > UINT32_MAX || pixels > UINT32_MAX ||
      !tw_holds(d, I8_DEPTHWISE_X, pixels_reach(inputs, p->x_pixel, p->groups), 1) ||
      !tw_holds(d, I8_DEPTHWISE_PACKED, blocks != 0, (uint32_t)block_bytes) ||
      !tw_holds(d, I8_DEPTHWISE_Y, pixels_reach(pixels, p->y_pixel, p->groups), size) ||
      (scale > 4 && scale / 4 < p->groups) ||
      (tw_present(d, I8_DEPTHWISE_X_SCALE) && !tw_holds(d, I8_DEPTHWISE_X_SCALE, 1, 4)) ||
      (tw_present(d, I8_DEPTHWISE_Y_SCALE) && !tw_holds(d, I8_DEPTHWISE_Y_SCALE, 1, 4)) ||
      (scale && scale < 4) ||
      (tw_present(d, I8_DEPTHWISE_BIAS) && !tw_holds(d, I8_DEPTHWISE_BIAS, p->groups, 4)) ||
      (tw_present(d, I8_DEPTHWISE_RESIDUAL) &&
       !tw_holds(d, I8_DEPTHWISE_RESIDUAL, pixels_reach(pixels, p->residual_pixel, p->groups), 4)))
    return TW_BINDING_TOO_SHORT;
  uint64_t wide = blocks * TW_LANES;
  if (t->scratch_length < 13 * wide + 8 * taps + 64) return TW_SCRATCH_TOO_SMALL;
  if (pixels == 0 || p->groups == 0) return TW_OK;
  uint32_t width = p->output[2];
  tw_span rows = tw_piece(t->y, p->tile_pixels, pixels / width);
  if (rows.first == rows.last) return TW_OK;

  line l = {.p = p, .packed = TW_DATA(const uint8_t, d, I8_DEPTHWISE_PACKED), .channels = p->groups,
            .pairs = (uint32_t)(taps + 1) / 2, .block_bytes = (uint32_t)block_bytes,
            .start = (int32_t *)t->scratch};
  if (!tw_holds(d, I8_DEPTHWISE_PACKED, blocks, (uint32_t)block_bytes)) l.block_bytes = 0;
  l.factor = (float *)(l.start + wide);
  l.bias = l.factor + wide;
  l.padding = (uint8_t *)(l.bias + wide);
  l.at = (uint32_t *)(l.padding + wide);
  l.step = l.at + 2 * l.pairs;
  int is_signed = p->target == QUANT_TARGET_SIGNED_BYTE;
  int32_t zero = 0;
  if (tw_present(d, I8_DEPTHWISE_Y_ZERO)) {
    uint8_t byte = *TW_DATA(const uint8_t, d, I8_DEPTHWISE_Y_ZERO);
    zero = is_signed ? (int8_t)byte : byte;
  }
  l.q = tw_requantiser_of(zero, p->least, p->most, is_signed);
  gather_channels(&l, d);
  window_kind compute = window_of(p, (uint32_t)taps);
  const float *residual =
      tw_present(d, I8_DEPTHWISE_RESIDUAL) ? TW_DATA(const float, d, I8_DEPTHWISE_RESIDUAL) : 0;
  if (residual) residual += (size_t)rows.first * width * p->residual_pixel;
  uint8_t *y = TW_DATA(uint8_t, d, I8_DEPTHWISE_Y) + (size_t)rows.first * width * p->y_pixel * size;
  size_t image = (size_t)p->input[0] * p->input[1] * p->input[2] * p->x_pixel;
  for (uint32_t number = rows.first; number < rows.last; number++) {
    place at = place_of_row(&s, number);
    struct taps deep = taps_of(&s, 0, at.d), high = taps_of(&s, 1, at.h);
    const uint8_t *x = TW_DATA(const uint8_t, d, I8_DEPTHWISE_X) + at.image * image;
    int whole = 0;  // whether nothing was cut off the window before
    for (uint32_t o = 0; o < width; o++, y += (size_t)p->y_pixel * size) {
      struct taps across = taps_of(&s, 2, o);
      int now = across.first == 0 && across.last == p->kernel[2];
      if (whole && now)
        move_taps(&l);
      else
        find_taps(&l, x, &s, deep, high, across);
      whole = now;
      compute(&l, y, residual);
      if (residual) residual += p->residual_pixel;
    }
  }
  return TW_OK;
}
