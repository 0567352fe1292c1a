// y = activation(x * w + bias + residual): a product of gathered windows and packed filters.
//
// x         (n, d, h, w, groups channels), pixels `x_pixel` elements apart
// packed    (groups, ceil(filters / 8), taps channels, 8) as f32_conv_pack writes it; 16 bytes
// bias      (groups filters), optional; residual as y, pixels `residual_pixel` apart, optional
// y         (n, d, h, w, groups filters), pixels `y_pixel` apart; may be the residual
// Tile: x = `tile_filters` of a group, y = group, z = `tile_pixels` output pixels:
// threads take ranges of tiles, and so have the same pixels of all groups.
// Scratch: 4 tile_pixels min(BLOCK, taps channels) bytes; none where windows are single pixels.
//
// Within a tile: blocks of the sum, panels of 8 filters, strips of up to 6 pixels. The windows of a
// block are copied side by side first, so that the register tile of microkernel.h walks through
// contiguous rows whatever stride, dilation and padding are; README.md has what that costs.
#include "activation.h"
#include "conv.h"
#include "microkernel.h"
#include "space.h"

#define BLOCK 1536  // as in f32_gemm: a panel's block is 48 KiB, a tile's windows 400 KiB

static const float zeros[TW_PANEL] = {0};

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

TW_INLINE float *copied(float *to, const float *from, uint32_t n) {
  for (; n >= 8; n -= 8, to += 8, from += 8) {
    v128_t a = tw_load(from), b = tw_load(from + 4);
    tw_store(to, a);
    tw_store(to + 4, b);
  }
  if (n >= 4) {
    tw_store(to, tw_load(from));
    n -= 4, to += 4, from += 4;
  }
  for (; n; n--) *to++ = *from++;
  return to;
}

TW_INLINE float *cleared(float *to, uint32_t n) {
  for (; n >= 4; n -= 4, to += 4) tw_store(to, tw_splat(0));
  for (; n; n--) *to++ = 0;
  return to;
}

typedef struct gather {
  space s;
  const float *x;  // the group's first channel
  uint32_t pixel, channels;
  int joined;      // taps that are neighbours in a row of pixels are neighbours in memory
} gather;

// Elements [from, to) of one row of taps, (kernel[2], channels), whose first pixel is at `row`.
static float *gather_row(const gather *g, float *out, const float *row, taps w, uint32_t from,
                         uint32_t to) {
  uint32_t c = g->channels;
  if (g->joined) {
    uint32_t low = w.first * c, high = w.last * c;
    low = low < from ? from : low > to ? to : low;
    high = high > to ? to : high < low ? low : high;
    out = cleared(out, low - from);
    if (high > low) out = copied(out, row + (ptrdiff_t)w.at * g->pixel + low, high - low);
    return cleared(out, to - high);
  }
  for (uint32_t tap = from / c; from < to; tap++) {
    uint32_t inside = from - tap * c, length = minimum(c - inside, to - from);
    if (tap >= w.first && tap < w.last) {
      int32_t column = w.at + (int32_t)(tap * g->s.dilation[2]);
      out = copied(out, row + (ptrdiff_t)column * g->pixel + inside, length);
    } else {
      out = cleared(out, length);
    }
    from += length;
  }
  return out;
}

// Elements [k0, k1) of the windows of `count` pixels from `at` on, (count, k1 - k0).
static __attribute__((noinline)) void gather_windows(const gather *g, float *out, place at,
                                                     uint32_t count, uint32_t k0, uint32_t k1) {
  const space *s = &g->s;
  uint32_t each = s->kernel[2] * g->channels, first = k0 / each, last = (k1 + each - 1) / each;
  for (; count; count--, next_pixel(s, &at)) {
    taps d = taps_of(s, 0, at.d), h = taps_of(s, 1, at.h), w = taps_of(s, 2, at.w);
    for (uint32_t row = first; row < last; row++) {
      uint32_t base = row * each, kd = row / s->kernel[1], kh = row % s->kernel[1];
      uint32_t from = k0 > base ? k0 - base : 0, to = minimum(k1 - base, each);
      if (kd < d.first || kd >= d.last || kh < h.first || kh >= h.last) {
        out = cleared(out, to - from);
        continue;
      }
      size_t line = (size_t)at.image * s->input[0] + d.at + kd * s->dilation[0];
      line = line * s->input[1] + h.at + kh * s->dilation[1];
      out = gather_row(g, out, g->x + line * s->input[2] * g->pixel, w, from, to);
    }
  }
}

