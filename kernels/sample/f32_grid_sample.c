// y = x at the grid's places: between 1, 2 or 4 pixels along each axis.
//
// x (batch, d, h, w, channels), pixels `x_pixel` elements apart; grid (batch, points, axes); y
// (batch, points, channels), dense. Nothing may alias.
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

typedef struct along {  // what one axis says: pixels, -1 for none, and their weights
  int32_t index[4];
  float weight[4];
} along;

static inline float clamped(float x, float low, float high) {
  return x < low ? low : x > high ? high : x;  // NaN stays
}

// A place thrown back at the borders until it is within.
static float reflected(float at, float low, float high) {
  float span = high - low;
  if (!(span > 0)) return low;
  float over = __builtin_fabsf(at - low), turns = __builtin_floorf(over / span);
  float rest = over - turns * span, half = turns * 0.5f;
  return half == __builtin_floorf(half) ? low + rest : high - rest;
}

static inline float cubic(float d) {
  d = __builtin_fabsf(d);
  if (d <= 1) return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1;
  return ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC;
}

static void look_along(const grid_sample_params *p, uint32_t extent, float way, along *a) {
  float last = (float)(extent - 1), at;
  if (p->align_corners)
    at = (way + 1) / 2 * last;
  else
    at = ((way + 1) * (float)extent - 1) / 2;
  if (p->mode == SAMPLE_INTERPOLATION_NEAREST) at = __builtin_rintf(at);
  float low = p->align_corners ? 0 : -0.5f, high = p->align_corners ? last : last + 0.5f;
  if (p->outside == SAMPLE_BEYOND_BORDER && p->mode != SAMPLE_INTERPOLATION_CUBIC)
    at = clamped(at, 0, last);
  else if (p->outside == SAMPLE_BEYOND_REFLECTION && (at < low || at > high))
    at = reflected(at, low, high);
  at = at != at ? -1 : clamped(at, -FAR, last + FAR);
  float base = __builtin_floorf(at);
  int taps = p->mode == SAMPLE_INTERPOLATION_CUBIC ? 4 : (int)p->mode + 1;
  for (int k = 0; k < taps; k++) {
    float index = base + (float)(taps == 4 ? k - 1 : k), away = index - at;
    a->weight[k] = taps == 1 ? 1 : taps == 2 ? 1 - __builtin_fabsf(away) : cubic(away);
    int inside = index >= 0 && index <= last;
    if (!inside && p->outside == SAMPLE_BEYOND_ZEROS) {
      a->index[k] = -1;
      continue;
    }
    if (!inside && p->outside == SAMPLE_BEYOND_REFLECTION)
      index = __builtin_truncf(reflected(index, low, high));
    a->index[k] = (int32_t)clamped(index, 0, last);
  }
}

uint32_t f32_grid_sample(const tw_dispatch *d, const tw_tile *t) {
  const grid_sample_params *p = d->params;
  if (p->tile_points == 0 || p->axes < 1 || p->axes > 3 ||
      p->mode > SAMPLE_INTERPOLATION_CUBIC || p->outside > SAMPLE_BEYOND_REFLECTION)
    return TW_INVALID_PARAMS;
  uint64_t points = (uint64_t)p->batch * p->points, pixels = pixels_of(p->batch, p->input);
  if (points == 0 || p->channels == 0) return TW_OK;
  if (pixels == 0) return TW_INVALID_PARAMS;  // there is nothing to look at
  if (points > UINT32_MAX || !tw_holds(d, F32_GRID_SAMPLE_GRID, points * p->axes, 4) ||
      !tw_holds(d, F32_GRID_SAMPLE_X, pixels_reach(pixels, p->x_pixel, p->channels), 4) ||
      !tw_holds(d, F32_GRID_SAMPLE_Y, points * p->channels, 4))
    return TW_BINDING_TOO_SHORT;
  int skipped = 3 - (int)p->axes, taps = p->mode == SAMPLE_INTERPOLATION_CUBIC ? 4 : p->mode + 1;
  uint32_t image = p->input[0] * p->input[1] * p->input[2];
  along axes[3] = {{{0}, {1}}, {{0}, {1}}, {{0}, {1}}};
  picks chosen;
  tw_span part = tw_piece(t->x, p->tile_points, points);
  for (uint32_t n = part.first; n < part.last; n++) {
    const float *place = TW_DATA(float, d, F32_GRID_SAMPLE_GRID) + (size_t)n * p->axes;
    for (int axis = skipped; axis < 3; axis++)
      look_along(p, p->input[axis], place[2 - axis], &axes[axis]);
    chosen.count = 0;
    for (int i = 0; i < (skipped > 0 ? 1 : taps); i++)
      for (int j = 0; j < (skipped > 1 ? 1 : taps); j++)
        for (int k = 0; k < taps; k++) {
          int32_t z = axes[0].index[i], y = axes[1].index[j], x = axes[2].index[k];
          if (z < 0 || y < 0 || x < 0) continue;
          uint32_t pixel = ((uint32_t)z * p->input[1] + (uint32_t)y) * p->input[2] + (uint32_t)x;
          pick(&chosen, pixel * p->x_pixel,
               axes[0].weight[i] * axes[1].weight[j] * axes[2].weight[k]);
        }
    const float *from = TW_DATA(float, d, F32_GRID_SAMPLE_X) +
                        (size_t)(n / p->points) * image * p->x_pixel;
    sum_picks(&chosen, from, TW_DATA(float, d, F32_GRID_SAMPLE_Y) + (size_t)n * p->channels,
              p->channels, 0);
  }
  return TW_OK;
}
