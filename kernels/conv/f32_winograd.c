// y = activation(x * w + bias + residual) for kernels of 3 x 3 at stride 1, by winograd.h.
//
// x         (n, 1, h, w, channels), pixels `x_pixel` elements apart, channels a multiple of 4
// packed    (ceil(filters / 8), 36, channels, 8) as f32_winograd_pack writes it; 16 bytes
// bias      (filters), optional; residual as y, pixels `residual_pixel` apart, optional
// y         (n, 1, h, w, filters), pixels `y_pixel` apart; may be the residual
// Tile: x = `tile_filters`, y = `tile_pixels` squares of 4 x 4 output pixels.
// Scratch: 144 tile_pixels (channels + 8) + 4096 bytes: the squares' transformed inputs (36, squares,
// channels), and one panel's products (36, squares, 8).
//
// A tile transforms its inputs once; then, panel by panel, 36 small products and the way back. A
// panel's filters pass through L2 once a tile, so tiles have as many squares as the scratch holds.
#include "activation.h"
#include "microkernel.h"
#include "space.h"
#include "winograd.h"

static const float zeros[TW_PANEL] = {0};

typedef struct squares {
  const conv_params *p;
  uint32_t down, across;  // squares of an image
} squares;

typedef struct corner {
  uint32_t image, row, column;  // the square's first output pixel
} corner;

static corner corner_of(const squares *s, uint32_t number) {
  uint32_t each = s->down * s->across, rest = number % each;
  return (corner){number / each, rest / s->across * SQUARE, rest % s->across * SQUARE};
}

// One square's inputs, to `v` with `apart` elements between products.
static __attribute__((noinline)) void take_in(const squares *s, const float *x, corner at, float *v,
                                              size_t apart) {
  const conv_params *p = s->p;
  uint32_t height = p->input[1], width = p->input[2];
  int32_t top = (int32_t)at.row - (int32_t)p->padding[1];
  int32_t left = (int32_t)at.column - (int32_t)p->padding[2];
  int inside = top >= 0 && left >= 0 && top + PATCH <= (int64_t)height && left + PATCH <= (int64_t)width;
  size_t line = (size_t)width * p->x_pixel;
  const float *from = x + (size_t)at.image * height * line + (ptrdiff_t)top * (ptrdiff_t)line +
                      (ptrdiff_t)left * p->x_pixel;
  for (uint32_t c = 0; c < p->channels; c += 4, from += 4, v += 4) {
    v128_t half[PATCH][PATCH];
    for (int j = 0; j < PATCH; j++) {
      v128_t d[PATCH], turned[PATCH];
      if (inside) {
        const float *column = from + (size_t)j * p->x_pixel;
        for (int i = 0; i < PATCH; i++, column += line) d[i] = tw_load(column);
      } else {
        int there = (uint32_t)(left + j) < width;
        for (int i = 0; i < PATCH; i++)
          d[i] = there && (uint32_t)(top + i) < height
                     ? tw_load(from + (ptrdiff_t)i * (ptrdiff_t)line + (size_t)j * p->x_pixel)
                     : tw_splat(0);
      }
      inwards(d, turned);
      for (int i = 0; i < PATCH; i++) half[i][j] = turned[i];
    }
    float *to = v;
    for (int i = 0; i < PATCH; i++) {
      v128_t turned[PATCH];
      inwards(half[i], turned);
      for (int j = 0; j < PATCH; j++, to += apart) tw_store(to, turned[j]);
    }
  }
}

typedef struct panel {
  const float *bias, *residual;  // of the panel's first filter; 0: none
  float *y;
  uint32_t width;  // filters
} panel;

// One square's outputs from `m`, (36, squares, 8) with `apart` elements between products.
TW_INLINE void give_out(const squares *s, const panel *f, corner at, const float *m, size_t apart,
                        const activation *a) {
  const conv_params *p = s->p;
  uint32_t rows = p->output[1] - at.row, columns = p->output[2] - at.column;
  if (rows > SQUARE) rows = SQUARE;
  if (columns > SQUARE) columns = SQUARE;
  size_t first = ((size_t)at.image * p->output[1] + at.row) * p->output[2] + at.column;
  for (uint32_t c = 0; c < f->width; c += 4) {
    uint32_t lanes = f->width - c;
    v128_t bias = f->bias ? load_lanes(f->bias + c, lanes) : tw_splat(0);
    v128_t half[SQUARE][PATCH];
    for (int j = 0; j < PATCH; j++) {
      v128_t d[PATCH], turned[SQUARE];
      for (int i = 0; i < PATCH; i++) d[i] = tw_load(m + (size_t)(i * PATCH + j) * apart + c);
      outwards(d, turned);
      for (int i = 0; i < SQUARE; i++) half[i][j] = turned[i];
    }
    for (uint32_t i = 0; i < rows; i++) {
      v128_t turned[SQUARE];
      outwards(half[i], turned);
      size_t pixel = first + (size_t)i * p->output[2];
      for (uint32_t j = 0; j < columns; j++, pixel++) {
        v128_t sum = wasm_f32x4_add(turned[j], bias);
        if (f->residual)
          sum = wasm_f32x4_add(sum, load_lanes(f->residual + pixel * p->residual_pixel + c, lanes));
        store_lanes(f->y + pixel * p->y_pixel + c, activate(sum, a), lanes);
      }
    }
  }
}
static __attribute__((noinline)) void give_relu(const squares *s, const panel *f, corner at,
                                                const float *m, size_t apart, const activation *a) {
  activation own = *a;
  own.kind = CONV_ACTIVATION_RELU;
  give_out(s, f, at, m, apart, &own);
}
static __attribute__((noinline)) void give_any(const squares *s, const panel *f, corner at,
                                               const float *m, size_t apart, const activation *a) {
  give_out(s, f, at, m, apart, a);
}