// What happens to a finished sum: a panel's bias, if the sum began with the residual, and activation.
TW_INLINE void finish_rows(const activation *a, const float *bias, float *c, uint32_t ldc,
                           uint32_t rows, conv_activation kind) {
  activation own = *a;
  own.kind = kind;
  v128_t low = tw_load(bias), high = tw_load(bias + 4);
  for (; rows != 0; rows--, c += ldc) {
    tw_store(c, activate(wasm_f32x4_add(tw_load(c), low), &own));
    tw_store(c + 4, activate(wasm_f32x4_add(tw_load(c + 4), high), &own));
  }
}

static __attribute__((noinline)) void finish_relu(const activation *a, const float *bias, float *c,
                                                  uint32_t ldc, uint32_t rows) {
  finish_rows(a, bias, c, ldc, rows, CONV_ACTIVATION_RELU);
}
static __attribute__((noinline)) void finish_any(const activation *a, const float *bias, float *c,
                                                 uint32_t ldc, uint32_t rows) {
  finish_rows(a, bias, c, ldc, rows, a->kind);
}

static void copy_rows(float *to, uint32_t ld_to, const float *from, uint32_t ld_from,
                      uint32_t rows, uint32_t columns) {
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < columns; j++) to[i * ld_to + j] = from[i * ld_from + j];
}

// One tile: where its operands begin.
typedef struct product {
  const float *a, *b, *bias, *residual;
  float *c;
  uint32_t lda, ldc, ldr, rows, columns, k;  // of the whole sum
} product;

// `n` elements of the sum from `k0` on, for all panels and strips. The sum begins with the residual,
// which may lie where it ends, or else with the bias.
static void block(const product *t, const activation *a, uint32_t k0, uint32_t n) {
  uint32_t strips = tw_strips(t->rows), last = k0 + n == t->k;
  int plain = a->kind == CONV_ACTIVATION_NONE && !(t->residual && t->bias);
  for (uint32_t j = 0; j < t->columns; j += TW_PANEL) {
    uint32_t width = minimum(t->columns - j, TW_PANEL);
    // The last panel may be narrower than a panel: everything of y's width goes through these.
    float narrow[TW_ROWS * TW_PANEL], narrow_bias[TW_PANEL];
    const float *bias = t->bias ? t->bias + j : zeros;
    if (width < TW_PANEL && t->bias) {
      for (uint32_t i = 0; i < TW_PANEL; i++) narrow_bias[i] = i < width ? bias[i] : 0;
      bias = narrow_bias;
    }
    const float *b = t->b + (size_t)j * t->k + k0 * TW_PANEL;
    const float *next = j + TW_PANEL < t->columns ? b + (size_t)t->k * TW_PANEL : b;
    tw_strip s = {.lda = t->lda, .k = n, .b = b, .ahead = (const uint8_t *)next};
    s.ahead_step = TW_PANEL * sizeof(float) / strips;
    for (uint32_t m = 0, i = 0, rows; m < strips; m++, i += rows, s.ahead += s.ahead_step * n) {
      rows = tw_strip_length(t->rows, strips, m);
      float *to = t->c + (size_t)i * t->ldc + j;
      s.a = t->a + (size_t)i * t->lda;
      s.c = to;
      s.ldc = t->ldc;
      s.start = bias;
      s.ld_start = 0;
      if (k0) {
        s.start = to;
        s.ld_start = t->ldc;
      } else if (t->residual) {
        s.start = t->residual + (size_t)i * t->ldr + j;
        s.ld_start = t->ldr;
      }
      if (width < TW_PANEL) {
        if (s.ld_start) {
          copy_rows(narrow, TW_PANEL, s.start, s.ld_start, rows, width);
          s.start = narrow;
          s.ld_start = TW_PANEL;
        }
        s.c = narrow;
        s.ldc = TW_PANEL;
      }
      tw_strip_any(&s, rows);
      if (last && !plain)
        (a->kind == CONV_ACTIVATION_RELU ? finish_relu : finish_any)(
            a, t->residual ? bias : zeros, s.c, s.ldc, rows);
      if (width < TW_PANEL) copy_rows(to, t->ldc, narrow, TW_PANEL, rows, width);
    }
  }
}

