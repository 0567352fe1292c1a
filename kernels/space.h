// Windows over three spatial axes, for conv and pool: which taps of a window lie inside the input.
#ifndef TW_SPACE_H
#define TW_SPACE_H
#include "bindings.h"
#include "simd.h"

typedef struct space {
  const uint32_t *input, *output, *kernel, *stride, *dilation, *padding;
} space;

#define SPACE_OF(p) {(p)->input, (p)->output, (p)->kernel, (p)->stride, (p)->dilation, (p)->padding}

// Taps [first, last) of axis `axis` are inside for output `o`; tap k reads input at + k dilation.
typedef struct taps {
  int32_t at;
  uint32_t first, last;
} taps;

static inline taps taps_of(const space *s, int axis, uint32_t o) {
  int64_t at = (int64_t)o * s->stride[axis] - s->padding[axis], d = s->dilation[axis];
  // Nearly all windows lie inside, and a division of 64 bits costs as much as a small product.
  if (at >= 0 && at + (int64_t)(s->kernel[axis] - 1) * d < s->input[axis])
    return (taps){(int32_t)at, 0, s->kernel[axis]};
  int64_t first = at < 0 ? (-at + d - 1) / d : 0, k = s->kernel[axis];
  int64_t last = at < s->input[axis] ? (s->input[axis] - at + d - 1) / d : 0;
  if (last > k) last = k;
  if (first > last) first = last;
  return (taps){(int32_t)at, (uint32_t)first, (uint32_t)last};
}

static inline int space_valid(const space *s) {
  for (int i = 0; i < 3; i++)
    if (s->kernel[i] == 0 || s->stride[i] == 0 || s->dilation[i] == 0) return 0;
  return 1;
}

// Elements from the first to the last of `pixels` pixels with `channels` side by side; UINT64_MAX
// where that is more than any binding has.
static inline uint64_t pixels_reach(uint64_t pixels, uint32_t pixel, uint32_t channels) {
  if (pixels == 0) return 0;
  if (pixels > UINT32_MAX) return UINT64_MAX;
  return (pixels - 1) * pixel + channels;
}

// batch times the three extents, no more than 2^32.
static inline uint64_t pixels_of(uint32_t batch, const uint32_t extents[3]) {
  uint64_t count = batch;
  for (int i = 0; i < 3; i++) {
    count *= extents[i];
    if (count > UINT32_MAX) count = (uint64_t)UINT32_MAX + 1;
    if (extents[i] == 0) return 0;
  }
  return count;
}

// Output pixel or row number `n` as its place: (image, d, h) and, of a pixel, w.
typedef struct place {
  uint32_t image, d, h, w;
} place;

static inline place place_of_row(const space *s, uint32_t row) {
  place at = {0, 0, row % s->output[1], 0};
  row /= s->output[1];
  at.d = row % s->output[0];
  at.image = row / s->output[0];
  return at;
}
static inline place place_of_pixel(const space *s, uint32_t pixel) {
  place at = place_of_row(s, pixel / s->output[2]);
  at.w = pixel % s->output[2];
  return at;
}
static inline void next_pixel(const space *s, place *at) {
  if (++at->w < s->output[2]) return;
  at->w = 0;
  if (++at->h < s->output[1]) return;
  at->h = 0;
  if (++at->d < s->output[0]) return;
  at->d = 0;
  at->image++;
}

#endif
