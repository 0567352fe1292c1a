// Filters of 3 x 3, transformed, to panels of 8: packed[f / 8][e][c][f % 8] is product e of winograd.h
// of w[f][c] scale[f].
//
// w (filters, channels, 9) dense, scale (filters) optional
// packed (ceil(filters / 8), 36, channels, 8), zero beyond the last filter
// Tile: x = `tile_panels` panels. Scratch: none. Nothing may alias.
#include "bindings.h"
#include "conv.h"
#include "microkernel.h"
#include "winograd.h"

static void transform(const float *g, double scale, float *to, size_t apart) {
  double rows[3][PATCH], u[PATCH];
  for (int i = 0; i < 3; i++) {
    double taps[3] = {g[3 * i] * scale, g[3 * i + 1] * scale, g[3 * i + 2] * scale};
    filter_row(taps, rows[i]);
  }
  for (int j = 0; j < PATCH; j++) {
    double column[3] = {rows[0][j], rows[1][j], rows[2][j]};
    filter_row(column, u);
    for (int i = 0; i < PATCH; i++) to[(size_t)(i * PATCH + j) * apart] = (float)u[i];
  }
}

uint32_t f32_winograd_pack(const tw_dispatch *d, const tw_tile *t) {
  const conv_pack_params *p = d->params;
  if (p->tile_panels == 0 || p->groups != 1 || p->taps != 9) return TW_INVALID_PARAMS;
  uint64_t panels = ((uint64_t)p->filters + TW_PANEL - 1) / TW_PANEL;
  uint64_t w = (uint64_t)p->filters * p->channels;
  if (w > UINT32_MAX || panels * TW_PANEL * p->channels > UINT32_MAX ||
      !tw_holds(d, F32_WINOGRAD_PACK_W, w * 9, 4) ||
      !tw_holds(d, F32_WINOGRAD_PACK_PACKED, panels * PRODUCTS * p->channels * TW_PANEL, 4) ||
      (tw_present(d, F32_WINOGRAD_PACK_SCALE) &&
       !tw_holds(d, F32_WINOGRAD_PACK_SCALE, p->filters, 4)))
    return TW_BINDING_TOO_SHORT;
  const float *scales =
      tw_present(d, F32_WINOGRAD_PACK_SCALE) ? TW_DATA(float, d, F32_WINOGRAD_PACK_SCALE) : 0;
  size_t apart = (size_t)p->channels * TW_PANEL;
  tw_span part = tw_piece(t->x, p->tile_panels, panels);
  for (uint32_t i = part.first; i < part.last; i++)
    for (uint32_t j = 0; j < TW_PANEL; j++) {
      uint32_t f = i * TW_PANEL + j;
      float *to = TW_DATA(float, d, F32_WINOGRAD_PACK_PACKED) + i * PRODUCTS * apart + j;
      for (uint32_t c = 0; c < p->channels; c++, to += TW_PANEL) {
        if (f < p->filters) {
          transform(TW_DATA(float, d, F32_WINOGRAD_PACK_W) + ((size_t)f * p->channels + c) * 9,
                    scales ? scales[f] : 1, to, apart);
          continue;
        }
        for (uint32_t e = 0; e < PRODUCTS; e++) to[e * apart] = 0;
      }
    }
  return TW_OK;
}
