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

// The same where rows of B are contiguous, 8 whole columns.
static void arrange_rows(int8_t *to, const source *s, uint32_t step) {
  v128_t flip = wasm_i8x16_splat((int8_t)s->flip);
  uint32_t padded = (uint32_t)tw_padded(s->k);
  for (uint32_t p = 0; p < padded; p += 4, to += 32) {
    v128_t x[4];
    for (uint32_t q = 0; q < 4; q++)
      x[q] = p + q < s->k
                 ? wasm_v128_xor(wasm_v128_load64_zero(s->b + (p + q) * s->stride_k), flip)
                 : wasm_i8x16_splat(0);
    v128_t two = wasm_i8x16_shuffle(x[0], x[1], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                    23);
    v128_t more = wasm_i8x16_shuffle(x[2], x[3], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                     23);
    if (step == 4) {
      v128_t low = wasm_i16x8_shuffle(two, more, 0, 8, 1, 9, 2, 10, 3, 11);
      more = wasm_i16x8_shuffle(two, more, 4, 12, 5, 13, 6, 14, 7, 15);
      two = low;
    }
    wasm_v128_store(to, two);
    wasm_v128_store(to + 16, more);
  }
}

#define SIDE 4  // panels arranged side by side: half a cache line of each row of B

// The same for SIDE panels, `bytes` apart, and their columns' sums. One panel at a time would read
// each line of B eight times, and of a large B find it evicted.
static void arrange_side(uint8_t *to, uint64_t bytes, const source *s, uint32_t step) {
  v128_t flip = wasm_i8x16_splat((int8_t)s->flip), zero = wasm_i8x16_splat(0);
  v128_t sums[SIDE][2];
  for (uint32_t i = 0; i < SIDE; i++) sums[i][0] = sums[i][1] = zero;
  uint32_t padded = (uint32_t)tw_padded(s->k);
  for (uint32_t p = 0; p < padded; p += 4)
    for (uint32_t h = 0; h < SIDE / 2; h++) {
      v128_t x[4], parts[2][2];  // of a panel: steps 0 and 1, 2 and 3
      for (uint32_t q = 0; q < 4; q++) {
        const uint8_t *from = s->b + (p + q) * s->stride_k + 16 * h;
        x[q] = p + q < s->k ? wasm_v128_xor(wasm_v128_load(from), flip) : zero;
      }
      for (uint32_t q = 0; q < 2; q++) {
        v128_t y = x[2 * q], z = x[2 * q + 1];
        parts[0][q] =
            wasm_i8x16_shuffle(y, z, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        parts[1][q] =
            wasm_i8x16_shuffle(y, z, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      }
      for (uint32_t i = 0; i < 2; i++) {
        v128_t two = parts[i][0], more = parts[i][1], *sum = sums[2 * h + i];
        v128_t added = wasm_i16x8_add(wasm_i16x8_extadd_pairwise_i8x16(two),
                                      wasm_i16x8_extadd_pairwise_i8x16(more));
        sum[0] = wasm_i32x4_add(sum[0], wasm_i32x4_extend_low_i16x8(added));
        sum[1] = wasm_i32x4_add(sum[1], wasm_i32x4_extend_high_i16x8(added));
        uint8_t *data = to + (2 * h + i) * bytes + sizeof(tw_head) + p * TW_COLUMNS;
        v128_t low = two;
        if (step == 4) {
          low = wasm_i16x8_shuffle(two, more, 0, 8, 1, 9, 2, 10, 3, 11);
          more = wasm_i16x8_shuffle(two, more, 4, 12, 5, 13, 6, 14, 7, 15);
        }
        wasm_v128_store(data, low);
        wasm_v128_store(data + 16, more);
      }
    }
  for (uint32_t i = 0; i < SIDE; i++) {
    tw_head *head = (tw_head *)(to + i * bytes);
    wasm_v128_store(head->sums, sums[i][0]);
    wasm_v128_store(head->sums + 4, sums[i][1]);
  }
}

static void fill(int8_t *to, const source *s, uint32_t step) {
  if (s->width == TW_COLUMNS && s->stride_n == 1)
    arrange_rows(to, s, step);
  else
    arrange(to, s, step);
}

static void add_up(int32_t sums[TW_COLUMNS], const source *s) {
  if (s->width == TW_COLUMNS && s->stride_n == 1) {
    v128_t low = wasm_i32x4_splat(0), high = low, flip = wasm_i8x16_splat((int8_t)s->flip);
    for (uint32_t p = 0; p < s->k; p++) {
      v128_t x = wasm_v128_xor(wasm_v128_load64_zero(s->b + p * s->stride_k), flip);
      x = wasm_i16x8_extend_low_i8x16(x);
      low = wasm_i32x4_add(low, wasm_i32x4_extend_low_i16x8(x));
      high = wasm_i32x4_add(high, wasm_i32x4_extend_high_i16x8(x));
    }
    wasm_v128_store(sums, low);
    wasm_v128_store(sums + 4, high);
    return;
  }
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

// Whether a 16-bit sum of two groups of 4 steps, 4 columns, may saturate.
static inline int saturates(v128_t x, v128_t y) {
  v128_t over = wasm_i16x8_gt(added(x, y, 1), wasm_i16x8_splat(MOST));
  over = wasm_v128_or(over, wasm_i16x8_lt(added(x, y, 0), wasm_i16x8_splat(-MOST)));
  return wasm_v128_any_true(over);
}

// Whether two fours may not be added up in 16 bits.
static inline int eight_saturate(const int8_t *four, const int8_t *other) {
  return saturates(wasm_v128_load(four), wasm_v128_load(other)) ||
         saturates(wasm_v128_load(four + 16), wasm_v128_load(other + 16));
}

static inline int four_saturate(const int8_t *w) {
  v128_t none = wasm_i8x16_splat(0);
  return saturates(wasm_v128_load(w), none) || saturates(wasm_v128_load(w + 16), none);
}

// From the steps' own order to that of a copy of A, or back; copy 0 is their own.
static void reorder(int8_t *w, uint32_t copy) {
  for (uint32_t q = 0; copy && q < 32; q += 16) {
    v128_t x = wasm_v128_load(w + q);
    wasm_v128_store(w + q, copy == 1 ? tw_turned_once(x) : tw_turned_twice(x));
  }
}

// What exceeds MOST in each pair of 32 weights goes to `more`, where it does not.
static void divide(int8_t *w, int8_t *more) {
  for (uint32_t i = 0; i < 32; i += 2)
    for (uint32_t q = i; q < i + 2; q++) {
      int room = MOST, x = w[q];
      if (q > i && (w[i] > 0) == (x > 0)) room -= w[i] < 0 ? -w[i] : w[i];
      int kept = x > room ? room : x < -room ? -room : x;
      w[q] = (int8_t)kept;
      more[q] = (int8_t)(x - kept);
    }
}

static void swap(int8_t *data, uint16_t *offsets, uint32_t i, uint32_t j) {
  int8_t *a = data + 32 * i, *b = data + 32 * j;
  for (uint32_t q = 0; q < 32; q += 16) {
    v128_t x = wasm_v128_load(a + q);
    wasm_v128_store(a + q, wasm_v128_load(b + q));
    wasm_v128_store(b + q, x);
  }
  uint16_t four = offsets[i];
  offsets[i] = offsets[j];
  offsets[j] = four;
}

// Whether a panel's rows of A are worth turning: of fewer fours than this share, it is better to
// have some twice.
#define TURNED_SHARE 16

// Gives every four of the order (kp / 4, 8, 4) that saturates by itself another order of its steps,
// or a second place; 0 when there is no room.
static int settle(tw_head *head, uint32_t k) {
  int8_t *data = (int8_t *)(head + 1);
  uint16_t *offsets = (uint16_t *)tw_offsets(head, k);
  uint64_t padded = tw_padded(k);
  uint32_t most = (uint32_t)tw_most_fours(k), fours = (uint32_t)padded / 4, saturated = 0;
  if (padded > UINT16_MAX) return 0;
  for (uint32_t i = 0; i < tw_offsets_length(k); i++) {
    offsets[i] = (uint16_t)(i < fours ? 4 * i : 0);
    if (i < fours) saturated += (uint32_t)four_saturate(data + 32 * i);
  }
  head->fours = fours;
  head->turned = saturated * TURNED_SHARE > fours && 3 * padded <= UINT16_MAX;
  for (uint32_t i = 0; i < fours; i++) {
    int8_t *w = data + 32 * i;
    uint32_t copy = 0;
    while (four_saturate(w)) {
      reorder(w, copy);  // back to its own
      if (!head->turned || copy == 2) {
        if (head->fours == most) return 0;
        divide(w, data + 32 * head->fours);
        offsets[head->fours++] = offsets[i];
        copy = 0;
        break;
      }
      reorder(w, ++copy);
    }
    offsets[i] += (uint16_t)(copy * padded);
  }
  return 1;
}

#define TRIED 64  // fours among which one that fits is looked for

// Time of two fours together, of one alone, of the loop of those, and of a four in a WIDE panel.
#define COST_TWO 114
#define COST_ONE 68
#define COST_ONES 200
#define COST_WIDE 100

// Makes a panel of the order (kp / 4, 8, 4) one of PAIRS; 0 when WIDE is faster.
static int make_pairs(tw_head *head, uint32_t k) {
  if (!settle(head, k)) return 0;
  int8_t *data = (int8_t *)(head + 1);
  uint16_t *offsets = (uint16_t *)tw_offsets(head, k);
  // Before `first` fours are in twos, from `last` on none was found that fits.
  uint32_t first = 0, last = head->fours;
  while (first + 1 < last) {
    uint32_t end = first + 1 + TRIED < last ? first + 1 + TRIED : last, other = first + 1;
    while (other < end && eight_saturate(data + 32 * first, data + 32 * other)) other++;
    if (other < end) {
      if (other != first + 1) swap(data, offsets, first + 1, other);
      first += 2;
    } else {
      swap(data, offsets, first, --last);
    }
  }
  head->twos = first / 2;
  uint32_t ones = head->fours - first;
  uint64_t cost = (uint64_t)head->twos * COST_TWO + (uint64_t)ones * COST_ONE;
  if (ones) cost += COST_ONES;
  return cost <= tw_padded(k) / 4 * COST_WIDE;
}

uint32_t i8_gemm_pack_b(const tw_dispatch *d, const tw_tile *t) {
  const pack_params *p = d->params;
  if (p->tile_panels == 0 || p->packed_stride % 16 || p->dot > QUANT_DOT_LIVE ||
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

  int probed = p->dot == QUANT_DOT_PROBED || p->dot == QUANT_DOT_LIVE;
  tw_form form = probed ? tw_probe_dot() : (tw_form)(p->dot - QUANT_DOT_WIDE);
  if (p->dot == QUANT_DOT_LIVE && form == TW_FORM_PAIRS) form = TW_FORM_WIDE;
#ifndef TW_RELAXED
  if (form != TW_FORM_WIDE) return TW_INVALID_PARAMS;
#endif
  uint32_t arranged = 0;  // panels from here on that are
  for (uint32_t panel = span.first; panel < span.last; panel++) {
    tw_head *head = (tw_head *)((uint8_t *)to->data + packed0 + panel * bytes);
    uint64_t column = (uint64_t)panel * TW_COLUMNS;
    uint64_t left = p->n - column;
    source s = {(const uint8_t *)from->data + b0 + column * p->stride_n, p->k, p->stride_k,
                p->stride_n, left < TW_COLUMNS ? (uint32_t)left : TW_COLUMNS,
                p->b_signed ? 0 : 0x80};
    int8_t *data = (int8_t *)(head + 1);
    uint32_t step = form == TW_FORM_WIDE ? 2 : 4;
    head->form = form;
    head->fours = head->twos = head->turned = 0;
    if (arranged) {
      arranged--;
    } else if (p->stride_n == 1 && left >= SIDE * TW_COLUMNS && panel + SIDE <= span.last) {
      arrange_side((uint8_t *)head, bytes, &s, step);
      arranged = SIDE - 1;
    } else {
      add_up(head->sums, &s);
      fill(data, &s, step);
    }
    if (form == TW_FORM_PAIRS && !make_pairs(head, p->k)) {
      head->form = TW_FORM_WIDE;
      head->fours = head->twos = head->turned = 0;
      fill(data, &s, 2);
    }
  }
  return TW_OK;
}
