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

#define GATES 3

// Whether this part and the next are whole panels of one sequence. Six sums wait for each other, twelve
// do not: 88 to 95 GB/s of weights for 75 to 80, with 64 to 256 units (V8 14, Zen 4, 2026-11).
static inline int is_pair(const tw_walk *w) {
  return w->strips == 1 && w->part.rows == 1 && w->panel + 1 < w->panels.last &&
         w->part.unit + 2 * TW_PANEL <= w->p->hidden;
}

// As tw_row, of this panel and the next.
static void rows_of_pair(const tw_walk *w, const float *packed, const float *bias,
                         tw_sums sums[2][GATES]) {
  uint32_t k = w->p->hidden;
  const float *h = w->h + (size_t)w->part.row * k, *at[2][GATES];
  v128_t sum[2][GATES][2];
  TW_UNROLLED for (int s = 0; s < 2; s++)
    TW_UNROLLED for (int g = 0; g < GATES; g++) {
      size_t unit = w->part.unit + s * TW_PANEL;
      at[s][g] = packed + g * (size_t)w->p->packed_stride + unit * k;
      TW_UNROLLED for (int i = 0; i < 2; i++)
        sum[s][g][i] = bias ? tw_load(bias + (size_t)g * k + unit + 4 * i) : tw_splat(0);
    }
  for (; k > 0; k--, h++) {
    v128_t a = wasm_v128_load32_splat(h);
    TW_UNROLLED for (int s = 0; s < 2; s++)
      TW_UNROLLED for (int g = 0; g < GATES; g++) {
        TW_HIDE(at[s][g]);
        sum[s][g][0] = tw_madd(a, tw_load(at[s][g]), sum[s][g][0]);
        sum[s][g][1] = tw_madd(a, tw_load(at[s][g] + 4), sum[s][g][1]);
        at[s][g] += TW_PANEL;
      }
  }
  TW_UNROLLED for (int s = 0; s < 2; s++)
    TW_UNROLLED for (int g = 0; g < GATES; g++) {
      tw_store(sums[s][g], sum[s][g][0]);
      tw_store(sums[s][g] + 4, sum[s][g][1]);
    }
}

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
  tw_sums sums[2][GATES];
  tw_walk w = tw_walk_of(d, t, 3, F32_GRU_STEP_FED, F32_GRU_STEP_H, F32_GRU_STEP_NEXT_H,
                         F32_GRU_STEP_Y, tw_lens(d, F32_GRU_STEP_LENS));
  int usual = tw_usual(p), pair = 0;
  while (tw_next(&w)) {
    int second = pair;  // whose sums have come with those of the panel before it
    pair = !second && is_pair(&w);
    if (pair) rows_of_pair(&w, packed, bias, sums);
    else if (!second) tw_products(p, w.h, packed, bias, 0, GATES, &w.part, sums[0]);
    finish(&w, sums[second], usual);
  }
  return TW_OK;
}
