// One axis made longer or shorter: y[o, i, j] = sum over t of weights[i, t] x[o, indices[i, t], j].
//
// x (outer, axis, inner), y (outer, count, inner), dense; indices (i32) and weights (count, taps)
// Tile: x = `tile_lines` of (outer, count). Scratch: none. Nothing may alias.
#include "bindings.h"
#include "resample.h"
#include "simd.h"

// Lanes 0 to n - 1; all four where n is 4 or more.
TW_INLINE v128_t load(const float *p, uint32_t n) { return n >= 4 ? tw_load(p) : tw_load_tail(p, n); }

uint32_t f32_resample(const tw_dispatch *d, const tw_tile *t) {
  const resample_params *p = d->params;
  if (p->tile_lines == 0 || p->taps == 0) return TW_INVALID_PARAMS;
  uint64_t lines = (uint64_t)p->outer * p->count, from = (uint64_t)p->outer * p->axis;
  uint64_t table = (uint64_t)p->count * p->taps;
  if (lines == 0 || p->inner == 0) return TW_OK;
  if (lines > UINT32_MAX || from > UINT32_MAX || table > UINT32_MAX ||
      !tw_holds(d, F32_RESAMPLE_X, from * p->inner, 4) ||
      !tw_holds(d, F32_RESAMPLE_Y, lines * p->inner, 4) ||
      !tw_holds(d, F32_RESAMPLE_INDICES, table, 4) || !tw_holds(d, F32_RESAMPLE_WEIGHTS, table, 4))
    return TW_BINDING_TOO_SHORT;
  tw_span part = tw_piece(t->x, p->tile_lines, lines);
  for (uint32_t line = part.first; line < part.last; line++) {
    uint32_t i = line % p->count;
    const uint32_t *indices = TW_DATA(uint32_t, d, F32_RESAMPLE_INDICES) + (size_t)i * p->taps;
    const float *weights = TW_DATA(float, d, F32_RESAMPLE_WEIGHTS) + (size_t)i * p->taps;
    const float *x = TW_DATA(float, d, F32_RESAMPLE_X) + (size_t)(line / p->count) * p->axis * p->inner;
    float *y = TW_DATA(float, d, F32_RESAMPLE_Y) + (size_t)line * p->inner;
    for (uint32_t k = 0; k < p->taps; k++)
      if (indices[k] >= p->axis) return TW_INDEX_OUT_OF_RANGE;
    if (p->inner == 1) {
      float sum = weights[0] * x[indices[0]];
      for (uint32_t k = 1; k < p->taps; k++) sum += weights[k] * x[indices[k]];
      *y = sum;
      continue;
    }
    for (uint32_t j = 0; j < p->inner; j += 4) {
      uint32_t n = p->inner - j;
      v128_t sum = wasm_f32x4_mul(tw_splat(weights[0]),
                                  load(x + (size_t)indices[0] * p->inner + j, n));
      for (uint32_t k = 1; k < p->taps; k++)
        sum = tw_madd(tw_splat(weights[k]), load(x + (size_t)indices[k] * p->inner + j, n), sum);
      if (n >= 4)
        tw_store(y + j, sum);
      else
        tw_store_tail(y + j, sum, n);
    }
  }
  return TW_OK;
}
