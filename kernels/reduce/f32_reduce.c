// f32_reduce: y[o, i] = op over k of x[o, k, i]; what each op gives for an axis of 0 is in
// reduce.wit.
//
// Bindings: x (outer, axis, inner), y (outer, inner), dense, 4-byte aligned, no overlap.
// Tile: x = tile_outputs consecutive elements of y.
//
// inner 1: the axis is contiguous, sixteen lanes along it; otherwise sixteen columns side by side.
// Every op is a fold of terms: sums and products in pieces of PIECE terms a lane; the results of
// the pieces are folded in double precision (inner 1) or apart from the piece (inner > 1), which
// keeps the error of a long sum near that of a pairwise one. NaN in is NaN out.
#include "bindings.h"
#include "math.h"
#include "reduce.h"

#define PIECE 128

typedef v128_t (*fold)(v128_t accumulator, v128_t x, v128_t shift);

TW_INLINE v128_t add(v128_t a, v128_t x, v128_t shift) { return (void)shift, wasm_f32x4_add(a, x); }
TW_INLINE v128_t mul(v128_t a, v128_t x, v128_t shift) { return (void)shift, wasm_f32x4_mul(a, x); }
// The fast maximum keeps a NaN in a; one in x is put there by its bits, which are then all ones. A
// third of the time of wasm_f32x4_max, which is seven instructions on x86.
TW_INLINE v128_t max(v128_t a, v128_t x, v128_t shift) {
  return (void)shift, wasm_v128_or(tw_fast_max(a, x), wasm_f32x4_ne(x, x));
}
TW_INLINE v128_t min(v128_t a, v128_t x, v128_t shift) {
  return (void)shift, wasm_v128_or(tw_fast_min(a, x), wasm_f32x4_ne(x, x));
}
TW_INLINE v128_t add_square(v128_t a, v128_t x, v128_t shift) {
  return (void)shift, tw_madd(x, x, a);
}
TW_INLINE v128_t add_size(v128_t a, v128_t x, v128_t shift) {
  return (void)shift, wasm_f32x4_add(a, wasm_f32x4_abs(x));
}
TW_INLINE v128_t add_exp(v128_t a, v128_t x, v128_t shift) {
  return wasm_f32x4_add(a, tw_exp(wasm_f32x4_sub(x, shift)));
}

// The fold of results of folds: + for every kind of sum.
enum { ADD, MUL, MAX, MIN };

TW_INLINE v128_t merge(int kind, v128_t a, v128_t b) {
  return kind == ADD   ? wasm_f32x4_add(a, b)
         : kind == MUL ? wasm_f32x4_mul(a, b)
         : kind == MAX ? wasm_f32x4_max(a, b)
                       : wasm_f32x4_min(a, b);
}

TW_INLINE float merge_lanes(int kind, v128_t v) {
  v = kind == ADD   ? tw_sum(v)
      : kind == MUL ? tw_product(v)
      : kind == MAX ? tw_highest(v)
                    : tw_lowest(v);
  return wasm_f32x4_extract_lane(v, 0);
}

// One contiguous line. `f` and `kind` are constants at each call. `start` is the fold of nothing,
// `absent` an element that adds nothing to a fold.
TW_INLINE double line(fold f, int kind, float start, float absent, const float *x, uint32_t n,
                      float shift) {
  const v128_t s = tw_splat(start), by = tw_splat(shift);
  const int whole = kind == MAX || kind == MIN;  // exact, needs no pieces
  double total = start;
  uint32_t i = 0;
  while (i < n) {
    uint32_t end = !whole && n - i > 16 * PIECE ? i + 16 * PIECE : n;
    v128_t a0 = s, a1 = s, a2 = s, a3 = s;
    for (; i + 16 <= end; i += 16) {
      a0 = f(a0, tw_load(x + i), by), a1 = f(a1, tw_load(x + i + 4), by);
      a2 = f(a2, tw_load(x + i + 8), by), a3 = f(a3, tw_load(x + i + 12), by);
    }
    if (end == n) {
      for (; i < n; i += 4) {
        v128_t v = n - i >= 4 ? tw_load(x + i) : tw_load_tail_or(x + i, n - i, tw_splat(absent));
        a0 = f(a0, v, by);
      }
    }
    v128_t all = merge(kind, merge(kind, a0, a1), merge(kind, a2, a3));
    double piece = merge_lanes(kind, all);
    total = kind == ADD ? total + piece : kind == MUL ? total * piece : piece;
  }
  return total;
}

// `width` vectors of columns, the last `k` columns wide, over the axis; results in v.
TW_INLINE void columns(fold f, int kind, float start, const float *x, uint32_t axis, uint32_t inner,
                       int width, uint32_t k, const v128_t *shift, v128_t *v) {
  for (int j = 0; j < width; j++) v[j] = tw_splat(start);
  for (uint32_t first = 0; first < axis; first += PIECE) {
    uint32_t last = axis - first > PIECE ? first + PIECE : axis;
    v128_t a[4] = {tw_splat(start), tw_splat(start), tw_splat(start), tw_splat(start)};
    for (uint32_t i = first; i < last; i++)
      for (int j = 0; j < width; j++) {
        const float *p = x + (size_t)i * inner + 4 * j;
        a[j] = f(a[j], k == 4 ? tw_load(p) : tw_load_tail(p, k), shift[j]);
      }
    for (int j = 0; j < width; j++) v[j] = merge(kind, v[j], a[j]);
  }
}

#define INFINITY_ __builtin_inff()

// What a shift must be so that infinite maxima give exp(x - shift) = 0 or inf and not NaN.
TW_INLINE v128_t finite_or_zero(v128_t m) {
  v128_t infinite = wasm_f32x4_eq(wasm_f32x4_abs(m), tw_splat(INFINITY_));
  return wasm_v128_andnot(m, infinite);
}

