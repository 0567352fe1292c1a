// C = activation(alpha A B + bias) + residual, f32.
//
// a         (m, k), rows `lda` apart; any alignment of 4 bytes
// packed_b  panels of 8 columns, (ceil(n / 8), k, 8), as f32_gemm_pack_b writes them; 16 bytes
// bias      (n), optional;  residual (m, n), rows `ldr` apart, optional
// c         (m, n), rows `ldc` apart
// Tile: x = `tile_n` columns, y = `tile_m` rows, z = matrix of the batch. Scratch: none.
// C may alias nothing: with several blocks of k it holds partial sums.
//
// Within a tile: blocks of k, panels, rows. A panel's block stays in L1 while all rows of the tile
// pass; A's block stays in L2 while all panels pass.
#include "epilogue.h"
#include "gemm.h"
#include "microkernel.h"

#ifndef TW_GEMM_KC
#define TW_GEMM_KC 1536
#endif

// Pages of B whose addresses are looked up together, well before their elements are wanted: one after
// the other each costs a walk through the page tables (README.md has the figures).
#define PAGE 4096
#define PAGES 96

static const float zeros[TW_PANEL] = {0};

static void look_up(const float *from, const float *end) {
  const volatile uint8_t *page = (const volatile uint8_t *)from;
  for (; page < (const volatile uint8_t *)end; page += PAGE) (void)*page;
}

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

// A panel's block that no strip before it has brought.
static void read_lines(const float *block, uint32_t k) {
  const volatile uint8_t *line = (const volatile uint8_t *)block;
  for (uint32_t i = 0; i < k; i += 2, line += TW_LINE_BYTES) (void)*line;
}

// Strips that bring B's next lines by writing: 4 rows or more, for fewer wait for B in any case.
#define REWRITING_STRIP(rows) \
  static __attribute__((noinline)) void rewriting_##rows(const tw_strip *s) { \
    tw_strip_rows(s, rows, 1);                                                \
  }
REWRITING_STRIP(4)
REWRITING_STRIP(5)
#if TW_ROWS == 6
REWRITING_STRIP(6)
#endif

static void multiply(const tw_strip *s, uint32_t rows) {
  if (s->rewrite == 0 || rows < 4) {
    tw_strip_any(s, rows);
    return;
  }
  switch (rows) {
    case 4: rewriting_4(s); break;
    case 5: rewriting_5(s); break;
#if TW_ROWS == 6
    case 6: rewriting_6(s); break;
#endif
  }
}

// What happens to a finished sum.
typedef struct finish {
  int scaled;             // 0: alpha is 1 and the sum began with the bias
  float alpha;
  const float *bias;      // a panel's; zeros when there is none
  const float *residual;  // 0: none
  uint32_t ldr;
  gemm_activation activation;
} finish;

static inline __attribute__((always_inline)) v128_t activate(v128_t x, gemm_activation activation) {
  switch (activation) {
    TW_ACTIVATIONS(GEMM, x);
    default: return x;
  }
}

// `activation` is a constant where this is inlined.
static inline __attribute__((always_inline)) void finish_rows(const finish *f, float *c,
                                                              uint32_t ldc, uint32_t rows,
                                                              gemm_activation activation) {
  v128_t alpha = wasm_f32x4_splat(f->alpha);
  const float *residual = f->residual;
  for (; rows != 0; rows--, c += ldc) {
    v128_t x = wasm_v128_load(c), y = wasm_v128_load(c + 4);
    if (f->scaled) {
      x = tw_madd(x, alpha, wasm_v128_load(f->bias));
      y = tw_madd(y, alpha, wasm_v128_load(f->bias + 4));
    }
    x = activate(x, activation);
    y = activate(y, activation);
    if (residual) {
      x = wasm_f32x4_add(x, wasm_v128_load(residual));
      y = wasm_f32x4_add(y, wasm_v128_load(residual + 4));
      residual += f->ldr;
    }
    wasm_v128_store(c, x);
    wasm_v128_store(c + 4, y);
  }
}

