// What products, convolutions and norms do to a finished number before they store it: the functions that
// all of them have. Each family numbers them in its own .wit; those with numbers of their own are its own.
#ifndef TW_EPILOGUE_H
#define TW_EPILOGUE_H
#include "math.h"

// The cases of a switch over FAMILY's enum `activation`. NaN in is NaN out: pmax keeps it where x is its
// first operand.
#define TW_ACTIVATIONS(FAMILY, x)                                                                  \
  case FAMILY##_ACTIVATION_RELU: return wasm_f32x4_pmax(x, tw_splat(0));                           \
  case FAMILY##_ACTIVATION_SIGMOID: return tw_sigmoid(x);                                          \
  case FAMILY##_ACTIVATION_TANH: return tw_tanh(x);                                                \
  case FAMILY##_ACTIVATION_GELU: return tw_gelu(x);                                                \
  case FAMILY##_ACTIVATION_GELU_TANH: return tw_gelu_tanh(x);                                      \
  case FAMILY##_ACTIVATION_QUICK_GELU: return tw_silu(x, tw_splat(1.702f));                        \
  case FAMILY##_ACTIVATION_SILU: return tw_silu(x, tw_splat(1));                                   \
  case FAMILY##_ACTIVATION_HARD_SWISH:                                                             \
    return wasm_f32x4_mul(x, tw_hard_sigmoid(x, tw_splat(1.0f / 6), tw_splat(0.5f)))

#endif
