// What i8_gemm and i8_conv share: rows of bytes by panels, and what follows the sums: zeros, scales,
// bias, activation, residual, or bytes again. Both have their bindings in the same order.
//
//   sum (a - za) (b - zb) = sum a b - za sum b - zb (sum a - k za)
//
// with `sum b` from the panel's head and `sum a` taken only where zb is there. Bytes are moved by
// 128 where a form wants the other kind, and so are their zeros. Scratch has five lengths of k for
// each row: its bytes, unless they are read where they lie; two copies with the steps of each four
// in another order, made when the first panel comes that is turned; the same in 16 bits, made for
// the first panel of WIDE. Within a tile: panels, strips of rows. A panel (8 k bytes) stays in L1.
#ifndef TW_QUANT_PRODUCT_H
#define TW_QUANT_PRODUCT_H
#include "i8_strip.h"
#include "activation.h"
#include "bindings.h"
#include "quant.h"
#include "requantise.h"

typedef struct work {
  const gemm_params *p;
  const tw_dispatch *d;
  uint32_t row, rows;          // of C: the tile's first, and how many
  uint32_t by_row;             // where this matrix's zeros by row begin
  uint32_t by_column;          // where what is one for each column begins
  uint32_t padded;             // k
  uint32_t a_flip;             // what A's bytes, and their zero, are xored with
  int a_signed;                // after that
  const uint8_t *a;            // staged
  uint32_t lda;
  uint8_t *rows_of_scratch;    // tw_pitch(padded) apart
  int have_turned, have_wide;  // which of their parts are there
  int32_t a_zero;              // where it is one for all rows
  int32_t *row_sums;           // 0 when B's zeros are 0
  uint8_t *c;                  // this matrix's
  const float *residual;       // this matrix's, or 0
  tw_requantiser q;            // of targets of bytes
} work;

// What all rows of a panel share.
typedef struct columns {
  uint32_t width;
  v128_t sums[2], zeros[2];  // of B, i32
  v128_t start[2];           // the sums times A's zero, where that is one for all rows
  v128_t factors[2];         // B's scales, times A's where that is one for all rows
  v128_t biases[2];          // f32, or i32 for targets of bytes
} columns;

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

// An optional binding that is absent, has one element or one for each of `count`.
static int fits(const tw_binding *b, uint64_t count, uint32_t size) {
  return b->length == 0 || b->length / size == 1 || b->length / size >= count;
}

static inline int32_t zero_at(const tw_binding *b, uint32_t index, uint32_t flip, int is_signed) {
  if (b->length == 0) return is_signed ? (int8_t)flip : (int32_t)flip;
  uint8_t x = ((const uint8_t *)b->data)[b->length == 1 ? 0 : index] ^ (uint8_t)flip;
  return is_signed ? (int8_t)x : x;
}

static inline float float_at(const tw_binding *b, uint32_t index) {
  if (b->length == 0) return 1;
  return ((const float *)b->data)[b->length == 4 ? 0 : index];
}

// `n` bytes, xored with `flip`, nothing beyond them touched on either side.
TW_INLINE void copy_flipped(uint8_t *to, const uint8_t *from, uint32_t n, v128_t flip) {
  if (n >= 16) {
    uint32_t p = 0;
    for (; p + 16 <= n; p += 16)
      wasm_v128_store(to + p, wasm_v128_xor(wasm_v128_load(from + p), flip));
    if (p == n) return;
    p = n - 16;  // once more, over some of the last
    wasm_v128_store(to + p, wasm_v128_xor(wasm_v128_load(from + p), flip));
    return;
  }
  if (n >= 8) {
    wasm_v128_store64_lane(to, wasm_v128_xor(wasm_v128_load64_zero(from), flip), 0);
    to += n - 8, from += n - 8;
    wasm_v128_store64_lane(to, wasm_v128_xor(wasm_v128_load64_zero(from), flip), 0);
    return;
  }
  if (n >= 4) {
    wasm_v128_store32_lane(to, wasm_v128_xor(wasm_v128_load32_zero(from), flip), 0);
    to += n - 4, from += n - 4;
    wasm_v128_store32_lane(to, wasm_v128_xor(wasm_v128_load32_zero(from), flip), 0);
    return;
  }
  uint8_t mask = (uint8_t)wasm_u8x16_extract_lane(flip, 0);
  while (n--) *to++ = *from++ ^ mask;
}

