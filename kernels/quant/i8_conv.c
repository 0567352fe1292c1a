// y = x * w of bytes, channels last: a product of gathered windows and packed filters.
//
// x         (n, d, h, w, groups channels) bytes, pixels `x_pixel` apart
// packed    a matrix (taps channels, filters) a group, as i8_gemm_pack_b writes it; 16 bytes
// x_zero, x_scale, y_scale, y_zero  one each;  w_zero, w_scale  one, or (groups filters)
// bias      (groups filters): f32, or i32 for targets of bytes
// y         (n, d, h, w, groups filters), pixels `y_pixel` apart;  residual as y, f32
// Tile: x = `tile_filters` of a group, y = group, z = `tile_pixels` output pixels:
// threads take ranges of tiles, and so have the same pixels of all groups. Scratch: quant.wit.
//
// product.h has how it is computed. Windows are copied side by side to scratch, x's zero where they
// lie in the padding, unless they are single pixels that can be read where they lie.
#include "product.h"
#include "space.h"

_Static_assert(I8_CONV_X == I8_GEMM_A && I8_CONV_PACKED == I8_GEMM_PACKED_B &&
               I8_CONV_X_ZERO == I8_GEMM_A_ZERO && I8_CONV_W_ZERO == I8_GEMM_B_ZERO &&
               I8_CONV_X_SCALE == I8_GEMM_A_SCALE && I8_CONV_W_SCALE == I8_GEMM_B_SCALE &&
               I8_CONV_Y_SCALE == I8_GEMM_Y_SCALE && I8_CONV_Y_ZERO == I8_GEMM_Y_ZERO &&
               I8_CONV_BIAS == I8_GEMM_BIAS && I8_CONV_RESIDUAL == I8_GEMM_RESIDUAL &&
               I8_CONV_Y == I8_GEMM_C && I8_CONV_BINDINGS == I8_GEMM_BINDINGS,
               "product.h reads bindings by i8_gemm's numbers");

typedef struct gather {
  space s;
  const uint8_t *x;  // the group's first channel
  uint32_t pixel, channels;
  int joined;        // taps that are neighbours in a row of pixels are neighbours in memory
  v128_t flip, zero; // zero: as it is after the flip
} gather;

// `n` bytes of padding.
TW_INLINE uint8_t *cleared(uint8_t *to, uint32_t n, v128_t zero) {
  uint8_t *end = to + n;
  for (; n >= 16; n -= 16, to += 16) wasm_v128_store(to, zero);
  const volatile uint8_t byte = wasm_u8x16_extract_lane(zero, 0);  // else it is a call of memset
  while (to < end) *to++ = byte;
  return end;
}

// One row of taps, (kernel[2], channels), whose first pixel is at `row`.
static uint8_t *gather_row(const gather *g, uint8_t *out, const uint8_t *row, taps w) {
  uint32_t c = g->channels, most = g->s.kernel[2];
  if (g->joined) {
    uint32_t n = (w.last - w.first) * c;
    out = cleared(out, w.first * c, g->zero);
    copy_flipped(out, row + ((ptrdiff_t)w.at + w.first) * g->pixel, n, g->flip);
    return cleared(out + n, (most - w.last) * c, g->zero);
  }
  out = cleared(out, w.first * c, g->zero);
  for (uint32_t tap = w.first; tap < w.last; tap++, out += c) {
    int32_t column = w.at + (int32_t)(tap * g->s.dilation[2]);
    copy_flipped(out, row + (ptrdiff_t)column * g->pixel, c, g->flip);
  }
  return cleared(out, (most - w.last) * c, g->zero);
}

// The windows of `count` pixels from `at` on, filled with zeros up to `padded`, rows `pitch` apart.
static __attribute__((noinline)) void gather_windows(const gather *g, uint8_t *to, uint32_t padded,
                                                     uint32_t pitch, place at, uint32_t count) {
  const space *s = &g->s;
  uint32_t each = s->kernel[2] * g->channels;
  for (; count; count--, next_pixel(s, &at), to += pitch) {
    taps d = taps_of(s, 0, at.d), h = taps_of(s, 1, at.h), w = taps_of(s, 2, at.w);
    uint8_t *out = to;
    for (uint32_t kd = 0; kd < s->kernel[0]; kd++)
      for (uint32_t kh = 0; kh < s->kernel[1]; kh++) {
        if (kd < d.first || kd >= d.last || kh < h.first || kh >= h.last || w.first >= w.last) {
          out = cleared(out, each, g->zero);
          continue;
        }
        size_t line = (size_t)at.image * s->input[0] + d.at + kd * s->dilation[0];
        line = line * s->input[1] + h.at + kh * s->dilation[1];
        out = gather_row(g, out, g->x + line * s->input[2] * g->pixel, w);
      }
    while (out < to + padded) *out++ = 0;
  }
}

// Whether a binding has `count` elements, or one, or is absent.
static int one_or(const tw_dispatch *d, uint32_t index, uint64_t count, uint32_t size) {
  return fits(&d->bindings[index], count, size);
}

