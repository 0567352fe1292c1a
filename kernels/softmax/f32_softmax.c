// f32_softmax: y = exp(x - m) / sum(exp(x - m)) along the axis, m the line's largest element; or
// its logarithm (x - m) - log(sum).
//
// Bindings: x, y (outer, axis, inner), dense, 4-byte aligned; y may be x.
// Tile: x = tile_lines of the outer * inner lines. A line with a NaN, with +inf or of nothing but
// -inf is NaN throughout. Exponentials below e^-87 count as 0.
//
// inner 1: a line is contiguous, four lanes along it. Otherwise four (sixteen) lines side by side.
// Sums are taken in pieces of SUM_PIECE elements a lane, and these are summed in double precision
// (inner 1) or apart (inner > 1), so that long lines lose no accuracy.
#include "bindings.h"
#include "math.h"
#include "softmax.h"

#define SUM_PIECE 256

static v128_t line_max(const float *x, uint32_t n) {
  const v128_t lowest = tw_splat(-__builtin_inff());
  v128_t m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
  uint32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    m0 = tw_fast_max(m0, tw_load(x + i)), m1 = tw_fast_max(m1, tw_load(x + i + 4));
    m2 = tw_fast_max(m2, tw_load(x + i + 8)), m3 = tw_fast_max(m3, tw_load(x + i + 12));
  }
  for (; i + 4 <= n; i += 4) m0 = tw_fast_max(m0, tw_load(x + i));
  if (i < n) m1 = tw_fast_max(m1, tw_load_tail_or(x + i, n - i, lowest));
  return tw_highest(tw_fast_max(tw_fast_max(m0, m1), tw_fast_max(m2, m3)));
}

// Sum of exp(x - m), which also goes to y where `keep`, a constant at each call.
TW_INLINE double line_sum(const float *x, float *y, uint32_t n, v128_t m, int keep) {
  double total = 0;
  uint32_t i = 0;
  while (i + 8 <= n) {
    uint32_t end = n - i > 8 * SUM_PIECE ? i + 8 * SUM_PIECE : n;
    v128_t s0 = tw_splat(0), s1 = tw_splat(0);
    for (; i + 8 <= end; i += 8) {
      v128_t e0 = tw_exp_nonpositive(wasm_f32x4_sub(tw_load(x + i), m));
      v128_t e1 = tw_exp_nonpositive(wasm_f32x4_sub(tw_load(x + i + 4), m));
      if (keep) tw_store(y + i, e0), tw_store(y + i + 4, e1);
      s0 = wasm_f32x4_add(s0, e0), s1 = wasm_f32x4_add(s1, e1);
    }
    total += wasm_f32x4_extract_lane(tw_sum(wasm_f32x4_add(s0, s1)), 0);
  }
  const v128_t nothing = tw_splat(-__builtin_inff());
  while (i < n) {
    uint32_t k = n - i < 4 ? n - i : 4;
    v128_t v = k == 4 ? tw_load(x + i) : tw_load_tail_or(x + i, k, nothing);
    v128_t e = tw_exp_nonpositive(wasm_f32x4_sub(v, m));
    if (keep && k == 4) tw_store(y + i, e);
    else if (keep) tw_store_tail(y + i, e, k);
    total += wasm_f32x4_extract_lane(tw_sum(e), 0);
    i += k;
  }
  return total;
}

// y = x factor - shift
static void line_affine(const float *x, float *y, uint32_t n, v128_t factor, v128_t shift) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    v128_t a = wasm_f32x4_sub(wasm_f32x4_mul(tw_load(x + i), factor), shift);
    v128_t b = wasm_f32x4_sub(wasm_f32x4_mul(tw_load(x + i + 4), factor), shift);
    tw_store(y + i, a), tw_store(y + i + 4, b);
  }
  for (; i < n; i += 4) {
    uint32_t k = n - i < 4 ? n - i : 4;
    v128_t v = k == 4 ? tw_load(x + i) : tw_load_tail(x + i, k);
    v = wasm_f32x4_sub(wasm_f32x4_mul(v, factor), shift);
    if (k == 4) tw_store(y + i, v);
    else tw_store_tail(y + i, v, k);
  }
}

static void softmax_line(const float *x, float *y, uint32_t n) {
  double sum = line_sum(x, y, n, line_max(x, n), 1);
  line_affine(y, y, n, tw_splat((float)(1 / sum)), tw_splat(0));
}

static void log_softmax_line(const float *x, float *y, uint32_t n) {
  v128_t m = line_max(x, n);
  v128_t log = tw_log(tw_splat((float)line_sum(x, y, n, m, 0)));
  for (uint32_t i = 0; i < n; i += 4) {
    uint32_t k = n - i < 4 ? n - i : 4;
    v128_t v = k == 4 ? tw_load(x + i) : tw_load_tail(x + i, k);
    v = wasm_f32x4_sub(wasm_f32x4_sub(v, m), log);
    if (k == 4) tw_store(y + i, v);
    else tw_store_tail(y + i, v, k);
  }
}