static void add_up_rows(work *w) {
  for (uint32_t i = 0; i < w->rows; i++) {
    const uint8_t *a = w->a + (size_t)i * w->lda;
    v128_t sum = wasm_i32x4_splat(0);
    uint32_t p = 0;
    for (; p + 8 <= w->p->k; p += 8) {
      v128_t x = w->a_signed ? wasm_i16x8_load8x8(a + p) : wasm_u16x8_load8x8(a + p);
      sum = wasm_i32x4_add(sum, wasm_i32x4_extadd_pairwise_i16x8(x));
    }
    int32_t total = wasm_i32x4_extract_lane(sum, 0) + wasm_i32x4_extract_lane(sum, 1) +
                    wasm_i32x4_extract_lane(sum, 2) + wasm_i32x4_extract_lane(sum, 3);
    for (; p < w->p->k; p++) total += w->a_signed ? (int8_t)a[p] : a[p];
    w->row_sums[i] = total;
  }
}

// Bytes between two rows of scratch, and of `rows` with their sums.
static inline uint32_t tw_pitch(uint32_t padded) { return 5 * padded; }
static inline uint64_t tw_product_scratch(uint32_t rows, uint64_t padded) {
  return rows * (5 * padded + 4);
}

static void widen(work *w) {
  uint32_t pitch = tw_pitch(w->padded);
  for (uint32_t i = 0; i < w->rows; i++) {
    const uint8_t *a = w->a + (size_t)i * w->lda;
    int16_t *to = (int16_t *)(w->rows_of_scratch + (size_t)i * pitch + 3 * w->padded);
    for (uint32_t p = 0; p < w->padded; p += 8) wasm_v128_store(to + p, wasm_u16x8_load8x8(a + p));
  }
  w->have_wide = 1;
}

static void turn(work *w) {
  uint32_t pitch = tw_pitch(w->padded), padded = w->padded;
  for (uint32_t i = 0; i < w->rows; i++) {
    const uint8_t *a = w->a + (size_t)i * w->lda;
    uint8_t *to = w->rows_of_scratch + (size_t)i * pitch;
    uint32_t p = 0;
    for (; p + 16 <= padded; p += 16) {
      v128_t x = wasm_v128_load(a + p);
      wasm_v128_store(to + p, x);
      wasm_v128_store(to + padded + p, tw_turned_once(x));
      wasm_v128_store(to + 2 * padded + p, tw_turned_twice(x));
    }
    if (p == padded) continue;
    v128_t x = wasm_v128_load64_zero(a + p);  // rows are padded to 8
    wasm_v128_store64_lane(to + p, x, 0);
    wasm_v128_store64_lane(to + padded + p, tw_turned_once(x), 0);
    wasm_v128_store64_lane(to + 2 * padded + p, tw_turned_twice(x), 0);
  }
  w->a = w->rows_of_scratch;
  w->lda = pitch;
  w->have_turned = 1;
}

// 8 words of a binding from `at` on; of one element all are that, of none `absent`.
static void words_at(const tw_binding *b, uint32_t at, uint32_t width, v128_t absent,
                     v128_t to[2]) {
  const uint8_t *from = (const uint8_t *)b->data + 4 * (size_t)at;
  if (b->length <= 4) {
    to[0] = to[1] = b->length ? wasm_v128_load32_splat(b->data) : absent;
  } else if (width == TW_COLUMNS) {
    to[0] = wasm_v128_load(from);
    to[1] = wasm_v128_load(from + 16);
  } else {
    int32_t words[TW_COLUMNS] = {0};
    for (uint32_t j = 0; j < width; j++) words[j] = ((const int32_t *)from)[j];
    to[0] = wasm_v128_load(words);
    to[1] = wasm_v128_load(words + 4);
  }
}

