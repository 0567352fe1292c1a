// B (k, n) of bytes and any strides to panels of 8 columns; panel.h has their layout and forms.
//
// b       element (p, j) of matrix z at z batch_stride + p stride_k + j stride_n
// packed  ceil(n / 8) panels at z packed_stride bytes; 16 bytes; columns beyond n are zero
// Tile: x = `tile_panels` panels, z = matrix. Scratch: none. Nothing may alias.
#include "bindings.h"
#include "panel.h"
#include "probe_dot.h"
#include "quant.h"

typedef struct source {
  const uint8_t *b;
  uint32_t k;
  size_t stride_k, stride_n;
  uint32_t width;  // columns that there are
  uint8_t flip;    // u8 to i8
} source;

// `to` is (kp / step, 8, step).
static inline void arrange(int8_t *to, const source *s, uint32_t step) {
  uint32_t padded = (uint32_t)tw_padded(s->k);
  for (uint32_t p = 0; p < padded; p += step)
    for (uint32_t j = 0; j < TW_COLUMNS; j++) {
      const uint8_t *from = s->b + p * s->stride_k + j * s->stride_n;
      for (uint32_t q = 0; q < step; q++)
        *to++ = j < s->width && p + q < s->k ? (int8_t)(from[q * s->stride_k] ^ s->flip) : 0;
    }
}

