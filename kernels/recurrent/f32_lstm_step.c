// One step of an LSTM, gates i, o, f, c (x: a gate's part of fed + h R + bias):
//   i = f(x_i + p_i c), forget = f(x_f + p_f c) or 1 - i, next c = forget c + i g(x_c),
//   next h = f(x_o + p_o next c) last(next c)
//
// fed (batch, 4 hidden), h, c, next_h, next_c, y (batch, hidden), dense, any alignment of 4 bytes
// packed  the panels of the four gates of R, 16 bytes;  bias (4 hidden), peepholes (3 hidden: i, o,
//         f), lens (batch) i32, each optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. next_h may not be h, for all
// units read all of h; next_c may be c.
// With `steps` above 1 a tile goes through all of them, and is of all units; scratch then has its
// rows' states.
#include "step.h"

uint32_t f32_lstm_step(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p)) return TW_INVALID_PARAMS;
  size_t hidden = p->hidden;
  if (!tw_step_holds(d, p, F32_LSTM_STEP_FED, F32_LSTM_STEP_PACKED, F32_LSTM_STEP_BIAS, 4) ||
      !tw_state_holds(d, p, F32_LSTM_STEP_H) || !tw_state_holds(d, p, F32_LSTM_STEP_C) ||
      !tw_state_holds(d, p, F32_LSTM_STEP_NEXT_H) || !tw_state_holds(d, p, F32_LSTM_STEP_NEXT_C) ||
      !tw_results_hold(d, p, F32_LSTM_STEP_Y) || !tw_lens_hold(d, p, F32_LSTM_STEP_LENS) ||
      (tw_present(d, F32_LSTM_STEP_PEEPHOLES) &&
       !tw_holds(d, F32_LSTM_STEP_PEEPHOLES, 3 * (uint64_t)hidden, 4)))
    return TW_BINDING_TOO_SHORT;
  const float *first_c = TW_DATA(float, d, F32_LSTM_STEP_C);
  float *next_c = TW_DATA(float, d, F32_LSTM_STEP_NEXT_C);
  const float *bias = tw_present(d, F32_LSTM_STEP_BIAS) ? TW_DATA(float, d, F32_LSTM_STEP_BIAS) : 0;
  const float *holes =
      tw_present(d, F32_LSTM_STEP_PEEPHOLES) ? TW_DATA(float, d, F32_LSTM_STEP_PEEPHOLES) : 0;
  tw_sums sums[4];
  if (!tw_scratch_fits(p, t)) return TW_SCRATCH_TOO_SMALL;
  tw_walk w =
      tw_walk_of(d, t, 4, F32_LSTM_STEP_FED, F32_LSTM_STEP_H, F32_LSTM_STEP_NEXT_H,
                 F32_LSTM_STEP_Y);
  while (tw_next(&w)) {
    const float *c = w.done == 1 ? first_c : next_c;
    tw_products(p, w.h, TW_DATA(float, d, F32_LSTM_STEP_PACKED), bias, 0, 4, &w.part, sums);
    for (uint32_t i = 0; i < w.part.rows; i++) {
      uint32_t row = w.part.row + i;
      int rests = tw_rests(d, F32_LSTM_STEP_LENS, &w, row);
      for (uint32_t j = 0; j < w.part.width; j += 4) {
        uint32_t n = w.part.width - j, unit = w.part.unit + j;
        size_t at = row * hidden + unit;
        const float *own = w.fed + row * 4 * hidden + unit;
        v128_t x[4], old = tw_some(c + at, n);
        for (uint32_t g = 0; g < 4; g++)
          x[g] = wasm_f32x4_add(tw_some(own + g * hidden, n), tw_load(sums[g] + i * TW_PANEL + j));
        if (holes) {
          x[0] = tw_madd(tw_some(holes + unit, n), old, x[0]);
          x[2] = tw_madd(tw_some(holes + 2 * hidden + unit, n), old, x[2]);
        }
        v128_t in = tw_f(p, x[0]);
        v128_t forget = p->coupled ? wasm_f32x4_sub(tw_splat(1), in) : tw_f(p, x[2]);
        v128_t state = tw_madd(forget, old, wasm_f32x4_mul(in, tw_g(p, x[3])));
        if (holes) x[1] = tw_madd(tw_some(holes + hidden + unit, n), state, x[1]);
        v128_t out = wasm_f32x4_mul(tw_f(p, x[1]),
                                    tw_apply(p->last, p->last_alpha, p->last_beta, state));
        tw_put(next_c + at, rests ? old : state, n);
        tw_keep(&w, at, n, out, tw_some(w.h + at, n), rests);
      }
    }
  }
  return TW_OK;
}
