// The register tile of every f32 product: up to TW_ROWS rows of C by one panel of 8 columns.
//
//   c[i][j] = start[i][j] + sum over p of a[i][p] * b[p][j]
//
// A panel is (k, 8) floats, 16-byte aligned rows. Twelve accumulators, two vectors of B and one of A
// are the fifteen registers that V8 hands out on x86, and more than the eight products that a core of
// two multiply-adds a cycle and four cycles each needs under way. Nothing may be added: with one value
// more V8 spills in the loop (26 .. 42 GF/s for 56, Chromium 156, Zen 4 and 5, 2026-11). Hence
// - one function for each number of rows, never inlined, so that pointers stay in registers too;
// - HIDE: Clang's loop strength reduction would make `b + 4` an addition and another register; a
//   pointer that it cannot see through keeps its offset in the load.
// A is read where it lies, by load32_splat: nothing is packed, and C's rows may have any stride.
// `start` may be `c` itself (to go on with a sum), a row of 8 with stride 0 (a bias), or zeros.
#ifndef TW_MICROKERNEL_H
#define TW_MICROKERNEL_H
#include <stdint.h>

#include "simd.h"

#define TW_PANEL 8  // columns
#ifdef TW_RELAXED
#define TW_ROWS 6  // most rows of one call
#else
#define TW_ROWS 5  // a product that is not fused passes through one more register
#endif

typedef struct tw_strip {
  const float *a;
  uint32_t lda;  // elements
  uint32_t k;
  const float *b;
  const float *start;
  uint32_t ld_start;
  float *c;
  uint32_t ldc;
  // What to read, and not use, along the way: `ahead_step` bytes farther at each step of k, so that
  // the next panel is in cache when its turn comes (gemm/README.md has the figures). Step 0 reads one
  // place again and again, which costs nothing.
  const uint8_t *ahead;
  uint32_t ahead_step;
  // Instead, lines to write along the way with the byte that each begins with; see tw_rewrite.
  struct tw_lines *rewrite;
} tw_strip;

// Lines of a packed B whose turn comes next: from `line` to `end`.
typedef struct tw_lines {
  uint8_t *line, *end;
  const uint8_t *firsts;  // the byte that each begins with
  uint32_t every;         // steps of k for which TW_REWRITTEN of them are written
} tw_lines;

#define TW_LINE_BYTES 64
#define TW_REWRITTEN 4

// Writes into the next lines what stands there. A load that misses holds up the core until its line
// has come; a store waits aside, and the core goes on: WebAssembly's only prefetch.
TW_INLINE void tw_rewrite(tw_lines *next) {
  if (next->line >= next->end) return;
  volatile uint8_t *line = next->line;
  TW_UNROLLED for (uint32_t i = 0; i < TW_REWRITTEN; i++)
    line[i * TW_LINE_BYTES] = next->firsts[i];
  next->line += TW_REWRITTEN * TW_LINE_BYTES;
  next->firsts += TW_REWRITTEN;
}

#define TW_HIDE(pointer) __asm__("" : "+r"(pointer))

// `rows` and `rewriting` are constants where this is inlined. A fused multiply-add waits four cycles
// for the one before it, an add two or three: three rows, so six sums, are faster by separate
// instructions (Zen 5: 59 and 47 GF/s; Zen 4: no difference).
TW_INLINE void tw_strip_rows(const tw_strip *s, int rows, int rewriting) {
  v128_t sum[TW_ROWS][2];
  const float *a[TW_ROWS], *b = s->b;
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    const float *start = s->start + (uint32_t)i * s->ld_start;
    sum[i][0] = wasm_v128_load(start);
    sum[i][1] = wasm_v128_load(start + 4);
    a[i] = s->a + (uint32_t)i * s->lda;
  }
  const volatile uint8_t *ahead = s->ahead;
  uint32_t step = s->ahead_step;
  tw_lines next = {0};
  if (rewriting) next = *s->rewrite;
  uint32_t left = s->k;
  do {
    uint32_t p = left;
    if (rewriting) {
      tw_rewrite(&next);
      if (p > next.every) p = next.every;
      left -= p;
    }
    for (; p != 0; p--) {
      TW_HIDE(b);
      v128_t b0 = wasm_v128_load(b), b1 = wasm_v128_load(b + 4);
      b += TW_PANEL;
      if (rows > 3 && !rewriting) {
        (void)*ahead;
        ahead += step;
      }
      TW_UNROLLED for (int i = 0; i < rows; i++) {
        v128_t x = wasm_v128_load32_splat(a[i]++);
        if (rows == 3) {
          sum[i][0] = wasm_f32x4_add(wasm_f32x4_mul(x, b0), sum[i][0]);
          sum[i][1] = wasm_f32x4_add(wasm_f32x4_mul(x, b1), sum[i][1]);
        } else {
          sum[i][0] = tw_madd(x, b0, sum[i][0]);
          sum[i][1] = tw_madd(x, b1, sum[i][1]);
        }
      }
    }
  } while (rewriting && left != 0);
  if (rewriting) *s->rewrite = next;
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    float *c = s->c + (uint32_t)i * s->ldc;
    wasm_v128_store(c, sum[i][0]);
    wasm_v128_store(c + 4, sum[i][1]);
  }
}