static void gather_columns(const work *w, const tw_head *head, uint32_t column, columns *c) {
  const tw_binding *b = w->d->bindings;
  const gemm_params *p = w->p;
  v128_t one = wasm_f32x4_splat(1), none = wasm_i32x4_splat(0);
  uint32_t flip = p->b_signed ? 0 : 0x80;
  if (b[I8_GEMM_B_ZERO].length <= 1) {
    c->zeros[0] = c->zeros[1] = wasm_i32x4_splat(zero_at(&b[I8_GEMM_B_ZERO], 0, flip, 1));
  } else {
    int32_t zeros[TW_COLUMNS] = {0};
    for (uint32_t j = 0; j < c->width; j++)
      zeros[j] = zero_at(&b[I8_GEMM_B_ZERO], w->by_column + column + j, flip, 1);
    c->zeros[0] = wasm_v128_load(zeros);
    c->zeros[1] = wasm_v128_load(zeros + 4);
  }
  words_at(&b[I8_GEMM_B_SCALE], w->by_column + column, c->width, one, c->factors);
  c->biases[0] = c->biases[1] = none;
  words_at(&b[I8_GEMM_BIAS], w->by_column + column, c->width, none, c->biases);
  v128_t za = wasm_i32x4_splat(w->a_zero);
  v128_t scale = wasm_f32x4_splat(float_at(&b[I8_GEMM_A_SCALE], 0));
  for (int h = 0; h < 2; h++) {
    c->sums[h] = wasm_v128_load(head->sums + 4 * h);
    c->start[h] = wasm_i32x4_mul(c->sums[h], za);
    c->factors[h] = wasm_f32x4_mul(c->factors[h], scale);
    if (p->target >= QUANT_TARGET_BYTE)
      c->factors[h] = wasm_f32x4_div(
          c->factors[h], wasm_f32x4_splat(float_at(&b[I8_GEMM_Y_SCALE], 0)));
  }
}

// Whether what a panel of PAIRS says about A's steps lies within a row: it comes from memory.
static int orderly(const tw_head *head, uint32_t k) {
  uint64_t reach = tw_padded(k) * (head->turned ? 3 : 1);
  if (head->fours > tw_most_fours(k) || head->twos > head->fours / 2) return 0;
  if (head->fours == 0) return 1;
  if (reach < 4) return 0;
  const uint16_t *offsets = tw_offsets(head, k);
  v128_t most = wasm_u16x8_splat(0);
  for (uint32_t i = 0; i < tw_offsets_length(k); i += 8)
    most = wasm_u16x8_max(most, wasm_v128_load(offsets + i));
  v128_t last = wasm_u16x8_splat(reach - 4 > UINT16_MAX ? UINT16_MAX : (uint16_t)(reach - 4));
  return !wasm_v128_any_true(wasm_u16x8_gt(most, last));
}

// A row's sums with the zeros taken into account. `by_row` is a constant where this is inlined.
TW_INLINE void correct(const work *w, const columns *c, uint32_t i, int by_row, v128_t x[2]) {
  int32_t za = w->a_zero;
  if (by_row) {
    const tw_binding *zero = &w->d->bindings[I8_GEMM_A_ZERO];
    za = zero_at(zero, w->by_row + w->row + i, w->a_flip, w->a_signed);
  }
  TW_UNROLLED for (int h = 0; h < 2; h++)
    x[h] = wasm_i32x4_sub(
        x[h], by_row ? wasm_i32x4_mul(c->sums[h], wasm_i32x4_splat(za)) : c->start[h]);
  if (!w->row_sums) return;
  v128_t all = wasm_i32x4_splat(w->row_sums[i] - (int32_t)w->p->k * za);
  TW_UNROLLED for (int h = 0; h < 2; h++)
    x[h] = wasm_i32x4_sub(x[h], wasm_i32x4_mul(c->zeros[h], all));
}

static void store_words(void *to, v128_t x[2], uint32_t width) {
  if (width == TW_COLUMNS) {
    wasm_v128_store(to, x[0]);
    wasm_v128_store((uint8_t *)to + 16, x[1]);
    return;
  }
  int32_t words[TW_COLUMNS];
  wasm_v128_store(words, x[0]);
  wasm_v128_store(words + 4, x[1]);
  for (uint32_t j = 0; j < width; j++) ((int32_t *)to)[j] = words[j];
}

// What the loops over rows need of the columns, where the compiler knows that nothing changes it.
typedef struct terms {
  v128_t start[2], factors[2];
} terms;

// `start` is what is added to the sums: of bytes the bias too, less what A's one zero takes.
TW_INLINE terms terms_of(const work *w, const columns *c) {
  int bytes = w->p->target >= QUANT_TARGET_BYTE;
  terms t;
  TW_UNROLLED for (int h = 0; h < 2; h++) {
    v128_t none = wasm_i32x4_splat(0);
    t.start[h] = wasm_i32x4_sub(bytes ? c->biases[h] : none, c->start[h]);
    t.factors[h] = c->factors[h];
  }
  return t;
}

