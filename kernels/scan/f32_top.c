// f32_top: the k largest or smallest elements along an axis, in order, and where they were.
//
// Bindings: x (outer, axis, inner), values (outer, k, inner), indices of i64, of the same shape;
// dense, aligned to their elements.
// Tile: x = tile_lines of the outer * inner lines. Scratch: k numbers of 64 bits.
//
// An element and its place are one number: the upper half orders elements (larger is more extreme),
// the lower one is the place's complement, so that of equals the first is larger. A heap keeps the
// k largest numbers, its root is the least of them; most elements only meet the root. Taking the
// root away k times gives the order.
#include "lines.h"

// Floats in the order of unsigned numbers: -0 as 0, NaN above infinity.
static inline uint32_t order(float x, int smallest) {
  x += 0.0f;
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  bits = bits >> 31 ? ~bits : bits | 0x80000000;
  if (x != x) bits = 0xffffffff;
  return smallest ? ~bits : bits;
}

// Puts `v` at the root of a heap of n numbers whose root may go.
static void sift(uint64_t *heap, uint32_t n, uint64_t v) {
  uint32_t at = 0;
  for (;;) {
    uint32_t child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= v) break;
    heap[at] = heap[child], at = child;
  }
  heap[at] = v;
}

static void lift(uint64_t *heap, uint32_t at, uint64_t v) {
  while (at > 0 && heap[(at - 1) / 2] > v) heap[at] = heap[(at - 1) / 2], at = (at - 1) / 2;
  heap[at] = v;
}

uint32_t f32_top(const tw_dispatch *d, const tw_tile *t) {
  const top_params *p = d->params;
  uint32_t status, k = p->k, inner = p->inner;
  if (p->op > SCAN_EXTREME_SMALLEST || k > p->axis) return TW_INVALID_PARAMS;
  tw_span s = tw_lines(d, t, p->outer, p->axis, inner, p->tile_lines, 4, k, 4, &status);
  if (status || k == 0) return status;
  if (!tw_holds(d, F32_TOP_INDICES, (uint64_t)p->outer * inner * k, 8)) return TW_BINDING_TOO_SHORT;
  if (t->scratch_length / 8 < k) return TW_SCRATCH_TOO_SMALL;
  uint64_t *heap = t->scratch;
  for (uint32_t l = s.first; l < s.last; l++) {
    const float *x = TW_DATA(float, d, F32_TOP_X) + tw_line(l, inner, p->axis);
    float *values = TW_DATA(float, d, F32_TOP_VALUES) + tw_line(l, inner, k);
    int64_t *indices = TW_DATA(int64_t, d, F32_TOP_INDICES) + tw_line(l, inner, k);
    for (uint32_t i = 0; i < p->axis; i++) {
      uint64_t v = (uint64_t)order(x[(size_t)i * inner], p->op == SCAN_EXTREME_SMALLEST) << 32;
      v |= ~i;
      if (i < k) lift(heap, i, v);
      else if (v > heap[0]) sift(heap, k, v);
    }
    for (uint32_t n = k; n > 0; n--) {
      uint32_t index = ~(uint32_t)heap[0];
      values[(size_t)(n - 1) * inner] = x[(size_t)index * inner];
      indices[(size_t)(n - 1) * inner] = index;
      sift(heap, n - 1, heap[n - 1]);
    }
  }
  return TW_OK;
}
