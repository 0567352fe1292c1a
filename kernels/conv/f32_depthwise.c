// One filter a channel: y[p, c] = activation(bias[c] + residual[p, c] + sum over taps of x w).
//
// x         (n, d, h, w, groups), pixels `x_pixel` elements apart
// packed    (ceil(groups / 8), taps, 8), as f32_conv_pack writes one group with one channel; 16 bytes
// bias      (groups), optional; residual and y as x, with pixels of their own; y may be the residual
// Tile: y = `tile_pixels` rows of output pixels. Scratch: none.
//
// Where all columns of four windows lie inside, the four are summed side by side, eight channels at
// a time: eight sums are under way and each weight is loaded once for four pixels.
#include "activation.h"
#include "space.h"

#define PIXELS 4

typedef struct row {
  const conv_params *p;
  const float *x, *packed, *bias, *residual;
  float *y;  // the row's first pixel, as the residual
  taps d, h;
  activation a;
  size_t line, plane;  // elements between neighbours along h and d
} row;

// `pixels` windows from output column `o` on, `vectors` by 4 channels from `c` on; `lanes` of them
// where it is less than 4. Counts are constants where this is inlined.
TW_INLINE void windows(const row *r, uint32_t o, taps w, uint32_t c, int pixels, int vectors,
                       uint32_t lanes) {
  const conv_params *p = r->p;
  v128_t sum[PIXELS][2];
  for (int v = 0; v < vectors; v++) {
    v128_t start = r->bias ? load_lanes(r->bias + c + 4 * v, lanes) : tw_splat(0);
    for (int i = 0; i < pixels; i++) sum[i][v] = start;
  }
  uint32_t kernel_h = p->kernel[1], kernel_w = p->kernel[2], taps = p->kernel[0] * kernel_h * kernel_w;
  size_t step = (size_t)p->stride[2] * p->x_pixel, along = (size_t)p->dilation[2] * p->x_pixel;
  const float *weights = r->packed + (size_t)(c / 8) * taps * 8 + c % 8;
  const float *corner = r->x + c + (ptrdiff_t)w.at * p->x_pixel;
  for (uint32_t kd = r->d.first; kd < r->d.last; kd++)
    for (uint32_t kh = r->h.first; kh < r->h.last; kh++) {
      const float *x = corner + kd * p->dilation[0] * r->plane + kh * p->dilation[1] * r->line;
      const float *b = weights + (kd * kernel_h + kh) * kernel_w * 8;
      for (uint32_t kw = w.first; kw < w.last; kw++) {
        for (int v = 0; v < vectors; v++) {
          v128_t weight = tw_load(b + kw * 8 + 4 * v);
          for (int i = 0; i < pixels; i++)
            sum[i][v] = tw_madd(load_lanes(x + kw * along + i * step + 4 * v, lanes), weight, sum[i][v]);
        }
      }
    }
  for (int i = 0; i < pixels; i++)
    for (int v = 0; v < vectors; v++) {
      v128_t total = sum[i][v];
      if (r->residual)
        total = wasm_f32x4_add(
            total, load_lanes(r->residual + (size_t)(o + i) * p->residual_pixel + c + 4 * v, lanes));
      store_lanes(r->y + (size_t)(o + i) * p->y_pixel + c + 4 * v, activate(total, &r->a), lanes);
    }
}

// The same for a kernel of three columns at stride 1, the commonest: six columns serve four pixels, so
// that a vector is loaded once for up to three products. `kind` is a constant where this is inlined.
TW_INLINE uint32_t adjacent(const row *r, uint32_t o, taps w, conv_activation kind) {
  const conv_params *p = r->p;
  activation a = r->a;
  a.kind = kind;
  uint32_t rows = r->h.last - r->h.first, channels = p->groups, pixel = p->x_pixel, c = 0;
  uint32_t panel = p->kernel[1] * 3 * 8, y_pixel = p->y_pixel, r_pixel = p->residual_pixel;
  size_t line = p->dilation[1] * r->line;
  const float *weights = r->packed + r->h.first * 24, *bias = r->bias;
  const float *corner = r->x + (ptrdiff_t)w.at * pixel + r->h.first * line;
  const float *residual = r->residual ? r->residual + (size_t)o * r_pixel : 0;
  float *y = r->y + (size_t)o * y_pixel;
  for (; c + 4 <= channels; c += 4) {
    v128_t start = bias ? tw_load(bias + c) : tw_splat(0);
    v128_t s0 = start, s1 = start, s2 = start, s3 = start;
    const float *x = corner + c, *b = weights + c / 8 * panel + c % 8;
    for (uint32_t n = rows; n; n--, b += 24, x += line) {
      v128_t b0 = tw_load(b), b1 = tw_load(b + 8), b2 = tw_load(b + 16);
      const float *at = x;
      v128_t v = tw_load(at);
      s0 = tw_madd(v, b0, s0);
      v = tw_load(at += pixel);
      s0 = tw_madd(v, b1, s0), s1 = tw_madd(v, b0, s1);
      v = tw_load(at += pixel);
      s0 = tw_madd(v, b2, s0), s1 = tw_madd(v, b1, s1), s2 = tw_madd(v, b0, s2);
      v = tw_load(at += pixel);
      s1 = tw_madd(v, b2, s1), s2 = tw_madd(v, b1, s2), s3 = tw_madd(v, b0, s3);
      v = tw_load(at += pixel);
      s2 = tw_madd(v, b2, s2), s3 = tw_madd(v, b1, s3);
      v = tw_load(at += pixel);
      s3 = tw_madd(v, b2, s3);
    }
    if (residual) {
      const float *from = residual + c;
      s0 = wasm_f32x4_add(s0, tw_load(from));
      s1 = wasm_f32x4_add(s1, tw_load(from += r_pixel));
      s2 = wasm_f32x4_add(s2, tw_load(from += r_pixel));
      s3 = wasm_f32x4_add(s3, tw_load(from += r_pixel));
    }
    float *to = y + c;
    tw_store(to, activate(s0, &a));
    tw_store(to += y_pixel, activate(s1, &a));
    tw_store(to += y_pixel, activate(s2, &a));
    tw_store(to += y_pixel, activate(s3, &a));
  }
  return c;
}
static __attribute__((noinline)) uint32_t adjacent_plain(const row *r, uint32_t o, taps w) {
  return adjacent(r, o, w, CONV_ACTIVATION_NONE);
}
static __attribute__((noinline)) uint32_t adjacent_relu(const row *r, uint32_t o, taps w) {
  return adjacent(r, o, w, CONV_ACTIVATION_RELU);
}
static __attribute__((noinline)) uint32_t adjacent_any(const row *r, uint32_t o, taps w) {
  return adjacent(r, o, w, r->a.kind);
}

