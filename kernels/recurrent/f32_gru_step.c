// One step of a GRU that is linear before its reset, gates z, r, n:
//   next h = (1 - z) g(fed_n + r (h Rn + bias_n)) + z h, z and r = f(fed + h R + bias)
//
// fed (batch, 3 hidden), h, next_h, y (batch, hidden), dense, any alignment of 4 bytes
// packed  the panels of the three gates of R, 16 bytes;  bias (3 hidden), lens (batch) i32, optional
// Tile: x = `tile_panels` panels of 8 units, y = `tile_rows` sequences. next_h may not be h, for all
// units read all of h.
// With `steps` above 1 a tile goes through all of them, and is of all units; scratch then has its
// rows' states.
#include "gru.h"

// `vectors` times four units of a row from unit j of the part on; the last has n. `usual` and `vectors`
// are constants where this is inlined.
TW_INLINE void cell(const tw_walk *w, const tw_sums *sums, uint32_t row, uint32_t j, uint32_t n,
                    int usual, int vectors) {
  const step_params *p = w->p;
  size_t hidden = p->hidden;
  uint32_t unit = w->part.unit + j, line = (row - w->part.row) * TW_PANEL + j;
  size_t at = row * hidden + unit;
  const float *own = w->fed + row * 3 * hidden + unit;
  v128_t z[2], r[2];
  TW_UNROLLED for (int v = 0; v < vectors; v++) {
    const float *sum = sums[0] + line + 4 * v, *fed = own + 4 * v;
    z[v] = tw_f(p, usual, wasm_f32x4_add(tw_some(fed, n), tw_load(sum)));
    sum += TW_ROWS * TW_PANEL;
    r[v] = tw_f(p, usual, wasm_f32x4_add(tw_some(fed + hidden, n), tw_load(sum)));
  }
  TW_UNROLLED for (int v = 0; v < vectors; v++) {
    v128_t fed = tw_some(own + 2 * hidden + 4 * v, n);
    v128_t fresh = tw_g(p, usual, tw_madd(r[v], tw_load(sums[2] + line + 4 * v), fed));
    tw_keep(w, at + 4 * v, n, tw_mix(z[v], fresh, tw_some(w->h + at + 4 * v, n)));
  }
}

static __attribute__((noinline)) void usual_pair(const tw_walk *w, const tw_sums *sums,
                                                 uint32_t row) {
  cell(w, sums, row, 0, 4, 1, 2);
}
static __attribute__((noinline)) void usual_one(const tw_walk *w, const tw_sums *sums,
                                                uint32_t row, uint32_t j, uint32_t n) {
  cell(w, sums, row, j, n, 1, 1);
}
static __attribute__((noinline)) void any_one(const tw_walk *w, const tw_sums *sums, uint32_t row,
                                              uint32_t j, uint32_t n) {
  cell(w, sums, row, j, n, 0, 1);
}

// What is done with the sums of a part.
static void finish(const tw_walk *w, const tw_sums *sums, int usual) {
  for (uint32_t i = 0; i < w->part.rows; i++) {
    uint32_t row = w->part.row + i;
    if (tw_rests(w, row)) {
      tw_stay(w, row);
    } else if (usual && w->part.width == TW_PANEL) {
      usual_pair(w, sums, row);
    } else {
      for (uint32_t j = 0; j < w->part.width; j += 4)
        (usual ? usual_one : any_one)(w, sums, row, j, w->part.width - j);
    }
  }
}

uint32_t f32_gru_step(const tw_dispatch *d, const tw_tile *t) {
  const step_params *p = d->params;
  if (!tw_step_valid(p)) return TW_INVALID_PARAMS;
  if (!tw_step_holds(d, p, F32_GRU_STEP_FED, F32_GRU_STEP_PACKED, F32_GRU_STEP_BIAS, 3) ||
      !tw_state_holds(d, p, F32_GRU_STEP_H) || !tw_state_holds(d, p, F32_GRU_STEP_NEXT_H) ||
      !tw_results_hold(d, p, F32_GRU_STEP_Y) || !tw_lens_hold(d, p, F32_GRU_STEP_LENS))
    return TW_BINDING_TOO_SHORT;
  if (!tw_scratch_fits(p, t)) return TW_SCRATCH_TOO_SMALL;
  const float *bias = tw_present(d, F32_GRU_STEP_BIAS) ? TW_DATA(float, d, F32_GRU_STEP_BIAS) : 0;
  const float *packed = TW_DATA(float, d, F32_GRU_STEP_PACKED);
  tw_sums sums[2][3];
  tw_walk w = tw_walk_of(d, t, 3, F32_GRU_STEP_FED, F32_GRU_STEP_H, F32_GRU_STEP_NEXT_H,
                         F32_GRU_STEP_Y, tw_lens(d, F32_GRU_STEP_LENS));
  int usual = tw_usual(p), pair = 0;
  while (tw_next(&w)) {
    int second = pair;  // whose sums have come with those of the panel before it
    pair = !second && tw_is_pair(&w);
    if (pair) tw_row_pair(&w, packed, bias, 3, sums[0]);
    else if (!second) tw_products(p, w.h, packed, bias, 0, 3, &w.part, sums[0]);
    finish(&w, sums[second], usual);
  }
  return TW_OK;
}
