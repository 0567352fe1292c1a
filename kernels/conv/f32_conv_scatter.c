// A transposed convolution from its product: y[o] = activation(bias + the sum of what reaches o),
// where pixel i of x reaches o = i stride - padding + k dilation at tap k.
//
// columns  (pixels of x, channels / group_channels, taps, group_channels), dense
// bias     (channels), optional;  y (n, d, h, w, channels), pixels `y_pixel` apart
// Tile: x = `tile_rows` rows of y's pixels. Scratch: none. Nothing may alias.
#include "activation.h"
#include "space.h"

// Whether output `o` is reached at tap `k` along an axis, and from which input.
static int reached(const conv_scatter_params *p, int axis, uint32_t o, uint32_t k, uint32_t *i) {
  int64_t from = (int64_t)o + p->padding[axis] - (int64_t)k * p->dilation[axis];
  if (from < 0 || from % p->stride[axis]) return 0;
  from /= p->stride[axis];
  *i = (uint32_t)from;
  return from < p->input[axis];
}

// The taps by which output `o` may be reached along an axis: a kernel may be much longer than x.
static tw_span reaching(const conv_scatter_params *p, int axis, uint32_t o) {
  int64_t top = (int64_t)o + p->padding[axis];
  if (top < 0 || p->input[axis] == 0) return (tw_span){0, 0};
  int64_t low = top - (int64_t)(p->input[axis] - 1) * p->stride[axis];
  int64_t first = low > 0 ? (low + p->dilation[axis] - 1) / p->dilation[axis] : 0;
  int64_t last = top / p->dilation[axis] + 1;
  if (last > p->kernel[axis]) last = p->kernel[axis];
  return first < last ? (tw_span){(uint32_t)first, (uint32_t)last} : (tw_span){0, 0};
}

// Adds one tap of all groups to a pixel.
static void add(const conv_scatter_params *p, float *y, const float *from, size_t group) {
  for (uint32_t c = 0; c < p->channels; c += p->group_channels, from += group) {
    float *to = y + c;
    for (uint32_t j = 0; j < p->group_channels; j += 4) {
      uint32_t n = p->group_channels - j;
      store_lanes(to + j, wasm_f32x4_add(load_lanes(to + j, n), load_lanes(from + j, n)), n);
    }
  }
}

uint32_t f32_conv_scatter(const tw_dispatch *d, const tw_tile *t) {
  const conv_scatter_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_rows == 0 || p->activation > CONV_ACTIVATION_QUICK_GELU || p->group_channels == 0 ||
      p->channels % p->group_channels || !space_valid(&s))
    return TW_INVALID_PARAMS;
  uint64_t taps = pixels_of(1, s.kernel), inputs = pixels_of(p->batch, s.input);
  uint64_t pixels = pixels_of(p->batch, s.output), each = taps * p->channels;
  if (taps > UINT32_MAX || each > UINT32_MAX || inputs > UINT32_MAX ||
      !tw_holds(d, F32_CONV_SCATTER_COLUMNS, inputs * each, 4) ||
      !tw_holds(d, F32_CONV_SCATTER_Y, pixels_reach(pixels, p->y_pixel, p->channels), 4) ||
      (tw_present(d, F32_CONV_SCATTER_BIAS) && !tw_holds(d, F32_CONV_SCATTER_BIAS, p->channels, 4)))
    return TW_BINDING_TOO_SHORT;
  if (pixels == 0) return TW_OK;
  const float *columns = TW_DATA(float, d, F32_CONV_SCATTER_COLUMNS);
  const float *bias = tw_present(d, F32_CONV_SCATTER_BIAS) ? TW_DATA(float, d, F32_CONV_SCATTER_BIAS) : 0;
  activation a = ACTIVATION_OF(p);
  tw_span rows = tw_piece(t->x, p->tile_rows, pixels / p->output[2]);
  for (uint32_t row = rows.first; row < rows.last; row++) {
    place at = place_of_row(&s, row);
    float *y = TW_DATA(float, d, F32_CONV_SCATTER_Y) + (size_t)row * p->output[2] * p->y_pixel;
    tw_span deep = reaching(p, 0, at.d), high = reaching(p, 1, at.h);
    for (; at.w < p->output[2]; at.w++, y += p->y_pixel) {
      for (uint32_t c = 0; c < p->channels; c += 4)
        store_lanes(y + c, bias ? load_lanes(bias + c, p->channels - c) : tw_splat(0), p->channels - c);
      uint32_t i, j, k;
      tw_span wide = reaching(p, 2, at.w);
      for (uint32_t kd = deep.first; kd < deep.last; kd++)
        for (uint32_t kh = high.first; kh < high.last; kh++)
          for (uint32_t kw = wide.first; kw < wide.last; kw++)
            if (reached(p, 0, at.d, kd, &i) && reached(p, 1, at.h, kh, &j) &&
                reached(p, 2, at.w, kw, &k)) {
              size_t tap = ((size_t)kd * p->kernel[1] + kh) * p->kernel[2] + kw;
              size_t pixel = (((size_t)at.image * p->input[0] + i) * p->input[1] + j) * p->input[2] + k;
              add(p, y, columns + pixel * each + tap * p->group_channels,
                  taps * p->group_channels);
            }
      if (a.kind != CONV_ACTIVATION_NONE)
        for (uint32_t c = 0; c < p->channels; c += 4)
          store_lanes(y + c, activate(load_lanes(y + c, p->channels - c), &a), p->channels - c);
    }
  }
  return TW_OK;
}