static __attribute__((noinline)) void four(const row *r, uint32_t o, taps w) {
  const conv_params *p = r->p;
  uint32_t c = 0, channels = p->groups;
  if (p->kernel[0] == 1 && r->d.last == 1 && p->kernel[2] == 3 && p->stride[2] == 1 &&
      p->dilation[2] == 1)
    c = (r->a.kind == CONV_ACTIVATION_NONE   ? adjacent_plain
         : r->a.kind == CONV_ACTIVATION_RELU ? adjacent_relu
                                             : adjacent_any)(r, o, w);
  for (; c + 8 <= channels; c += 8) windows(r, o, w, c, PIXELS, 2, 4);
  for (; c + 4 <= channels; c += 4) windows(r, o, w, c, PIXELS, 1, 4);
  if (c < channels) windows(r, o, w, c, PIXELS, 1, channels - c);
}
static __attribute__((noinline)) void one(const row *r, uint32_t o, taps w) {
  uint32_t c = 0, channels = r->p->groups;
  for (; c + 8 <= channels; c += 8) windows(r, o, w, c, 1, 2, 4);
  for (; c + 4 <= channels; c += 4) windows(r, o, w, c, 1, 1, 4);
  if (c < channels) windows(r, o, w, c, 1, 1, channels - c);
}

uint32_t f32_depthwise(const tw_dispatch *d, const tw_tile *t) {
  const conv_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_pixels == 0 || p->activation > CONV_ACTIVATION_QUICK_GELU || p->channels != 1 ||
      p->filters != 1 || !space_valid(&s))
    return TW_INVALID_PARAMS;
  uint64_t taps = pixels_of(1, s.kernel), panels = ((uint64_t)p->groups + 7) / 8;
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  if (taps > UINT32_MAX || panels * taps > UINT32_MAX ||
      !tw_holds(d, F32_DEPTHWISE_X, pixels_reach(inputs, p->x_pixel, p->groups), 4) ||
      !tw_holds(d, F32_DEPTHWISE_PACKED, panels * taps * 8, 4) ||
      !tw_holds(d, F32_DEPTHWISE_Y, pixels_reach(pixels, p->y_pixel, p->groups), 4) ||
      (tw_present(d, F32_DEPTHWISE_BIAS) && !tw_holds(d, F32_DEPTHWISE_BIAS, p->groups, 4)) ||
      (tw_present(d, F32_DEPTHWISE_RESIDUAL) &&
       !tw_holds(d, F32_DEPTHWISE_RESIDUAL, pixels_reach(pixels, p->residual_pixel, p->groups), 4)))
    return TW_BINDING_TOO_SHORT;
  if (pixels == 0) return TW_OK;
  uint32_t width = p->output[2];
  row r = {.p = p, .packed = TW_DATA(float, d, F32_DEPTHWISE_PACKED), .a = ACTIVATION_OF(p)};
  r.bias = tw_present(d, F32_DEPTHWISE_BIAS) ? TW_DATA(float, d, F32_DEPTHWISE_BIAS) : 0;
  r.line = (size_t)p->input[2] * p->x_pixel;
  r.plane = r.line * p->input[1];
  tw_span rows = tw_piece(t->y, p->tile_pixels, pixels / width);
  for (uint32_t number = rows.first; number < rows.last; number++) {
    place at = place_of_row(&s, number);
    r.d = taps_of(&s, 0, at.d);
    r.h = taps_of(&s, 1, at.h);
    r.x = TW_DATA(float, d, F32_DEPTHWISE_X) + (size_t)at.image * p->input[0] * r.plane +
          (ptrdiff_t)r.d.at * (ptrdiff_t)r.plane + (ptrdiff_t)r.h.at * (ptrdiff_t)r.line;
    r.y = TW_DATA(float, d, F32_DEPTHWISE_Y) + (size_t)number * width * p->y_pixel;
    r.residual = tw_present(d, F32_DEPTHWISE_RESIDUAL)
                     ? TW_DATA(float, d, F32_DEPTHWISE_RESIDUAL) +
                           (size_t)number * width * p->residual_pixel
                     : 0;
    for (uint32_t o = 0; o < width;) {
      struct taps first = taps_of(&s, 2, o);
      if (o + PIXELS <= width) {
        struct taps last = taps_of(&s, 2, o + PIXELS - 1);
        // A window from which nothing is cut at either end has nothing cut from those between.
        if (first.first == 0 && last.first == 0 && first.last == p->kernel[2] &&
            last.last == p->kernel[2]) {
          four(&r, o, first);
          o += PIXELS;
          continue;
        }
      }
      one(&r, o, first);
      o++;
    }
  }
  return TW_OK;
}