uint32_t f32_winograd(const tw_dispatch *d, const tw_tile *t) {
  const conv_params *p = d->params;
  squares s = {p, (p->output[1] + SQUARE - 1) / SQUARE, (p->output[2] + SQUARE - 1) / SQUARE};
  if (p->tile_pixels == 0 || p->tile_filters == 0 || p->tile_filters % TW_PANEL ||
      p->activation > CONV_ACTIVATION_QUICK_GELU || p->channels == 0 || p->channels % 4 ||
      p->groups != 1 || p->input[0] != 1 || p->output[0] != 1 || p->kernel[0] != 1 ||
      p->padding[0] != 0)
    return TW_INVALID_PARAMS;
  for (int i = 1; i < 3; i++)
    if (p->kernel[i] != 3 || p->stride[i] != 1 || p->dilation[i] != 1) return TW_INVALID_PARAMS;
  uint64_t pixels = pixels_of(p->batch, p->output), inputs = pixels_of(p->batch, p->input);
  uint64_t panels = ((uint64_t)p->filters + TW_PANEL - 1) / TW_PANEL;
  if (panels * TW_PANEL * p->channels > UINT32_MAX ||
      !tw_holds(d, F32_WINOGRAD_X, pixels_reach(inputs, p->x_pixel, p->channels), 4) ||
      !tw_holds(d, F32_WINOGRAD_PACKED, panels * PRODUCTS * p->channels * TW_PANEL, 4) ||
      !tw_holds(d, F32_WINOGRAD_Y, pixels_reach(pixels, p->y_pixel, p->filters), 4) ||
      (tw_present(d, F32_WINOGRAD_BIAS) && !tw_holds(d, F32_WINOGRAD_BIAS, p->filters, 4)) ||
      (tw_present(d, F32_WINOGRAD_RESIDUAL) &&
       !tw_holds(d, F32_WINOGRAD_RESIDUAL, pixels_reach(pixels, p->residual_pixel, p->filters), 4)))
    return TW_BINDING_TOO_SHORT;
  if (pixels == 0) return TW_OK;
  if (((uint64_t)p->channels + 8) * 144 * p->tile_pixels + 4096 > t->scratch_length)
    return TW_SCRATCH_TOO_SMALL;
  tw_span part = tw_piece(t->y, p->tile_pixels, (uint64_t)p->batch * s.down * s.across);
  tw_span filters = tw_piece(t->x, p->tile_filters, p->filters);
  uint32_t count = part.last - part.first, channels = p->channels;
  if (count == 0 || filters.first == filters.last) return TW_OK;

  // The products of a channel are not a power of two apart, which would put all in one cache set.
  size_t apart = (size_t)count * channels + 16, between = (size_t)count * TW_PANEL;
  float *v = t->scratch, *m = v + PRODUCTS * apart;
  const float *x = TW_DATA(float, d, F32_WINOGRAD_X);
  for (uint32_t i = 0; i < count; i++)
    take_in(&s, x, corner_of(&s, part.first + i), v + (size_t)i * channels, apart);
  activation a = ACTIVATION_OF(p);
  uint32_t strips = tw_strips(count);
  for (uint32_t j = filters.first; j < filters.last; j += TW_PANEL) {
    const float *b = TW_DATA(float, d, F32_WINOGRAD_PACKED) + (size_t)j * PRODUCTS * channels;
    for (uint32_t e = 0; e < PRODUCTS; e++, b += channels * TW_PANEL) {
      int last = e + 1 == PRODUCTS && j + TW_PANEL >= filters.last;
      tw_strip one = {.lda = channels, .k = channels, .b = b, .start = zeros, .ld_start = 0,
                      .ldc = TW_PANEL};
      one.ahead = (const uint8_t *)(last ? b : b + channels * TW_PANEL);
      one.ahead_step = TW_PANEL * sizeof(float) / strips;
      for (uint32_t n = 0, i = 0, rows; n < strips;
           n++, i += rows, one.ahead += one.ahead_step * channels) {
        rows = tw_strip_length(count, strips, n);
        one.a = v + e * apart + (size_t)i * channels;
        one.c = m + e * between + i * TW_PANEL;
        tw_strip_any(&one, rows);
      }
    }
    panel f = {.width = filters.last - j < TW_PANEL ? filters.last - j : TW_PANEL};
    f.bias = tw_present(d, F32_WINOGRAD_BIAS) ? TW_DATA(float, d, F32_WINOGRAD_BIAS) + j : 0;
    f.residual =
        tw_present(d, F32_WINOGRAD_RESIDUAL) ? TW_DATA(float, d, F32_WINOGRAD_RESIDUAL) + j : 0;
    f.y = TW_DATA(float, d, F32_WINOGRAD_Y) + j;
    for (uint32_t i = 0; i < count; i++)
      (a.kind == CONV_ACTIVATION_RELU ? give_relu : give_any)(
          &s, &f, corner_of(&s, part.first + i), m + i * TW_PANEL, between, &a);
  }
  return TW_OK;
}
