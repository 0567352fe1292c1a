// next h = f(fed + h R + bias), one step of a plain recurrent layer.
//
// fed, h, next_h, y  (batch, hidden), dense, any alignment of 4 bytes;  lens (batch) i32, optional
// packed             the panels of R, 16 bytes;  bias (hidden), optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. next_h may not be h, for all
// units read all of h.
// With `steps` above 1 a tile goes through all of them, and is of all units; scratch then has its
// rows' states.
#include "step.h"

uint32_t f32_rnn_step(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p)) return TW_INVALID_PARAMS;
  if (!tw_step_holds(d, p, F32_RNN_STEP_FED, F32_RNN_STEP_PACKED, F32_RNN_STEP_BIAS, 1) ||
      !tw_state_holds(d, p, F32_RNN_STEP_H) || !tw_state_holds(d, p, F32_RNN_STEP_NEXT_H) ||
      !tw_results_hold(d, p, F32_RNN_STEP_Y) || !tw_lens_hold(d, p, F32_RNN_STEP_LENS))
    return TW_BINDING_TOO_SHORT;
  const float *bias = tw_present(d, F32_RNN_STEP_BIAS) ? TW_DATA(float, d, F32_RNN_STEP_BIAS) : 0;
  tw_sums sums[1];
  if (!tw_scratch_fits(p, t)) return TW_SCRATCH_TOO_SMALL;
  tw_walk w =
      tw_walk_of(d, t, 1, F32_RNN_STEP_FED, F32_RNN_STEP_H, F32_RNN_STEP_NEXT_H, F32_RNN_STEP_Y,
                 tw_lens(d, F32_RNN_STEP_LENS));
  int tanh = p->f == RECURRENT_FUNCTION_TANH && p->clip == __builtin_inff();
  while (tw_next(&w)) {
    tw_products(p, w.h, TW_DATA(float, d, F32_RNN_STEP_PACKED), bias, 0, 1, &w.part, sums);
    for (uint32_t i = 0; i < w.part.rows; i++) {
      uint32_t row = w.part.row + i;
      if (tw_rests(&w, row)) {
        tw_stay(&w, row);
        continue;
      }
      for (uint32_t j = 0; j < w.part.width; j += 4) {
        size_t at = (size_t)row * p->hidden + w.part.unit + j;
        uint32_t n = w.part.width - j;
        v128_t x = wasm_f32x4_add(tw_some(w.fed + at, n), tw_load(sums[0] + i * TW_PANEL + j));
        tw_keep(&w, at, n, tanh ? tw_tanh_gate(x) : tw_f(p, 0, x));
      }
    }
  }
  return TW_OK;
}