// A row's sums, and what B's zeros take.
TW_INLINE void started(const work *w, const columns *c, const terms *t, const int32_t *sums,
                       uint32_t i, v128_t x[2]) {
  TW_UNROLLED for (int h = 0; h < 2; h++)
    x[h] = wasm_i32x4_add(wasm_v128_load(sums + 4 * h), t->start[h]);
  if (!w->row_sums) return;
  v128_t all = wasm_i32x4_splat(w->row_sums[i] - (int32_t)w->p->k * w->a_zero);
  TW_UNROLLED for (int h = 0; h < 2; h++)
    x[h] = wasm_i32x4_sub(x[h], wasm_i32x4_mul(c->zeros[h], all));
}

// `activation` is a constant where this is inlined.
TW_INLINE void finish_floats(const work *w, const columns *c, const int32_t *sums, uint32_t first,
                             uint32_t rows, float *to, const float *residual,
                             quant_activation activation) {
  terms t = terms_of(w, c);
  v128_t bias[2] = {c->biases[0], c->biases[1]};
  uint32_t ldc = w->p->ldc, ldr = w->p->ldr, width = c->width;
  for (uint32_t i = 0; i < rows; i++, sums += TW_COLUMNS, to += ldc) {
    v128_t x[2];
    started(w, c, &t, sums, first + i, x);
    TW_UNROLLED for (int h = 0; h < 2; h++) {
      x[h] = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(x[h]), t.factors[h]);
      x[h] = tw_quant_activate(wasm_f32x4_add(x[h], bias[h]), activation);
    }
    if (residual) {
      if (width == TW_COLUMNS) {
        x[0] = wasm_f32x4_add(x[0], wasm_v128_load(residual));
        x[1] = wasm_f32x4_add(x[1], wasm_v128_load(residual + 4));
      } else {
        float more[TW_COLUMNS] = {0};
        for (uint32_t j = 0; j < width; j++) more[j] = residual[j];
        x[0] = wasm_f32x4_add(x[0], wasm_v128_load(more));
        x[1] = wasm_f32x4_add(x[1], wasm_v128_load(more + 4));
      }
      residual += ldr;
    }
    store_words(to, x, width);
  }
}

static void finish_bytes(const work *w, const columns *c, const int32_t *sums, uint32_t first,
                         uint32_t rows, uint8_t *to) {
  terms t = terms_of(w, c);
  tw_requantiser q = w->q;
  uint32_t ldc = w->p->ldc, width = c->width;
  for (uint32_t i = 0; i < rows; i++, sums += TW_COLUMNS, to += ldc) {
    v128_t x[2];
    started(w, c, &t, sums, first + i, x);
    TW_UNROLLED for (int h = 0; h < 2; h++) x[h] = tw_requantise_4(&q, x[h], t.factors[h]);
    v128_t narrow = tw_narrow_8(&q, x[0], x[1]);
    if (width == TW_COLUMNS) {
      wasm_v128_store64_lane(to, narrow, 0);
    } else {
      uint8_t bytes[16];
      wasm_v128_store(bytes, narrow);
      for (uint32_t j = 0; j < width; j++) to[j] = bytes[j];
    }
  }
}

static __attribute__((noinline)) void finish(const work *w, const columns *c, const int32_t *sums,
                                             uint32_t first, uint32_t rows, uint32_t column) {
  const gemm_params *p = w->p;
  uint64_t at = (uint64_t)(w->row + first) * p->ldc + column;
  uint8_t *to = w->c;
  if (p->target >= QUANT_TARGET_BYTE) {
    finish_bytes(w, c, sums, first, rows, to + at);
    return;
  }
  if (p->target == QUANT_TARGET_INT) {
    for (uint32_t i = 0; i < rows; i++, sums += TW_COLUMNS, at += p->ldc) {
      v128_t x[2] = {wasm_v128_load(sums), wasm_v128_load(sums + 4)};
      correct(w, c, first + i, p->by_row != 0, x);
      store_words(to + 4 * at, x, c->width);
    }
    return;
  }
  const float *residual = 0;
  if (w->residual) residual = w->residual + (uint64_t)(w->row + first) * p->ldr + column;
#define FINISH(activation) \
  finish_floats(w, c, sums, first, rows, (float *)to + at, residual, activation)
  switch (p->activation) {
    case QUANT_ACTIVATION_RELU: FINISH(QUANT_ACTIVATION_RELU); break;
    case QUANT_ACTIVATION_GELU: FINISH(QUANT_ACTIVATION_GELU); break;
    case QUANT_ACTIVATION_TANH: FINISH(QUANT_ACTIVATION_TANH); break;
    case QUANT_ACTIVATION_SIGMOID: FINISH(QUANT_ACTIVATION_SIGMOID); break;
    case QUANT_ACTIVATION_NONE: FINISH(QUANT_ACTIVATION_NONE); break;
    default: FINISH(p->activation); break;
  }
#undef FINISH
}

