// What is applied to a product of bytes once it is a float.
#ifndef TW_QUANT_ACTIVATION_H
#define TW_QUANT_ACTIVATION_H
#include "math.h"
#include "quant.h"

TW_INLINE v128_t tw_quant_activate(v128_t x, quant_activation activation) {
  switch (activation) {
    case QUANT_ACTIVATION_RELU: return wasm_f32x4_pmax(x, wasm_f32x4_splat(0));
    case QUANT_ACTIVATION_GELU: return tw_gelu(x);
    case QUANT_ACTIVATION_TANH: return tw_tanh(x);
    case QUANT_ACTIVATION_SIGMOID: return tw_sigmoid(x);
    default: return x;
  }
}

#endif
