// Short copies without a call: memory.copy costs some 20 ns before its first byte.
#ifndef TW_COPY_H
#define TW_COPY_H
#include "simd.h"

#define TW_LONG_COPY 1024  // bytes from which memory.copy is as fast

// n bytes; no overlap. The last vector may cover bytes that are already copied.
TW_INLINE void tw_copy(uint8_t *target, const uint8_t *source, uint32_t n) {
  if (n >= TW_LONG_COPY) {
    __builtin_memcpy(target, source, n);
  } else if (n >= 16) {
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) wasm_v128_store(target + i, wasm_v128_load(source + i));
    if (i < n) wasm_v128_store(target + n - 16, wasm_v128_load(source + n - 16));
  } else if (n >= 8) {
    uint64_t first, last;
    __builtin_memcpy(&first, source, 8), __builtin_memcpy(&last, source + n - 8, 8);
    __builtin_memcpy(target, &first, 8), __builtin_memcpy(target + n - 8, &last, 8);
  } else if (n >= 4) {
    uint32_t first, last;
    __builtin_memcpy(&first, source, 4), __builtin_memcpy(&last, source + n - 4, 4);
    __builtin_memcpy(target, &first, 4), __builtin_memcpy(target + n - 4, &last, 4);
  } else {
    for (uint32_t i = 0; i < n; i++) target[i] = source[i];
  }
}

#endif
