// (1 - z) new + z h, the end of every GRU.
#ifndef TW_GRU_H
#define TW_GRU_H
#include "step.h"

TW_INLINE v128_t tw_mix(v128_t z, v128_t fresh, v128_t h) {
  return tw_madd(z, wasm_f32x4_sub(h, fresh), fresh);
}

#endif
