// chosen = the best boxes of each class that do not overlap each other too much.
//
// boxes (batch, n, 4), scores (batch, classes, n), iou (1), least (1), chosen (batch, classes, kept)
// i32, dense. Nothing may alias.
// Tile: x = `tile_classes` of batch * classes. Scratch: 8 bytes a box, 20 bytes (kept + 4).
//
// A heap gives the boxes in order, so that no more are sorted than are looked at. Each is compared
// with those chosen before it, four at a time; what it is compared by is computed as NumPy does,
// operation by operation, so that the same boxes are at the border.
#include "bindings.h"
#include "boxes.h"
#include "simd.h"

// Larger where the score is, or where the number is smaller; NaN is the smallest.
static inline uint64_t key_of(float score, uint32_t number) {
  uint32_t bits = 0;
  if (score == score) {
    score += 0.0f;  // -0 is 0
    __builtin_memcpy(&bits, &score, 4);
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
  }
  return (uint64_t)bits << 32 | ~number;
}

static void sink(uint64_t *heap, uint32_t count, uint32_t at) {
  uint64_t key = heap[at];
  for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && heap[child + 1] > heap[child]) child++;
    if (heap[child] <= key) break;
    heap[at] = heap[child];
  }
  heap[at] = key;
}

typedef struct corners {  // of boxes, one array a number
  float *top, *left, *bottom, *right, *area;
} corners;

typedef struct box {
  float top, left, bottom, right, area;
} box;

// NaN stays.
static inline float least_of(float a, float b) { return a < b || a != a ? a : b; }
static inline float largest_of(float a, float b) { return a > b || a != a ? a : b; }

static box box_of(const float *from, int center) {
  box b;
  if (center) {
    float half = from[2] / 2, other = from[3] / 2;
    b = (box){from[0] - half, from[1] - other, from[0] + half, from[1] + other, 0};
  } else {
    b = (box){least_of(from[0], from[2]), least_of(from[1], from[3]),
              largest_of(from[0], from[2]), largest_of(from[1], from[3]), 0};
  }
  b.area = (b.bottom - b.top) * (b.right - b.left);
  return b;
}

// Whether one of the first `count` chosen boxes, in groups of four, overlaps b too much.
static int overlapped(const corners *o, uint32_t count, box b, float most) {
  v128_t zero = tw_splat(0), limit = tw_splat(most), area = tw_splat(b.area);
  v128_t top = tw_splat(b.top), left = tw_splat(b.left);
  v128_t bottom = tw_splat(b.bottom), right = tw_splat(b.right);
  for (uint32_t i = 0; i < count; i += 4) {
    v128_t own = tw_load(o->area + i);
    v128_t tall = wasm_f32x4_sub(wasm_f32x4_min(tw_load(o->bottom + i), bottom),
                                 wasm_f32x4_max(tw_load(o->top + i), top));
    v128_t wide = wasm_f32x4_sub(wasm_f32x4_min(tw_load(o->right + i), right),
                                 wasm_f32x4_max(tw_load(o->left + i), left));
    v128_t shared = wasm_f32x4_mul(wasm_f32x4_max(tall, zero), wasm_f32x4_max(wide, zero));
    v128_t both = wasm_f32x4_sub(wasm_f32x4_add(own, area), shared);
    v128_t ratio = wasm_v128_and(wasm_f32x4_div(shared, both), wasm_f32x4_gt(both, zero));
    v128_t more = wasm_v128_not(wasm_f32x4_le(ratio, limit));
    if (wasm_v128_any_true(wasm_v128_and(more, wasm_f32x4_gt(own, zero)))) return 1;
  }
  return 0;
}

uint32_t f32_suppress(const tw_dispatch *d, const tw_tile *t) {
  const suppress_params *p = d->params;
  if (p->tile_classes == 0) return TW_INVALID_PARAMS;
  uint64_t lines = (uint64_t)p->batch * p->classes, all = (uint64_t)p->batch * p->boxes;
  if (lines == 0 || p->kept == 0) return TW_OK;
  if (lines > UINT32_MAX || all > UINT32_MAX ||
      !tw_holds(d, F32_SUPPRESS_BOXES, all * 4, 4) ||
      lines * p->boxes > UINT32_MAX || lines * p->kept > UINT32_MAX ||
      !tw_holds(d, F32_SUPPRESS_SCORES, lines * p->boxes, 4) ||
      !tw_holds(d, F32_SUPPRESS_CHOSEN, lines * p->kept, 4) ||
      (tw_present(d, F32_SUPPRESS_IOU) && !tw_holds(d, F32_SUPPRESS_IOU, 1, 4)) ||
      (tw_present(d, F32_SUPPRESS_LEAST) && !tw_holds(d, F32_SUPPRESS_LEAST, 1, 4)))
    return TW_BINDING_TOO_SHORT;
  uint64_t room = (uint64_t)p->kept + 4;
  if (t->scratch_length < 8 * (uint64_t)p->boxes + 20 * room) return TW_SCRATCH_TOO_SMALL;
  float most = tw_present(d, F32_SUPPRESS_IOU) ? *TW_DATA(float, d, F32_SUPPRESS_IOU) : 0;
  int bounded = tw_present(d, F32_SUPPRESS_LEAST);
  float least = bounded ? *TW_DATA(float, d, F32_SUPPRESS_LEAST) : 0;
  uint64_t *heap = t->scratch;
  float *arrays = (float *)(heap + p->boxes);
  corners o = {arrays, arrays + room, arrays + 2 * room, arrays + 3 * room, arrays + 4 * room};
  tw_span part = tw_piece(t->x, p->tile_classes, lines);
  for (uint32_t line = part.first; line < part.last; line++) {
    const float *boxes = TW_DATA(float, d, F32_SUPPRESS_BOXES) +
                         (size_t)(line / p->classes) * p->boxes * 4;
    const float *scores = TW_DATA(float, d, F32_SUPPRESS_SCORES) + (size_t)line * p->boxes;
    int32_t *chosen = TW_DATA(int32_t, d, F32_SUPPRESS_CHOSEN) + (size_t)line * p->kept;
    uint32_t left = 0, count = 0;
    for (uint32_t i = 0; i < p->boxes; i++)
      if (!bounded || scores[i] > least) heap[left++] = key_of(scores[i], i);
    for (uint32_t i = left / 2; i-- > 0;) sink(heap, left, i);
    while (left > 0 && count < p->kept) {
      uint32_t number = ~(uint32_t)heap[0];
      heap[0] = heap[--left];
      if (left > 1) sink(heap, left, 0);
      box b = box_of(boxes + (size_t)number * 4, p->center);
      if (overlapped(&o, count, b, most)) continue;
      if (count % 4 == 0)  // lanes that have no box yet overlap nothing
        for (uint32_t i = count; i < count + 4; i++)
          o.top[i] = o.left[i] = o.bottom[i] = o.right[i] = o.area[i] = 0;
      o.top[count] = b.top;
      o.left[count] = b.left;
      o.bottom[count] = b.bottom;
      o.right[count] = b.right;
      o.area[count] = b.area;
      chosen[count++] = (int32_t)number;
    }
    for (; count < p->kept; count++) chosen[count] = -1;
  }
  return TW_OK;
}
