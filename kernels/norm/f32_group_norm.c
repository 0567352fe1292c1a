// f32_group_norm: y = activation((x - mean) / sqrt(var(x) + epsilon) * gamma + beta), mean and variance
// over the channels of a group and the pixels of an image; the variance is the mean of the squared
// differences, from a second pass.
//
// x      (batch, channels, pixels) dense, or (batch, pixels, channels), pixels `x_pixel` apart
// gamma, beta (channels), each optional;  y as x, dense; 4-byte aligned, y may be x
// Tile: x = `tile_groups` groups, y = image. Scratch where channels lie side by side: sums of each
// channel in double precision, then mean, scale and beta, so 20 bytes.
//
// A tile passes over its elements three times, which lie in cache from the first time on.
#include "epilogue.h"
#include "rows.h"

#define PIECE 256  // pixels that are summed in single precision

static v128_t activate(v128_t x, norm_activation kind) {
  switch (kind) {
    TW_ACTIVATIONS(NORM, x);
    default: return x;
  }
}

// The usual ones without a call; `kind` is a constant where this is inlined.
TW_INLINE v128_t finished(v128_t x, norm_activation kind) {
  if (kind == NORM_ACTIVATION_NONE) return x;
  return kind == NORM_ACTIVATION_SILU ? tw_silu(x, tw_splat(1)) : activate(x, kind);
}

TW_INLINE v128_t normed(v128_t x, v128_t mean, v128_t scale, v128_t beta, norm_activation kind) {
  return finished(tw_madd(wasm_f32x4_sub(x, mean), scale, beta), kind);
}

// -- (batch, channels, pixels) -------------------------------------------------------------------

TW_INLINE void write_line(const float *x, float *y, uint32_t n, v128_t mean, v128_t scale,
                          v128_t beta, norm_activation kind) {
  for (uint32_t i = 0; i < n; i += 4)
    tw_put(y, i, n, normed(tw_part(x, i, n), mean, scale, beta, kind));
}

static void planes(const tw_dispatch *d, uint32_t image, tw_span groups) {
  const group_norm_params *p = d->params;
  const float *gamma = tw_optional(d, F32_GROUP_NORM_GAMMA);
  const float *beta = tw_optional(d, F32_GROUP_NORM_BETA);
  uint32_t own = p->channels / p->groups, n = own * p->pixels;
  for (uint32_t g = groups.first; g < groups.last; g++) {
    size_t at = ((size_t)image * p->groups + g) * n;
    const float *x = TW_DATA(float, d, F32_GROUP_NORM_X) + at;
    float *y = TW_DATA(float, d, F32_GROUP_NORM_Y) + at;
    v128_t mean = tw_splat((float)(tw_row_sum(x, n, 0, tw_splat(0)) / n));
    double root = 1 / __builtin_sqrt(tw_row_sum(x, n, 1, mean) / n + p->epsilon);
    for (uint32_t c = g * own; c < (g + 1) * own; c++, x += p->pixels, y += p->pixels) {
      v128_t scale = tw_splat((float)(gamma ? gamma[c] * root : root));
      v128_t shift = tw_splat(beta ? beta[c] : 0);
#define LINE(kind) write_line(x, y, p->pixels, mean, scale, shift, kind)
      if (p->activation == NORM_ACTIVATION_NONE) LINE(NORM_ACTIVATION_NONE);
      else if (p->activation == NORM_ACTIVATION_SILU) LINE(NORM_ACTIVATION_SILU);
      else LINE(p->activation);
#undef LINE
    }
  }
}

// -- (batch, pixels, channels) -------------------------------------------------------------------

// Sums over all pixels of `vectors` times four channels, the last of n; with a mean, of the squared
// differences. `vectors` is a constant where this is inlined.
TW_INLINE void sum_channels(const group_norm_params *p, const float *x, const float *mean,
                            double *sums, uint32_t n, int vectors) {
  for (uint32_t first = 0; first < p->pixels; first += PIECE) {
    uint32_t end = p->pixels - first > PIECE ? first + PIECE : p->pixels;
    v128_t sum[8];
    TW_UNROLLED for (int v = 0; v < vectors; v++) sum[v] = tw_splat(0);
    const float *pixel = x + (size_t)first * p->x_pixel;
    for (uint32_t i = first; i < end; i++, pixel += p->x_pixel) {
      TW_UNROLLED for (int v = 0; v < vectors; v++) {
        v128_t one = vectors > 1 ? tw_load(pixel + 4 * v) : tw_part(pixel, 0, n);
        if (mean) {
          one = wasm_f32x4_sub(one, tw_load(mean + 4 * v));
          sum[v] = tw_madd(one, one, sum[v]);
        } else {
          sum[v] = wasm_f32x4_add(sum[v], one);
        }
      }
    }
    for (int v = 0; v < vectors; v++) {
      float lanes[4];
      tw_store(lanes, sum[v]);
      for (int i = 0; i < 4; i++) sums[4 * v + i] += lanes[i];
    }
  }
}

// Scratch of a tile: channels rounded up to four.
typedef struct slice {
  double *sums;
  float *mean, *scale, *beta;
  uint32_t first, width;  // channels
} slice;

