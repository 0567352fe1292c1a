// y = the largest element of each window, places = where it is, channel by channel.
//
// x (n, d, h, w, channels), pixels `x_pixel` elements apart; y and places (i64, 8-byte aligned)
// dense, of the output's pixels. Nothing may alias.
// Tile: x = `tile_rows` rows of output pixels. Scratch: none.
#include "pool.h"
#include "space.h"

typedef struct window {
  const float *x;  // tap 0, perhaps outside
  taps at[3];
  size_t step[3];  // elements between taps
  uint32_t place[3];
  int32_t origin;  // tap 0's place
} window;

TW_INLINE void largest(const window *o, float *y, int64_t *places, int64_t base, uint32_t pixels,
                       uint32_t lanes) {
  v128_t best = tw_splat(-__builtin_inff()), where = wasm_i32x4_splat(-1);
  int first = 1;
  for (uint32_t d = o->at[0].first; d < o->at[0].last; d++)
    for (uint32_t h = o->at[1].first; h < o->at[1].last; h++)
      for (uint32_t w = o->at[2].first; w < o->at[2].last; w++) {
        const float *from = o->x + d * o->step[0] + h * o->step[1] + w * o->step[2];
        v128_t x = lanes >= 4 ? tw_load(from) : tw_load_tail(from, lanes);
        v128_t here = wasm_i32x4_splat(
            o->origin + (int32_t)(d * o->place[0] + h * o->place[1] + w * o->place[2]));
        if (first) {
          best = x;
          where = here;
          first = 0;
          continue;
        }
        // NaN is larger than all but NaN.
        v128_t number = wasm_f32x4_eq(best, best);
        v128_t more = wasm_v128_and(number, wasm_v128_not(wasm_f32x4_le(x, best)));
        best = wasm_v128_bitselect(x, best, more);
        where = wasm_v128_bitselect(here, where, more);
      }
  if (lanes >= 4)
    tw_store(y, best);
  else
    tw_store_tail(y, best, lanes);
  int32_t found[4];
  wasm_v128_store(found, where);
  for (uint32_t i = 0; i < lanes && i < 4; i++) places[i] = base + (int64_t)i * pixels + found[i];
}

uint32_t f32_max_pool_placed(const tw_dispatch *d, const tw_tile *t) {
  const placed_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_rows == 0 || !space_valid(&s)) return TW_INVALID_PARAMS;
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  if (!tw_holds(d, F32_MAX_POOL_PLACED_X, pixels_reach(inputs, p->x_pixel, p->channels), 4) ||
      !tw_holds(d, F32_MAX_POOL_PLACED_Y, pixels_reach(pixels, p->channels, p->channels), 4) ||
      !tw_holds(d, F32_MAX_POOL_PLACED_PLACES, pixels_reach(pixels, p->channels, p->channels), 8))
    return TW_BINDING_TOO_SHORT;
  if (pixels == 0) return TW_OK;
  uint32_t width = p->output[2], image = p->input[0] * p->input[1] * p->input[2];
  size_t line = (size_t)p->input[2] * p->x_pixel, plane = line * p->input[1];
  window o = {.step = {plane * p->dilation[0], line * p->dilation[1],
                       (size_t)p->x_pixel * p->dilation[2]}};
  for (int i = 0; i < 3; i++) o.place[i] = p->place[i] * p->dilation[i];
  tw_span rows = tw_piece(t->x, p->tile_rows, pixels / width);
  for (uint32_t number = rows.first; number < rows.last; number++) {
    place at = place_of_row(&s, number);
    o.at[0] = taps_of(&s, 0, at.d);
    o.at[1] = taps_of(&s, 1, at.h);
    for (uint32_t i = 0; i < width; i++) {
      o.at[2] = taps_of(&s, 2, i);
      const float *x = TW_DATA(float, d, F32_MAX_POOL_PLACED_X) +
                       (size_t)at.image * p->input[0] * plane +
                       (ptrdiff_t)o.at[0].at * (ptrdiff_t)plane +
                       (ptrdiff_t)o.at[1].at * (ptrdiff_t)line +
                       (ptrdiff_t)o.at[2].at * (ptrdiff_t)p->x_pixel;
      o.origin = 0;
      for (int axis = 0; axis < 3; axis++) o.origin += o.at[axis].at * (int32_t)p->place[axis];
      size_t to = ((size_t)number * width + i) * p->channels;
      for (uint32_t c = 0; c < p->channels; c += 4) {
        o.x = x + c;
        int64_t base = ((int64_t)at.image * p->channels + c) * image;
        largest(&o, TW_DATA(float, d, F32_MAX_POOL_PLACED_Y) + to + c,
                TW_DATA(int64_t, d, F32_MAX_POOL_PLACED_PLACES) + to + c, base, image,
                p->channels - c);
      }
    }
  }
  return TW_OK;
}
