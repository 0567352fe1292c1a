// C = (A - a_zero) (B - b_zero) of bytes, and what follows it: scales, bias, activation, residual,
// or bytes again.
//
// a         (m, k) bytes, rows `lda` apart
// packed_b  panels of 8 columns as i8_gemm_pack_b writes them (panel.h); 16 bytes
// a_zero    one, or (m) with by_row;  a_scale  one;  b_zero, b_scale  one, or (n)
// y_scale, y_zero  one each, of targets of bytes
// bias      (n): f32, or i32 for targets of bytes;  residual (m, n) f32
// c         (m, n), rows `ldc` apart
// Tile: x = `tile_n` columns, y = `tile_m` rows, z = matrix of the batch. Scratch: quant.wit.
//
// product.h has how it is computed. A's rows are copied to scratch, unless they can be read where
// they lie.
#include "product.h"

// Rows of A to scratch: flipped, filled with zeros up to the padded k.
static void stage(work *w, const uint8_t *from) {
  uint32_t k = w->p->k, lda = w->p->lda;
  v128_t flip = wasm_i8x16_splat((int8_t)w->a_flip);
  uint8_t *to = w->rows_of_scratch;
  w->a = to;
  w->lda = tw_pitch(w->padded);
  for (uint32_t i = 0; i < w->rows; i++, from += lda, to += w->lda) {
    copy_flipped(to, from, k, flip);
    for (uint32_t p = k; p < w->padded; p++) to[p] = 0;
  }
}

static int within(const tw_binding *b, uint64_t first, uint32_t rows, uint64_t stride,
                  uint64_t columns, uint32_t size) {
  return first + columns <= b->length / size &&
         (rows - 1) * stride <= b->length / size - first - columns;
}

uint32_t i8_gemm(const tw_dispatch *d, const tw_tile *t) {
  const gemm_params *p = d->params;
  if (p->tile_m == 0 || p->tile_n == 0 || p->tile_n % TW_COLUMNS ||
      p->activation > QUANT_ACTIVATION_GELU_TANH || p->target > QUANT_TARGET_SIGNED_BYTE ||
      (p->by_row && p->target != QUANT_TARGET_INT) ||
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
  uint64_t per_row = p->by_row ? by_row + p->m : 1;
  if (!within(&b[I8_GEMM_A], a0 + row * p->lda, rows, p->lda, p->k, 1) ||
      !within(&b[I8_GEMM_PACKED_B], b0 + column / TW_COLUMNS * bytes, 1, 0, panels * bytes, 1) ||
      !within(&b[I8_GEMM_C], c0 + row * p->ldc + column, rows, p->ldc, width, size) ||
      !fits(&b[I8_GEMM_A_ZERO], per_row, 1) || !fits(&b[I8_GEMM_A_SCALE], 1, 4) ||
      !fits(&b[I8_GEMM_B_ZERO], p->n, 1) || !fits(&b[I8_GEMM_B_SCALE], p->n, 4) ||
      (bias->length && bias->length / 4 < p->n) ||
      (residual->length &&
       !within(residual, c0 + row * p->ldr + column, rows, p->ldr, width, 4)))
    return TW_BINDING_TOO_SHORT;
  if (t->scratch_length < tw_product_scratch(p->tile_m, padded)) return TW_SCRATCH_TOO_SMALL;

  const uint8_t *panel = b[I8_GEMM_PACKED_B].data;
  panel += b0 + column / TW_COLUMNS * bytes;
  uint8_t *scratch = (uint8_t *)t->scratch;
  work w = {.p = p, .d = d, .row = (uint32_t)row, .rows = rows, .by_row = (uint32_t)by_row,
            .padded = (uint32_t)padded, .rows_of_scratch = scratch};
  take_form(&w, (const tw_head *)panel, p->a_signed != 0);
  w.c = (uint8_t *)b[I8_GEMM_C].data + c0 * size;
  if (residual->length) w.residual = (const float *)residual->data + c0;
  const uint8_t *a = (const uint8_t *)b[I8_GEMM_A].data + a0 + row * p->lda;
  if (w.a_flip == 0 && padded == p->k) {
    w.a = a;
    w.lda = p->lda;
  } else {
    stage(&w, a);
  }
  take_rows(&w, (int32_t *)(scratch + (size_t)rows * tw_pitch(w.padded)));
  return multiply(&w, panel, (uint32_t)column, width);
}
