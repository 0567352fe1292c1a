// C = A B + bias, f32, where B is weights of 4 or 8 bits in blocks of k: (number - zero) scale.
//
// a       (m, k), rows `lda` apart
// b       as blocks.h says, and as ONNX stores it
// scales  (n, blocks); zeros (n, bytes of `blocks` numbers), optional
// bias    (n), optional
// c       (m, n), dense
// Tile: x = `tile_n` columns, y = `tile_m` rows. Nothing may alias.
//
// Few rows: A's are brought into the order of B's units, once a tile; then a column is a sum of products
// (blocks_float.h) or, where A may be rounded, of integers (blocks_rounded.h). Scratch: a row.
// More rows: a panel of 8 columns is opened to floats, up to 512 steps of k, which stay in L1 while all
// rows of the tile pass. C holds partial sums between them. Scratch: the panel, 16384 bytes.
#include "bindings.h"
#include "blocks_float.h"
#include "blocks_rounded.h"
#include "microkernel.h"
#include "quant.h"

#define FEW 3

static const float nothing[TW_PANEL] = {0};

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

static int within(const tw_binding *b, uint64_t first, uint32_t rows, uint64_t stride,
                  uint64_t columns, uint32_t size) {
  return first + columns <= b->length / size &&
         (rows - 1) * stride <= b->length / size - first - columns;
}

// -- more rows --------------------------------------------------------------------------------

// One block of four columns to `block` rows of 8 floats, of which they are the first or last four.
TW_INLINE void open_block(float *to, const uint8_t *const b[4], v128_t scale, v128_t zero,
                          uint32_t units, const int bits, const int step) {
  const int vectors = 32 / bits, half = vectors / 2, lanes = step / 4;
  const tw_masks m = tw_unit_masks(bits);
  v128_t scales[4], zeros[4];
  TW_UNROLLED for (int i = 0; i < half; i++) {
    float factor = tw_unit_factor(bits, i);
    scales[i] = wasm_f32x4_mul(scale, tw_splat(factor));
    zeros[i] = wasm_f32x4_mul(zero, tw_splat(1 / factor));
  }
  for (uint32_t u = 0; u < units; u++, to += 4 * vectors * TW_PANEL) {
    v128_t x[4];
    TW_UNROLLED for (int i = 0; i < 4; i++)
      x[i] = step == 8 ? wasm_v128_load64_zero(b[i]) : wasm_v128_load(b[i] + u * 16);
    tw_lanes_turned(x);
    TW_UNROLLED for (int l = 0; l < lanes; l++) {
      v128_t high = wasm_u32x4_shr(x[l], 16);
      TW_UNROLLED for (int j = 0; j < vectors; j++) {
        v128_t y = wasm_f32x4_sub(tw_unit_vector(x[l], high, &m, bits, j), zeros[j % half]);
        wasm_v128_store(to + (l * vectors + j) * TW_PANEL, wasm_f32x4_mul(y, scales[j % half]));
      }
    }
  }
}

// Blocks [first, last) of the panel that begins with `column`; columns beyond B are its last.
static void open_panel(float *to, const tw_weights *w, uint64_t at, uint64_t first, uint64_t last) {
  uint32_t bytes = tw_block_bytes(w->bits, w->block), units = tw_block_units(w->bits, w->block);
  for (uint64_t block = first; block < last; block++, to += w->block * TW_PANEL)
    for (uint32_t side = 0; side < TW_PANEL; side += 4) {
      const uint8_t *b[4];
      float scale[4], zero[4];
      for (uint32_t i = 0; i < 4; i++) {
        uint64_t column = at + side + i < w->n ? at + side + i : w->n - 1;
        uint64_t place = column * w->blocks + block;
        b[i] = w->b + place * bytes;
        scale[i] = w->scales[place];
        zero[i] = (float)tw_block_zero(w->zeros, w->bits, w->blocks, column, block);
      }
      v128_t s = wasm_v128_load(scale), z = wasm_v128_load(zero);
      if (w->bits == 8) open_block(to + side, b, s, z, units, 8, 16);
      else if (bytes == 8) open_block(to + side, b, s, z, 1, 4, 8);
      else open_block(to + side, b, s, z, units, 4, 16);
    }
}

static void copy_rows(float *to, uint32_t ld_to, const float *from, uint32_t ld_from,
                      uint32_t rows, uint32_t columns) {
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < columns; j++)
      to[(size_t)i * ld_to + j] = from[(size_t)i * ld_from + j];
}

// `width` columns of C, all rows of the tile; a and c are the tile's first.
static void panel(const tw_weights *w, const blocks_params *p, const float *a, float *c,
                  const float *biases, float *opened, uint32_t rows, uint64_t column,
                  uint32_t width) {
  float narrow[TW_ROWS * TW_PANEL];
  uint32_t chunk = TW_BLOCK_MOST / p->block, strips = tw_strips(rows);
  for (uint32_t block = 0; block < w->blocks; block += chunk) {
    uint32_t last = minimum(block + chunk, (uint32_t)w->blocks), k0 = block * p->block;
    open_panel(opened, w, column, block, last);
    tw_strip s = {.lda = p->lda, .k = minimum(p->k - k0, chunk * p->block), .b = opened};
    s.ahead = (const uint8_t *)nothing;
    for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip) {
      strip = tw_strip_length(rows, strips, n);
      float *to = c + (size_t)i * p->n;
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
  }
}

