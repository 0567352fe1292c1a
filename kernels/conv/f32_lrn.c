// y[c] = x[c] / (bias + alpha / span s) ^ beta, s the sum of x^2 over the `span` channels around c.
//
// x  (pixels, channels), pixels `x_pixel` elements apart;  y dense; y may be x where x is dense
// Tile: x = `tile_pixels` pixels. Scratch: 4 (channels + span + 8) bytes, a pixel's squares with
// zeros around.
#include "activation.h"
#include "bindings.h"

// f ^ -beta for f > 0; the exponent that networks use without logarithms.
TW_INLINE v128_t power(v128_t f, float beta) {
  if (beta == 0.75f) {
    v128_t root = wasm_f32x4_sqrt(f);
    return wasm_f32x4_div(tw_splat(1), wasm_f32x4_mul(root, wasm_f32x4_sqrt(root)));
  }
  return tw_exp(wasm_f32x4_mul(tw_log(f), tw_splat(-beta)));
}

uint32_t f32_lrn(const tw_dispatch *d, const tw_tile *t) {
  const lrn_params *p = d->params;
  if (p->tile_pixels == 0 || p->span == 0) return TW_INVALID_PARAMS;
  uint64_t reach = p->pixels ? (uint64_t)(p->pixels - 1) * p->x_pixel + p->channels : 0;
  if (!tw_holds(d, F32_LRN_X, reach, 4) ||
      !tw_holds(d, F32_LRN_Y, (uint64_t)p->pixels * p->channels, 4))
    return TW_BINDING_TOO_SHORT;
  if (((uint64_t)p->channels + p->span + 8) * 4 > t->scratch_length) return TW_SCRATCH_TOO_SMALL;
  float *squares = t->scratch;
  uint32_t channels = p->channels, before = (p->span - 1) / 2;
  for (uint32_t i = 0; i < channels + p->span + 8; i++) squares[i] = 0;
  v128_t alpha = tw_splat(p->alpha / (float)p->span), bias = tw_splat(p->bias);
  tw_span part = tw_piece(t->x, p->tile_pixels, p->pixels);
  for (uint32_t pixel = part.first; pixel < part.last; pixel++) {
    const float *x = TW_DATA(float, d, F32_LRN_X) + (size_t)pixel * p->x_pixel;
    float *y = TW_DATA(float, d, F32_LRN_Y) + (size_t)pixel * channels;
    for (uint32_t c = 0; c < channels; c += 4) {
      v128_t v = load_lanes(x + c, channels - c);
      store_lanes(squares + before + c, wasm_f32x4_mul(v, v), channels - c);
    }
    for (uint32_t c = 0; c < channels; c += 4) {
      v128_t sum = tw_load(squares + c);
      for (uint32_t i = 1; i < p->span; i++) sum = wasm_f32x4_add(sum, tw_load(squares + c + i));
      v128_t factor = power(tw_madd(sum, alpha, bias), p->beta);
      store_lanes(y + c, wasm_f32x4_mul(load_lanes(x + c, channels - c), factor), channels - c);
    }
  }
  return TW_OK;
}
