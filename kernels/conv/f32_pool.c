// y = the largest element, mean or norm of each window, channel by channel.
//
// x  (n, d, h, w, channels), pixels `x_pixel` elements apart;  y likewise. Nothing may alias.
// Tile: x = `tile_channels` channels, y = `tile_rows` rows of output pixels. Scratch: none.
//
// A window without any place inside the input is -infinity, or 0. NaN in is NaN out. Sums run over
// pieces of 64 elements in single precision, their totals in double.
#include "activation.h"
#include "space.h"

#define PIECE 64

typedef struct window {
  const float *x;  // tap 0 of the window, perhaps outside
  taps d, h, w;
  size_t plane, line, column;  // elements between taps
} window;

TW_INLINE v128_t begin(conv_pooling kind) {
  return tw_splat(kind == CONV_POOLING_MAX ? -__builtin_inff() : 0);
}
TW_INLINE v128_t with(v128_t sum, v128_t x, conv_pooling kind) {
  switch (kind) {
    case CONV_POOLING_MAX: return wasm_f32x4_max(sum, x);
    case CONV_POOLING_LP1: return wasm_f32x4_add(sum, wasm_f32x4_abs(x));
    case CONV_POOLING_LP2: return tw_madd(x, x, sum);
    default: return wasm_f32x4_add(sum, x);
  }
}

// `vectors` by 4 channels from `c` on, `lanes` of them where it is less than 4.
TW_INLINE void pooled(const window *o, float *y, uint32_t c, v128_t share, int vectors,
                      uint32_t lanes, conv_pooling kind) {
  v128_t sum[4];
  v128_t low[4], high[4];  // totals of pieces, as doubles
  int split = 0;
  uint32_t left = PIECE;
  for (int v = 0; v < vectors; v++) {
    sum[v] = begin(kind);
    low[v] = high[v] = wasm_f64x2_splat(0);
  }
  for (uint32_t d = o->d.first; d < o->d.last; d++)
    for (uint32_t h = o->h.first; h < o->h.last; h++) {
      const float *x = o->x + d * o->plane + h * o->line + o->w.first * o->column + c;
      for (uint32_t w = o->w.first; w < o->w.last; w++, x += o->column) {
        for (int v = 0; v < vectors; v++) sum[v] = with(sum[v], load_lanes(x + 4 * v, lanes), kind);
        if (kind != CONV_POOLING_MAX && --left == 0) {
          left = PIECE;
          split = 1;
          for (int v = 0; v < vectors; v++) {
            low[v] = wasm_f64x2_add(low[v], wasm_f64x2_promote_low_f32x4(sum[v]));
            high[v] = wasm_f64x2_add(high[v], wasm_f64x2_promote_low_f32x4(wasm_i64x2_shuffle(sum[v], sum[v], 1, 0)));
            sum[v] = tw_splat(0);
          }
        }
      }
    }
  for (int v = 0; v < vectors; v++) {
    v128_t total = sum[v];
    if (split) {
      v128_t a = wasm_f64x2_add(low[v], wasm_f64x2_promote_low_f32x4(total));
      v128_t b = wasm_f64x2_add(high[v], wasm_f64x2_promote_low_f32x4(wasm_i64x2_shuffle(total, total, 1, 0)));
      total = wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(a), wasm_f32x4_demote_f64x2_zero(b), 0, 2);
    }
    if (kind == CONV_POOLING_AVERAGE) total = wasm_f32x4_div(total, share);
    if (kind == CONV_POOLING_LP2) total = wasm_f32x4_sqrt(total);
    store_lanes(y + c + 4 * v, total, lanes);
  }
}

TW_INLINE void channels(const window *o, float *y, tw_span part, v128_t share, conv_pooling kind) {
  uint32_t c = part.first;
  for (; c + 16 <= part.last; c += 16) pooled(o, y, c, share, 4, 4, kind);
  for (; c + 4 <= part.last; c += 4) pooled(o, y, c, share, 1, 4, kind);
  if (c < part.last) pooled(o, y, c, share, 1, part.last - c, kind);
}

static __attribute__((noinline)) void largest(const window *o, float *y, tw_span part) {
  channels(o, y, part, tw_splat(0), CONV_POOLING_MAX);
}
static __attribute__((noinline)) void mean(const window *o, float *y, tw_span part, v128_t share) {
  channels(o, y, part, share, CONV_POOLING_AVERAGE);
}
static __attribute__((noinline)) void norm(const window *o, float *y, tw_span part, int squares) {
  if (squares)
    channels(o, y, part, tw_splat(0), CONV_POOLING_LP2);
  else
    channels(o, y, part, tw_splat(0), CONV_POOLING_LP1);
}

// Places of a window along an axis that an average counts.
static uint32_t counted(const pool_params *p, int axis, taps inside) {
  if (!p->count_padding) return inside.last - inside.first;
  int64_t end = (int64_t)p->input[axis] + p->padding_end[axis], d = p->dilation[axis];
  int64_t last = end > inside.at ? (end - inside.at + d - 1) / d : 0;
  return last < p->kernel[axis] ? (uint32_t)last : p->kernel[axis];
}

uint32_t f32_pool(const tw_dispatch *d, const tw_tile *t) {
  const pool_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_rows == 0 || p->tile_channels == 0 || p->tile_channels % 4 ||
      p->pooling > CONV_POOLING_LP2 || !space_valid(&s))
    return TW_INVALID_PARAMS;
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  if (!tw_holds(d, F32_POOL_X, pixels_reach(inputs, p->x_pixel, p->channels), 4) ||
      !tw_holds(d, F32_POOL_Y, pixels_reach(pixels, p->y_pixel, p->channels), 4))
    return TW_BINDING_TOO_SHORT;
  if (pixels == 0) return TW_OK;
  uint32_t width = p->output[2];
  size_t line = (size_t)p->input[2] * p->x_pixel, plane = line * p->input[1];
  window o = {.plane = plane * p->dilation[0], .line = line * p->dilation[1],
              .column = (size_t)p->x_pixel * p->dilation[2]};
  tw_span part = tw_piece(t->x, p->tile_channels, p->channels);
  tw_span rows = tw_piece(t->y, p->tile_rows, pixels / width);
  for (uint32_t number = rows.first; number < rows.last; number++) {
    place at = place_of_row(&s, number);
    o.d = taps_of(&s, 0, at.d);
    o.h = taps_of(&s, 1, at.h);
    const float *x = TW_DATA(float, d, F32_POOL_X) + (size_t)at.image * p->input[0] * plane +
                     (ptrdiff_t)o.d.at * (ptrdiff_t)plane + (ptrdiff_t)o.h.at * (ptrdiff_t)line;
    float *y = TW_DATA(float, d, F32_POOL_Y) + (size_t)number * width * p->y_pixel;
    float outside = (float)counted(p, 0, o.d) * (float)counted(p, 1, o.h);
    for (uint32_t i = 0; i < width; i++, y += p->y_pixel) {
      o.w = taps_of(&s, 2, i);
      o.x = x + (ptrdiff_t)o.w.at * p->x_pixel;
      switch (p->pooling) {
        case CONV_POOLING_MAX: largest(&o, y, part); break;
        case CONV_POOLING_AVERAGE:
          mean(&o, y, part, tw_splat(outside * (float)counted(p, 2, o.w)));
          break;
        default: norm(&o, y, part, p->pooling == CONV_POOLING_LP2);
      }
    }
  }
  return TW_OK;
}
