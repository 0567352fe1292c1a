// out = softmax(cap(scale q k^T) + mask) v, f32, for one head and a block of query rows; cap(x) is
// softcap tanh(x / softcap), or x where that is 0.
//
// q, k, v, out  element (b, h, i, f) at b *_batch + h *_head + i *_row + f; 4-byte aligned
// mask          element (b, h, i, j) at b mask_batch + h mask_head + i mask_row + j mask_column,
//               optional
// Tile: x = `tile_rows` query rows, y = head, z = batch. out may alias nothing.
//
// Keys are taken in blocks; block by block a row keeps its maximum, its sum of exponentials and its
// unfinished output, which are rescaled when the maximum grows (Milakov and Gimelshein, Online
// normalizer calculation for softmax, 2018). As in the decomposed graph, a row whose scores are all
// equal is an average, and one whose scores are all -inf, or contain NaN or +inf, is NaN; with
// hidden_zero 1 all -inf is 0, with 2 all of these are.
//
// Scratch, in floats: keys turned into panels (block, head_size) | values in panels (block, wide) |
// scores (16, block) | for each row of the tile `wide` sums, its maximum and its sum;
// wide = value_size rounded up to 8, block = a multiple of 8: as many keys as fit, at least 8. Few
// rows, as of a decoder's step, read keys and values where they lie; their panels stay unused.
#include "attention.h"
#include "math.h"
#include "panels.h"

#define GROUP 16  // query rows that share a pass over the keys' panels, which may come from L2

// Rows that are done one by one: packing costs more than reading keys and values again. One row,
// 1500 keys from memory, 6 heads of 64, us: 380 for 640 (desktop engine, one thread, 2026-11).
#define FEW 3
// Keys whose values stay in L1 while a row's features are done. With 64 of them, and scores of eight
// keys side by side, one row's 1500 keys took 430 us and not 210 (Chromium 156, from memory, 6 heads
// of 64, one thread, 2026-11): what is read in order comes faster.
#define TOGETHER 16

static const float zeros[TW_PANEL] = {0};

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t panels_of(uint32_t n) { return n / TW_PANEL + (n % TW_PANEL != 0); }

typedef struct row_state {
  float highest, sum;
} row_state;

