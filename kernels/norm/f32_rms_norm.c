// f32_rms_norm: s = x + residual; y = s / sqrt(mean(s s) + epsilon) * gamma, row by row.
//
// Bindings: x, residual?, y, sum? (rows, columns), gamma? (columns); dense, 4-byte aligned.
// y and sum may each be x or residual, not the same one.
// Tile: x = tile_rows rows.
#include "rows.h"

uint32_t f32_rms_norm(const tw_dispatch *d, const tw_tile *t) {
  uint32_t status = tw_check_norm(d, F32_RMS_NORM_RESIDUAL, F32_RMS_NORM_GAMMA, -1, F32_RMS_NORM_Y,
                                  F32_RMS_NORM_SUM);
  if (status) return status;
  const norm_params *p = d->params;
  const uint32_t n = p->columns;
  const float *gamma = tw_optional(d, F32_RMS_NORM_GAMMA);
  tw_span span = tw_piece(t->x, p->tile_rows, p->rows);
  for (uint32_t row = span.first; row < span.last; row++) {
    const float *s = tw_row(d, row, F32_RMS_NORM_RESIDUAL, F32_RMS_NORM_Y, F32_RMS_NORM_SUM);
    float *y = TW_DATA(float, d, F32_RMS_NORM_Y) + row * n;
    const double square = tw_row_sum(s, n, 1, tw_splat(0)) / n;
    const v128_t scale = tw_splat((float)(1 / __builtin_sqrt(square + p->epsilon)));
    for (uint32_t i = 0; i < n; i += 4) {
      v128_t v = wasm_f32x4_mul(tw_part(s, i, n), scale);
      if (gamma) v = wasm_f32x4_mul(v, tw_part(gamma, i, n));
      tw_put(y, i, n, v);
    }
  }
  return TW_OK;
}
