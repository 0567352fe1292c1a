// f32_rotary: pairs of features turned by angles: (a c - b s, b c + a s).
//
// Bindings: x, y (batch, heads, rows, features), cos, sin (batch, rows, pairs), all through strides,
// the last one 1; 4-byte aligned. y may be x with the same strides.
// Tile: x = tile_lines lines of (batch, heads, rows).
#include "bindings.h"
#include "rotary.h"
#include "simd.h"

// One past the last element that is read or written; UINT64_MAX where that would not be an address.
static uint64_t reach(uint64_t batch, uint32_t by_batch, uint64_t heads, uint32_t by_head,
                      uint64_t rows, uint32_t by_row, uint64_t last) {
  uint64_t end = (batch - 1) * by_batch;
  if (end > UINT32_MAX) return UINT64_MAX;
  end += (heads - 1) * by_head;
  if (end > UINT32_MAX) return UINT64_MAX;
  end += (rows - 1) * by_row;
  return end > UINT32_MAX ? UINT64_MAX : end + last;
}

static void turn(const rotary_params *p, const float *x, const float *c, const float *s, float *y) {
  uint32_t n = p->pairs, i = 0;
  if (p->interleaved) {
    for (; i + 4 <= n; i += 4) {
      v128_t low = tw_load(x + 2 * i), high = tw_load(x + 2 * i + 4);
      v128_t a = wasm_i32x4_shuffle(low, high, 0, 2, 4, 6);
      v128_t b = wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
      v128_t cos = tw_load(c + i), sin = tw_load(s + i);
      v128_t first = tw_nmadd(b, sin, wasm_f32x4_mul(a, cos));
      v128_t second = tw_madd(a, sin, wasm_f32x4_mul(b, cos));
      tw_store(y + 2 * i, wasm_i32x4_shuffle(first, second, 0, 4, 1, 5));
      tw_store(y + 2 * i + 4, wasm_i32x4_shuffle(first, second, 2, 6, 3, 7));
    }
    for (; i < n; i++) {
      float a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = a * c[i] - b * s[i];
      y[2 * i + 1] = b * c[i] + a * s[i];
    }
  } else {
    for (; i + 4 <= n; i += 4) {
      v128_t a = tw_load(x + i), b = tw_load(x + n + i), cos = tw_load(c + i), sin = tw_load(s + i);
      tw_store(y + i, tw_nmadd(b, sin, wasm_f32x4_mul(a, cos)));
      tw_store(y + n + i, tw_madd(a, sin, wasm_f32x4_mul(b, cos)));
    }
    for (; i < n; i++) {
      float a = x[i], b = x[n + i];
      y[i] = a * c[i] - b * s[i];
      y[n + i] = b * c[i] + a * s[i];
    }
  }
  if (x != y)
    for (i = 2 * n; i < p->features; i++) y[i] = x[i];
}

uint32_t f32_rotary(const tw_dispatch *d, const tw_tile *t) {
  const rotary_params *p = d->params;
  if (p->tile_lines == 0 || p->pairs > p->features / 2) return TW_INVALID_PARAMS;
  uint64_t lines = (uint64_t)p->batch * p->heads;
  if (lines > UINT32_MAX || (lines *= p->rows) > UINT32_MAX) return TW_INVALID_PARAMS;
  if (lines == 0 || p->features == 0) return TW_OK;
  uint64_t x_end = reach(p->batch, p->x_batch, p->heads, p->x_head, p->rows, p->x_row, p->features);
  uint64_t y_end = reach(p->batch, p->y_batch, p->heads, p->y_head, p->rows, p->y_row, p->features);
  uint64_t angles = reach(p->batch, p->angle_batch, 1, 0, p->rows, p->angle_row, p->pairs);
  if (!tw_holds(d, F32_ROTARY_X, x_end, 4) || !tw_holds(d, F32_ROTARY_Y, y_end, 4) ||
      !tw_holds(d, F32_ROTARY_COS, angles, 4) || !tw_holds(d, F32_ROTARY_SIN, angles, 4))
    return TW_BINDING_TOO_SHORT;
  tw_span span = tw_piece(t->x, p->tile_lines, lines);
  for (uint32_t line = span.first; line < span.last; line++) {
    uint32_t row = line % p->rows, head = line / p->rows % p->heads, one = line / p->rows / p->heads;
    uint32_t angle = one * p->angle_batch + row * p->angle_row;
    turn(p, TW_DATA(float, d, F32_ROTARY_X) + one * p->x_batch + head * p->x_head + row * p->x_row,
         TW_DATA(float, d, F32_ROTARY_COS) + angle, TW_DATA(float, d, F32_ROTARY_SIN) + angle,
         TW_DATA(float, d, F32_ROTARY_Y) + one * p->y_batch + head * p->y_head + row * p->y_row);
  }
  return TW_OK;
}