// `rows` by one panel of C, in L1 since the sum has just been written.
static __attribute__((noinline)) void finish_strip(const finish *f, float *c, uint32_t ldc,
                                                   uint32_t rows) {
  switch (f->activation) {
    case GEMM_ACTIVATION_RELU: finish_rows(f, c, ldc, rows, GEMM_ACTIVATION_RELU); break;
    case GEMM_ACTIVATION_GELU: finish_rows(f, c, ldc, rows, GEMM_ACTIVATION_GELU); break;
    case GEMM_ACTIVATION_TANH: finish_rows(f, c, ldc, rows, GEMM_ACTIVATION_TANH); break;
    case GEMM_ACTIVATION_SIGMOID: finish_rows(f, c, ldc, rows, GEMM_ACTIVATION_SIGMOID); break;
    case GEMM_ACTIVATION_SILU: finish_rows(f, c, ldc, rows, GEMM_ACTIVATION_SILU); break;
    case GEMM_ACTIVATION_NONE: finish_rows(f, c, ldc, rows, GEMM_ACTIVATION_NONE); break;
    default: finish_rows(f, c, ldc, rows, f->activation); break;
  }
}

static void copy_rows(float *to, uint32_t ld_to, const float *from, uint32_t ld_from,
                      uint32_t rows, uint32_t columns) {
  for (uint32_t i = 0; i < rows; i++)
    for (uint32_t j = 0; j < columns; j++) to[i * ld_to + j] = from[i * ld_from + j];
}

// Whether `rows` of `columns` elements from element `first` on, `stride` apart, lie in a binding.
// The pointers are made from the very numbers that are checked here, so that even absurd strides,
// whose sum wraps, lead to no other place.
static int within(const tw_binding *b, uint64_t first, uint32_t rows, uint64_t stride,
                  uint64_t columns) {
  return first + columns <= b->length / sizeof(float) &&
         (rows - 1) * stride <= b->length / sizeof(float) - first - columns;
}

