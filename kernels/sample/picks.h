// Sums of weighted pixels: y[c] = sum over k of weight[k] x[at[k] + c].
#ifndef TW_SAMPLE_PICKS_H
#define TW_SAMPLE_PICKS_H
#include "bindings.h"
#include "simd.h"

#define MOST_PICKS 64

typedef struct picks {
  uint32_t count;
  uint32_t at[MOST_PICKS];  // elements from x
  float weight[MOST_PICKS];
} picks;

TW_INLINE void pick(picks *p, uint32_t at, float weight) {
  p->at[p->count] = at;
  p->weight[p->count++] = weight;
}

TW_INLINE v128_t picked_load(const float *x, uint32_t n) {
  return n >= 4 ? tw_load(x) : tw_load_tail(x, n);
}

// `vectors` by 4 channels, `lanes` of them where it is less than 4; added to y, or of it and them
// the largest.
TW_INLINE void picked(const picks *p, const float *x, float *y, int vectors, uint32_t lanes,
                      int more, int largest) {
  v128_t sum[4];
  for (int v = 0; v < vectors; v++)
    sum[v] = more ? picked_load(y + 4 * v, lanes) : tw_splat(largest ? -__builtin_inff() : 0);
  for (uint32_t k = 0; k < p->count; k++) {
    const float *from = x + p->at[k];
    v128_t weight = tw_splat(p->weight[k]);
    for (int v = 0; v < vectors; v++) {
      v128_t one = picked_load(from + 4 * v, lanes);
      sum[v] = largest ? wasm_f32x4_max(sum[v], wasm_f32x4_mul(one, weight))
                       : tw_madd(one, weight, sum[v]);
    }
  }
  for (int v = 0; v < vectors; v++) {
    if (lanes >= 4)
      tw_store(y + 4 * v, sum[v]);
    else
      tw_store_tail(y + 4 * v, sum[v], lanes);
  }
}

TW_INLINE void summed_or_largest(const picks *p, const float *x, float *y, uint32_t channels,
                                 int more, int largest) {
  uint32_t c = 0;
  for (; c + 16 <= channels; c += 16) picked(p, x + c, y + c, 4, 4, more, largest);
  for (; c + 4 <= channels; c += 4) picked(p, x + c, y + c, 1, 4, more, largest);
  if (c < channels) picked(p, x + c, y + c, 1, channels - c, more, largest);
}

// y = the sum; with `more`, y += it.
static __attribute__((noinline)) void sum_picks(const picks *p, const float *x, float *y,
                                                uint32_t channels, int more) {
  if (more)
    summed_or_largest(p, x, y, channels, 1, 0);
  else
    summed_or_largest(p, x, y, channels, 0, 0);
}

#endif
