// What is done to a finished sum before it is stored.
#ifndef TW_CONV_ACTIVATION_H
#define TW_CONV_ACTIVATION_H
#include "conv.h"
#include "epilogue.h"

typedef struct activation {
  conv_activation kind;
  v128_t alpha, beta;
} activation;

// NaN in is NaN out, as in epilogue.h.
TW_INLINE v128_t activate(v128_t x, const activation *a) {
  switch (a->kind) {
    TW_ACTIVATIONS(CONV, x);
    case CONV_ACTIVATION_LEAKY_RELU:
      return wasm_v128_bitselect(wasm_f32x4_mul(x, a->alpha), x,
                                 wasm_f32x4_lt(x, tw_splat(0)));
    case CONV_ACTIVATION_CLIP: return wasm_f32x4_pmin(wasm_f32x4_pmax(x, a->alpha), a->beta);
    case CONV_ACTIVATION_HARD_SIGMOID: return tw_hard_sigmoid(x, a->alpha, a->beta);
    default: return x;
  }
}

#define ACTIVATION_OF(p) \
  {(p)->activation, wasm_f32x4_splat((p)->alpha), wasm_f32x4_splat((p)->beta)}

// Lanes 0 to n - 1; all four where n is 4 or more.
TW_INLINE v128_t load_lanes(const float *p, uint32_t n) {
  return n >= 4 ? tw_load(p) : tw_load_tail(p, n);
}
TW_INLINE void store_lanes(float *p, v128_t v, uint32_t n) {
  if (n >= 4)
    tw_store(p, v);
  else
    tw_store_tail(p, v, n);
}

#endif
