// y = what each tap of a deformable convolution's windows reads, for a product with the filters.
//
// x (batch, h, w, channels), offset (batch, oh, ow, offset groups, taps, 2), mask (..., taps), their
// pixels `..._pixel` elements apart; y (batch, oh, ow, groups, taps, channels / groups), dense.
// Tile: x = `tile_pixels` output pixels. Scratch: none. Nothing may alias.
//
// A pixel outside is 0. An offset that is no finite number makes its sample NaN.
#include "picks.h"
#include "sample.h"
#include "space.h"

#define FAR 1e9f

// The four pixels around (row, column), those that are inside.
static void around(picks *p, const deform_params *d, float row, float column, float mask) {
  float top = __builtin_floorf(row), left = __builtin_floorf(column);
  float v = row - top, u = column - left;
  p->count = 0;
  if (v != v || u != u) {
    pick(p, 0, __builtin_nanf(""));
    return;
  }
  if (!(top >= -FAR && top <= FAR && left >= -FAR && left <= FAR)) return;
  int32_t y = (int32_t)top, x = (int32_t)left;
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++)
      if (y + i >= 0 && y + i < (int64_t)d->input[0] && x + j >= 0 && x + j < (int64_t)d->input[1])
        pick(p, ((uint32_t)(y + i) * d->input[1] + (uint32_t)(x + j)) * d->x_pixel,
             (i ? v : 1 - v) * (j ? u : 1 - u) * mask);
}

uint32_t f32_deform(const tw_dispatch *d, const tw_tile *t) {
  const deform_params *p = d->params;
  if (p->tile_pixels == 0 || p->groups == 0 || p->offset_groups == 0 ||
      p->channels % p->groups || p->channels % p->offset_groups)
    return TW_INVALID_PARAMS;
  uint32_t in[3] = {1, p->input[0], p->input[1]}, out[3] = {1, p->output[0], p->output[1]};
  uint64_t inputs = pixels_of(p->batch, in), pixels = pixels_of(p->batch, out);
  uint64_t taps = (uint64_t)p->kernel[0] * p->kernel[1];
  if (pixels == 0 || taps == 0 || p->channels == 0) return TW_OK;
  if (inputs == 0) return TW_INVALID_PARAMS;
  if (taps > UINT32_MAX / 2 / p->offset_groups || taps > UINT32_MAX / p->channels)
    return TW_BINDING_TOO_SHORT;
  uint32_t moves = (uint32_t)taps * p->offset_groups, line = (uint32_t)taps * p->channels;
  if (pixels > UINT32_MAX ||
      !tw_holds(d, F32_DEFORM_X, pixels_reach(inputs, p->x_pixel, p->channels), 4) ||
      !tw_holds(d, F32_DEFORM_OFFSET, pixels_reach(pixels, p->offset_pixel, 2 * moves), 4) ||
      (tw_present(d, F32_DEFORM_MASK) &&
       !tw_holds(d, F32_DEFORM_MASK, pixels_reach(pixels, p->mask_pixel, moves), 4)) ||
      !tw_holds(d, F32_DEFORM_Y, pixels * line, 4))
    return TW_BINDING_TOO_SHORT;
  uint32_t own = p->channels / p->groups, shared = p->channels / p->offset_groups;
  picks chosen;
  tw_span part = tw_piece(t->x, p->tile_pixels, pixels);
  for (uint32_t n = part.first; n < part.last; n++) {
    uint32_t column = n % p->output[1], row = n / p->output[1] % p->output[0];
    uint32_t image = n / p->output[1] / p->output[0];
    const float *x = TW_DATA(float, d, F32_DEFORM_X) +
                     (size_t)image * p->input[0] * p->input[1] * p->x_pixel;
    const float *offset = TW_DATA(float, d, F32_DEFORM_OFFSET) + (size_t)n * p->offset_pixel;
    const float *mask = tw_present(d, F32_DEFORM_MASK)
                            ? TW_DATA(float, d, F32_DEFORM_MASK) + (size_t)n * p->mask_pixel : 0;
    float *y = TW_DATA(float, d, F32_DEFORM_Y) + (size_t)n * line;
    for (uint32_t g = 0; g < p->offset_groups; g++)
      for (uint32_t k = 0; k < taps; k++) {
        uint32_t i = k / p->kernel[1], j = k % p->kernel[1], at = g * (uint32_t)taps + k;
        double down = (double)row * p->stride[0] - p->padding[0] + (double)i * p->dilation[0];
        double right = (double)column * p->stride[1] - p->padding[1] + (double)j * p->dilation[1];
        around(&chosen, p, (float)down + offset[2 * at], (float)right + offset[2 * at + 1],
               mask ? mask[at] : 1);
        // The channels that share the offset may belong to several groups, or to a part of one.
        for (uint32_t c = g * shared, last = c + shared; c < last;) {
          uint32_t group = c / own, end = (group + 1) * own < last ? (group + 1) * own : last;
          float *to = y + (size_t)group * taps * own + (size_t)k * own + (c - group * own);
          sum_picks(&chosen, x + c, to, end - c, 0);
          c = end;
        }
      }
  }
  return TW_OK;
}
