// y = x at the grid's places: between 1, 2 or 4 pixels along each axis.
//
// x (batch, d, h, w, channels), pixels `x_pixel` elements apart; grid (batch, points, axes); y
// (batch, points, channels), dense; or, with planes, x (batch, channels, d, h, w) and y (batch,
// channels, points), both dense. Nothing may alias.
// Tile: x = `tile_points` of batch * points. Scratch: none.
//
// Places are computed as the standard's formulas say, operation by operation in single precision,
// so that "nearest" chooses the same pixel as everybody's. A pixel outside counts nothing, even
// where a pixel inside is infinite.
#include "picks.h"
#include "sample.h"
#include "space.h"

#define FAR 4  // pixels outside; further makes no difference
#define CUBIC -0.75f

typedef struct along {  // what one axis says of four places
  v128_t index[4], weight[4], inside[4];  // indices are within the image even where none counts
} along;

TW_INLINE v128_t clamped(v128_t x, float low, float high) {  // NaN stays
  return wasm_f32x4_min(wasm_f32x4_max(x, tw_splat(low)), tw_splat(high));
}

// Places thrown back at the borders until they are within.
TW_INLINE v128_t reflected(v128_t at, float low, float high) {
  float span = high - low;
  if (!(span > 0)) return tw_splat(low);
  v128_t over = wasm_f32x4_abs(wasm_f32x4_sub(at, tw_splat(low)));
  v128_t turns = wasm_f32x4_floor(wasm_f32x4_div(over, tw_splat(span)));
  v128_t rest = wasm_f32x4_sub(over, wasm_f32x4_mul(turns, tw_splat(span)));
  v128_t half = wasm_f32x4_mul(turns, tw_splat(0.5f));
  return wasm_v128_bitselect(wasm_f32x4_add(tw_splat(low), rest),
                             wasm_f32x4_sub(tw_splat(high), rest),
                             wasm_f32x4_eq(half, wasm_f32x4_floor(half)));
}

// ((a x + b) x + c) x + d, rounded after each step.
TW_INLINE v128_t cubed(v128_t x, float a, float b, float c, float d) {
  v128_t y = wasm_f32x4_add(wasm_f32x4_mul(x, tw_splat(a)), tw_splat(b));
  y = wasm_f32x4_add(wasm_f32x4_mul(y, x), tw_splat(c));
  return wasm_f32x4_add(wasm_f32x4_mul(y, x), tw_splat(d));
}
TW_INLINE v128_t cubic(v128_t d) {
  return wasm_v128_bitselect(cubed(d, CUBIC + 2, -(CUBIC + 3), 0, 1),
                             cubed(d, CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC),
                             wasm_f32x4_le(d, tw_splat(1)));
}

TW_INLINE void look_along(const grid_sample_params *p, sample_interpolation mode, uint32_t extent,
                          v128_t way, along *a) {
  float last = (float)(extent - 1), low = -0.5f, high = last + 0.5f;
  v128_t one = tw_splat(1), half = tw_splat(0.5f), at = wasm_f32x4_add(way, one);
  if (p->align_corners) {
    at = wasm_f32x4_mul(wasm_f32x4_mul(at, half), tw_splat(last));
    low = 0;
    high = last;
  } else {
    at = wasm_f32x4_sub(wasm_f32x4_mul(at, tw_splat((float)extent)), one);
    at = wasm_f32x4_mul(at, half);
  }
  if (mode == SAMPLE_INTERPOLATION_NEAREST) at = wasm_f32x4_nearest(at);
  if (p->outside == SAMPLE_BEYOND_BORDER && mode != SAMPLE_INTERPOLATION_CUBIC)
    at = clamped(at, 0, last);
  else if (p->outside == SAMPLE_BEYOND_REFLECTION)
    at = wasm_v128_bitselect(reflected(at, low, high), at,
                             wasm_v128_or(wasm_f32x4_lt(at, tw_splat(low)),
                                          wasm_f32x4_gt(at, tw_splat(high))));
  at = wasm_v128_bitselect(clamped(at, -FAR, last + FAR), tw_splat(-1), wasm_f32x4_eq(at, at));
  v128_t base = wasm_f32x4_floor(at);
  int taps = mode == SAMPLE_INTERPOLATION_CUBIC ? 4 : (int)mode + 1;
  for (int k = 0; k < taps; k++) {
    v128_t index = wasm_f32x4_add(base, tw_splat((float)(taps == 4 ? k - 1 : k)));
    v128_t away = wasm_f32x4_abs(wasm_f32x4_sub(index, at));
    a->weight[k] = taps == 1 ? one : taps == 2 ? wasm_f32x4_sub(one, away) : cubic(away);
    v128_t inside = wasm_v128_and(wasm_f32x4_ge(index, tw_splat(0)),
                                  wasm_f32x4_le(index, tw_splat(last)));
    if (p->outside == SAMPLE_BEYOND_REFLECTION)
      index = wasm_v128_bitselect(index, wasm_f32x4_trunc(reflected(index, low, high)), inside);
    a->inside[k] = p->outside == SAMPLE_BEYOND_ZEROS ? inside : wasm_i32x4_splat(-1);
    a->index[k] = wasm_i32x4_trunc_sat_f32x4(clamped(index, 0, last));
  }
}

