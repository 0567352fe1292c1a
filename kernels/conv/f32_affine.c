// y = activation(x scale + bias) with a scale and a bias for each channel.
//
// x      (outer, channels, inner); with inner = 1 the lines of channels may be `x_pixel` apart
// scale, bias (channels);  y as x, dense; y may be x where x is dense
// Tile: x = `tile_lines` of (outer, channels), or of outer where inner is 1. Scratch: none.
#include "activation.h"
#include "bindings.h"

TW_INLINE void pixels(const affine_params *p, const activation *a, const float *x,
                      const float *scale, const float *bias, float *y, tw_span lines) {
  for (uint32_t i = lines.first; i < lines.last; i++) {
    const float *from = x + (size_t)i * p->x_pixel;
    float *to = y + (size_t)i * p->channels;
    uint32_t c = 0;
    for (; c + 4 <= p->channels; c += 4)
      tw_store(to + c, activate(tw_madd(tw_load(from + c), tw_load(scale + c), tw_load(bias + c)), a));
    if (c < p->channels) {
      uint32_t n = p->channels - c;
      v128_t v = tw_madd(tw_load_tail(from + c, n), tw_load_tail(scale + c, n), tw_load_tail(bias + c, n));
      tw_store_tail(to + c, activate(v, a), n);
    }
  }
}

TW_INLINE void planes(const affine_params *p, const activation *a, const float *x,
                      const float *scale, const float *bias, float *y, tw_span lines) {
  for (uint32_t i = lines.first; i < lines.last; i++) {
    v128_t s = tw_splat(scale[i % p->channels]), b = tw_splat(bias[i % p->channels]);
    const float *from = x + (size_t)i * p->inner;
    float *to = y + (size_t)i * p->inner;
    uint32_t j = 0;
    for (; j + 4 <= p->inner; j += 4)
      tw_store(to + j, activate(tw_madd(tw_load(from + j), s, b), a));
    if (j < p->inner) {
      uint32_t n = p->inner - j;
      tw_store_tail(to + j, activate(tw_madd(tw_load_tail(from + j, n), s, b), a), n);
    }
  }
}

uint32_t f32_affine(const tw_dispatch *d, const tw_tile *t) {
  const affine_params *p = d->params;
  if (p->tile_lines == 0 || p->activation > CONV_ACTIVATION_QUICK_GELU || p->channels == 0)
    return TW_INVALID_PARAMS;
  uint64_t lines = (uint64_t)p->outer * (p->inner == 1 ? 1 : p->channels);
  uint64_t each = p->inner == 1 ? p->channels : p->inner;
  uint64_t read = p->inner == 1 ? (uint64_t)(p->outer - 1) * p->x_pixel + p->channels : lines * each;
  if (lines == 0 || p->inner == 0) return TW_OK;
  if (lines > UINT32_MAX || !tw_holds(d, F32_AFFINE_X, read, 4) ||
      !tw_holds(d, F32_AFFINE_Y, lines * each, 4) ||
      !tw_holds(d, F32_AFFINE_SCALE, p->channels, 4) || !tw_holds(d, F32_AFFINE_BIAS, p->channels, 4))
    return TW_BINDING_TOO_SHORT;
  const float *x = TW_DATA(float, d, F32_AFFINE_X);
  const float *scale = TW_DATA(float, d, F32_AFFINE_SCALE), *bias = TW_DATA(float, d, F32_AFFINE_BIAS);
  float *y = TW_DATA(float, d, F32_AFFINE_Y);
  tw_span part = tw_piece(t->x, p->tile_lines, lines);
  activation a = ACTIVATION_OF(p), relu = a;
  relu.kind = CONV_ACTIVATION_RELU;
  if (p->inner == 1) {
    if (a.kind == CONV_ACTIVATION_RELU)
      pixels(p, &relu, x, scale, bias, y, part);
    else
      pixels(p, &a, x, scale, bias, y, part);
  } else {
    if (a.kind == CONV_ACTIVATION_RELU)
      planes(p, &relu, x, scale, bias, y, part);
    else
      planes(p, &a, x, scale, bias, y, part);
  }
  return TW_OK;
}
