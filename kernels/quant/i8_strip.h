// The register tiles of products of bytes: sums[i][j] of up to TW_ROWS rows by one panel of 8
// columns, i32. One for each form of panel.h; each is a function of its own for each number of
// rows, never inlined, with pointers that Clang cannot see through, for microkernel.h's reasons.
//
// What limits them: x86 without VNNI multiplies bytes or 16-bit numbers twice a cycle at most.
// WIDE needs two of them for 16 products and four instructions in all; PAIRS one and a half and two
// and a half; UNSIGNED and SIGNED one instruction.
#ifndef TW_QUANT_I8_STRIP_H
#define TW_QUANT_I8_STRIP_H
#include "panel.h"

#define TW_ROWS 5        // most rows of one call, WIDE, UNSIGNED and SIGNED
#define TW_PAIRS_ROWS 4  // most rows of one call, PAIRS: four vectors of B are alive at a time

#define TW_UNROLLED _Pragma("clang loop unroll(full)")
#define TW_HIDE(pointer) __asm__("" : "+r"(pointer))

typedef struct tw_strip {
  const void *a;  // bytes; WIDE: 16-bit numbers
  uint32_t lda;   // bytes
  uint32_t k;     // padded
  const int8_t *b;
  int32_t *sums;  // (rows, 8)
  const uint16_t *offsets;  // of PAIRS, as in panel.h
  uint32_t twos, ones;      // fours of PAIRS that are multiplied two by two, and alone
  // What PAIRS reads, and does not use, along the way, `ahead_step` bytes farther for each two, so
  // that the next panel is in cache when its turn comes; a step of 0 costs nothing.
  const uint8_t *ahead;
  uint32_t ahead_step;
} tw_strip;

TW_INLINE void tw_store_sums(int32_t *to, v128_t sum[][2], int rows) {
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    wasm_v128_store(to + i * TW_COLUMNS, sum[i][0]);
    wasm_v128_store(to + i * TW_COLUMNS + 4, sum[i][1]);
  }
}

TW_INLINE void tw_wide_rows(const tw_strip *s, int rows) {
  v128_t sum[TW_ROWS][2];
  const int16_t *a[TW_ROWS];
  const int8_t *b = s->b;
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    sum[i][0] = sum[i][1] = wasm_i32x4_splat(0);
    a[i] = (const int16_t *)((const uint8_t *)s->a + (uint32_t)i * s->lda);
  }
  for (uint32_t p = s->k; p != 0; p -= 2) {
    TW_HIDE(b);
    v128_t b0 = wasm_i16x8_load8x8(b), b1 = wasm_i16x8_load8x8(b + 8);
    b += 16;
    TW_UNROLLED for (int i = 0; i < rows; i++) {
      v128_t x = wasm_v128_load32_splat(a[i]);
      a[i] += 2;
      sum[i][0] = wasm_i32x4_add(sum[i][0], wasm_i32x4_dot_i16x8(x, b0));
      sum[i][1] = wasm_i32x4_add(sum[i][1], wasm_i32x4_dot_i16x8(x, b1));
    }
  }
  tw_store_sums(s->sums, sum, rows);
}

