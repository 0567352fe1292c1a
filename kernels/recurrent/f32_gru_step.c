// One step of a GRU that is linear before its reset, gates z, r, n:
//   next h = (1 - z) g(fed_n + r (h Rn + bias_n)) + z h, z and r = f(fed + h R + bias)
//
// fed (batch, 3 hidden), h, next_h, y (batch, hidden), dense, any alignment of 4 bytes
// packed  the panels of the three gates of R, 16 bytes;  bias (3 hidden), lens (batch) i32, optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. next_h may not be h, for all
// units read all of h.
// With `steps` above 1 a tile goes through all of them, and is of all units; scratch then has its
// rows' states.
#include "gru.h"

uint32_t f32_gru_step(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p)) return TW_INVALID_PARAMS;
  if (!tw_step_holds(d, p, F32_GRU_STEP_FED, F32_GRU_STEP_PACKED, F32_GRU_STEP_BIAS, 3) ||
      !tw_state_holds(d, p, F32_GRU_STEP_H) || !tw_state_holds(d, p, F32_GRU_STEP_NEXT_H) ||
      !tw_results_hold(d, p, F32_GRU_STEP_Y) || !tw_lens_hold(d, p, F32_GRU_STEP_LENS))
    return TW_BINDING_TOO_SHORT;
  size_t hidden = p->hidden;
  const float *bias = tw_present(d, F32_GRU_STEP_BIAS) ? TW_DATA(float, d, F32_GRU_STEP_BIAS) : 0;
  tw_sums sums[3];
  if (!tw_scratch_fits(p, t)) return TW_SCRATCH_TOO_SMALL;
  tw_walk w =
      tw_walk_of(d, t, 3, F32_GRU_STEP_FED, F32_GRU_STEP_H, F32_GRU_STEP_NEXT_H, F32_GRU_STEP_Y);
  while (tw_next(&w)) {
    tw_products(p, w.h, TW_DATA(float, d, F32_GRU_STEP_PACKED), bias, 0, 3, &w.part, sums);
    for (uint32_t i = 0; i < w.part.rows; i++) {
      uint32_t row = w.part.row + i;
      int rests = tw_rests(d, F32_GRU_STEP_LENS, &w, row);
      for (uint32_t j = 0; j < w.part.width; j += 4) {
        uint32_t n = w.part.width - j, unit = w.part.unit + j;
        size_t at = row * hidden + unit;
        const float *own = w.fed + row * 3 * hidden + unit;
        const float *sum = sums[0] + i * TW_PANEL + j;
        v128_t old = tw_some(w.h + at, n);
        v128_t z = tw_f(p, wasm_f32x4_add(tw_some(own, n), tw_load(sum)));
        sum += TW_ROWS * TW_PANEL;
        v128_t r = tw_f(p, wasm_f32x4_add(tw_some(own + hidden, n), tw_load(sum)));
        sum += TW_ROWS * TW_PANEL;
        v128_t fresh = tw_g(p, tw_madd(r, tw_load(sum), tw_some(own + 2 * hidden, n)));
        tw_keep(&w, at, n, tw_mix(z, fresh, old), old, rests);
      }
    }
  }
  return TW_OK;
}
