// C = A B + bias, f32, where B is weights of 4 or 8 bits in blocks of k: (number - zero) scale.
//
// a       (m, k), rows `lda` apart
// packed  panels of 8 columns as f32_gemm_blocks_pack writes them; 16 bytes
// bias    (n), optional
// c       (m, n), dense
// Tile: x = `tile_n` columns, y = `tile_m` rows. Scratch: one panel's floats of up to 512 steps of
// k, which stay in L1 while all rows of the tile pass. C holds partial sums between them.
#include "bindings.h"
#include "blocks.h"
#include "microkernel.h"
#include "quant.h"

static const float zeros[TW_PANEL] = {0};

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

static int within(const tw_binding *b, uint64_t first, uint32_t rows, uint64_t stride,
                  uint64_t columns, uint32_t size) {
  return first + columns <= b->length / size &&
         (rows - 1) * stride <= b->length / size - first - columns;
}

// 8 numbers of u8 as floats of a row of the panel.
TW_INLINE void open_row(float *to, v128_t bytes, v128_t zero, v128_t low, v128_t high) {
  v128_t x = wasm_i16x8_sub(wasm_u16x8_extend_low_u8x16(bytes), zero);
  v128_t first = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(x));
  v128_t second = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(x));
  wasm_v128_store(to, wasm_f32x4_mul(first, low));
  wasm_v128_store(to + 4, wasm_f32x4_mul(second, high));
}

// One block to `block` rows of 8 floats.
static void open_block(float *to, const uint8_t *from, uint32_t bits, uint32_t block) {
  v128_t low = wasm_v128_load(from), high = wasm_v128_load(from + 16);
  v128_t zero = wasm_u16x8_load8x8(from + 32), mask = wasm_i8x16_splat(15);
  from += TW_BLOCK_HEAD;
  if (bits == 8) {
    for (; block != 0; block--, from += 8, to += TW_PANEL)
      open_row(to, wasm_v128_load64_zero(from), zero, low, high);
    return;
  }
  for (; block != 0; block -= 2, from += 8, to += 2 * TW_PANEL) {
    v128_t both = wasm_v128_load64_zero(from);
    open_row(to, wasm_v128_and(both, mask), zero, low, high);
    open_row(to + TW_PANEL, wasm_u8x16_shr(both, 4), zero, low, high);
  }
}

static void copy_rows(float *to, uint32_t ld_to, const float *from, uint32_t ld_from,
                      uint32_t rows, uint32_t columns) {
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < columns; j++)
      to[(size_t)i * ld_to + j] = from[(size_t)i * ld_from + j];
}

uint32_t f32_gemm_blocks(const tw_dispatch *d, const tw_tile *t) {
  const blocks_params *p = d->params;
  if (!tw_block_valid(p->bits, p->block) || p->tile_m == 0 || p->tile_n == 0 ||
      p->tile_n % TW_PANEL || d->binding_count != F32_GEMM_BLOCKS_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t row = (uint64_t)t->y * p->tile_m, column = (uint64_t)t->x * p->tile_n;
  if (row >= p->m || column >= p->n) return TW_OK;
  uint32_t rows = minimum(p->m - (uint32_t)row, p->tile_m);
  uint32_t columns = minimum(p->n - (uint32_t)column, p->tile_n);
  uint32_t panels = (columns + TW_PANEL - 1) / TW_PANEL;
  uint64_t blocks = ((uint64_t)p->k + p->block - 1) / p->block;
  uint64_t each = tw_block_bytes(p->bits, p->block), panel_bytes = blocks * each;
  const tw_binding *b = d->bindings, *bias = &b[F32_GEMM_BLOCKS_BIAS];
  if (!within(&b[F32_GEMM_BLOCKS_A], row * p->lda, rows, p->lda, p->k, 4) ||
      !within(&b[F32_GEMM_BLOCKS_PACKED], column / TW_PANEL * panel_bytes, 1, 0,
              panels * panel_bytes, 1) ||
      !within(&b[F32_GEMM_BLOCKS_C], row * p->n + column, rows, p->n, columns, 4) ||
      (bias->length && bias->length / 4 < p->n))
    return TW_BINDING_TOO_SHORT;
  if (t->scratch_length < TW_BLOCK_MOST * TW_PANEL * sizeof(float)) return TW_SCRATCH_TOO_SMALL;
  const float *a = (const float *)b[F32_GEMM_BLOCKS_A].data + row * p->lda;
  const uint8_t *packed =
      (const uint8_t *)b[F32_GEMM_BLOCKS_PACKED].data + column / TW_PANEL * panel_bytes;
  float *c = (float *)b[F32_GEMM_BLOCKS_C].data + row * p->n + column;
  float *opened = t->scratch;
  uint32_t chunk = TW_BLOCK_MOST / p->block * p->block, strips = tw_strips(rows);

  for (uint32_t j = 0; j < columns; j += TW_PANEL, packed += panel_bytes) {
    uint32_t width = minimum(columns - j, TW_PANEL);
    float narrow[TW_ROWS * TW_PANEL], biases[TW_PANEL];
    for (uint32_t i = 0; i < TW_PANEL; i++)
      biases[i] = bias->length && i < width ? ((const float *)bias->data)[column + j + i] : 0;
    const uint8_t *block = packed;
    uint32_t k0 = 0;
    do {
      uint32_t k = minimum(p->k - k0, chunk);
      for (uint32_t i = 0; i < k; i += p->block, block += each)
        open_block(opened + i * TW_PANEL, block, p->bits, p->block);
      tw_strip s = {.lda = p->lda, .k = k, .b = opened, .ahead = (const uint8_t *)zeros};
      for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip) {
        strip = tw_strip_length(rows, strips, n);
        float *to = c + (size_t)i * p->n + j;
        s.a = a + (size_t)i * p->lda + k0;
        s.c = to;
        s.ldc = p->n;
        if (width < TW_PANEL) {
          if (k0) copy_rows(narrow, TW_PANEL, to, p->n, strip, width);
          s.c = narrow;
          s.ldc = TW_PANEL;
        }
        s.start = k0 ? s.c : biases;
        s.ld_start = k0 ? s.ldc : 0;
        tw_strip_any(&s, strip);
        if (width < TW_PANEL) copy_rows(to, p->n, narrow, TW_PANEL, strip, width);
      }
      k0 += k;
    } while (k0 < p->k);
  }
  return TW_OK;
}