static float reduce_line(reduce_op op, const float *x, uint32_t n) {
  double r;
  float shift;
  switch (op) {
    case REDUCE_OP_SUM: return (float)line(add, ADD, 0, 0, x, n, 0);
    case REDUCE_OP_MEAN: return (float)(line(add, ADD, 0, 0, x, n, 0) / n);
    case REDUCE_OP_MAX: return (float)line(max, MAX, -INFINITY_, -INFINITY_, x, n, 0);
    case REDUCE_OP_MIN: return (float)line(min, MIN, INFINITY_, INFINITY_, x, n, 0);
    case REDUCE_OP_PROD: return (float)line(mul, MUL, 1, 1, x, n, 0);
    case REDUCE_OP_SUM_SQUARE: return (float)line(add_square, ADD, 0, 0, x, n, 0);
    case REDUCE_OP_L1: return (float)line(add_size, ADD, 0, 0, x, n, 0);
    case REDUCE_OP_L2: return (float)__builtin_sqrt(line(add_square, ADD, 0, 0, x, n, 0));
    case REDUCE_OP_LOG_SUM: r = line(add, ADD, 0, 0, x, n, 0), shift = 0; break;
    default:
      shift = (float)line(max, MAX, -INFINITY_, -INFINITY_, x, n, 0);
      shift = wasm_f32x4_extract_lane(finite_or_zero(tw_splat(shift)), 0);
      r = line(add_exp, ADD, 0, -INFINITY_, x, n, shift);
  }
  return wasm_f32x4_extract_lane(tw_log(tw_splat((float)r)), 0) + shift;
}

// `width` vectors of results; `k` as in columns.
TW_INLINE void reduce_columns(reduce_op op, const float *x, float *y, uint32_t axis, uint32_t inner,
                              int width, uint32_t k) {
  v128_t v[4], shift[4] = {tw_splat(0), tw_splat(0), tw_splat(0), tw_splat(0)};
#define COLUMNS(F, KIND, START) columns(F, KIND, START, x, axis, inner, width, k, shift, v)
  switch (op) {
    case REDUCE_OP_SUM:
    case REDUCE_OP_MEAN:
    case REDUCE_OP_LOG_SUM: COLUMNS(add, ADD, 0); break;
    case REDUCE_OP_MAX: COLUMNS(max, MAX, -INFINITY_); break;
    case REDUCE_OP_MIN: COLUMNS(min, MIN, INFINITY_); break;
    case REDUCE_OP_PROD: COLUMNS(mul, MUL, 1); break;
    case REDUCE_OP_SUM_SQUARE:
    case REDUCE_OP_L2: COLUMNS(add_square, ADD, 0); break;
    case REDUCE_OP_L1: COLUMNS(add_size, ADD, 0); break;
    default:
      COLUMNS(max, MAX, -INFINITY_);
      for (int j = 0; j < width; j++) shift[j] = finite_or_zero(v[j]);
      COLUMNS(add_exp, ADD, 0);
  }
#undef COLUMNS
  for (int j = 0; j < width; j++) {
    if (op == REDUCE_OP_MEAN) v[j] = wasm_f32x4_div(v[j], tw_splat((float)axis));
    if (op == REDUCE_OP_L2) v[j] = wasm_f32x4_sqrt(v[j]);
    if (op == REDUCE_OP_LOG_SUM || op == REDUCE_OP_LOG_SUM_EXP)
      v[j] = wasm_f32x4_add(tw_log(v[j]), shift[j]);
    if (k == 4) tw_store(y + 4 * j, v[j]);
    else tw_store_tail(y + 4 * j, v[j], k);
  }
}

static void side_by_side(reduce_op op, const float *x, float *y, uint32_t axis, uint32_t inner,
                         uint32_t count) {
  uint32_t c = 0;
  for (; c + 16 <= count; c += 16) reduce_columns(op, x + c, y + c, axis, inner, 4, 4);
  for (; c < count; c += 4) {
    uint32_t k = count - c < 4 ? count - c : 4;
    reduce_columns(op, x + c, y + c, axis, inner, 1, k);
  }
}

uint32_t f32_reduce(const tw_dispatch *d, const tw_tile *t) {
  const reduce_params *p = d->params;
  if (p->tile_outputs == 0 || p->op > REDUCE_OP_LOG_SUM_EXP) return TW_INVALID_PARAMS;
  const uint64_t outputs = (uint64_t)p->outer * p->inner;
  if (outputs == 0) return TW_OK;
  if (outputs > UINT32_MAX) return TW_INVALID_PARAMS;
  if (!tw_holds(d, F32_REDUCE_X, outputs * p->axis, 4) || !tw_holds(d, F32_REDUCE_Y, outputs, 4))
    return TW_BINDING_TOO_SHORT;
  const float *x = TW_DATA(float, d, F32_REDUCE_X);
  float *y = TW_DATA(float, d, F32_REDUCE_Y);
  tw_span s = tw_piece(t->x, p->tile_outputs, outputs);
  if (p->inner == 1) {
    for (uint32_t i = s.first; i < s.last; i++) y[i] = reduce_line(p->op, x + i * p->axis, p->axis);
    return TW_OK;
  }
  for (uint32_t i = s.first; i < s.last;) {
    uint32_t o = i / p->inner, column = i % p->inner;
    uint32_t many = p->inner - column < s.last - i ? p->inner - column : s.last - i;
    side_by_side(p->op, x + o * p->axis * p->inner + column, y + i, p->axis, p->inner, many);
    i += many;
  }
  return TW_OK;
}
