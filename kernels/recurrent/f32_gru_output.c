// The second half of a GRU's step that resets h before the product, gates z, r, n:
//   next h = (1 - z) g(fed_n + reset_h Rn + bias_n) + z h
//
// fed (batch, 3 hidden), reset_h, z, h, next_h, y (batch, hidden), dense, any alignment of 4 bytes
// packed  the panels of the three gates of R, 16 bytes;  bias (3 hidden), lens (batch) i32, optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. next_h may be h.
#include "gru.h"

uint32_t f32_gru_output(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p) || p->steps != 1) return TW_INVALID_PARAMS;
  if (!tw_step_holds(d, p, F32_GRU_OUTPUT_FED, F32_GRU_OUTPUT_PACKED, F32_GRU_OUTPUT_BIAS, 3) ||
      !tw_state_holds(d, p, F32_GRU_OUTPUT_RESET_H) || !tw_state_holds(d, p, F32_GRU_OUTPUT_Z) ||
      !tw_state_holds(d, p, F32_GRU_OUTPUT_H) || !tw_state_holds(d, p, F32_GRU_OUTPUT_NEXT_H) ||
      !tw_results_hold(d, p, F32_GRU_OUTPUT_Y) || !tw_lens_hold(d, p, F32_GRU_OUTPUT_LENS))
    return TW_BINDING_TOO_SHORT;
  size_t hidden = p->hidden;
  const float *update = TW_DATA(float, d, F32_GRU_OUTPUT_Z);
  const float *reset = TW_DATA(float, d, F32_GRU_OUTPUT_RESET_H);
  const float *bias =
      tw_present(d, F32_GRU_OUTPUT_BIAS) ? TW_DATA(float, d, F32_GRU_OUTPUT_BIAS) : 0;
  tw_sums sums[1];
  tw_walk w =
      tw_walk_of(d, t, 3, F32_GRU_OUTPUT_FED, F32_GRU_OUTPUT_H, F32_GRU_OUTPUT_NEXT_H,
                 F32_GRU_OUTPUT_Y, tw_lens(d, F32_GRU_OUTPUT_LENS));
  int usual = tw_usual(p);
  while (tw_next(&w)) {
    tw_products(p, reset, TW_DATA(float, d, F32_GRU_OUTPUT_PACKED), bias, 2, 1, &w.part, sums);
    for (uint32_t i = 0; i < w.part.rows; i++) {
      uint32_t row = w.part.row + i;
      if (tw_rests(&w, row)) {
        tw_stay(&w, row);
        continue;
      }
      for (uint32_t j = 0; j < w.part.width; j += 4) {
        uint32_t n = w.part.width - j, unit = w.part.unit + j;
        size_t at = row * hidden + unit;
        v128_t own = tw_some(w.fed + (row * 3 + 2) * hidden + unit, n);
        v128_t fresh = tw_g(p, usual, wasm_f32x4_add(own, tw_load(sums[0] + i * TW_PANEL + j)));
        v128_t old = tw_some(w.h + at, n), z = tw_some(update + at, n);
        tw_keep(&w, at, n, tw_mix(z, fresh, old));
      }
    }
  }
  return TW_OK;
}