static float largest_of(v128_t v) {
  v = wasm_f32x4_pmax(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_extract_lane(wasm_f32x4_pmax(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}

static float sum_of(v128_t v) {
  v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_extract_lane(wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2)), 0);
}

// Four elements of a row of the mask, the first `n` of them read.
static inline v128_t mask_at(const float *mask, size_t stride, uint32_t n) {
  if (stride == 0) return wasm_v128_load32_splat(mask);
  if (stride == 1 && n == 4) return wasm_v128_load(mask);
  v128_t x = wasm_v128_load32_zero(mask);
  if (n > 1) x = wasm_v128_load32_lane(mask + stride, x, 1);
  if (n > 2) x = wasm_v128_load32_lane(mask + 2 * stride, x, 2);
  if (n > 3) x = wasm_v128_load32_lane(mask + 3 * stride, x, 3);
  return x;
}

// s = softcap tanh(scale s / softcap) for `keys`, and whatever follows them in their panel.
static void scale_and_cap(float *s, uint32_t keys, float scale, float softcap) {
  v128_t factor = tw_splat(scale / softcap), cap = tw_splat(softcap);
  for (uint32_t j = 0; j < keys; j += 4) {
    v128_t x = tw_tanh_gate(wasm_f32x4_mul(wasm_v128_load(s + j), factor));
    wasm_v128_store(s + j, wasm_f32x4_mul(x, cap));
  }
}

// One row of scores: s = scale s + mask, -inf from `keys` to the end of the last panel. Returns the
// largest; NaN is left for the exponentials to carry.
static float scale_and_mask(float *s, uint32_t keys, float scale, const float *mask,
                            size_t stride) {
  v128_t factor = tw_splat(scale), high = tw_splat(-__builtin_inff());
  uint32_t j = 0;
  for (; j + 4 <= keys; j += 4) {
    v128_t x = wasm_v128_load(s + j);
    x = wasm_f32x4_mul(x, factor);
    if (mask) x = wasm_f32x4_add(x, mask_at(mask + j * stride, stride, 4));
    wasm_v128_store(s + j, x);
    high = wasm_f32x4_pmax(high, x);
  }
  float largest = largest_of(high);
  for (; j < keys; j++) {
    s[j] = s[j] * scale + (mask ? mask[j * stride] : 0);
    if (s[j] > largest) largest = s[j];
  }
  for (; j % TW_PANEL; j++) s[j] = -__builtin_inff();
  return largest;
}

// s = e^(s - high) for `width`, a multiple of 8. Returns the sum.
static float exponentials(float *s, uint32_t width, float high) {
  v128_t by = tw_splat(high), sum0 = tw_splat(0), sum1 = sum0;
  for (uint32_t j = 0; j < width; j += TW_PANEL) {
    v128_t x0 = tw_exp_weight(wasm_f32x4_sub(wasm_v128_load(s + j), by));
    v128_t x1 = tw_exp_weight(wasm_f32x4_sub(wasm_v128_load(s + j + 4), by));
    wasm_v128_store(s + j, x0);
    wasm_v128_store(s + j + 4, x1);
    sum0 = wasm_f32x4_add(sum0, x0);
    sum1 = wasm_f32x4_add(sum1, x1);
  }
  return sum_of(wasm_f32x4_add(sum0, sum1));
}

static void multiply(float *x, uint32_t width, float factor) {
  v128_t f = tw_splat(factor);
  for (uint32_t j = 0; j < width; j += 4)
    wasm_v128_store(x + j, wasm_f32x4_mul(wasm_v128_load(x + j), f));
}

// A row's scores of one block to weights; the row's state and unfinished output follow.
static void weigh(float *s, uint32_t keys, const attention_params *p, const float *mask,
                  row_state *row, float *output, uint32_t wide, int first) {
  if (p->softcap != 0) scale_and_cap(s, keys, p->scale, p->softcap);
  float high = scale_and_mask(s, keys, p->softcap != 0 ? 1 : p->scale, mask, p->mask_column);
  float before = first ? -__builtin_inff() : row->highest;
  if (before > high) high = before;
  // With all scores -inf so far: subtract 0, so that the weights are 0 and not NaN.
  float by = high == -__builtin_inff() ? 0 : high;
  float sum = exponentials(s, panels_of(keys) * TW_PANEL, by);
  if (!first && before < high) {
    float factor = wasm_f32x4_extract_lane(tw_exp_nonpositive(tw_splat(before - by)), 0);
    multiply(output, wide, factor);
    row->sum *= factor;
  }
  row->sum = first ? sum : row->sum + sum;
  row->highest = high;
}

// Up to four elements, the rest 0.
static inline v128_t some_of(const float *p, uint32_t n) {
  return n >= 4 ? wasm_v128_load(p) : tw_load_tail(p, n);
}

// (sum of a, of b, of c, of d).
static inline v128_t sums_of(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t ab = wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5),
                             wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  v128_t cd = wasm_f32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5),
                             wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_f32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5),
                        wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}

// q k for one key, read in order: its lines come as fast as memory gives them.
static inline v128_t row_products(const float *q, const float *key, uint32_t size) {
  v128_t sum[4];
  TW_UNROLLED for (uint32_t i = 0; i < 4; i++) sum[i] = tw_splat(0);
  uint32_t f = 0;
  for (; f + 16 <= size; f += 16)
    TW_UNROLLED for (uint32_t i = 0; i < 4; i++)
      sum[i] = tw_madd(wasm_v128_load(q + f + 4 * i), wasm_v128_load(key + f + 4 * i), sum[i]);
  for (; f < size; f += 4)
    sum[0] = tw_madd(some_of(q + f, size - f), some_of(key + f, size - f), sum[0]);
  return wasm_f32x4_add(wasm_f32x4_add(sum[0], sum[1]), wasm_f32x4_add(sum[2], sum[3]));
}

// s[j] = q k_j for `count` keys; up to the end of their four something is written.
static void row_scores(float *s, const float *q, const float *k, size_t step, uint32_t size,
                       uint32_t count) {
  for (uint32_t j = 0; j < count; j += 4) {
    v128_t sum[4];
    TW_UNROLLED for (uint32_t i = 0; i < 4; i++)
      sum[i] = row_products(q, k + (size_t)minimum(j + i, count - 1) * step, size);
    wasm_v128_store(s + j, sums_of(sum[0], sum[1], sum[2], sum[3]));
  }
}

