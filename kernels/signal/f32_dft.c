// y[k] = sum over n of x[n] window[n] exp(-2 pi i k n / length), line by line; the inverse with the
// other sign, divided by length.
//
// x, y: lines of samples at any strides; window (length); turns (points, 2); chirp
// (length + points, 2). Nothing may alias; lines of x may overlap.
// Tile: x = `tile_groups` groups of 4 lines, or of 8 real ones. Scratch: 64 bytes a point.
//
// Four lines are transformed at once, one in each lane. Two real lines make one complex one, whose
// parts come apart afterwards: A[k] = (Z[k] + conj Z[-k]) / 2, B[k] = (Z[k] - conj Z[-k]) / 2i,
// unless an infinity or NaN would get from one into the other. The inverse is the transform of swapped parts, swapped. A length with a large prime factor becomes a
// circular convolution with a chirp (Bluestein 1970).
#include "bindings.h"
#include "signal.h"
#include "transform.h"

typedef struct lines {  // the first elements of four lines
  const float *at[4];
} lines;

TW_INLINE v128_t gathered(const lines *l, size_t at) {
  return wasm_f32x4_make(l->at[0][at], l->at[1][at], l->at[2][at], l->at[3][at]);
}

static lines lines_of(const dft_params *p, const float *x, uint64_t first, uint64_t total) {
  lines l;
  for (int i = 0; i < 4; i++) {
    uint64_t line = first + i < total ? first + i : total - 1;
    l.at[i] = x + line / p->inner * p->x_outer + line % p->inner * p->x_inner;
  }
  return l;
}

TW_INLINE point conjugate(point a) { return (point){a.re, wasm_f32x4_neg(a.im)}; }
TW_INLINE point swapped(point a) { return (point){a.im, a.re}; }

// Sample n of four lines, or of twice four real ones.
TW_INLINE point sample(const dft_params *p, const lines *l, const lines *second, uint32_t n) {
  point nothing = {tw_splat(0), tw_splat(0)};
  uint32_t from = p->mirrored && n > p->length / 2 ? p->length - n : n;
  if (from >= p->given) return nothing;
  size_t at = (size_t)from * p->x_step;
  point a = {gathered(l, at), nothing.im};
  if (second)
    a.im = gathered(second, at);
  else if (p->parts == 2)
    a.im = gathered(l, at + 1);
  if (p->mirrored) {
    if (from == 0 || 2 * from == p->length) a.im = nothing.im;  // which real numbers have not
    if (from != n) a = conjugate(a);
  }
  return a;
}

static void stored(const dft_params *p, float *y, uint64_t first, uint64_t total, uint32_t k,
                   point a) {
  float re[4], im[4];
  tw_store(re, a.re);
  tw_store(im, a.im);
  for (uint32_t i = 0; i < 4 && first + i < total; i++) {
    uint64_t line = first + i;
    float *to = y + line / p->inner * p->y_outer + line % p->inner * p->y_inner +
                (size_t)k * p->y_step;
    to[0] = re[i];
    if (!p->mirrored) to[1] = im[i];
  }
}

// Floats from the first to the last that lines at these strides reach; UINT64_MAX where that is
// more than any binding has.
static uint64_t reach(const dft_params *p, uint32_t outer, uint32_t inner, uint32_t step,
                      uint32_t count, uint32_t each) {
  uint64_t far = (uint64_t)(p->outer - 1) * outer, near = (uint64_t)(p->inner - 1) * inner;
  uint64_t along = (uint64_t)(count - 1) * step;
  if (far > UINT32_MAX || near > UINT32_MAX || along > UINT32_MAX) return UINT64_MAX;
  return far + near + along + each;
}

typedef struct work {
  const dft_params *p;
  const float *x, *window, *turns, *chirp;  // window may be 0
  float *y;
  point *a, *b;  // of p->points each
  uint64_t total;
} work;

