// What is applied to a product of bytes once it is a float.
#ifndef TW_QUANT_ACTIVATION_H
#define TW_QUANT_ACTIVATION_H
#include "epilogue.h"
#include "quant.h"

TW_INLINE v128_t tw_quant_activate(v128_t x, quant_activation activation) {
  switch (activation) {
    TW_ACTIVATIONS(QUANT, x);
    default: return x;
  }
}

#endif
