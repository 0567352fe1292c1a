// y = the mean, or the largest, of samples that lie evenly in the bins of regions.
//
// x (batch, h, w, channels), pixels `x_pixel` elements apart; rois (regions, 4); images (regions)
// i64, 8-byte aligned; y (regions, oh, ow, channels), dense. Nothing may alias.
// Tile: x = `tile_bins` of regions * oh * ow. Scratch: none.
//
// Places are computed in double precision: how many samples a bin has must not hang on a rounding.
#include "picks.h"
#include "sample.h"
#include "space.h"

#define MOST_SAMPLES 4096  // along a bin; more tells a damaged file

typedef struct line {  // the samples of a bin along one axis
  double start, each;
  uint32_t count, extent;
} line;

// UINT32_MAX: too many.
static uint32_t count_of(double each, uint32_t samples) {
  if (samples > 0) return samples;
  if (!(each > 0)) return 0;
  return each > MOST_SAMPLES ? UINT32_MAX : (uint32_t)__builtin_ceil(each);
}

typedef struct corners {
  uint32_t low, high;
  double part;  // the higher one's weight
  int inside;
} corners;

static inline corners corners_of(const line *l, uint32_t sample) {
  double at = l->start + (sample + 0.5) / l->count * l->each;
  corners c = {.inside = at >= -1 && at <= l->extent};
  if (!c.inside) return c;
  at = at < 0 ? 0 : at > l->extent - 1 ? l->extent - 1 : at;
  c.low = (uint32_t)at;
  c.high = c.low + 1 < l->extent ? c.low + 1 : l->extent - 1;
  c.part = at - c.low;
  return c;
}

static __attribute__((noinline)) void largest_pick(const picks *p, const float *x, float *y,
                                                   uint32_t channels, int more) {
  if (more)
    summed_or_largest(p, x, y, channels, 1, 1);
  else
    summed_or_largest(p, x, y, channels, 0, 1);
}

static void bin(const roi_align_params *p, const float *x, float *y, const line *down,
                const line *across) {
  int largest = p->mode == SAMPLE_SUMMARY_LARGEST, more = 0, outside = 0;
  double share = largest ? 1 : 1.0 / ((double)down->count * across->count);
  picks chosen = {.count = 0};
  for (uint32_t i = 0; i < down->count; i++) {
    corners v = corners_of(down, i);
    for (uint32_t j = 0; j < across->count; j++) {
      corners u = corners_of(across, j);
      if (!v.inside || !u.inside) {
        outside = 1;
        continue;
      }
      uint32_t top = v.low * p->input[1], bottom = v.high * p->input[1];
      pick(&chosen, (top + u.low) * p->x_pixel, (float)((1 - v.part) * (1 - u.part) * share));
      pick(&chosen, (top + u.high) * p->x_pixel, (float)((1 - v.part) * u.part * share));
      pick(&chosen, (bottom + u.low) * p->x_pixel, (float)(v.part * (1 - u.part) * share));
      pick(&chosen, (bottom + u.high) * p->x_pixel, (float)(v.part * u.part * share));
      if (chosen.count == MOST_PICKS) {
        (largest ? largest_pick : sum_picks)(&chosen, x, y, p->channels, more);
        chosen.count = 0;
        more = 1;
      }
    }
  }
  if (!largest) {
    if (chosen.count || !more) sum_picks(&chosen, x, y, p->channels, more);
    return;
  }
  // A sample outside is 0; so is a bin without samples.
  if (chosen.count) {
    largest_pick(&chosen, x, y, p->channels, more);
    more = 1;
  }
  for (uint32_t c = 0; c < p->channels && (outside || !more); c++)
    if (!more || y[c] < 0) y[c] = 0;
}

uint32_t f32_roi_align(const tw_dispatch *d, const tw_tile *t) {
  const roi_align_params *p = d->params;
  uint32_t height = p->output[0], width = p->output[1];
  if (p->tile_bins == 0 || p->samples > MOST_SAMPLES || p->mode > SAMPLE_SUMMARY_LARGEST)
    return TW_INVALID_PARAMS;
  uint32_t out[3] = {1, height, width}, in[3] = {1, p->input[0], p->input[1]};
  uint64_t bins = pixels_of(p->regions, out), pixels = pixels_of(p->batch, in);
  if (bins == 0 || p->channels == 0) return TW_OK;
  if (pixels == 0) return TW_INVALID_PARAMS;
  if (bins > UINT32_MAX || !tw_holds(d, F32_ROI_ALIGN_ROIS, (uint64_t)p->regions * 4, 4) ||
      !tw_holds(d, F32_ROI_ALIGN_IMAGES, p->regions, 8) ||
      !tw_holds(d, F32_ROI_ALIGN_X, pixels_reach(pixels, p->x_pixel, p->channels), 4) ||
      !tw_holds(d, F32_ROI_ALIGN_Y, bins * p->channels, 4))
    return TW_BINDING_TOO_SHORT;
  double half = p->half_pixel ? 0.5 : 0;
  tw_span part = tw_piece(t->x, p->tile_bins, bins);
  for (uint32_t n = part.first; n < part.last; n++) {
    uint32_t region = n / width / height, row = n / width % height, column = n % width;
    const float *roi = TW_DATA(float, d, F32_ROI_ALIGN_ROIS) + (size_t)region * 4;
    int64_t image = TW_DATA(int64_t, d, F32_ROI_ALIGN_IMAGES)[region];
    if (image < 0 || image >= p->batch) return TW_INDEX_OUT_OF_RANGE;
    double edge[4];
    for (int i = 0; i < 4; i++) edge[i] = (double)roi[i] * p->scale - half;
    double wide = edge[2] - edge[0], tall = edge[3] - edge[1];
    if (!p->half_pixel) {  // malformed regions become 1 x 1
      wide = wide > 1 ? wide : 1;
      tall = tall > 1 ? tall : 1;
    }
    line down = {.each = tall / height, .extent = p->input[0]};
    line across = {.each = wide / width, .extent = p->input[1]};
    down.count = count_of(down.each, p->samples);
    across.count = count_of(across.each, p->samples);
    if (down.count > MOST_SAMPLES || across.count > MOST_SAMPLES) return TW_INDEX_OUT_OF_RANGE;
    down.start = edge[1] + row * down.each;
    across.start = edge[0] + column * across.each;
    const float *x = TW_DATA(float, d, F32_ROI_ALIGN_X) +
                     (size_t)image * p->input[0] * p->input[1] * p->x_pixel;
    bin(p, x, TW_DATA(float, d, F32_ROI_ALIGN_Y) + (size_t)n * p->channels, &down, &across);
  }
  return TW_OK;
}
