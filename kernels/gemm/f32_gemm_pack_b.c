// B (k, n) of any strides to panels of 8 columns: packed[j / 8][p][j % 8] = b[p][j], f32.
//
// b       element (p, j) of matrix z at z batch_stride + p stride_k + j stride_n
// packed  (ceil(n / 8), k, 8) at z packed_stride; columns beyond n are zero
// Tile: x = `tile_panels` panels, z = matrix. Scratch: none. Nothing may alias.
#include "gemm.h"
#include "panels.h"

uint32_t f32_gemm_pack_b(const tw_dispatch *d, const tw_tile *t) {
  const pack_b_params *p = d->params;
  if (p->tile_panels == 0 || d->binding_count != F32_GEMM_PACK_B_BINDINGS)
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

  for (uint64_t panel = first; panel < end; panel++) {
    uint64_t column = panel * TW_PANEL;
    uint32_t width = p->n - column < TW_PANEL ? (uint32_t)(p->n - column) : TW_PANEL;
    tw_pack_panel((float *)to->data + packed0 + column * p->k,
                  (const float *)from->data + b0 + column * p->stride_n, p->k, p->stride_k,
                  p->stride_n, width);
  }
  return TW_OK;
}
