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

static __attribute__((noinline)) v128_t tw_apply(recurrent_function kind, float alpha, float beta, v128_t x) {
  v128_t zero = tw_splat(0), one = tw_splat(1), a = tw_splat(alpha);
  switch (kind) {
    case RECURRENT_FUNCTION_RELU: return wasm_f32x4_max(x, zero);
    case RECURRENT_FUNCTION_TANH: return tw_tanh_gate(x);
    case RECURRENT_FUNCTION_AFFINE: return tw_madd(a, x, tw_splat(beta));
    case RECURRENT_FUNCTION_LEAKY_RELU:
      return wasm_v128_bitselect(wasm_f32x4_mul(a, x), x, wasm_f32x4_lt(x, zero));
    case RECURRENT_FUNCTION_THRESHOLDED_RELU:
      return wasm_v128_andnot(x, wasm_f32x4_lt(x, a));
    case RECURRENT_FUNCTION_SCALED_TANH:
      return wasm_f32x4_mul(a, tw_tanh_gate(wasm_f32x4_mul(tw_splat(beta), x)));
    case RECURRENT_FUNCTION_HARD_SIGMOID: return tw_clamp(tw_madd(a, x, tw_splat(beta)), 0, 1);
    case RECURRENT_FUNCTION_ELU: {
      v128_t low = tw_expm1_nonpositive(wasm_f32x4_pmin(x, zero));
      return wasm_v128_bitselect(wasm_f32x4_mul(a, low), x, wasm_f32x4_lt(x, zero));
    }
    case RECURRENT_FUNCTION_SOFTSIGN:
      return wasm_f32x4_div(x, wasm_f32x4_add(one, wasm_f32x4_abs(x)));
    case RECURRENT_FUNCTION_SOFTPLUS: return tw_softplus(x);
    default: return tw_sigmoid_gate(x);
  }
}

// Sigmoid and tanh without a clip are what cells have; where `usual` is a constant they are inlined and
// those of several gates computed side by side. What follows the products of four units of an LSTM: 66 ns
// by calls, 30 so (V8 14, Zen 4, 2026-11).
TW_INLINE v128_t tw_f(const step_params *p, int usual, v128_t x) {
  if (usual) return tw_sigmoid_gate(x);
  return tw_apply(p->f, p->f_alpha, p->f_beta, tw_clamp(x, -p->clip, p->clip));
}
TW_INLINE v128_t tw_g(const step_params *p, int usual, v128_t x) {
  if (usual) return tw_tanh_gate(x);
  return tw_apply(p->g, p->g_alpha, p->g_beta, tw_clamp(x, -p->clip, p->clip));
}
TW_INLINE v128_t tw_last(const step_params *p, int usual, v128_t x) {
  return usual ? tw_tanh_gate(x) : tw_apply(p->last, p->last_alpha, p->last_beta, x);
}
static inline int tw_usual(const step_params *p) {
  return p->f == RECURRENT_FUNCTION_SIGMOID && p->g == RECURRENT_FUNCTION_TANH &&
         p->last == RECURRENT_FUNCTION_TANH && p->clip == __builtin_inff();
}

static inline int tw_step_valid(const step_params *p) {
  uint64_t units = (uint64_t)p->tile_panels * TW_PANEL;
  return p->hidden != 0 && p->tile_panels != 0 && p->tile_rows != 0 && p->steps != 0 &&
         (p->steps == 1 || units >= p->hidden) &&
         p->f <= RECURRENT_FUNCTION_SOFTPLUS && p->g <= RECURRENT_FUNCTION_SOFTPLUS &&
         p->last <= RECURRENT_FUNCTION_SOFTPLUS;
}

static inline int tw_step_holds(const tw_dispatch *d, const step_params *p, uint32_t fed,
                                uint32_t packed, uint32_t bias, uint32_t gates) {
  uint64_t panels = ((uint64_t)p->hidden + TW_PANEL - 1) / TW_PANEL;
  uint64_t each = panels * TW_PANEL * p->hidden;
  uint64_t one = (uint64_t)p->batch * gates * p->hidden;
  return tw_holds(d, fed, one, 4) && tw_holds(d, fed, one * p->steps, 4) &&
         p->packed_stride >= each &&
         tw_holds(d, packed, (uint64_t)(gates - 1) * p->packed_stride + each, 4) &&
         (!tw_present(d, bias) || tw_holds(d, bias, (uint64_t)gates * p->hidden, 4));
}