// y[0 .. 4 n) = what stands there, unless `first`, plus weights times values; the last vector has
// `last` elements.
TW_INLINE void row_part(float *y, const float *weights, const float *v, size_t step, uint32_t count,
                        const uint32_t n, uint32_t last, int first) {
  v128_t sum[8];
  TW_UNROLLED for (uint32_t i = 0; i < n; i++)
    sum[i] = first ? tw_splat(0) : wasm_v128_load(y + 4 * i);
  for (uint32_t j = 0; j < count; j++, v += step) {
    v128_t x = wasm_v128_load32_splat(weights + j);
    TW_UNROLLED for (uint32_t i = 0; i < n; i++)
      sum[i] = tw_madd(x, some_of(v + 4 * i, n == 1 ? last : 4), sum[i]);
  }
  TW_UNROLLED for (uint32_t i = 0; i < n; i++) wasm_v128_store(y + 4 * i, sum[i]);
}

// Values come from memory once, in order: all features of some keys before the next keys.
static void row_values(float *y, const float *weights, const float *v, size_t step, uint32_t count,
                       uint32_t size, int first) {
  for (uint32_t j = 0; j < count; j += TOGETHER) {
    uint32_t n = minimum(count - j, TOGETHER), f = 0;
    const float *w = weights + j, *x = v + j * step;
    int fresh = first && j == 0;
    for (; f + 32 <= size; f += 32) row_part(y + f, w, x + f, step, n, 8, 4, fresh);
    for (; f + 16 <= size; f += 16) row_part(y + f, w, x + f, step, n, 4, 4, fresh);
    for (; f < size; f += 4) row_part(y + f, w, x + f, step, n, 1, minimum(size - f, 4), fresh);
  }
}

// Whether elements up to `last` lie in a binding.
static int within(const tw_binding *b, uint64_t last) {
  return (last + 1) * sizeof(float) <= b->length;
}