typedef struct four {  // the pixels of four samples, in elements from x
  uint32_t count;
  v128_t at[MOST_PICKS], weight[MOST_PICKS], inside[MOST_PICKS];
} four;

TW_INLINE void joined(const grid_sample_params *p, const along axes[3], int skipped, int taps,
                      uint32_t pixel, four *o) {
  v128_t height = wasm_i32x4_splat((int32_t)p->input[1]);
  v128_t width = wasm_i32x4_splat((int32_t)p->input[2]), step = wasm_i32x4_splat((int32_t)pixel);
  o->count = 0;
  for (int i = 0; i < (skipped > 0 ? 1 : taps); i++)
    for (int j = 0; j < (skipped > 1 ? 1 : taps); j++) {
      v128_t row = wasm_i32x4_add(wasm_i32x4_mul(axes[0].index[i], height), axes[1].index[j]);
      v128_t weight = wasm_f32x4_mul(axes[0].weight[i], axes[1].weight[j]);
      v128_t inside = wasm_v128_and(axes[0].inside[i], axes[1].inside[j]);
      row = wasm_i32x4_mul(row, width);
      for (int k = 0; k < taps; k++, o->count++) {
        o->at[o->count] = wasm_i32x4_mul(wasm_i32x4_add(row, axes[2].index[k]), step);
        o->weight[o->count] = wasm_f32x4_mul(weight, axes[2].weight[k]);
        o->inside[o->count] = wasm_v128_and(inside, axes[2].inside[k]);
      }
    }
}

// One channel of four samples.
TW_INLINE v128_t of_plane(const four *o, const float *x) {
  v128_t sum = tw_splat(0);
  for (uint32_t k = 0; k < o->count; k++) {
    v128_t at = o->at[k];
    v128_t found = wasm_f32x4_make(
        x[(uint32_t)wasm_i32x4_extract_lane(at, 0)], x[(uint32_t)wasm_i32x4_extract_lane(at, 1)],
        x[(uint32_t)wasm_i32x4_extract_lane(at, 2)], x[(uint32_t)wasm_i32x4_extract_lane(at, 3)]);
    sum = tw_madd(wasm_v128_and(found, o->inside[k]), o->weight[k], sum);
  }
  return sum;
}

TW_INLINE uint32_t lane_of(const v128_t *v, uint32_t i) {
  uint32_t x;
  __builtin_memcpy(&x, (const uint8_t *)v + 4 * i, 4);
  return x;
}
TW_INLINE float number_of(const v128_t *v, uint32_t i) {
  float x;
  __builtin_memcpy(&x, (const uint8_t *)v + 4 * i, 4);
  return x;
}