static inline int tw_state_holds(const tw_dispatch *d, const step_params *p, uint32_t index) {
  return tw_holds(d, index, (uint64_t)p->batch * p->hidden, 4);
}
// y of all steps, where there is one.
static inline int tw_results_hold(const tw_dispatch *d, const step_params *p, uint32_t index) {
  uint64_t one = (uint64_t)p->batch * p->hidden;
  return !tw_present(d, index) ||
         ((p->steps == 1 || p->y_step >= one) &&
          tw_holds(d, index, (uint64_t)(p->steps - 1) * p->y_step + one, 4));
}
static inline int tw_lens_hold(const tw_dispatch *d, const step_params *p, uint32_t index) {
  return !tw_present(d, index) || tw_holds(d, index, p->batch, 4);
}

// sums[g] = start[g] + h times the panel of each gate, of one sequence. A panel has two sums, which
// are too few to keep the multipliers busy; the gates go together instead of several steps of k.
// A step of 128 units takes an LSTM 3.9 us, 2.8 of them here: 95 GB/s of weights, where reading alone
// takes two loads a cycle, 105. Without TW_HIDE the compiler makes one pointer of all and adds to it for
// each load: 85 (V8 14, Zen 4, 2026-11).
TW_INLINE void tw_row(const float *h, uint32_t k, const float *panels, size_t stride,
                      const float *const *start, const uint32_t gates, tw_sums *sums) {
  v128_t sum[2 * TW_GATES];
  const float *at[TW_GATES];
  TW_UNROLLED for (uint32_t g = 0; g < gates; g++) {
    at[g] = panels + g * stride;
    sum[2 * g] = tw_load(start[g]);
    sum[2 * g + 1] = tw_load(start[g] + 4);
  }
  for (; k > 0; k--, h++) {
    v128_t a = wasm_v128_load32_splat(h);
    TW_UNROLLED for (uint32_t g = 0; g < gates; g++) {
      TW_HIDE(at[g]);
      sum[2 * g] = tw_madd(a, tw_load(at[g]), sum[2 * g]);
      sum[2 * g + 1] = tw_madd(a, tw_load(at[g] + 4), sum[2 * g + 1]);
      at[g] += TW_PANEL;
    }
  }
  TW_UNROLLED for (uint32_t g = 0; g < gates; g++) {
    tw_store(sums[g], sum[2 * g]);
    tw_store(sums[g] + 4, sum[2 * g + 1]);
  }
}

// sums[g] = bias of gate first + g, and h times that gate's panel, of the part.
static inline void tw_products(const step_params *p, const float *h, const float *packed,
                               const float *bias, uint32_t first, uint32_t gates,
                               const tw_part *part, tw_sums *sums) {
  const float *panels = packed + (size_t)first * p->packed_stride + (size_t)part->unit * p->hidden;
  float padded[TW_GATES][TW_PANEL] = {0};
  const float *start[TW_GATES];
  for (uint32_t g = 0; g < gates; g++) {
    start[g] = padded[g];
    if (!bias) continue;
    const float *own = bias + (size_t)(first + g) * p->hidden + part->unit;
    if (part->width == TW_PANEL) start[g] = own;
    else
      for (uint32_t i = 0; i < part->width; i++) padded[g][i] = own[i];
  }
  const float *rows = h + (size_t)part->row * p->hidden;
  if (part->rows == 1 && gates == 3) {
    tw_row(rows, p->hidden, panels, p->packed_stride, start, 3, sums);
    return;
  }
  if (part->rows == 1 && gates == 4) {
    tw_row(rows, p->hidden, panels, p->packed_stride, start, 4, sums);
    return;
  }
  for (uint32_t g = 0; g < gates; g++) {
    const float *panel = panels + (size_t)g * p->packed_stride;
    tw_strip s = {.a = rows, .lda = p->hidden, .k = p->hidden, .b = panel, .start = start[g]};
    s.c = sums[g];
    s.ldc = TW_PANEL;
    s.ahead = (const uint8_t *)panel;
    tw_strip_any(&s, part->rows);
  }
}

// Every part of a tile, of one step after the other: for (tw_walk w = ..; tw_next(&w);) { w.part .. }
// States of all steps but the last lie in next_h and in scratch by turns, so that the last's are in
// next_h; scratch has the rows of the tile. Steps in which every sequence of the tile rests, those
// behind the longest, are none: their y is 0.
typedef struct tw_walk {
  const step_params *p;
  tw_span rows, panels;
  uint32_t panel, strip, strips;
  tw_part part;
  uint32_t gates, steps, done, step;  // steps that there are, that were begun; this one's number
  const int32_t *lens;
  const float *all_fed, *fed, *h;
  float *all_y, *y, *last, *between, *next_h;
} tw_walk;

static inline void tw_begin_step(tw_walk *w) {
  const step_params *p = w->p;
  uint32_t index = p->backward ? w->steps - 1 - w->done : w->done;
  w->h = w->next_h;
  w->done++;
  w->next_h = (w->steps - w->done) % 2 ? w->between : w->last;
  w->fed = w->all_fed + (size_t)index * p->batch * w->gates * p->hidden;
  w->y = w->all_y ? w->all_y + (size_t)index * p->y_step : 0;
  w->step = p->step + index;
  w->panel = w->panels.first;
  w->strip = 0;
  w->part.row = w->rows.first;
  w->part.rows = 0;
}

