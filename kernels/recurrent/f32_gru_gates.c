// The first half of a GRU's step that resets h before the product, gates z, r, n:
//   z = f(fed_z + h Rz + bias_z), reset_h = f(fed_r + h Rr + bias_r) h
//
// fed (batch, 3 hidden), h, z, reset_h (batch, hidden), dense, any alignment of 4 bytes
// packed  the panels of the three gates of R, 16 bytes;  bias (3 hidden), optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. Nothing may alias.
#include "gru.h"

uint32_t f32_gru_gates(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p) || p->steps != 1) return TW_INVALID_PARAMS;
  if (!tw_step_holds(d, p, F32_GRU_GATES_FED, F32_GRU_GATES_PACKED, F32_GRU_GATES_BIAS, 3) ||
      !tw_state_holds(d, p, F32_GRU_GATES_H) || !tw_state_holds(d, p, F32_GRU_GATES_Z) ||
      !tw_state_holds(d, p, F32_GRU_GATES_RESET_H))
    return TW_BINDING_TOO_SHORT;
  size_t hidden = p->hidden;
  const float *fed = TW_DATA(float, d, F32_GRU_GATES_FED), *h = TW_DATA(float, d, F32_GRU_GATES_H);
  const float *bias = tw_present(d, F32_GRU_GATES_BIAS) ? TW_DATA(float, d, F32_GRU_GATES_BIAS) : 0;
  const float *packed = TW_DATA(float, d, F32_GRU_GATES_PACKED);
  tw_sums sums[2][2];
  tw_walk w =
      tw_walk_of(d, t, 3, F32_GRU_GATES_FED, F32_GRU_GATES_H, F32_GRU_GATES_Z, F32_GRU_GATES_Z, 0);
  int usual = tw_usual(p), pair = 0;
  while (tw_next(&w)) {
    int second = pair;  // whose sums have come with those of the panel before it
    pair = !second && tw_is_pair(&w);
    if (pair) tw_row_pair(&w, packed, bias, 2, sums[0]);
    else if (!second) tw_products(p, h, packed, bias, 0, 2, &w.part, sums[0]);
    for (uint32_t i = 0; i < w.part.rows; i++) {
      uint32_t row = w.part.row + i;
      for (uint32_t j = 0; j < w.part.width; j += 4) {
        uint32_t n = w.part.width - j, unit = w.part.unit + j;
        size_t at = row * hidden + unit;
        const float *own = fed + row * 3 * hidden + unit;
        const float *sum = sums[second][0] + i * TW_PANEL + j;
        v128_t z = tw_f(p, usual, wasm_f32x4_add(tw_some(own, n), tw_load(sum)));
        sum += TW_ROWS * TW_PANEL;
        v128_t r = tw_f(p, usual, wasm_f32x4_add(tw_some(own + hidden, n), tw_load(sum)));
        tw_put(TW_DATA(float, d, F32_GRU_GATES_Z) + at, z, n);
        tw_put(TW_DATA(float, d, F32_GRU_GATES_RESET_H) + at,
               wasm_f32x4_mul(r, tw_some(h + at, n)), n);
      }
    }
  }
  return TW_OK;
}
