// nop, fail, trap, work, trace: see probe.wit. A tile is one x.
#include "probe.h"

uint32_t nop(const tw_dispatch *d, const tw_tile *t) {
  (void)d, (void)t;
  return TW_OK;
}

uint32_t fail(const tw_dispatch *d, const tw_tile *t) {
  const fail_params *p = d->params;
  return t->x == p->tile ? p->status : TW_OK;
}

uint32_t trap(const tw_dispatch *d, const tw_tile *t) {
  const trap_params *p = d->params;
  if (t->x == p->tile) __builtin_trap();
  return TW_OK;
}

uint32_t work(const tw_dispatch *d, const tw_tile *t) {
  const work_params *p = d->params;
  if (d->bindings[WORK_OUT].length < d->count_x * 4) return TW_BINDING_TOO_SHORT;
  float v = (float)t->x;
  for (uint32_t i = 0; i < p->steps; i++) v = v * 1.0001f + 0.5f;
  ((float *)d->bindings[WORK_OUT].data)[t->x] = v;
  return TW_OK;
}

uint32_t trace(const tw_dispatch *d, const tw_tile *t) {
  const trace_params *p = d->params;
  if (d->bindings[TRACE_OUT].length < d->count_x * 4) return TW_BINDING_TOO_SHORT;
  if (d->bindings[TRACE_SEEN].length < d->count_x * 4) return TW_BINDING_TOO_SHORT;
  ((uint32_t *)d->bindings[TRACE_OUT].data)[t->x] += p->value;
  ((uint32_t *)d->bindings[TRACE_SEEN].data)[t->x] = t->worker;
  return TW_OK;
}