static inline int tw_scratch_fits(const step_params *p, const tw_tile *t) {
  tw_span rows = tw_piece(t->y, p->tile_rows, p->batch);
  return p->steps == 1 ||
         t->scratch_length / sizeof(float) >= (uint64_t)(rows.last - rows.first) * p->hidden;
}

// Whether a sequence has ended before this step.
static inline int tw_rests(const tw_walk *w, uint32_t row) {
  return w->lens && w->lens[row] <= (int64_t)w->step;
}

// Elements of a state from one place to another, or zeros: those of `width` units of a row.
static inline void tw_copy_units(float *to, const float *from, uint32_t width) {
  for (uint32_t i = 0; i < width; i++) to[i] = from ? from[i] : 0;
}

// All of the tile's part of a state; one that rests from the first step on has the last state at once.
static inline void tw_copy_state(const tw_walk *w, float *to, const float *from) {
  uint32_t hidden = w->p->hidden, first = w->panels.first * TW_PANEL;
  uint32_t end = w->panels.last * TW_PANEL < hidden ? w->panels.last * TW_PANEL : hidden;
  for (uint32_t row = w->rows.first; row < w->rows.last; row++) {
    size_t at = (size_t)row * hidden + first;
    tw_copy_units(to + at, from ? from + at : 0, end - first);
  }
}

// The bindings' indices; y may be absent.
static inline tw_walk tw_walk_of(const tw_dispatch *d, const tw_tile *t, uint32_t gates,
                                 uint32_t fed, uint32_t h, uint32_t next_h, uint32_t y,
                                 const int32_t *lens) {
  const step_params *p = d->params;
  tw_walk w = {.p = p, .gates = gates, .rows = tw_piece(t->y, p->tile_rows, p->batch)};
  w.panels = tw_piece(t->x, p->tile_panels, ((uint64_t)p->hidden + TW_PANEL - 1) / TW_PANEL);
  w.strips = tw_strips(w.rows.last - w.rows.first);
  w.lens = lens;
  w.all_fed = TW_DATA(float, d, fed);
  w.all_y = tw_present(d, y) ? TW_DATA(float, d, y) : 0;
  w.next_h = TW_DATA(float, d, h);  // what the first step reads
  w.last = TW_DATA(float, d, next_h);
  size_t before = (size_t)w.rows.first * p->hidden;
  w.between = (float *)((uintptr_t)t->scratch - before * sizeof(float));  // as if of all rows
  w.steps = p->steps;
  if (lens) {
    int64_t longest = p->step;
    for (uint32_t row = w.rows.first; row < w.rows.last; row++)
      if (lens[row] > longest) longest = lens[row];
    if (longest - p->step < p->steps) w.steps = (uint32_t)(longest - p->step);
    for (uint32_t i = w.steps; w.all_y && i < p->steps; i++)
      tw_copy_state(&w, w.all_y + (size_t)i * p->y_step, 0);
  }
  if (w.steps == 0) tw_copy_state(&w, w.last, w.next_h);
  else tw_begin_step(&w);
  return w;
}

static inline int tw_next(tw_walk *w) {
  if (w->strips == 0 || w->steps == 0) return 0;
  if (w->strip == w->strips) {
    w->strip = 0;
    w->panel++;
    w->part.row = w->rows.first;
    w->part.rows = 0;
  }
  if (w->panel >= w->panels.last) {
    if (w->done == w->steps) return 0;
    tw_begin_step(w);
  }
  uint32_t hidden = w->p->hidden;
  w->part.row += w->part.rows;
  w->part.rows = tw_strip_length(w->rows.last - w->rows.first, w->strips, w->strip++);
  w->part.unit = w->panel * TW_PANEL;
  w->part.width = hidden - w->part.unit < TW_PANEL ? hidden - w->part.unit : TW_PANEL;
  return 1;
}

// Writes a state, and y where there is one.
TW_INLINE void tw_keep(const tw_walk *w, size_t at, uint32_t n, v128_t value) {
  tw_put(w->next_h + at, value, n);
  if (w->y) tw_put(w->y + at, value, n);
}

// What rests keeps the state that it has, and y is 0.
static inline void tw_stay(const tw_walk *w, uint32_t row) {
  size_t at = (size_t)row * w->p->hidden + w->part.unit;
  tw_copy_units(w->next_h + at, w->h + at, w->part.width);
  if (w->y) tw_copy_units(w->y + at, 0, w->part.width);
}

static inline const int32_t *tw_lens(const tw_dispatch *d, uint32_t index) {
  return tw_present(d, index) ? TW_DATA(int32_t, d, index) : 0;
}

#endif
