// B (k, n) of any strides to panels of 8 columns: packed[j / 8][p][j % 8] = b[p][j], f32.
//
// b       element (p, j) of matrix z at z batch_stride + p stride_k + j stride_n
// packed  (ceil(n / 8), k, 8) at z packed_stride; columns beyond n are zero; then, if asked for, the
//         first byte of each 64 of them, (ceil(n / 8), ceil(k / 2))
// Tile: x = `tile_panels` panels, z = matrix. Scratch: none. Nothing may alias.
#include "gemm.h"
#include "panels.h"

#define SIDE 4  // panels packed side by side: their rows are two whole cache lines of B

// SIDE panels whose rows are contiguous in B. One panel alone would take half a line and, with rows
// a power of two apart, find the other half evicted: 11 GB/s against 44 (1024 x 1024, Chromium 156,
// Zen 5, 2026-11).
static void pack_side(float *to, const float *from, uint32_t k, uint32_t stride_k) {
  size_t panel = (size_t)k * TW_PANEL;
  for (uint32_t p = 0; p < k; p++, from += stride_k, to += TW_PANEL)
    for (uint32_t i = 0; i < SIDE; i++) {
      wasm_v128_store(to + i * panel, wasm_v128_load(from + i * TW_PANEL));
      wasm_v128_store(to + i * panel + 4, wasm_v128_load(from + i * TW_PANEL + 4));
    }
}

uint32_t f32_gemm_pack_b(const tw_dispatch *d, const tw_tile *t) {
  const pack_b_params *p = d->params;
  if (p->tile_panels == 0 || d->binding_count != F32_GEMM_PACK_B_BINDINGS ||
      (p->firsts && d->count_z != 1))
    return TW_INVALID_PARAMS;
  uint64_t panels = ((uint64_t)p->n + TW_PANEL - 1) / TW_PANEL;
  uint64_t first = (uint64_t)t->x * p->tile_panels;
  if (first >= panels || p->k == 0) return TW_OK;
  uint64_t end = first + p->tile_panels < panels ? first + p->tile_panels : panels;

  const tw_binding *from = &d->bindings[F32_GEMM_PACK_B_B];
  const tw_binding *to = &d->bindings[F32_GEMM_PACK_B_PACKED];
  uint64_t b0 = (uint64_t)t->z * p->batch_stride, packed0 = (uint64_t)t->z * p->packed_stride;
  uint64_t columns = end * TW_PANEL < p->n ? end * TW_PANEL : p->n;
  uint64_t last = b0 + (uint64_t)(p->k - 1) * p->stride_k + (columns - 1) * p->stride_n;
  if ((last + 1) * sizeof(float) > from->length ||
      (packed0 + end * TW_PANEL * p->k) * sizeof(float) > to->length)
    return TW_BINDING_TOO_SHORT;
  uint64_t lines = ((uint64_t)p->k + 1) / 2, firsts0 = panels * p->k * TW_PANEL * sizeof(float);
  if (p->firsts && (panels * p->k > UINT32_MAX || firsts0 + panels * lines > to->length))
    return TW_BINDING_TOO_SHORT;

  uint64_t column = first * TW_PANEL;
  while (column < columns) {
    uint64_t left = columns - column;
    const float *b = (const float *)from->data + b0 + column * p->stride_n;
    float *packed = (float *)to->data + packed0 + column * p->k;
    if (p->stride_n == 1 && left >= SIDE * TW_PANEL) {
      pack_side(packed, b, p->k, p->stride_k);
      column += SIDE * TW_PANEL;
    } else {
      uint32_t width = left < TW_PANEL ? (uint32_t)left : TW_PANEL;
      tw_pack_panel(packed, b, p->k, p->stride_k, p->stride_n, width);
      column += TW_PANEL;
    }
  }
  if (p->firsts) {
    uint8_t *bytes = to->data;
    for (uint64_t panel = first; panel < end; panel++)
      for (uint64_t i = 0; i < lines; i++)
        bytes[firsts0 + panel * lines + i] =
            bytes[panel * p->k * TW_PANEL * sizeof(float) + i * TW_LINE_BYTES];
  }
  return TW_OK;
}