uint32_t f32_conv(const tw_dispatch *d, const tw_tile *t) {
  const conv_params *p = d->params;
  space s = SPACE_OF(p);
  if (p->tile_pixels == 0 || p->tile_filters == 0 || p->tile_filters % TW_PANEL ||
      p->activation > CONV_ACTIVATION_QUICK_GELU || p->channels == 0 || !space_valid(&s))
    return TW_INVALID_PARAMS;
  uint64_t taps = pixels_of(1, s.kernel), k = taps * p->channels;
  uint64_t pixels = pixels_of(p->batch, s.output), inputs = pixels_of(p->batch, s.input);
  uint64_t panels = ((uint64_t)p->filters + TW_PANEL - 1) / TW_PANEL;
  uint64_t channels = (uint64_t)p->groups * p->channels;
  uint64_t filters = (uint64_t)p->groups * p->filters;
  if (taps > UINT32_MAX || k > UINT32_MAX || panels * p->groups * TW_PANEL > UINT32_MAX ||
      channels > UINT32_MAX ||
      !tw_holds(d, F32_CONV_X, pixels_reach(inputs, p->x_pixel, channels), 4) ||
      !tw_holds(d, F32_CONV_PACKED, panels * p->groups * TW_PANEL * k, 4) ||
      !tw_holds(d, F32_CONV_Y, pixels_reach(pixels, p->y_pixel, filters), 4) ||
      (tw_present(d, F32_CONV_BIAS) && !tw_holds(d, F32_CONV_BIAS, filters, 4)) ||
      (tw_present(d, F32_CONV_RESIDUAL) &&
       !tw_holds(d, F32_CONV_RESIDUAL, pixels_reach(pixels, p->residual_pixel, filters), 4)))
    return TW_BINDING_TOO_SHORT;
  tw_span rows = tw_piece(t->z, p->tile_pixels, pixels);
  tw_span columns = tw_piece(t->x, p->tile_filters, p->filters);
  if (rows.first == rows.last || columns.first == columns.last || t->y >= p->groups) return TW_OK;

  uint32_t filter = t->y * p->filters + columns.first;
  product whole = {
      .b = TW_DATA(float, d, F32_CONV_PACKED) +
           ((size_t)t->y * panels * TW_PANEL + columns.first) * k,
      .bias = tw_present(d, F32_CONV_BIAS) ? TW_DATA(float, d, F32_CONV_BIAS) + filter : 0,
      .residual = tw_present(d, F32_CONV_RESIDUAL)
                      ? TW_DATA(float, d, F32_CONV_RESIDUAL) +
                            (size_t)rows.first * p->residual_pixel + filter
                      : 0,
      .c = TW_DATA(float, d, F32_CONV_Y) + (size_t)rows.first * p->y_pixel + filter,
      .ldc = p->y_pixel,
      .ldr = p->residual_pixel,
      .rows = rows.last - rows.first,
      .columns = columns.last - columns.first,
      .k = (uint32_t)k,
  };
  int single = taps == 1;
  for (int i = 0; i < 3; i++)
    single = single && p->padding[i] == 0 && p->input[i] == p->output[i] && p->stride[i] == 1;
  gather g = {s, TW_DATA(float, d, F32_CONV_X) + t->y * p->channels, p->x_pixel, p->channels,
              p->dilation[2] == 1 && p->x_pixel == p->channels};
  place at = place_of_pixel(&s, rows.first);
  activation a = ACTIVATION_OF(p);
  // Blocks of equal length; y holds the sum in between.
  uint32_t blocks = (uint32_t)((k + BLOCK - 1) / BLOCK), each = (uint32_t)((k + blocks - 1) / blocks);
  each = blocks > 1 ? (each + 3) / 4 * 4 : each;
  if (!single && (uint64_t)t->scratch_length < (uint64_t)p->tile_pixels * each * 4)
    return TW_SCRATCH_TOO_SMALL;
  for (uint32_t k0 = 0; k0 < k; k0 += each) {
    uint32_t n = minimum(each, (uint32_t)k - k0);
    if (single) {
      whole.a = g.x + (size_t)rows.first * p->x_pixel + k0;
      whole.lda = p->x_pixel;
    } else {
      gather_windows(&g, t->scratch, at, whole.rows, k0, k0 + n);
      whole.a = t->scratch;
      whole.lda = n;
    }
    block(&whole, &a, k0, n);
  }
  return TW_OK;
}