// The samples of a tile, of one mode, four at a time.
TW_INLINE void samples(const grid_sample_params *p, const tw_dispatch *d, tw_span part,
                       sample_interpolation mode) {
  int skipped = 3 - (int)p->axes, taps = mode == SAMPLE_INTERPOLATION_CUBIC ? 4 : (int)mode + 1;
  size_t image = (size_t)p->input[0] * p->input[1] * p->input[2];
  size_t whole = image * (p->planes ? p->channels : p->x_pixel);
  along axes[3];
  for (int axis = 0; axis < skipped; axis++) {
    axes[axis].index[0] = tw_splat(0);
    axes[axis].weight[0] = tw_splat(1);
    axes[axis].inside[0] = wasm_i32x4_splat(-1);
  }
  four chosen;
  for (uint32_t n = part.first, count; n < part.last; n += count) {
    uint32_t batch = n / p->points, rest = p->points - n % p->points;
    count = part.last - n < rest ? part.last - n : rest;
    if (count > 4) count = 4;
    const float *place = TW_DATA(float, d, F32_GRID_SAMPLE_GRID) + (size_t)n * p->axes;
    for (int axis = skipped; axis < 3; axis++) {
      const float *way = place + 2 - axis;
      uint32_t one = count > 1 ? p->axes : 0, two = count > 2 ? 2 * p->axes : one;
      uint32_t three = count > 3 ? 3 * p->axes : two;
      look_along(p, mode, p->input[axis],
                 wasm_f32x4_make(way[0], way[one], way[two], way[three]), &axes[axis]);
    }
    joined(p, axes, skipped, taps, p->planes ? 1 : p->x_pixel, &chosen);
    const float *from = TW_DATA(float, d, F32_GRID_SAMPLE_X) + batch * whole;
    float *to = TW_DATA(float, d, F32_GRID_SAMPLE_Y);
    if (p->planes) {
      to += (size_t)batch * p->channels * p->points + n % p->points;
      for (uint32_t c = 0; c < p->channels; c++, from += image, to += p->points) {
        v128_t sum = of_plane(&chosen, from);
        if (count == 4)
          tw_store(to, sum);
        else
          tw_store_tail(to, sum, count);
      }
      continue;
    }
    for (uint32_t i = 0; i < count; i++) {
      picks own = {.count = 0};
      for (uint32_t k = 0; k < chosen.count; k++)
        if (lane_of(&chosen.inside[k], i))
          pick(&own, lane_of(&chosen.at[k], i), number_of(&chosen.weight[k], i));
      sum_picks(&own, from, to + (size_t)(n + i) * p->channels, p->channels, 0);
    }
  }
}

static __attribute__((noinline)) void nearest(const grid_sample_params *p, const tw_dispatch *d,
                                              tw_span part) {
  samples(p, d, part, SAMPLE_INTERPOLATION_NEAREST);
}
static __attribute__((noinline)) void linear(const grid_sample_params *p, const tw_dispatch *d,
                                             tw_span part) {
  samples(p, d, part, SAMPLE_INTERPOLATION_LINEAR);
}
static __attribute__((noinline)) void by_cubic(const grid_sample_params *p, const tw_dispatch *d,
                                               tw_span part) {
  samples(p, d, part, SAMPLE_INTERPOLATION_CUBIC);
}

uint32_t f32_grid_sample(const tw_dispatch *d, const tw_tile *t) {
  const grid_sample_params *p = d->params;
  if (p->tile_points == 0 || p->axes < 1 || p->axes > 3 ||
      p->mode > SAMPLE_INTERPOLATION_CUBIC || p->outside > SAMPLE_BEYOND_REFLECTION)
    return TW_INVALID_PARAMS;
  uint64_t points = (uint64_t)p->batch * p->points, pixels = pixels_of(p->batch, p->input);
  if (points == 0 || p->channels == 0) return TW_OK;
  if (pixels == 0) return TW_INVALID_PARAMS;  // there is nothing to look at
  uint64_t reach = p->planes ? pixels * p->channels : pixels_reach(pixels, p->x_pixel, p->channels);
  if (points > UINT32_MAX || pixels > UINT32_MAX ||
      !tw_holds(d, F32_GRID_SAMPLE_GRID, points * p->axes, 4) ||
      !tw_holds(d, F32_GRID_SAMPLE_X, reach, 4) ||
      !tw_holds(d, F32_GRID_SAMPLE_Y, points * p->channels, 4))
    return TW_BINDING_TOO_SHORT;
  tw_span part = tw_piece(t->x, p->tile_points, points);
  switch (p->mode) {
    case SAMPLE_INTERPOLATION_NEAREST: nearest(p, d, part); break;
    case SAMPLE_INTERPOLATION_LINEAR: linear(p, d, part); break;
    default: by_cubic(p, d, part);
  }
  return TW_OK;
}