// Four lines from `first` on, or eight real ones; false where those are no numbers, all of them, so
// that they must not be mixed.
static int transform(const work *o, uint64_t first, int paired) {
  const dft_params *p = o->p;
  uint32_t n = p->length, m = p->points;
  int round = m != n;  // by way of a circular convolution
  const float *chirp = o->chirp;
  point *a = o->a, *b = o->b;
  lines one = lines_of(p, o->x, first, o->total), two = lines_of(p, o->x, first + 4, o->total);
  v128_t finite = wasm_i32x4_splat(-1), zero = tw_splat(0);
  for (uint32_t i = 0; i < n; i++) {
    point s = sample(p, &one, paired ? &two : 0, i);
    if (o->window) s = scaled(s, o->window[i]);
    if (p->inverse) s = swapped(s);
    if (paired)
      finite = wasm_v128_and(
          finite, wasm_f32x4_eq(wasm_f32x4_mul(wasm_f32x4_sub(s.re, s.im), zero), zero));
    a[i] = round ? times(s, chirp + 2 * (size_t)i) : s;
  }
  if (!wasm_i32x4_all_true(finite)) return 0;
  for (uint32_t i = n; i < m; i++) a[i] = (point){zero, zero};
  point *z = transformed(a, b, o->turns, m);
  if (round) {
    for (uint32_t i = 0; i < m; i++) z[i] = swapped(times(z[i], chirp + 2 * ((size_t)n + i)));
    z = transformed(z, z == a ? b : a, o->turns, m);
    for (uint32_t i = 0; i < n; i++) z[i] = times(swapped(z[i]), chirp + 2 * (size_t)i);
  }
  float share = p->inverse ? 1 / (float)n : 1;
  for (uint32_t k = 0; k < p->bins; k++) {
    point here = p->inverse ? scaled(swapped(z[k]), share) : z[k];
    if (!paired) {
      stored(p, o->y, first, o->total, k, here);
      continue;
    }
    point there = conjugate(z[k ? n - k : 0]);
    point sum = scaled(plus(here, there), 0.5f), apart = scaled(minus(here, there), 0.5f);
    stored(p, o->y, first, o->total, k, sum);
    stored(p, o->y, first + 4, o->total, k, (point){apart.im, wasm_f32x4_neg(apart.re)});
  }
  return 1;
}

uint32_t f32_dft(const tw_dispatch *d, const tw_tile *t) {
  const dft_params *p = d->params;
  uint32_t n = p->length, m = p->points, parts = p->mirrored ? 1 : 2;
  if (n == 0 || p->tile_groups == 0 || p->parts < 1 || p->parts > 2 || p->given > n ||
      p->bins > n || (p->mirrored && !p->inverse) || !transformable(m) ||
      (m != n && m < 2 * (uint64_t)n - 1))
    return TW_INVALID_PARAMS;
  uint64_t total = (uint64_t)p->outer * p->inner;
  if (total == 0 || p->bins == 0) return TW_OK;
  if (total > UINT32_MAX ||
      (p->given && !tw_holds(d, F32_DFT_X, reach(p, p->x_outer, p->x_inner, p->x_step, p->given,
                                                 p->parts), 4)) ||
      !tw_holds(d, F32_DFT_Y, reach(p, p->y_outer, p->y_inner, p->y_step, p->bins, parts), 4) ||
      (tw_present(d, F32_DFT_WINDOW) && !tw_holds(d, F32_DFT_WINDOW, n, 4)) ||
      !tw_holds(d, F32_DFT_TURNS, 2 * (uint64_t)m, 4) ||
      (m != n && !tw_holds(d, F32_DFT_CHIRP, 2 * ((uint64_t)n + m), 4)))
    return TW_BINDING_TOO_SHORT;
  if (t->scratch_length < 64 * (uint64_t)m) return TW_SCRATCH_TOO_SMALL;
  int paired = p->parts == 1 && !p->inverse;
  uint32_t lanes = paired ? 8 : 4;
  work o = {
      p, TW_DATA(float, d, F32_DFT_X),
      tw_present(d, F32_DFT_WINDOW) ? TW_DATA(float, d, F32_DFT_WINDOW) : 0,
      TW_DATA(float, d, F32_DFT_TURNS), TW_DATA(float, d, F32_DFT_CHIRP),
      TW_DATA(float, d, F32_DFT_Y), t->scratch, (point *)t->scratch + m, total,
  };
  tw_span groups = tw_piece(t->x, p->tile_groups, (total + lanes - 1) / lanes);
  for (uint32_t group = groups.first; group < groups.last; group++) {
    uint64_t first = (uint64_t)group * lanes;
    if (transform(&o, first, paired)) continue;
    transform(&o, first, 0);
    transform(&o, first + 4, 0);
  }
  return TW_OK;
}