uint32_t f32_gemm_blocks(const tw_dispatch *d, const tw_tile *t) {
  const blocks_params *p = d->params;
  if (!tw_block_valid(p->bits, p->block) || p->tile_m == 0 || p->tile_n == 0 || p->k == 0 ||
      p->tile_n % TW_PANEL || d->binding_count != F32_GEMM_BLOCKS_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t row = (uint64_t)t->y * p->tile_m, column = (uint64_t)t->x * p->tile_n;
  if (row >= p->m || column >= p->n) return TW_OK;
  uint32_t rows = minimum(p->m - (uint32_t)row, p->tile_m);
  uint32_t last = (uint32_t)column + minimum(p->n - (uint32_t)column, p->tile_n);
  tw_weights w = {.n = p->n, .bits = p->bits, .block = p->block};
  w.blocks = ((uint64_t)p->k + p->block - 1) / p->block;
  uint64_t zero_bytes = p->bits == 8 ? w.blocks : (w.blocks + 1) / 2;
  const tw_binding *of = d->bindings, *bias = &of[F32_GEMM_BLOCKS_BIAS];
  if (!within(&of[F32_GEMM_BLOCKS_A], row * p->lda, rows, p->lda, p->k, 4) ||
      !tw_holds(d, F32_GEMM_BLOCKS_B, p->n * w.blocks, tw_block_bytes(p->bits, p->block)) ||
      !tw_holds(d, F32_GEMM_BLOCKS_SCALES, p->n * w.blocks, 4) ||
      (tw_present(d, F32_GEMM_BLOCKS_ZEROS) &&
       !tw_holds(d, F32_GEMM_BLOCKS_ZEROS, p->n * zero_bytes, 1)) ||
      !within(&of[F32_GEMM_BLOCKS_C], row * p->n + column, rows, p->n, last - column, 4) ||
      (bias->length && bias->length / 4 < p->n))
    return TW_BINDING_TOO_SHORT;
  w.b = TW_DATA(const uint8_t, d, F32_GEMM_BLOCKS_B);
  w.scales = TW_DATA(const float, d, F32_GEMM_BLOCKS_SCALES);
  if (tw_present(d, F32_GEMM_BLOCKS_ZEROS))
    w.zeros = TW_DATA(const uint8_t, d, F32_GEMM_BLOCKS_ZEROS);
  const float *a = TW_DATA(const float, d, F32_GEMM_BLOCKS_A) + row * p->lda;
  const float *added = bias->length ? (const float *)bias->data : 0;
  float *c = TW_DATA(float, d, F32_GEMM_BLOCKS_C) + row * p->n;

  uint64_t spread_floats = w.blocks * tw_block_units(p->bits, p->block) * (128 / p->bits);
  uint64_t fours = (w.blocks + TW_FOUR - 1) / TW_FOUR * TW_FOUR;
  if (rows <= FEW && (spread_floats + 2 * fours) * sizeof(float) <= t->scratch_length) {
    float *x = t->scratch, *sums = x + spread_floats;
    const tw_rounded rounded = {(int16_t *)t->scratch, sums, (int32_t *)(sums + fours)};
    int32_t zero = w.zeros ? 1 : 1 << (p->bits - 1);
    uint32_t first = (uint32_t)column;
    for (uint32_t i = 0; i < rows; i++, a += p->lda, c += p->n) {
      if (p->rounds && p->bits == 4) {
        tw_round_row(&rounded, a, p->k, p->block, zero);
        if (p->block == 16) tw_rounded_row_short(&w, &rounded, c, added, first, last);
        else if (p->block == 32) tw_rounded_row_once(&w, &rounded, c, added, first, last);
        else tw_rounded_row(&w, &rounded, c, added, first, last);
      } else if (p->bits == 8) {
        spread(x, sums, a, p->k, p->block, (float)zero, 8);
        row_8(&w, x, sums, c, added, first, last);
      } else {
        spread(x, sums, a, p->k, p->block, (float)zero, 4);
        if (p->block == 16) row_4_short(&w, x, sums, c, added, first, last);
        else if (p->block == 32) row_4_once(&w, x, sums, c, added, first, last);
        else row_4(&w, x, sums, c, added, first, last);
      }
    }
    return TW_OK;
  }
  if (t->scratch_length < TW_BLOCK_MOST * TW_PANEL * sizeof(float)) return TW_SCRATCH_TOO_SMALL;
  for (uint32_t j = (uint32_t)column; j < last; j += TW_PANEL) {
    float biases[TW_PANEL];
    uint32_t width = minimum(last - j, TW_PANEL);
    for (uint32_t i = 0; i < TW_PANEL; i++) biases[i] = added && i < width ? added[j + i] : 0;
    panel(&w, p, a, c + j, biases, t->scratch, rows, j, width);
  }
  return TW_OK;
}