#ifdef TW_RELAXED
TW_INLINE void tw_pairs_rows(const tw_strip *s, int rows) {
  v128_t sum[TW_PAIRS_ROWS][2], ones = wasm_i16x8_splat(1);
  TW_HIDE(ones);  // else V8 makes it anew each time
  const uint8_t *a[TW_PAIRS_ROWS];
  const int8_t *b = s->b;
  const uint16_t *offsets = s->offsets;
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    sum[i][0] = sum[i][1] = wasm_i32x4_splat(0);
    a[i] = (const uint8_t *)s->a + (uint32_t)i * s->lda;
  }
  const volatile uint8_t *ahead = s->ahead;
  uint32_t ahead_step = s->ahead_step;
  for (uint32_t n = s->twos; n != 0; n--) {
    TW_HIDE(b);
    TW_HIDE(offsets);
    (void)*ahead;
    ahead += ahead_step;
    uint32_t step = offsets[0], other = offsets[1];
    offsets += 2;
    v128_t b00 = wasm_v128_load(b), b01 = wasm_v128_load(b + 16);
    v128_t b10 = wasm_v128_load(b + 32), b11 = wasm_v128_load(b + 48);
    b += 64;
    TW_UNROLLED for (int i = 0; i < rows; i++) {
      v128_t x = wasm_v128_load32_splat(a[i] + step), y = wasm_v128_load32_splat(a[i] + other);
      v128_t one = wasm_i16x8_add(wasm_i16x8_relaxed_dot_i8x16_i7x16(b00, x),
                                  wasm_i16x8_relaxed_dot_i8x16_i7x16(b10, y));
      sum[i][0] = wasm_i32x4_add(sum[i][0], wasm_i32x4_dot_i16x8(one, ones));
      v128_t two = wasm_i16x8_add(wasm_i16x8_relaxed_dot_i8x16_i7x16(b01, x),
                                  wasm_i16x8_relaxed_dot_i8x16_i7x16(b11, y));
      sum[i][1] = wasm_i32x4_add(sum[i][1], wasm_i32x4_dot_i16x8(two, ones));
    }
  }
  for (uint32_t n = s->ones; n != 0; n--) {
    TW_HIDE(b);
    TW_HIDE(offsets);
    uint32_t step = *offsets++;
    v128_t b0 = wasm_v128_load(b), b1 = wasm_v128_load(b + 16);
    b += 32;
    TW_UNROLLED for (int i = 0; i < rows; i++) {
      v128_t x = wasm_v128_load32_splat(a[i] + step);
      v128_t one = wasm_i16x8_relaxed_dot_i8x16_i7x16(b0, x);
      v128_t two = wasm_i16x8_relaxed_dot_i8x16_i7x16(b1, x);
      sum[i][0] = wasm_i32x4_add(sum[i][0], wasm_i32x4_dot_i16x8(one, ones));
      sum[i][1] = wasm_i32x4_add(sum[i][1], wasm_i32x4_dot_i16x8(two, ones));
    }
  }
  tw_store_sums(s->sums, sum, rows);
}

TW_INLINE void tw_whole_rows(const tw_strip *s, int rows) {
  v128_t sum[TW_ROWS][2];
  const uint8_t *a[TW_ROWS];
  const int8_t *b = s->b;
  TW_UNROLLED for (int i = 0; i < rows; i++) {
    sum[i][0] = sum[i][1] = wasm_i32x4_splat(0);
    a[i] = (const uint8_t *)s->a + (uint32_t)i * s->lda;
  }
  for (uint32_t p = s->k; p != 0; p -= 4) {
    TW_HIDE(b);
    v128_t b0 = wasm_v128_load(b), b1 = wasm_v128_load(b + 16);
    b += 32;
    TW_UNROLLED for (int i = 0; i < rows; i++) {
      v128_t x = wasm_v128_load32_splat(a[i]);
      a[i] += 4;
      sum[i][0] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(b0, x, sum[i][0]);
      sum[i][1] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(b1, x, sum[i][1]);
    }
  }
  tw_store_sums(s->sums, sum, rows);
}
#endif

#define TW_STRIP_OF(form, rows) \
  static __attribute__((noinline)) void tw_##form##_##rows(const tw_strip *s) { \
    tw_##form##_rows(s, rows); \
  }
#define TW_STRIPS_OF(form) \
  TW_STRIP_OF(form, 1) TW_STRIP_OF(form, 2) TW_STRIP_OF(form, 3) TW_STRIP_OF(form, 4) \
  TW_STRIP_OF(form, 5)
TW_STRIPS_OF(wide)
#ifdef TW_RELAXED
TW_STRIPS_OF(whole)
TW_STRIP_OF(pairs, 1)
TW_STRIP_OF(pairs, 2)
TW_STRIP_OF(pairs, 3)
TW_STRIP_OF(pairs, 4)
#endif

#define TW_CALL(form, rows) case rows: tw_##form##_##rows(s); break;

static inline void tw_strip_any(const tw_strip *s, tw_form form, uint32_t rows) {
#ifdef TW_RELAXED
  if (form == TW_FORM_PAIRS) {
    switch (rows) { TW_CALL(pairs, 1) TW_CALL(pairs, 2) TW_CALL(pairs, 3) TW_CALL(pairs, 4) }
    return;
  }
  if (form != TW_FORM_WIDE) {
    switch (rows) {
      TW_CALL(whole, 1) TW_CALL(whole, 2) TW_CALL(whole, 3) TW_CALL(whole, 4) TW_CALL(whole, 5)
    }
    return;
  }
#else
  (void)form;  // there is only WIDE
#endif
  switch (rows) {
    TW_CALL(wide, 1) TW_CALL(wide, 2) TW_CALL(wide, 3) TW_CALL(wide, 4) TW_CALL(wide, 5)
  }
}

#endif
