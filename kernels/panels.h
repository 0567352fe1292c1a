// B's side of every f32 product: one panel of 8 columns,
//   packed[p][j] = b[p * stride_k + j * stride_n]
#ifndef TW_PANELS_H
#define TW_PANELS_H
#include <stddef.h>

#include "microkernel.h"

// 4 x 4 of columns that are contiguous in B, turned.
static inline void tw_turn(float *to, const float *from, size_t stride_n) {
  v128_t x0 = wasm_v128_load(from), x1 = wasm_v128_load(from + stride_n);
  v128_t x2 = wasm_v128_load(from + 2 * stride_n), x3 = wasm_v128_load(from + 3 * stride_n);
  v128_t low01 = wasm_i32x4_shuffle(x0, x1, 0, 4, 1, 5);
  v128_t low23 = wasm_i32x4_shuffle(x2, x3, 0, 4, 1, 5);
  v128_t high01 = wasm_i32x4_shuffle(x0, x1, 2, 6, 3, 7);
  v128_t high23 = wasm_i32x4_shuffle(x2, x3, 2, 6, 3, 7);
  wasm_v128_store(to, wasm_i64x2_shuffle(low01, low23, 0, 2));
  wasm_v128_store(to + TW_PANEL, wasm_i64x2_shuffle(low01, low23, 1, 3));
  wasm_v128_store(to + 2 * TW_PANEL, wasm_i64x2_shuffle(high01, high23, 0, 2));
  wasm_v128_store(to + 3 * TW_PANEL, wasm_i64x2_shuffle(high01, high23, 1, 3));
}

// `width` columns of `k` elements; columns from `width` to 8 are zero. Reads no other element.
static inline void tw_pack_panel(float *to, const float *from, uint32_t k, size_t stride_k,
                                 size_t stride_n, uint32_t width) {
  uint32_t p = 0;
  if (width == TW_PANEL && stride_n == 1) {
    for (; p < k; p++, from += stride_k, to += TW_PANEL) {
      wasm_v128_store(to, wasm_v128_load(from));
      wasm_v128_store(to + 4, wasm_v128_load(from + 4));
    }
    return;
  }
  if (width == TW_PANEL && stride_k == 1)
    for (; p + 4 <= k; p += 4, from += 4, to += 4 * TW_PANEL) {
      tw_turn(to, from, stride_n);
      tw_turn(to + 4, from + 4 * stride_n, stride_n);
    }
  for (; p < k; p++, from += stride_k)
    for (uint32_t j = 0; j < TW_PANEL; j++) *to++ = j < width ? from[j * stride_n] : 0;
}

#endif