uint32_t f32_attention(const tw_dispatch *d, const tw_tile *t) {
  const attention_params *p = d->params;
  if (p->tile_rows == 0 || p->head_size == 0 || p->value_size == 0 || p->key_length == 0 ||
      d->binding_count != F32_ATTENTION_BINDINGS)
    return TW_INVALID_PARAMS;
  uint64_t row0 = (uint64_t)t->x * p->tile_rows, head = t->y, batch = t->z;
  if (row0 >= p->query_length) return TW_OK;
  uint32_t rows = minimum(p->query_length - (uint32_t)row0, p->tile_rows);
  uint32_t keys = p->key_length, size = p->head_size;
  uint32_t wide = panels_of(p->value_size) * TW_PANEL;

  const tw_binding *mask = &d->bindings[F32_ATTENTION_MASK];
  uint64_t q0 = batch * p->q_batch + head * p->q_head + row0 * p->q_row;
  uint64_t k0 = batch * p->k_batch + head * p->k_head;
  uint64_t v0 = batch * p->v_batch + head * p->v_head;
  uint64_t out0 = batch * p->out_batch + head * p->out_head + row0 * p->out_row;
  uint64_t mask0 = batch * p->mask_batch + head * p->mask_head + row0 * p->mask_row;
  uint64_t last_row = rows - 1, last_key = keys - 1;
  if (!within(&d->bindings[F32_ATTENTION_Q], q0 + last_row * p->q_row + size - 1) ||
      !within(&d->bindings[F32_ATTENTION_K], k0 + last_key * p->k_row + size - 1) ||
      !within(&d->bindings[F32_ATTENTION_V], v0 + last_key * p->v_row + p->value_size - 1) ||
      !within(&d->bindings[F32_ATTENTION_OUT], out0 + last_row * p->out_row + p->value_size - 1) ||
      (mask->length &&
       !within(mask, mask0 + last_row * p->mask_row + last_key * p->mask_column)))
    return TW_BINDING_TOO_SHORT;

  // As many keys a block as scratch holds beside what the rows keep; all in floats.
  uint64_t kept = (uint64_t)rows * ((uint64_t)wide + 2);
  uint64_t each = (uint64_t)size + wide + GROUP, held = t->scratch_length / sizeof(float);
  if (held < kept + TW_PANEL * each) return TW_SCRATCH_TOO_SMALL;
  uint64_t room = (held - kept) / each / TW_PANEL * TW_PANEL;
  uint64_t whole = (uint64_t)panels_of(keys) * TW_PANEL;
  uint32_t block = (uint32_t)(whole < room ? whole : room);

  const float *q = (const float *)d->bindings[F32_ATTENTION_Q].data + q0;
  const float *k = (const float *)d->bindings[F32_ATTENTION_K].data + k0;
  const float *v = (const float *)d->bindings[F32_ATTENTION_V].data + v0;
  const float *m = mask->length ? (const float *)mask->data + mask0 : 0;
  float *out = (float *)d->bindings[F32_ATTENTION_OUT].data + out0;
  float *turned = t->scratch;
  float *values = turned + (size_t)block * size;
  float *scores = values + (size_t)block * wide;
  float *sums = scores + (size_t)block * GROUP;
  row_state *states = (row_state *)(sums + (size_t)rows * wide);

  for (uint32_t from = 0; from < keys; from += block) {
    uint32_t count = minimum(keys - from, block);
    for (uint32_t i = 0; rows <= FEW && i < rows; i++) {
      float *sum = sums + (size_t)i * wide;
      row_scores(scores, q + (size_t)i * p->q_row, k + (size_t)from * p->k_row, p->k_row, size,
                 count);
      weigh(scores, count, p, m ? m + (size_t)i * p->mask_row + (size_t)from * p->mask_column : 0,
            &states[i], sum, wide, from == 0);
      row_values(sum, scores, v + (size_t)from * p->v_row, p->v_row, count, p->value_size,
                 from == 0);
    }
    if (rows <= FEW) continue;
    for (uint32_t j = 0; j < count; j += TW_PANEL)
      tw_pack_panel(turned + (size_t)j * size, k + (size_t)(from + j) * p->k_row, size, 1, p->k_row,
                    minimum(count - j, TW_PANEL));
    for (uint32_t j = 0; j < wide; j += TW_PANEL)
      tw_pack_panel(values + (size_t)j * count, v + (size_t)from * p->v_row + j, count, p->v_row, 1,
                    minimum(p->value_size - j, TW_PANEL));

    for (uint32_t i0 = 0; i0 < rows; i0 += GROUP) {
      uint32_t group = minimum(rows - i0, GROUP), strips = tw_strips(group);
      tw_strip s = {.lda = p->q_row, .k = size, .start = zeros, .ldc = block};
      s.ahead = (const uint8_t *)zeros;
      for (uint32_t j = 0; j < count; j += TW_PANEL)
        for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip) {
          strip = tw_strip_length(group, strips, n);
          s.a = q + (size_t)(i0 + i) * p->q_row;
          s.b = turned + (size_t)j * size;
          s.c = scores + (size_t)i * block + j;
          tw_strip_any(&s, strip);
        }

      for (uint32_t i = 0; i < group; i++)
        weigh(scores + (size_t)i * block, count, p,
              m ? m + (size_t)(i0 + i) * p->mask_row + (size_t)from * p->mask_column : 0,
              &states[i0 + i], sums + (size_t)(i0 + i) * wide, wide, from == 0);

      tw_strip o = {.lda = block, .k = count, .ldc = wide, .ahead = s.ahead};
      for (uint32_t j = 0; j < wide; j += TW_PANEL)
        for (uint32_t n = 0, i = 0, strip; n < strips; n++, i += strip) {
          strip = tw_strip_length(group, strips, n);
          o.a = scores + (size_t)i * block;
          o.b = values + (size_t)j * count;
          o.c = sums + (size_t)(i0 + i) * wide + j;
          o.start = from ? o.c : zeros;
          o.ld_start = from ? wide : 0;
          tw_strip_any(&o, strip);
        }
    }
  }

  for (uint32_t i = 0; i < rows; i++) {
    const float *x = sums + (size_t)i * wide;
    // The largest score's exponential is 1: only a row that is -inf throughout has a sum of 0.
    float sum = states[i].sum, by = sum == 0 && p->hidden_zero ? 0 : 1 / sum;
    float *y = out + (size_t)i * p->out_row;
    uint32_t j = 0;
    if (sum != sum && p->hidden_zero == 2) {
      for (; j < p->value_size; j++) y[j] = 0;
      continue;
    }
    for (; j + 4 <= p->value_size; j += 4)
      wasm_v128_store(y + j, wasm_f32x4_mul(wasm_v128_load(x + j), tw_splat(by)));
    for (; j < p->value_size; j++) y[j] = x[j] * by;
  }
  return TW_OK;
}
