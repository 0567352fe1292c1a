// f32_layer_norm: s = x + residual; y = (s - mean(s)) / sqrt(var(s) + epsilon) * gamma + beta, row
// by row; the variance is the mean of the squared differences, from a second pass.
//
// Bindings: x, residual?, y, sum? (rows, columns), gamma?, beta? (columns); dense, 4-byte aligned.
// y and sum may each be x or residual, not the same one.
// Tile: x = tile_rows rows.
#include "rows.h"

uint32_t f32_layer_norm(const tw_dispatch *d, const tw_tile *t) {
  uint32_t status = tw_check_norm(d, F32_LAYER_NORM_RESIDUAL, F32_LAYER_NORM_GAMMA,
                                  F32_LAYER_NORM_BETA, F32_LAYER_NORM_Y, F32_LAYER_NORM_SUM);
  if (status) return status;
  const norm_params *p = d->params;
  const uint32_t n = p->columns;
  const float *gamma = tw_optional(d, F32_LAYER_NORM_GAMMA);
  const float *beta = tw_optional(d, F32_LAYER_NORM_BETA);
  tw_span span = tw_piece(t->x, p->tile_rows, p->rows);
  for (uint32_t row = span.first; row < span.last; row++) {
    const float *s = tw_row(d, row, F32_LAYER_NORM_RESIDUAL, F32_LAYER_NORM_Y, F32_LAYER_NORM_SUM);
    float *y = TW_DATA(float, d, F32_LAYER_NORM_Y) + row * n;
    const v128_t mean = tw_splat((float)(tw_row_sum(s, n, 0, tw_splat(0)) / n));
    const double variance = tw_row_sum(s, n, 1, mean) / n;
    const v128_t scale = tw_splat((float)(1 / __builtin_sqrt(variance + p->epsilon)));
    if (gamma && beta) {
      for (uint32_t i = 0; i < n; i += 4) {
        v128_t v = wasm_f32x4_mul(wasm_f32x4_sub(tw_part(s, i, n), mean), scale);
        tw_put(y, i, n, tw_madd(v, tw_part(gamma, i, n), tw_part(beta, i, n)));
      }
    } else {
      for (uint32_t i = 0; i < n; i += 4) {
        v128_t v = wasm_f32x4_mul(wasm_f32x4_sub(tw_part(s, i, n), mean), scale);
        if (gamma) v = wasm_f32x4_mul(v, tw_part(gamma, i, n));
        if (beta) v = wasm_f32x4_add(v, tw_part(beta, i, n));
        tw_put(y, i, n, v);
      }
    }
  }
  return TW_OK;
}