// Rows whose sums are finished together: of short sums the call costs as much as a strip.
#define PENDING 32

// The rows of A, already staged and summed, by `width` columns from `column` on, whose panels begin at
// `panel`.
static uint32_t multiply(work *w, const uint8_t *panel, uint32_t column, uint32_t width) {
  uint32_t k = w->p->k, rows = w->rows;
  uint64_t bytes = tw_panel_bytes(k);
  for (uint32_t j = 0; j < width; j += TW_COLUMNS, panel += bytes) {
    const tw_head *head = (const tw_head *)panel;
    tw_form form = (tw_form)head->form;
    if (form > TW_FORM_SIGNED || (form == TW_FORM_SIGNED) != w->a_signed ||
        (form == TW_FORM_PAIRS && !orderly(head, k)))
      return TW_INVALID_PARAMS;
#ifndef TW_RELAXED
    if (form != TW_FORM_WIDE) return TW_INVALID_PARAMS;
#endif
    columns c;
    c.width = minimum(width - j, TW_COLUMNS);
    gather_columns(w, head, column + j, &c);
    if (form == TW_FORM_WIDE && !w->have_wide) widen(w);
    if (form == TW_FORM_PAIRS && head->turned && !w->have_turned) turn(w);
    uint32_t most = form == TW_FORM_PAIRS ? TW_PAIRS_ROWS : TW_ROWS;
    uint32_t strips = (rows + most - 1) / most;
    int32_t sums[PENDING * TW_COLUMNS];
    uint32_t pending = 0;
    tw_strip s = {.k = w->padded, .b = (const int8_t *)(head + 1)};
    // All strips together read the next panel; the last one has none after it.
    s.ahead = panel + (j + TW_COLUMNS < width ? bytes : 0);
    s.ahead_step = head->twos ? (uint32_t)bytes / (strips * head->twos) : 0;
    s.offsets = tw_offsets(head, k);
    s.twos = head->twos;
    s.ones = head->fours - 2 * head->twos;
    const uint8_t *a = form == TW_FORM_WIDE ? w->rows_of_scratch + 3 * w->padded : w->a;
    s.lda = form == TW_FORM_WIDE ? tw_pitch(w->padded) : w->lda;
    uint32_t ahead = s.ahead_step * head->twos;
    for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip, s.ahead += ahead) {
      strip = rows / strips + (n < rows % strips);
      s.a = a + (size_t)i * s.lda;
      s.sums = sums + pending * TW_COLUMNS;
      tw_strip_any(&s, form, strip);
      pending += strip;
      if (n + 1 < strips && pending + TW_ROWS <= PENDING) continue;
      finish(w, &c, sums, i + strip - pending, pending, column + j);
      pending = 0;
    }
  }
  return TW_OK;
}

// What A's bytes are xored with, their sign after that, their zero then, and how bytes are made.
static void take_form(work *w, const tw_head *head, int is_signed) {
  w->a_signed = head->form == TW_FORM_SIGNED;
  w->a_flip = (is_signed != 0) != w->a_signed ? 0x80 : 0;
  w->a_zero = zero_at(&w->d->bindings[I8_GEMM_A_ZERO], 0, w->a_flip, w->a_signed);
  int to_signed = w->p->target == QUANT_TARGET_SIGNED_BYTE;
  int32_t zero = zero_at(&w->d->bindings[I8_GEMM_Y_ZERO], 0, 0, to_signed);
  w->q = tw_requantiser_of(zero, w->p->least, w->p->most, to_signed);
}

// Sums of A's rows, at `to`, where one of B's zeros is not 0; by channel, all of them mostly are.
static void take_rows(work *w, int32_t *to) {
  const tw_binding *zero = &w->d->bindings[I8_GEMM_B_ZERO];
  uint32_t flip = w->p->b_signed ? 0 : 0x80, i = 0, count = zero->length ? zero->length : 1;
  while (i < count && !zero_at(zero, i, flip, 1)) i++;
  if (i == count) return;
  w->row_sums = to;
  add_up_rows(w);
}

#endif
