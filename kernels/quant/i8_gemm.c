// C = (A - a_zero) (B - b_zero) of bytes, and what follows it: scales, bias, activation, residual,
// or bytes again.
//
// a         (m, k) bytes, rows `lda` apart
// packed_b  panels of 8 columns as i8_gemm_pack_b writes them (panel.h); 16 bytes
// a_zero, a_scale  one, or (m) with by_row;  b_zero, b_scale  one, or (n)
// y_scale, y_zero  one each, of targets of bytes
// bias      (n), or (m) with by_row: f32, or i32 for targets of bytes;  residual (m, n) f32
// c         (m, n), rows `ldc` apart
// Tile: x = `tile_n` columns, y = `tile_m` rows, z = matrix of the batch. Scratch: quant.wit.
//
//   sum (a - za) (b - zb) = sum a b - za sum b - zb (sum a - k za)
//
// with `sum b` from the panel's head and `sum a` taken only where zb is there. Bytes are moved by
// 128 where a form wants the other kind, and so are their zeros. A's rows are copied to scratch,
// unless they can be read where they lie; panels of WIDE want them in 16 bits, which are made when
// the first such panel comes. Within a tile: panels, strips of rows. A panel (8 k bytes) stays in
// L1.
#include "i8_strip.h"
#include "bindings.h"
#include "math.h"
#include "quant.h"

