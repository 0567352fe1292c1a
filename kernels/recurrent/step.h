// What the steps of all cells share: the products of a strip of sequences with a panel of each gate,
// the functions, and going over a tile.
#ifndef TW_STEP_H
#define TW_STEP_H
#include "bindings.h"
#include "math.h"
#include "microkernel.h"
#include "recurrent.h"

#define TW_GATES 4  // most of a cell

typedef float tw_sums[TW_ROWS * TW_PANEL];

// A strip of sequences and a panel of hidden units.
typedef struct tw_part {
  uint32_t row, rows, unit, width;
} tw_part;

// n of four elements, or all four.
TW_INLINE v128_t tw_some(const float *p, uint32_t n) {
  return n >= 4 ? tw_load(p) : tw_load_tail(p, n);
}
TW_INLINE void tw_put(float *p, v128_t v, uint32_t n) {
  if (n >= 4) tw_store(p, v);
  else tw_store_tail(p, v, n);
}

static inline v128_t tw_apply(recurrent_function kind, float alpha, float beta, v128_t x) {
  v128_t zero = tw_splat(0), one = tw_splat(1), a = tw_splat(alpha);
  switch (kind) {
    case RECURRENT_FUNCTION_RELU: return wasm_f32x4_max(x, zero);
    case RECURRENT_FUNCTION_TANH: return tw_tanh(x);
    case RECURRENT_FUNCTION_AFFINE: return tw_madd(a, x, tw_splat(beta));
    case RECURRENT_FUNCTION_LEAKY_RELU:
      return wasm_v128_bitselect(wasm_f32x4_mul(a, x), x, wasm_f32x4_lt(x, zero));
    case RECURRENT_FUNCTION_THRESHOLDED_RELU:
      return wasm_v128_andnot(x, wasm_f32x4_lt(x, a));
    case RECURRENT_FUNCTION_SCALED_TANH:
      return wasm_f32x4_mul(a, tw_tanh(wasm_f32x4_mul(tw_splat(beta), x)));
    case RECURRENT_FUNCTION_HARD_SIGMOID: return tw_clamp(tw_madd(a, x, tw_splat(beta)), 0, 1);
    case RECURRENT_FUNCTION_ELU: {
      v128_t low = tw_expm1_nonpositive(wasm_f32x4_pmin(x, zero));
      return wasm_v128_bitselect(wasm_f32x4_mul(a, low), x, wasm_f32x4_lt(x, zero));
    }
    case RECURRENT_FUNCTION_SOFTSIGN:
      return wasm_f32x4_div(x, wasm_f32x4_add(one, wasm_f32x4_abs(x)));
    case RECURRENT_FUNCTION_SOFTPLUS: return tw_softplus(x);
    default: return tw_sigmoid(x);
  }
}

TW_INLINE v128_t tw_clip(const step_params *p, v128_t x) { return tw_clamp(x, -p->clip, p->clip); }
TW_INLINE v128_t tw_f(const step_params *p, v128_t x) {
  return tw_apply(p->f, p->f_alpha, p->f_beta, tw_clip(p, x));
}
TW_INLINE v128_t tw_g(const step_params *p, v128_t x) {
  return tw_apply(p->g, p->g_alpha, p->g_beta, tw_clip(p, x));
}

static inline int tw_step_valid(const step_params *p) {
  return p->hidden != 0 && p->tile_panels != 0 && p->tile_rows != 0 &&
         p->f <= RECURRENT_FUNCTION_SOFTPLUS && p->g <= RECURRENT_FUNCTION_SOFTPLUS &&
         p->last <= RECURRENT_FUNCTION_SOFTPLUS;
}

static inline int tw_step_holds(const tw_dispatch *d, const step_params *p, uint32_t fed,
                                uint32_t packed, uint32_t bias, uint32_t gates) {
  uint64_t panels = ((uint64_t)p->hidden + TW_PANEL - 1) / TW_PANEL;
  uint64_t each = panels * TW_PANEL * p->hidden;
  return tw_holds(d, fed, (uint64_t)p->batch * gates * p->hidden, 4) && p->packed_stride >= each &&
         tw_holds(d, packed, (uint64_t)(gates - 1) * p->packed_stride + each, 4) &&
         (!tw_present(d, bias) || tw_holds(d, bias, (uint64_t)gates * p->hidden, 4));
}

