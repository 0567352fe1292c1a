// One step of an LSTM, gates i, o, f, c (x: a gate's part of fed + h R + bias):
//   i = f(x_i + p_i c), forget = f(x_f + p_f c) or 1 - i, next c = forget c + i g(x_c),
//   next h = f(x_o + p_o next c) last(next c)
//
// fed (batch, 4 hidden), h, c, next_h, next_c, y (batch, hidden), dense, any alignment of 4 bytes
// packed  the panels of the four gates of R, 16 bytes;  bias (4 hidden), peepholes (3 hidden: i, o,
//         f), lens (batch) i32, each optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. next_h may not be h, for all
// units read all of h; next_c may be c.
// With `steps` above 1 a tile goes through all of them, and is of all units; scratch then has its
// rows' states.
#include "step.h"

typedef struct lstm {
  const step_params *p;
  const tw_walk *w;
  const float *c, *holes;
  float *next_c;
  tw_sums sums[4];
} lstm;

// `vectors` times four units of a row from `at` of the states and `unit` of the gates on; the last has
// n. The functions of all come before the last of each, which waits for them. `usual` and `vectors` are
// constants where this is inlined.
TW_INLINE void cell(const lstm *l, uint32_t row, uint32_t j, uint32_t n, int usual, int vectors) {
  const step_params *p = l->p;
  const tw_walk *w = l->w;
  size_t hidden = p->hidden;
  uint32_t unit = w->part.unit + j, line = (row - w->part.row) * TW_PANEL + j;
  size_t at = row * hidden + unit;
  const float *own = w->fed + row * 4 * hidden + unit, *holes = l->holes + unit;
  v128_t in[2], out[2], state[2];
  TW_UNROLLED for (int v = 0; v < vectors; v++, own += 4, holes += 4, line += 4) {
    v128_t x[4], old = tw_some(l->c + at + 4 * v, n);
    TW_UNROLLED for (uint32_t g = 0; g < 4; g++)
      x[g] = wasm_f32x4_add(tw_some(own + g * hidden, n), tw_load(l->sums[g] + line));
    if (l->holes) {
      x[0] = tw_madd(tw_some(holes, n), old, x[0]);
      x[2] = tw_madd(tw_some(holes + 2 * hidden, n), old, x[2]);
    }
    in[v] = tw_f(p, usual, x[0]);
    v128_t forget = p->coupled ? wasm_f32x4_sub(tw_splat(1), in[v]) : tw_f(p, usual, x[2]);
    state[v] = tw_madd(forget, old, wasm_f32x4_mul(in[v], tw_g(p, usual, x[3])));
    if (l->holes) x[1] = tw_madd(tw_some(holes + hidden, n), state[v], x[1]);
    out[v] = tw_f(p, usual, x[1]);
  }
  TW_UNROLLED for (int v = 0; v < vectors; v++) {
    tw_put(l->next_c + at + 4 * v, state[v], n);
    tw_keep(w, at + 4 * v, n, wasm_f32x4_mul(out[v], tw_last(p, usual, state[v])));
  }
}

static __attribute__((noinline)) void usual_pair(const lstm *l, uint32_t row) {
  cell(l, row, 0, 4, 1, 2);
}
static __attribute__((noinline)) void usual_one(const lstm *l, uint32_t row, uint32_t j, uint32_t n) {
  cell(l, row, j, n, 1, 1);
}
static __attribute__((noinline)) void any_one(const lstm *l, uint32_t row, uint32_t j, uint32_t n) {
  cell(l, row, j, n, 0, 1);
}

// What is done with the sums of a part.
static void finish(const lstm *l, int usual) {
  const tw_walk *w = l->w;
  for (uint32_t i = 0; i < w->part.rows; i++) {
    uint32_t row = w->part.row + i;
    if (tw_rests(w, row)) {
      size_t at = (size_t)row * l->p->hidden + w->part.unit;
      tw_stay(w, row);
      tw_copy_units(l->next_c + at, l->c + at, w->part.width);
      continue;
    }
    if (usual && w->part.width == TW_PANEL) {
      usual_pair(l, row);
      continue;
    }
    for (uint32_t j = 0; j < w->part.width; j += 4)
      (usual ? usual_one : any_one)(l, row, j, w->part.width - j);
  }
}

uint32_t f32_lstm_step(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p)) return TW_INVALID_PARAMS;
  if (!tw_step_holds(d, p, F32_LSTM_STEP_FED, F32_LSTM_STEP_PACKED, F32_LSTM_STEP_BIAS, 4) ||
      !tw_state_holds(d, p, F32_LSTM_STEP_H) || !tw_state_holds(d, p, F32_LSTM_STEP_C) ||
      !tw_state_holds(d, p, F32_LSTM_STEP_NEXT_H) || !tw_state_holds(d, p, F32_LSTM_STEP_NEXT_C) ||
      !tw_results_hold(d, p, F32_LSTM_STEP_Y) || !tw_lens_hold(d, p, F32_LSTM_STEP_LENS) ||
      (tw_present(d, F32_LSTM_STEP_PEEPHOLES) &&
       !tw_holds(d, F32_LSTM_STEP_PEEPHOLES, 3 * (uint64_t)p->hidden, 4)))
    return TW_BINDING_TOO_SHORT;
  if (!tw_scratch_fits(p, t)) return TW_SCRATCH_TOO_SMALL;
  const float *c = TW_DATA(float, d, F32_LSTM_STEP_C);
  const float *bias = tw_present(d, F32_LSTM_STEP_BIAS) ? TW_DATA(float, d, F32_LSTM_STEP_BIAS) : 0;
  lstm l = {.p = p, .next_c = TW_DATA(float, d, F32_LSTM_STEP_NEXT_C)};
  if (tw_present(d, F32_LSTM_STEP_PEEPHOLES)) l.holes = TW_DATA(float, d, F32_LSTM_STEP_PEEPHOLES);
  tw_walk w = tw_walk_of(d, t, 4, F32_LSTM_STEP_FED, F32_LSTM_STEP_H, F32_LSTM_STEP_NEXT_H,
                         F32_LSTM_STEP_Y, tw_lens(d, F32_LSTM_STEP_LENS));
  if (w.steps == 0) tw_copy_state(&w, l.next_c, c);
  l.w = &w;
  int usual = tw_usual(p);
  while (tw_next(&w)) {
    l.c = w.done == 1 ? c : l.next_c;
    tw_products(p, w.h, TW_DATA(float, d, F32_LSTM_STEP_PACKED), bias, 0, 4, &w.part, l.sums);
    finish(&l, usual);
  }
  return TW_OK;
}