uint32_t f32_gemm(const tw_dispatch *d, const tw_tile *t) {
  const gemm_params *p = d->params;
  if (p->tile_m == 0 || p->tile_n == 0 || p->tile_n % TW_PANEL || p->batch_inner == 0 ||
      p->activation > GEMM_ACTIVATION_GELU_TANH || d->binding_count != F32_GEMM_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t row = (uint64_t)t->y * p->tile_m, column = (uint64_t)t->x * p->tile_n;
  if (row >= p->m || column >= p->n) return TW_OK;
  uint32_t rows = minimum(p->m - (uint32_t)row, p->tile_m);
  uint32_t columns = minimum(p->n - (uint32_t)column, p->tile_n);
  uint32_t panels = columns / TW_PANEL + (columns % TW_PANEL != 0);

  const tw_binding *bindings = d->bindings;
  const tw_binding *bias = &bindings[F32_GEMM_BIAS], *residual = &bindings[F32_GEMM_RESIDUAL];
  uint64_t outer = t->z / p->batch_inner, inner = t->z % p->batch_inner;
  uint64_t a0 = outer * p->a_outer + inner * p->a_inner + row * p->lda;
  uint64_t b0 = outer * p->b_outer + inner * p->b_inner + column * p->k;
  uint64_t c0 = outer * p->c_outer + inner * p->c_inner + row * p->ldc + column;
  uint64_t r0 = outer * p->r_outer + inner * p->r_inner + row * p->ldr + column;
  if (!within(&bindings[F32_GEMM_A], a0, rows, p->lda, p->k) ||
      !within(&bindings[F32_GEMM_PACKED_B], b0, panels, (uint64_t)p->k * TW_PANEL,
              (uint64_t)p->k * TW_PANEL) ||
      !within(&bindings[F32_GEMM_C], c0, rows, p->ldc, columns) ||
      (bias->length && !within(bias, column, 1, 0, columns)) ||
      (residual->length && !within(residual, r0, rows, p->ldr, columns)))
    return TW_BINDING_TOO_SHORT;

  const float *a = (const float *)bindings[F32_GEMM_A].data + a0;
  const float *b = (const float *)bindings[F32_GEMM_PACKED_B].data + b0;
  float *c = (float *)bindings[F32_GEMM_C].data + c0;
  const float *biases = bias->length ? (const float *)bias->data + column : 0;
  const float *residuals = residual->length ? (const float *)residual->data + r0 : 0;
  uint64_t lines = ((uint64_t)p->k + 1) / 2;  // of a panel
  uint8_t *firsts = 0;
  if (p->rewrite) {
    uint64_t all = ((uint64_t)p->n + TW_PANEL - 1) / TW_PANEL;
    const tw_binding *whole = &bindings[F32_GEMM_PACKED_B];
    if (p->b_outer || p->b_inner) return TW_INVALID_PARAMS;
    if (all * p->k > UINT32_MAX) return TW_BINDING_TOO_SHORT;
    uint64_t at = all * p->k * TW_PANEL * sizeof(float);
    if (at + all * lines > whole->length) return TW_BINDING_TOO_SHORT;
    firsts = (uint8_t *)whole->data + at + column / TW_PANEL * lines;
  }
  int scaled = p->alpha != 1;  // else the sum begins with the bias, at no cost
  int plain = !scaled && p->activation == GEMM_ACTIVATION_NONE && !residuals;

  uint32_t k0 = 0, strips = tw_strips(rows);
  size_t panel = (size_t)p->k * TW_PANEL;
  const float *end = b + panels * panel, *looked_up = b;
  do {
    uint32_t k = minimum(p->k - k0, TW_GEMM_KC);
    int last = k0 + k == p->k;
    for (uint32_t j = 0; j < columns; j += TW_PANEL) {
      uint32_t width = minimum(columns - j, TW_PANEL);
      // The last panel may be narrower than a panel: everything of C's width goes through these.
      float narrow_c[TW_ROWS * TW_PANEL], narrow_residual[TW_ROWS * TW_PANEL];
      float narrow_bias[TW_PANEL];
      const float *panel_bias = biases ? biases + j : zeros;
      if (width < TW_PANEL && biases) {
        for (uint32_t i = 0; i < TW_PANEL; i++) narrow_bias[i] = i < width ? panel_bias[i] : 0;
        panel_bias = narrow_bias;
      }
      finish f = {scaled, p->alpha, panel_bias, 0, p->ldr, p->activation};
      const float *block = b + (size_t)j * p->k + k0 * TW_PANEL;
      if (block + 2 * panel > looked_up && looked_up < end) {
        const float *until = looked_up + PAGES * PAGE / sizeof(float);
        if (until > end) until = end;
        look_up(looked_up, until);
        looked_up = until;
      }
      // All strips together read or rewrite the next panel's block; the last panel has none after it.
      int more = j + TW_PANEL < columns;
      const float *next = more ? block + panel : block;
      tw_strip s = {.lda = p->lda, .k = k, .b = block, .ahead = (const uint8_t *)next};
      s.ahead_step = TW_PANEL * sizeof(float) / strips;
      tw_lines rest = {(uint8_t *)next, (uint8_t *)next, 0, 2 * strips * TW_REWRITTEN};
      if (firsts) {
        rest.firsts = firsts + (j / TW_PANEL + 1) * lines + k0 / 2;
        if (more) rest.end += k / (2 * TW_REWRITTEN) * TW_REWRITTEN * TW_LINE_BYTES;
        s.rewrite = &rest;
        if (j == 0) read_lines(block, k);
      }
      for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip, s.ahead += s.ahead_step * k) {
        strip = tw_strip_length(rows, strips, n);
        s.a = a + (size_t)i * p->lda + k0;
        s.c = c + (size_t)i * p->ldc + j;
        s.ldc = p->ldc;
        f.residual = residuals ? residuals + (size_t)i * p->ldr + j : 0;
        f.ldr = p->ldr;
        float *to = s.c;
        if (width < TW_PANEL) {
          if (k0) copy_rows(narrow_c, TW_PANEL, to, p->ldc, strip, width);
          if (residuals) copy_rows(narrow_residual, TW_PANEL, f.residual, p->ldr, strip, width);
          s.c = narrow_c;
          s.ldc = TW_PANEL;
          f.residual = residuals ? narrow_residual : 0;
          f.ldr = TW_PANEL;
        }
        s.start = k0 ? s.c : scaled ? zeros : panel_bias;
        s.ld_start = k0 ? s.ldc : 0;
        multiply(&s, strip);
        if (last && !plain) finish_strip(&f, s.c, s.ldc, strip);
        if (width < TW_PANEL) copy_rows(to, p->ldc, narrow_c, TW_PANEL, strip, width);
      }
    }
    k0 += k;
  } while (k0 < p->k);
  return TW_OK;
}
