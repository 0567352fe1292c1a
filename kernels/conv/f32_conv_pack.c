// Filters to panels of 8: packed[g][f / 8][t][c][f % 8] = w[g filters + f][c][t] scale[g filters + f].
//
// w (groups filters, channels, taps) dense, scale (groups filters) optional
// packed (groups, ceil(filters / 8), taps, channels, 8), zero beyond the last filter
// Tile: x = `tile_panels` panels, counted through the groups. Scratch: none. Nothing may alias.
#include "bindings.h"
#include "conv.h"
#include "microkernel.h"

uint32_t f32_conv_pack(const tw_dispatch *d, const tw_tile *t) {
  const conv_pack_params *p = d->params;
  if (p->tile_panels == 0 || p->groups == 0) return TW_INVALID_PARAMS;
  uint64_t panels = ((uint64_t)p->filters + TW_PANEL - 1) / TW_PANEL;
  uint64_t k = (uint64_t)p->channels * p->taps, filters = (uint64_t)p->groups * p->filters;
  if (k > UINT32_MAX || filters > UINT32_MAX || panels * p->groups > UINT32_MAX)
    return TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, F32_CONV_PACK_W, filters * k, 4) ||
      !tw_holds(d, F32_CONV_PACK_PACKED, panels * p->groups * k * TW_PANEL, 4) ||
      (tw_present(d, F32_CONV_PACK_SCALE) && !tw_holds(d, F32_CONV_PACK_SCALE, filters, 4)))
    return TW_BINDING_TOO_SHORT;
  const float *w = TW_DATA(float, d, F32_CONV_PACK_W);
  const float *scales = tw_present(d, F32_CONV_PACK_SCALE) ? TW_DATA(float, d, F32_CONV_PACK_SCALE) : 0;
  tw_span part = tw_piece(t->x, p->tile_panels, panels * p->groups);
  for (uint32_t i = part.first; i < part.last; i++) {
    uint32_t first = i % panels * TW_PANEL, left = p->filters - first;
    uint64_t filter = i / panels * p->filters + first;
    float *to = TW_DATA(float, d, F32_CONV_PACK_PACKED) + i * k * TW_PANEL;
    for (uint32_t j = 0; j < TW_PANEL; j++) {
      const float *from = w + (filter + j) * k;
      float scale = scales && j < left ? scales[filter + j] : 1;
      for (uint32_t tap = 0; tap < p->taps; tap++)
        for (uint32_t c = 0; c < p->channels; c++)
          to[((uint64_t)tap * p->channels + c) * TW_PANEL + j] =
              j < left ? from[(uint64_t)c * p->taps + tap] * scale : 0;
    }
  }
  return TW_OK;
}