uint32_t i8_conv(const tw_dispatch *d, const tw_tile *t) {
  const conv_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_pixels == 0 || p->tile_filters == 0 || p->tile_filters % TW_COLUMNS ||
      p->activation > QUANT_ACTIVATION_GELU_TANH || p->target > QUANT_TARGET_SIGNED_BYTE ||
      p->channels == 0 || !space_valid(&s) || d->binding_count != I8_CONV_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t taps = pixels_of(1, s.kernel), k = taps * p->channels;
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  uint64_t panels = ((uint64_t)p->filters + TW_COLUMNS - 1) / TW_COLUMNS;
  uint64_t channels = (uint64_t)p->groups * p->channels;
  uint64_t filters = (uint64_t)p->groups * p->filters;
  uint32_t size = p->target >= QUANT_TARGET_BYTE ? 1 : 4;
  if (taps > UINT32_MAX || k > UINT32_MAX / 4 || pixels > UINT32_MAX || channels > UINT32_MAX ||
      filters > UINT32_MAX)
    return TW_BINDING_TOO_SHORT;
  uint64_t bytes = tw_panel_bytes((uint32_t)k), padded = tw_padded((uint32_t)k);
  if (panels * p->groups > UINT32_MAX ||
      !tw_holds(d, I8_CONV_X, pixels_reach(inputs, p->x_pixel, (uint32_t)channels), 1) ||
      !tw_holds(d, I8_CONV_PACKED, panels * p->groups, (uint32_t)bytes) ||
      !tw_holds(d, I8_CONV_Y, pixels_reach(pixels, p->y_pixel, (uint32_t)filters), size) ||
      !one_or(d, I8_CONV_X_ZERO, 1, 1) || !one_or(d, I8_CONV_X_SCALE, 1, 4) ||
      !one_or(d, I8_CONV_W_ZERO, filters, 1) || !one_or(d, I8_CONV_W_SCALE, filters, 4) ||
      (tw_present(d, I8_CONV_BIAS) && !tw_holds(d, I8_CONV_BIAS, filters, 4)) ||
      (tw_present(d, I8_CONV_RESIDUAL) &&
       !tw_holds(d, I8_CONV_RESIDUAL,
                 pixels_reach(pixels, p->residual_pixel, (uint32_t)filters), 4)))
    return TW_BINDING_TOO_SHORT;
  if (t->scratch_length < tw_product_scratch(p->tile_pixels, padded)) return TW_SCRATCH_TOO_SMALL;
  tw_span rows = tw_piece(t->z, p->tile_pixels, pixels);
  tw_span columns = tw_piece(t->x, p->tile_filters, p->filters);
  if (rows.first == rows.last || columns.first == columns.last || t->y >= p->groups) return TW_OK;

  gemm_params g = {.m = (uint32_t)pixels, .n = p->filters, .k = (uint32_t)k, .ldc = p->y_pixel,
                   .ldr = p->residual_pixel, .a_signed = p->x_signed, .b_signed = p->w_signed,
                   .target = p->target, .activation = p->activation, .least = p->least,
                   .most = p->most};
  const uint8_t *panel = TW_DATA(const uint8_t, d, I8_CONV_PACKED);
  panel += (t->y * panels + columns.first / TW_COLUMNS) * bytes;
  uint8_t *scratch = (uint8_t *)t->scratch;
  uint32_t count = rows.last - rows.first, group = t->y * p->filters;
  work w = {.p = &g, .d = d, .row = rows.first, .rows = count, .by_column = group,
            .padded = (uint32_t)padded, .rows_of_scratch = scratch};
  take_form(&w, (const tw_head *)panel, p->x_signed != 0);
  w.c = TW_DATA(uint8_t, d, I8_CONV_Y) + (size_t)group * size;
  if (tw_present(d, I8_CONV_RESIDUAL)) w.residual = TW_DATA(const float, d, I8_CONV_RESIDUAL) + group;
  int single = taps == 1;
  for (int i = 0; i < 3; i++)
    single = single && p->padding[i] == 0 && p->input[i] == p->output[i] && p->stride[i] == 1;
  const uint8_t *x = TW_DATA(const uint8_t, d, I8_CONV_X) + t->y * p->channels;
  if (single && w.a_flip == 0 && padded == k) {
    w.a = x + (size_t)rows.first * p->x_pixel;
    w.lda = p->x_pixel;
  } else {
    gather windows = {s, x, p->x_pixel, p->channels,
                      p->dilation[2] == 1 && p->x_pixel == p->channels,
                      wasm_i8x16_splat((int8_t)w.a_flip), wasm_i8x16_splat((int8_t)w.a_zero)};
    w.a = scratch;
    w.lda = tw_pitch(w.padded);
    gather_windows(&windows, scratch, w.padded, w.lda, place_of_pixel(&s, rows.first), count);
  }
  take_rows(&w, (int32_t *)(scratch + (size_t)count * tw_pitch(w.padded)));
  return multiply(&w, panel, columns.first, columns.last - columns.first);
}