static void sum_slice(const group_norm_params *p, const float *x, const slice *s, int squared) {
  uint32_t c = 0, room = (s->width + 3) / 4 * 4;
  for (uint32_t i = 0; i < room; i++) s->sums[i] = 0;
  const float *mean = squared ? s->mean : 0;
#define SUM(vectors)                                                                               \
  sum_channels(p, x + c, mean ? mean + c : 0, s->sums + c, s->width - c, vectors)
  for (; c + 32 <= s->width; c += 32) SUM(8);
  for (; c < s->width; c += 4) SUM(1);
#undef SUM
}

TW_INLINE void write_slice(const group_norm_params *p, const float *x, float *y, const slice *s,
                           norm_activation kind) {
  for (uint32_t i = 0; i < p->pixels; i++, x += p->x_pixel, y += p->channels)
    for (uint32_t c = 0; c < s->width; c += 4)
      tw_put(y, c, s->width,
             normed(tw_part(x, c, s->width), tw_load(s->mean + c), tw_load(s->scale + c),
                    tw_load(s->beta + c), kind));
}

static void pixels(const tw_dispatch *d, uint32_t image, tw_span groups, void *scratch) {
  const group_norm_params *p = d->params;
  const float *gamma = tw_optional(d, F32_GROUP_NORM_GAMMA);
  const float *beta = tw_optional(d, F32_GROUP_NORM_BETA);
  uint32_t own = p->channels / p->groups;
  slice s = {.sums = scratch, .first = groups.first * own};
  s.width = (groups.last - groups.first) * own;
  uint32_t room = (s.width + 3) / 4 * 4;
  s.mean = (float *)(s.sums + room);
  s.scale = s.mean + room;
  s.beta = s.scale + room;
  size_t before = (size_t)image * p->pixels;
  const float *x = TW_DATA(float, d, F32_GROUP_NORM_X) + before * p->x_pixel + s.first;
  float *y = TW_DATA(float, d, F32_GROUP_NORM_Y) + before * p->channels + s.first;
  double count = (double)own * p->pixels;
  for (int squared = 0; squared < 2; squared++) {
    sum_slice(p, x, &s, squared);
    for (uint32_t at = 0; at < s.width; at += own) {
      double total = 0;
      for (uint32_t c = at; c < at + own; c++) total += s.sums[c];
      total /= count;
      double root = squared ? 1 / __builtin_sqrt(total + p->epsilon) : 0;
      for (uint32_t c = at; c < at + own; c++) {
        if (!squared) {
          s.mean[c] = (float)total;
          continue;
        }
        s.scale[c] = (float)(gamma ? gamma[s.first + c] * root : root);
        s.beta[c] = beta ? beta[s.first + c] : 0;
      }
    }
    for (uint32_t c = s.width; c < room; c++) s.mean[c] = s.scale[c] = s.beta[c] = 0;
  }
  if (p->activation == NORM_ACTIVATION_NONE) write_slice(p, x, y, &s, NORM_ACTIVATION_NONE);
  else if (p->activation == NORM_ACTIVATION_SILU) write_slice(p, x, y, &s, NORM_ACTIVATION_SILU);
  else write_slice(p, x, y, &s, p->activation);
}

uint32_t f32_group_norm(const tw_dispatch *d, const tw_tile *t) {
  const group_norm_params *p = d->params;
  if (p->tile_groups == 0 || p->groups == 0 || p->channels % p->groups ||
      p->activation > NORM_ACTIVATION_QUICK_GELU || (p->x_pixel != 0 && p->x_pixel < p->channels))
    return TW_INVALID_PARAMS;
  uint64_t all = (uint64_t)p->batch * p->pixels, each = (uint64_t)p->channels * p->pixels;
  if (each > UINT32_MAX) return TW_BINDING_TOO_SHORT;
  uint64_t last = p->x_pixel && all ? (all - 1) * p->x_pixel + p->channels : all * p->channels;
  if (!tw_holds(d, F32_GROUP_NORM_Y, all * p->channels, 4) || all > UINT32_MAX ||
      !tw_holds(d, F32_GROUP_NORM_X, last, 4) ||
      (tw_present(d, F32_GROUP_NORM_GAMMA) && !tw_holds(d, F32_GROUP_NORM_GAMMA, p->channels, 4)) ||
      (tw_present(d, F32_GROUP_NORM_BETA) && !tw_holds(d, F32_GROUP_NORM_BETA, p->channels, 4)))
    return TW_BINDING_TOO_SHORT;
  tw_span groups = tw_piece(t->x, p->tile_groups, p->groups);
  if (t->y >= p->batch || groups.first == groups.last || each == 0) return TW_OK;
  if (p->x_pixel == 0) {
    planes(d, t->y, groups);
    return TW_OK;
  }
  uint64_t room = (uint64_t)(groups.last - groups.first) * (p->channels / p->groups) + 3;
  if (t->scratch_length < room / 4 * 4 * 20) return TW_SCRATCH_TOO_SMALL;
  pixels(d, t->y, groups, t->scratch);
  return TW_OK;
}