static inline int tw_state_holds(const tw_dispatch *d, const step_params *p, uint32_t index) {
  return tw_holds(d, index, (uint64_t)p->batch * p->hidden, 4);
}
static inline int tw_maybe_state(const tw_dispatch *d, const step_params *p, uint32_t index) {
  return !tw_present(d, index) || tw_state_holds(d, p, index);
}
static inline int tw_lens_hold(const tw_dispatch *d, const step_params *p, uint32_t index) {
  return !tw_present(d, index) || tw_holds(d, index, p->batch, 4);
}

// sums[g] = bias of gate first + g, and h times that gate's panel, of the part.
static inline void tw_products(const step_params *p, const float *h, const float *packed,
                               const float *bias, uint32_t first, uint32_t gates,
                               const tw_part *part, tw_sums *sums) {
  for (uint32_t g = 0; g < gates; g++) {
    float start[TW_PANEL] = {0};
    if (bias)
      for (uint32_t i = 0; i < part->width; i++)
        start[i] = bias[(size_t)(first + g) * p->hidden + part->unit + i];
    const float *panel =
        packed + (size_t)(first + g) * p->packed_stride + (size_t)part->unit * p->hidden;
    tw_strip s = {.a = h + (size_t)part->row * p->hidden, .lda = p->hidden, .k = p->hidden};
    s.b = panel;
    s.start = start;
    s.c = sums[g];
    s.ldc = TW_PANEL;
    s.ahead = (const uint8_t *)panel;
    tw_strip_any(&s, part->rows);
  }
}

// Every part of a tile: for (tw_walk w = tw_walk_of(..); tw_next(&w);) { w.part .. }
typedef struct tw_walk {
  tw_span rows, panels;
  uint32_t hidden, panel, strip, strips;
  tw_part part;
} tw_walk;

static inline tw_walk tw_walk_of(const step_params *p, const tw_tile *t) {
  tw_walk w = {.rows = tw_piece(t->y, p->tile_rows, p->batch), .hidden = p->hidden};
  w.panels = tw_piece(t->x, p->tile_panels, ((uint64_t)p->hidden + TW_PANEL - 1) / TW_PANEL);
  w.panel = w.panels.first;
  w.strips = tw_strips(w.rows.last - w.rows.first);
  w.part.row = w.rows.first;
  return w;
}

static inline int tw_next(tw_walk *w) {
  if (w->strip == w->strips) {
    w->strip = 0;
    w->panel++;
    w->part.row = w->rows.first;
    w->part.rows = 0;
  }
  if (w->strips == 0 || w->panel >= w->panels.last) return 0;
  w->part.row += w->part.rows;
  w->part.rows = tw_strip_length(w->rows.last - w->rows.first, w->strips, w->strip++);
  w->part.unit = w->panel * TW_PANEL;
  w->part.width = w->hidden - w->part.unit < TW_PANEL ? w->hidden - w->part.unit : TW_PANEL;
  return 1;
}

// Writes a state, and y where there is one; what rests keeps the state that it has, and y is 0.
TW_INLINE void tw_keep(const tw_dispatch *d, uint32_t next, uint32_t y, size_t at, uint32_t n,
                       v128_t value, v128_t old, int rests) {
  tw_put(TW_DATA(float, d, next) + at, rests ? old : value, n);
  if (tw_present(d, y)) tw_put(TW_DATA(float, d, y) + at, rests ? tw_splat(0) : value, n);
}

static inline int tw_rests(const tw_dispatch *d, uint32_t lens, const step_params *p, uint32_t row) {
  return tw_present(d, lens) && TW_DATA(int32_t, d, lens)[row] <= (int64_t)p->step;
}

#endif