// The same for few rows: `ways` partial sums of each, so that eight products are under way and not
// two or four, which would wait for each other.
TW_INLINE void tw_strip_few(const tw_strip *s, int rows, int ways) {
  v128_t sum[TW_ROWS][2];  // [row * ways + way]
  const float *a[TW_ROWS], *b = s->b;
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    const float *start = s->start + (uint32_t)i * s->ld_start;
    TW_UNROLLED for (int u = 0; u < ways; u++) {
      sum[i * ways + u][0] = u ? tw_splat(0) : wasm_v128_load(start);
      sum[i * ways + u][1] = u ? tw_splat(0) : wasm_v128_load(start + 4);
    }
    a[i] = s->a + (uint32_t)i * s->lda;
  }
  uint32_t p = s->k;
  for (; p >= (uint32_t)ways; p -= ways, b += ways * TW_PANEL) {
    TW_HIDE(b);
    TW_UNROLLED for (int u = 0; u < ways; u++) {
      v128_t b0 = wasm_v128_load(b + u * TW_PANEL), b1 = wasm_v128_load(b + u * TW_PANEL + 4);
      TW_UNROLLED for (int i = 0; i < rows; i++) {
        v128_t x = wasm_v128_load32_splat(a[i] + u);
        sum[i * ways + u][0] = tw_madd(x, b0, sum[i * ways + u][0]);
        sum[i * ways + u][1] = tw_madd(x, b1, sum[i * ways + u][1]);
      }
    }
    TW_UNROLLED for (int i = 0; i < rows; i++) a[i] += ways;
  }
  for (; p != 0; p--, b += TW_PANEL) {
    TW_UNROLLED for (int i = 0; i < rows; i++) {
      v128_t x = wasm_v128_load32_splat(a[i]++);
      sum[i * ways][0] = tw_madd(x, wasm_v128_load(b), sum[i * ways][0]);
      sum[i * ways][1] = tw_madd(x, wasm_v128_load(b + 4), sum[i * ways][1]);
    }
  }
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    TW_UNROLLED for (int j = 0; j < 2; j++) {
      v128_t *x = sum[i * ways];
      v128_t even = wasm_f32x4_add(x[j], x[2 + j]), odd = even;
      if (ways == 4) odd = wasm_f32x4_add(x[4 + j], x[6 + j]);
      wasm_v128_store(s->c + (uint32_t)i * s->ldc + 4 * j,
                      ways == 4 ? wasm_f32x4_add(even, odd) : even);
    }
  }
}

#define TW_STRIP_OF(rows) \
  static __attribute__((noinline)) void tw_strip_##rows(const tw_strip *s) { \
    tw_strip_rows(s, rows, 0);                                                 \
  }
TW_STRIP_OF(3)
TW_STRIP_OF(4)
TW_STRIP_OF(5)
#if TW_ROWS == 6
TW_STRIP_OF(6)
#endif
static __attribute__((noinline)) void tw_strip_1(const tw_strip *s) { tw_strip_few(s, 1, 4); }
static __attribute__((noinline)) void tw_strip_2(const tw_strip *s) { tw_strip_few(s, 2, 2); }

// The same for `rows` of 1 .. TW_ROWS.
static inline void tw_strip_any(const tw_strip *s, uint32_t rows) {
  switch (rows) {
    case 1: tw_strip_1(s); break;
    case 2: tw_strip_2(s); break;
    case 3: tw_strip_3(s); break;
    case 4: tw_strip_4(s); break;
    case 5: tw_strip_5(s); break;
#if TW_ROWS == 6
    case 6: tw_strip_6(s); break;
#endif
  }
}

// Strips that `rows` are cut into, and the rows of number `n`: as even as can be, for a strip of one
// or two rows takes as long as one of four.
static inline uint32_t tw_strips(uint32_t rows) { return (rows + TW_ROWS - 1) / TW_ROWS; }
static inline uint32_t tw_strip_length(uint32_t rows, uint32_t strips, uint32_t n) {
  return rows / strips + (n < rows % strips);
}

#endif
