// fill and copy: the kernels behind a command buffer's fill, copy and update.
// A tile is TW_MOVE_TILE bytes of the target; bindings need no alignment.
#include "processor.h"

static uint32_t piece(const tw_binding *target, const tw_tile *t, uint32_t *start) {
  *start = t->x * TW_MOVE_TILE;
  uint32_t left = *start < target->length ? target->length - *start : 0;
  return left < TW_MOVE_TILE ? left : TW_MOVE_TILE;
}

uint32_t fill(const tw_dispatch *d, const tw_tile *t) {
  uint32_t pattern = ((const fill_params *)d->params)->pattern;
  uint32_t start, length = piece(&d->bindings[FILL_TARGET], t, &start);
  uint8_t *to = (uint8_t *)d->bindings[FILL_TARGET].data + start;
  // TW_MOVE_TILE is a multiple of 4, so the pattern is in phase at every tile's start.
  if (pattern == (pattern & 0xff) * 0x01010101u) {
    __builtin_memset(to, (int)(pattern & 0xff), length);
    return TW_OK;
  }
  uint32_t i = 0;
  for (; i + 4 <= length; i += 4) __builtin_memcpy(to + i, &pattern, 4);
  for (; i < length; i++) to[i] = (uint8_t)(pattern >> (i & 3) * 8);
  return TW_OK;
}

uint32_t copy(const tw_dispatch *d, const tw_tile *t) {
  if (d->bindings[COPY_SOURCE].length != d->bindings[COPY_TARGET].length) return TW_BINDING_TOO_SHORT;
  uint32_t start, length = piece(&d->bindings[COPY_TARGET], t, &start);
  __builtin_memcpy((uint8_t *)d->bindings[COPY_TARGET].data + start,
                   (const uint8_t *)d->bindings[COPY_SOURCE].data + start, length);
  return TW_OK;
}