// The same where rows of B are contiguous, 8 whole columns and a k that needs no filling.
static void arrange_rows(int8_t *to, const source *s, uint32_t step) {
  v128_t flip = wasm_i8x16_splat((int8_t)s->flip);
  uint32_t p = 0;
  for (; p + 4 <= s->k; p += 4, to += 32) {
    const uint8_t *from = s->b + p * s->stride_k;
    v128_t x0 = wasm_v128_load64_zero(from), x1 = wasm_v128_load64_zero(from + s->stride_k);
    v128_t x2 = wasm_v128_load64_zero(from + 2 * s->stride_k);
    v128_t x3 = wasm_v128_load64_zero(from + 3 * s->stride_k);
    v128_t two = wasm_i8x16_shuffle(x0, x1, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    v128_t more = wasm_i8x16_shuffle(x2, x3, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    two = wasm_v128_xor(two, flip);
    more = wasm_v128_xor(more, flip);
    if (step == 4) {
      v128_t low = wasm_i16x8_shuffle(two, more, 0, 8, 1, 9, 2, 10, 3, 11);
      more = wasm_i16x8_shuffle(two, more, 4, 12, 5, 13, 6, 14, 7, 15);
      two = low;
    }
    wasm_v128_store(to, two);
    wasm_v128_store(to + 16, more);
  }
}

static void fill(int8_t *to, const source *s, uint32_t step) {
  if (s->width == TW_COLUMNS && s->stride_n == 1 && s->k % TW_GROUP == 0)
    arrange_rows(to, s, step);
  else
    arrange(to, s, step);
}

static void add_up(int32_t sums[TW_COLUMNS], const source *s) {
  for (uint32_t j = 0; j < TW_COLUMNS; j++) sums[j] = 0;
  for (uint32_t p = 0; p < s->k; p++)
    for (uint32_t j = 0; j < s->width; j++)
      sums[j] += (int8_t)(s->b[p * s->stride_k + j * s->stride_n] ^ s->flip);
}

// Sums over pairs of the positive (negative) bytes of two groups of 4 steps, 4 columns.
static inline v128_t added(v128_t x, v128_t y, int positive) {
  v128_t zero = wasm_i8x16_splat(0);
  x = positive ? wasm_i8x16_max(x, zero) : wasm_i8x16_min(x, zero);
  y = positive ? wasm_i8x16_max(y, zero) : wasm_i8x16_min(y, zero);
  return wasm_i16x8_add(wasm_i16x8_extadd_pairwise_i8x16(x), wasm_i16x8_extadd_pairwise_i8x16(y));
}

#define MOST 128  // 255 * 128 <= 32767: the most that weights of one sign in a 16-bit sum may be

// Moves what exceeds MOST in one 16-bit sum, four weights at w[0], w[1], w[32], w[33], to the rest.
static inline void cut(int8_t *w, int8_t *rest) {
  static const int places[4] = {0, 1, 32, 33};
  int room = MOST, below = MOST;
  for (int i = 0; i < 4; i++) {
    int x = w[places[i]], kept = x;
    if (x > room) kept = room;
    if (x < -below) kept = -below;
    if (kept > 0) room -= kept;
    if (kept < 0) below += kept;
    w[places[i]] = (int8_t)kept;
    rest[places[i]] = (int8_t)(x - kept);
  }
}

// Makes a panel of the order (kp / 4, 8, 4) safe for sums of pairs; 0 when its rest is too long.
static int make_pairs(tw_head *head, uint32_t k) {
  int8_t *data = (int8_t *)(head + 1);
  uint32_t *indices = (uint32_t *)tw_rest_indices(head, k);
  int8_t *blocks = (int8_t *)tw_rest_blocks(head, k);
  uint32_t most = (uint32_t)tw_most_rest(k), count = 0, groups = (uint32_t)tw_padded(k) / 4;
  v128_t limit = wasm_i16x8_splat(MOST), least = wasm_i16x8_splat(-MOST);
  for (uint32_t g = 0; g < groups; g += 2, data += 64) {
    v128_t x0 = wasm_v128_load(data), x1 = wasm_v128_load(data + 16);
    v128_t y0 = wasm_v128_load(data + 32), y1 = wasm_v128_load(data + 48);
    v128_t over = wasm_v128_or(wasm_i16x8_gt(added(x0, y0, 1), limit),
                               wasm_i16x8_gt(added(x1, y1, 1), limit));
    over = wasm_v128_or(over, wasm_i16x8_lt(added(x0, y0, 0), least));
    over = wasm_v128_or(over, wasm_i16x8_lt(added(x1, y1, 0), least));
    if (!wasm_v128_any_true(over)) continue;
    int8_t rest[64];
    for (uint32_t i = 0; i < 32; i += 2) cut(data + i, rest + i);
    for (uint32_t h = 0; h < 2; h++) {
      const int8_t *from = rest + 32 * h;
      v128_t some = wasm_v128_or(wasm_v128_load(from), wasm_v128_load(from + 16));
      if (!wasm_v128_any_true(some)) continue;
      if (count == most) return 0;
      indices[count] = g + h;
      int8_t *to = blocks + 32 * count++;
      for (uint32_t j = 0; j < TW_COLUMNS; j++)  // (8, 4) to (2, 8, 2)
        for (uint32_t q = 0; q < 4; q++) to[q / 2 * 16 + 2 * j + q % 2] = from[4 * j + q];
    }
  }
  head->rest = count;
  return 1;
}

uint32_t i8_gemm_pack_b(const tw_dispatch *d, const tw_tile *t) {
  const pack_params *p = d->params;
  if (p->tile_panels == 0 || p->packed_stride % 16 || p->dot > QUANT_DOT_SIGNED ||
      d->binding_count != I8_GEMM_PACK_B_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t panels = ((uint64_t)p->n + TW_COLUMNS - 1) / TW_COLUMNS;
  tw_span span = tw_piece(t->x, p->tile_panels, panels);
  if (span.first >= span.last) return TW_OK;
  const tw_binding *from = &d->bindings[I8_GEMM_PACK_B_B];
  const tw_binding *to = &d->bindings[I8_GEMM_PACK_B_PACKED];
  uint64_t bytes = tw_panel_bytes(p->k);
  uint64_t b0 = (uint64_t)t->z * p->batch_stride, packed0 = (uint64_t)t->z * p->packed_stride;
  uint64_t columns = (uint64_t)span.last * TW_COLUMNS;
  if (columns > p->n) columns = p->n;
  uint64_t last = p->k ? b0 + (uint64_t)(p->k - 1) * p->stride_k + (columns - 1) * p->stride_n : 0;
  if ((p->k && last >= from->length) || packed0 + span.last * bytes > to->length)
    return TW_BINDING_TOO_SHORT;

  tw_form form = p->dot == QUANT_DOT_PROBED ? tw_probe_dot() : (tw_form)(p->dot - QUANT_DOT_WIDE);
#ifndef TW_RELAXED
  if (form != TW_FORM_WIDE) return TW_INVALID_PARAMS;
#endif
  for (uint32_t panel = span.first; panel < span.last; panel++) {
    tw_head *head = (tw_head *)((uint8_t *)to->data + packed0 + panel * bytes);
    uint64_t column = (uint64_t)panel * TW_COLUMNS;
    uint64_t left = p->n - column;
    source s = {(const uint8_t *)from->data + b0 + column * p->stride_n, p->k, p->stride_k,
                p->stride_n, left < TW_COLUMNS ? (uint32_t)left : TW_COLUMNS,
                p->b_signed ? 0 : 0x80};
    int8_t *data = (int8_t *)(head + 1);
    head->form = form;
    head->rest = 0;
    add_up(head->sums, &s);
    fill(data, &s, form == TW_FORM_WIDE ? 2 : 4);
    if (form == TW_FORM_PAIRS && !make_pairs(head, p->k)) {
      head->form = TW_FORM_WIDE;
      head->rest = 0;
      fill(data, &s, 2);
    }
  }
  return TW_OK;
}
