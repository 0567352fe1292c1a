// What GRUs share: their products of two panels, and (1 - z) new + z h, their end.
#ifndef TW_GRU_H
#define TW_GRU_H
#include "step.h"

TW_INLINE v128_t tw_mix(v128_t z, v128_t fresh, v128_t h) {
  return tw_madd(z, wasm_f32x4_sub(h, fresh), fresh);
}

// Whether this part and the next are whole panels of one sequence. Four or six sums wait for each other,
// eight or twelve do not: of three gates 88 to 95 GB/s of weights for 75 to 80, with 64 to 256 units
// (V8 14, Zen 4, 2026-11).
static inline int tw_is_pair(const tw_walk *w) {
  return w->strips == 1 && w->part.rows == 1 && w->panel + 1 < w->panels.last &&
         w->part.unit + 2 * TW_PANEL <= w->p->hidden;
}

// As tw_row for the first gates, of this panel and, behind its sums, the next.
TW_INLINE void tw_row_pair(const tw_walk *w, const float *packed, const float *bias,
                           const uint32_t gates, tw_sums *sums) {
  uint32_t k = w->p->hidden;
  const float *h = w->h + (size_t)w->part.row * k, *at[2 * 3];
  v128_t sum[2 * 3][2];
  TW_UNROLLED for (uint32_t s = 0; s < 2 * gates; s++) {
    size_t unit = w->part.unit + s / gates * TW_PANEL;
    at[s] = packed + s % gates * (size_t)w->p->packed_stride + unit * k;
    const float *start = bias + s % gates * (size_t)k + unit;
    sum[s][0] = bias ? tw_load(start) : tw_splat(0);
    sum[s][1] = bias ? tw_load(start + 4) : tw_splat(0);
  }
  for (; k > 0; k--, h++) {
    v128_t a = wasm_v128_load32_splat(h);
    TW_UNROLLED for (uint32_t s = 0; s < 2 * gates; s++) {
      TW_HIDE(at[s]);
      sum[s][0] = tw_madd(a, tw_load(at[s]), sum[s][0]);
      sum[s][1] = tw_madd(a, tw_load(at[s] + 4), sum[s][1]);
      at[s] += TW_PANEL;
    }
  }
  TW_UNROLLED for (uint32_t s = 0; s < 2 * gates; s++) {
    tw_store(sums[s], sum[s][0]);
    tw_store(sums[s] + 4, sum[s][1]);
  }
}

#endif