typedef struct work {
  const gemm_params *p;
  const tw_dispatch *d;
  uint32_t row, rows;          // of C: the tile's first, and how many
  uint32_t by_row;             // where this matrix's numbers by row begin
  uint32_t padded;             // k
  uint32_t a_flip;             // what A's bytes, and their zero, are xored with
  int a_signed;                // after that
  const uint8_t *a;            // staged
  uint32_t lda;
  int16_t *wide;               // the same in 16 bits, rows `padded` apart
  int have_wide;
  int32_t a_zero;              // where it is one for all rows
  int32_t *row_sums;           // 0 when B's zeros are 0
  uint8_t *c;                  // this matrix's
  const float *residual;       // this matrix's, or 0
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

static int within(const tw_binding *b, uint64_t first, uint32_t rows, uint64_t stride,
                  uint64_t columns, uint32_t size) {
  return first + columns <= b->length / size &&
         (rows - 1) * stride <= b->length / size - first - columns;
}

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

// Rows of A to scratch: flipped, filled with zeros up to the padded k.
static void stage(work *w, const uint8_t *from, uint8_t *to) {
  uint32_t k = w->p->k, lda = w->p->lda;
  v128_t flip = wasm_i8x16_splat((int8_t)w->a_flip);
  w->a = to;
  w->lda = w->padded;
  for (uint32_t i = 0; i < w->rows; i++, from += lda, to += w->padded) {
    uint32_t p = 0;
    for (; p + 16 <= k; p += 16)
      wasm_v128_store(to + p, wasm_v128_xor(wasm_v128_load(from + p), flip));
    for (; p < k; p++) to[p] = from[p] ^ (uint8_t)w->a_flip;
    for (; p < w->padded; p++) to[p] = 0;
  }
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

static void widen(work *w) {
  for (uint32_t i = 0; i < w->rows; i++) {
    const uint8_t *a = w->a + (size_t)i * w->lda;
    int16_t *to = w->wide + (size_t)i * w->padded;
    for (uint32_t p = 0; p < w->padded; p += 8) wasm_v128_store(to + p, wasm_u16x8_load8x8(a + p));
  }
  w->have_wide = 1;
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
      zeros[j] = zero_at(&b[I8_GEMM_B_ZERO], column + j, flip, 1);
    c->zeros[0] = wasm_v128_load(zeros);
    c->zeros[1] = wasm_v128_load(zeros + 4);
  }
  words_at(&b[I8_GEMM_B_SCALE], column, c->width, one, c->factors);
  c->biases[0] = c->biases[1] = none;
  if (!p->by_row) words_at(&b[I8_GEMM_BIAS], column, c->width, none, c->biases);
  v128_t za = wasm_i32x4_splat(w->a_zero);
  v128_t scale = p->by_row ? one : wasm_f32x4_splat(float_at(&b[I8_GEMM_A_SCALE], 0));
  for (int h = 0; h < 2; h++) {
    c->sums[h] = wasm_v128_load(head->sums + 4 * h);
    c->start[h] = wasm_i32x4_mul(c->sums[h], za);
    c->factors[h] = wasm_f32x4_mul(c->factors[h], scale);
  }
}

// Whether what a panel of PAIRS says about A's steps lies within them: it comes from memory.
static int orderly(const tw_head *head, uint32_t k) {
  uint32_t padded = (uint32_t)tw_padded(k);
  if (head->rest > tw_most_rest(k) || head->twos > padded / 8) return 0;
  const uint32_t *order = tw_order(head, k), *rest = tw_rest_indices(head, k);
  v128_t most = wasm_u32x4_splat(0);
  for (uint32_t i = 0; i < tw_order_length(k); i += 4)
    most = wasm_u32x4_max(most, wasm_v128_load(order + i));
  if (wasm_v128_any_true(wasm_u32x4_gt(most, wasm_u32x4_splat(padded - 8)))) return 0;
  for (uint32_t i = 0; i < head->rest; i++)
    if (rest[i] >= padded / 4) return 0;
  return 1;
}

TW_INLINE v128_t activate(v128_t x, quant_activation activation) {
  switch (activation) {
    case QUANT_ACTIVATION_RELU: return wasm_f32x4_pmax(x, wasm_f32x4_splat(0));
    case QUANT_ACTIVATION_GELU: return tw_gelu(x);
    case QUANT_ACTIVATION_TANH: return tw_tanh(x);
    case QUANT_ACTIVATION_SIGMOID: return tw_sigmoid(x);
    default: return x;
  }
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

// The scales' product and the bias of a row; what is one for all rows is in the columns.
TW_INLINE void row_terms(const work *w, const columns *c, uint32_t i, int by_row, v128_t factor[2],
                         v128_t start[2]) {
  TW_UNROLLED for (int h = 0; h < 2; h++) {
    factor[h] = c->factors[h];
    start[h] = c->biases[h];
  }
  if (!by_row) return;
  const tw_binding *b = w->d->bindings;
  uint32_t row = w->by_row + w->row + i;
  v128_t scale = wasm_f32x4_splat(float_at(&b[I8_GEMM_A_SCALE], row));
  v128_t bias = start[0];
  if (b[I8_GEMM_BIAS].length)
    bias = wasm_v128_load32_splat((const float *)b[I8_GEMM_BIAS].data + row);
  TW_UNROLLED for (int h = 0; h < 2; h++) {
    factor[h] = wasm_f32x4_mul(factor[h], scale);
    start[h] = bias;
  }
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

// `activation` and `by_row` are constants where this is inlined.
TW_INLINE void finish_floats(const work *w, const columns *c, const int32_t *sums, uint32_t first,
                             uint32_t rows, float *to, const float *residual,
                             quant_activation activation, int by_row) {
  for (uint32_t i = 0; i < rows; i++, sums += TW_COLUMNS, to += w->p->ldc) {
    v128_t x[2] = {wasm_v128_load(sums), wasm_v128_load(sums + 4)}, factor[2], start[2];
    correct(w, c, first + i, by_row, x);
    row_terms(w, c, first + i, by_row, factor, start);
    TW_UNROLLED for (int h = 0; h < 2; h++) {
      x[h] = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(x[h]), factor[h]);
      x[h] = activate(wasm_f32x4_add(x[h], start[h]), activation);
    }
    if (residual) {
      if (c->width == TW_COLUMNS) {
        x[0] = wasm_f32x4_add(x[0], wasm_v128_load(residual));
        x[1] = wasm_f32x4_add(x[1], wasm_v128_load(residual + 4));
      } else {
        float more[TW_COLUMNS] = {0};
        for (uint32_t j = 0; j < c->width; j++) more[j] = residual[j];
        x[0] = wasm_f32x4_add(x[0], wasm_v128_load(more));
        x[1] = wasm_f32x4_add(x[1], wasm_v128_load(more + 4));
      }
      residual += w->p->ldr;
    }
    store_words(to, x, c->width);
  }
}

static void finish_bytes(const work *w, const columns *c, const int32_t *sums, uint32_t first,
                         uint32_t rows, uint8_t *to) {
  const tw_binding *b = w->d->bindings;
  int is_signed = w->p->target == QUANT_TARGET_SIGNED_BYTE;
  int32_t zero = zero_at(&b[I8_GEMM_Y_ZERO], 0, 0, is_signed);
  float y_scale = float_at(&b[I8_GEMM_Y_SCALE], 0);
  v128_t least = wasm_f32x4_splat((float)((is_signed ? -128 : 0) - zero));
  v128_t most = wasm_f32x4_splat((float)((is_signed ? 127 : 255) - zero));
  int by_row = w->p->by_row != 0;
  for (uint32_t i = 0; i < rows; i++, sums += TW_COLUMNS, to += w->p->ldc) {
    v128_t x[2] = {wasm_v128_load(sums), wasm_v128_load(sums + 4)}, factor[2], start[2];
    correct(w, c, first + i, by_row, x);
    row_terms(w, c, first + i, by_row, factor, start);
    TW_UNROLLED for (int h = 0; h < 2; h++) {
      factor[h] = wasm_f32x4_div(factor[h], wasm_f32x4_splat(y_scale));
      v128_t y = wasm_f32x4_convert_i32x4(wasm_i32x4_add(x[h], start[h]));
      y = wasm_f32x4_mul(y, factor[h]);
      y = wasm_f32x4_nearest(wasm_f32x4_pmin(wasm_f32x4_pmax(y, least), most));
      x[h] = wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(y), wasm_i32x4_splat(zero));
    }
    v128_t narrow = wasm_i16x8_narrow_i32x4(x[0], x[1]);
    narrow = is_signed ? wasm_i8x16_narrow_i16x8(narrow, narrow)
                       : wasm_u8x16_narrow_i16x8(narrow, narrow);
    if (c->width == TW_COLUMNS) {
      wasm_v128_store64_lane(to, narrow, 0);
    } else {
      uint8_t bytes[16];
      wasm_v128_store(bytes, narrow);
      for (uint32_t j = 0; j < c->width; j++) to[j] = bytes[j];
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
  if (p->by_row) \
    finish_floats(w, c, sums, first, rows, (float *)to + at, residual, activation, 1); \
  else \
    finish_floats(w, c, sums, first, rows, (float *)to + at, residual, activation, 0)
  switch (p->activation) {
    case QUANT_ACTIVATION_RELU: FINISH(QUANT_ACTIVATION_RELU); break;
    case QUANT_ACTIVATION_GELU: FINISH(QUANT_ACTIVATION_GELU); break;
    case QUANT_ACTIVATION_TANH: FINISH(QUANT_ACTIVATION_TANH); break;
    case QUANT_ACTIVATION_SIGMOID: FINISH(QUANT_ACTIVATION_SIGMOID); break;
    default: FINISH(QUANT_ACTIVATION_NONE); break;
  }
#undef FINISH
}

uint32_t i8_gemm(const tw_dispatch *d, const tw_tile *t) {
  const gemm_params *p = d->params;
  if (p->tile_m == 0 || p->tile_n == 0 || p->tile_n % TW_COLUMNS ||
      p->activation > QUANT_ACTIVATION_SIGMOID || p->target > QUANT_TARGET_SIGNED_BYTE ||
      d->binding_count != I8_GEMM_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t row = (uint64_t)t->y * p->tile_m, column = (uint64_t)t->x * p->tile_n;
  if (row >= p->m || column >= p->n) return TW_OK;
  uint32_t rows = minimum(p->m - (uint32_t)row, p->tile_m);
  uint32_t width = minimum(p->n - (uint32_t)column, p->tile_n);
  uint32_t panels = (width + TW_COLUMNS - 1) / TW_COLUMNS;
  uint64_t bytes = tw_panel_bytes(p->k), padded = tw_padded(p->k);

  const tw_binding *b = d->bindings;
  const tw_binding *bias = &b[I8_GEMM_BIAS], *residual = &b[I8_GEMM_RESIDUAL];
  uint64_t a0 = (uint64_t)t->z * p->a_stride, b0 = (uint64_t)t->z * p->b_stride;
  uint64_t c0 = (uint64_t)t->z * p->c_stride;
  uint32_t size = p->target >= QUANT_TARGET_BYTE ? 1 : 4;
  uint64_t by_row = p->by_row ? (uint64_t)t->z * p->row_stride : 0;
  uint64_t per_row = p->by_row ? by_row + p->m : 1, biases = p->by_row ? per_row : p->n;
  if (!within(&b[I8_GEMM_A], a0 + row * p->lda, rows, p->lda, p->k, 1) ||
      !within(&b[I8_GEMM_PACKED_B], b0 + column / TW_COLUMNS * bytes, 1, 0, panels * bytes, 1) ||
      !within(&b[I8_GEMM_C], c0 + row * p->ldc + column, rows, p->ldc, width, size) ||
      !fits(&b[I8_GEMM_A_ZERO], per_row, 1) || !fits(&b[I8_GEMM_A_SCALE], per_row, 4) ||
      !fits(&b[I8_GEMM_B_ZERO], p->n, 1) || !fits(&b[I8_GEMM_B_SCALE], p->n, 4) ||
      (bias->length && bias->length / 4 < biases) ||
      (residual->length &&
       !within(residual, c0 + row * p->ldr + column, rows, p->ldr, width, 4)))
    return TW_BINDING_TOO_SHORT;
  if (t->scratch_length < p->tile_m * (3 * padded + 4)) return TW_SCRATCH_TOO_SMALL;

  const uint8_t *panel = b[I8_GEMM_PACKED_B].data;
  panel += b0 + column / TW_COLUMNS * bytes;
  const tw_head *head = (const tw_head *)panel;
  int a_signed = head->form == TW_FORM_SIGNED;
  uint8_t *scratch = (uint8_t *)t->scratch;
  work w = {.p = p, .d = d, .row = (uint32_t)row, .rows = rows,
            .by_row = (uint32_t)by_row,
            .padded = (uint32_t)padded, .a_signed = a_signed,
            .a_flip = (p->a_signed != 0) != a_signed ? 0x80 : 0,
            .wide = (int16_t *)scratch};
  w.c = (uint8_t *)b[I8_GEMM_C].data + c0 * size;
  if (residual->length) w.residual = (const float *)residual->data + c0;
  uint8_t *after = scratch + (size_t)rows * padded * 2;
  const uint8_t *a = (const uint8_t *)b[I8_GEMM_A].data + a0 + row * p->lda;
  if (w.a_flip == 0 && padded == p->k) {
    w.a = a;
    w.lda = p->lda;
  } else {
    stage(&w, a, after);
  }
  w.a_zero = zero_at(&b[I8_GEMM_A_ZERO], 0, w.a_flip, a_signed);
  if (b[I8_GEMM_B_ZERO].length > 1 || zero_at(&b[I8_GEMM_B_ZERO], 0, p->b_signed ? 0 : 0x80, 1)) {
    w.row_sums = (int32_t *)(after + (size_t)rows * padded);
    add_up_rows(&w);
  }

  for (uint32_t j = 0; j < width; j += TW_COLUMNS, panel += bytes) {
    head = (const tw_head *)panel;
    tw_form form = (tw_form)head->form;
    if (form > TW_FORM_SIGNED || (form == TW_FORM_SIGNED) != a_signed ||
        (form == TW_FORM_PAIRS ? !orderly(head, p->k) : head->rest != 0))
      return TW_INVALID_PARAMS;
#ifndef TW_RELAXED
    if (form != TW_FORM_WIDE) return TW_INVALID_PARAMS;
#endif
    columns c;
    c.width = minimum(width - j, TW_COLUMNS);
    gather_columns(&w, head, (uint32_t)column + j, &c);
    if (form == TW_FORM_WIDE && !w.have_wide) widen(&w);
    uint32_t most = form == TW_FORM_PAIRS ? TW_PAIRS_ROWS : TW_ROWS;
    uint32_t strips = (rows + most - 1) / most;
    int32_t sums[TW_ROWS * TW_COLUMNS];
    tw_strip s = {.k = (uint32_t)padded, .b = (const int8_t *)(head + 1), .sums = sums};
    // All strips together read the next panel; the last one has none after it.
    s.ahead = panel + (j + TW_COLUMNS < width ? bytes : 0);
    s.ahead_step = 8 * TW_COLUMNS / strips;
    s.order = tw_order(head, p->k);
    s.twos = head->twos;
    s.lda = form == TW_FORM_WIDE ? (uint32_t)padded * 2 : w.lda;
    uint32_t ahead = s.ahead_step * ((uint32_t)padded / 8);
    for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip, s.ahead += ahead) {
      strip = rows / strips + (n < rows % strips);
      s.a = (form == TW_FORM_WIDE ? (const uint8_t *)w.wide : w.a) + (size_t)i * s.lda;
      tw_strip_any(&s, form, strip);
      if (head->rest)
        tw_add_rest(&s, strip, head, tw_rest_indices(head, p->k), tw_rest_blocks(head, p->k));
      finish(&w, &c, sums, i, strip, (uint32_t)column + j);
    }
  }
  return TW_OK;
}