TW_INLINE v128_t load(const float *p, uint32_t k) {
  return k == 4 ? tw_load(p) : tw_load_tail(p, k);
}

TW_INLINE void store(float *p, v128_t v, uint32_t k) {
  if (k == 4) tw_store(p, v);
  else tw_store_tail(p, v, k);
}

// `width` vectors of lines side by side, the last one `k` lines wide; constants where it counts.
TW_INLINE void columns(const float *x, float *y, uint32_t axis, uint32_t inner, int width,
                       uint32_t k, softmax_op op) {
  v128_t m[4], sum[4], piece[4];
  for (int j = 0; j < width; j++) m[j] = tw_splat(-__builtin_inff()), sum[j] = tw_splat(0);
  for (uint32_t i = 0; i < axis; i++)
    for (int j = 0; j < width; j++)
      m[j] = tw_fast_max(m[j], load(x + (size_t)i * inner + 4 * j, k));
  for (uint32_t first = 0; first < axis; first += SUM_PIECE) {
    uint32_t last = axis - first > SUM_PIECE ? first + SUM_PIECE : axis;
    for (int j = 0; j < width; j++) piece[j] = tw_splat(0);
    for (uint32_t i = first; i < last; i++)
      for (int j = 0; j < width; j++) {
        size_t at = (size_t)i * inner + 4 * j;
        v128_t e = tw_exp_nonpositive(wasm_f32x4_sub(load(x + at, k), m[j]));
        if (op == SOFTMAX_OP_SOFTMAX) store(y + at, e, k);
        piece[j] = wasm_f32x4_add(piece[j], e);
      }
    for (int j = 0; j < width; j++) sum[j] = wasm_f32x4_add(sum[j], piece[j]);
  }
  for (int j = 0; j < width; j++)
    sum[j] = op == SOFTMAX_OP_SOFTMAX ? wasm_f32x4_div(tw_splat(1.0f), sum[j]) : tw_log(sum[j]);
  for (uint32_t i = 0; i < axis; i++)
    for (int j = 0; j < width; j++) {
      size_t at = (size_t)i * inner + 4 * j;
      v128_t v;
      if (op == SOFTMAX_OP_SOFTMAX) v = wasm_f32x4_mul(load(y + at, k), sum[j]);
      else v = wasm_f32x4_sub(wasm_f32x4_sub(load(x + at, k), m[j]), sum[j]);
      store(y + at, v, k);
    }
}

static void side_by_side(const float *x, float *y, uint32_t axis, uint32_t inner, uint32_t count,
                         softmax_op op) {
  uint32_t c = 0;
  for (; c + 16 <= count; c += 16) columns(x + c, y + c, axis, inner, 4, 4, op);
  for (; c + 4 <= count; c += 4) columns(x + c, y + c, axis, inner, 1, 4, op);
  if (c < count) columns(x + c, y + c, axis, inner, 1, count - c, op);
}

uint32_t f32_softmax(const tw_dispatch *d, const tw_tile *t) {
  const softmax_params *p = d->params;
  if (p->tile_lines == 0 || p->op > SOFTMAX_OP_LOG_SOFTMAX) return TW_INVALID_PARAMS;
  const uint64_t lines = (uint64_t)p->outer * p->inner;
  if (lines == 0 || p->axis == 0) return TW_OK;
  if (lines > UINT32_MAX) return TW_INVALID_PARAMS;
  const uint64_t count = lines * p->axis;
  if (!tw_holds(d, F32_SOFTMAX_X, count, 4) || !tw_holds(d, F32_SOFTMAX_Y, count, 4))
    return TW_BINDING_TOO_SHORT;
  const float *x = TW_DATA(float, d, F32_SOFTMAX_X);
  float *y = TW_DATA(float, d, F32_SOFTMAX_Y);
  tw_span s = tw_piece(t->x, p->tile_lines, lines);
  if (p->inner == 1) {
    for (uint32_t line = s.first; line < s.last; line++) {
      uint32_t at = line * p->axis;
      if (p->op == SOFTMAX_OP_SOFTMAX) softmax_line(x + at, y + at, p->axis);
      else log_softmax_line(x + at, y + at, p->axis);
    }
    return TW_OK;
  }
  for (uint32_t line = s.first; line < s.last;) {
    uint32_t o = line / p->inner, column = line % p->inner;
    uint32_t many = p->inner - column < s.last - line ? p->inner - column : s.last - line;
    uint32_t at = o * p->axis * p->inner + column;
    if (p->op == SOFTMAX_OP_SOFTMAX)
      side_by_side(x + at, y + at, p->axis, p->inner, many, SOFTMAX_OP_SOFTMAX);
    else
      side_by_side(x + at, y + at, p->axis, p->inner, many, SOFTMAX_OP_LOG_SOFTMAX);
    line += many;
  }
  return TW_OK;
}
