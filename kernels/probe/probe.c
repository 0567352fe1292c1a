// nop, fail, trap, work, trace, hang and the smallest kernels of each form: see probe.wit. A tile is
// one x.
#include "bindings.h"
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

uint32_t number(const tw_dispatch *d, const tw_tile *t) {
  if (!tw_holds(d, NUMBER_OUT, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  TW_DATA(uint32_t, d, NUMBER_OUT)[t->x] = t->x;
  return TW_OK;
}

uint32_t scale(const tw_dispatch *d, const tw_tile *t) {
  const scale_params *p = d->params;
  if (!tw_holds(d, SCALE_X, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, SCALE_Y, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  TW_DATA(float, d, SCALE_Y)[t->x] = TW_DATA(float, d, SCALE_X)[t->x] * p->scale + p->offset;
  return TW_OK;
}

uint32_t put_words(const tw_dispatch *d, const tw_tile *t) {
  const put_words_params *p = d->params;
  (void)t;
  if (!tw_holds(d, PUT_WORDS_OUT, 4, 4)) return TW_BINDING_TOO_SHORT;
  uint32_t *out = TW_DATA(uint32_t, d, PUT_WORDS_OUT);
  out[0] = p->w0, out[1] = p->w1, out[2] = p->w2, out[3] = p->w3;
  return TW_OK;
}

uint32_t negate(const tw_dispatch *d, const tw_tile *t) {
  if (!tw_holds(d, NEGATE_X, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, NEGATE_Y, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  TW_DATA(float, d, NEGATE_Y)[t->x] = -TW_DATA(float, d, NEGATE_X)[t->x];
  return TW_OK;
}

uint32_t twice(const tw_dispatch *d, const tw_tile *t) {
  if (!tw_holds(d, TWICE_X, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  if (!tw_holds(d, TWICE_Y, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  TW_DATA(float, d, TWICE_Y)[t->x] = 2 * TW_DATA(float, d, TWICE_X)[t->x];
  return TW_OK;
}

uint32_t f32_abs(const tw_dispatch *d, const tw_tile *t) {
  if (!tw_holds(d, F32_ABS_DATA, d->count_x, 4)) return TW_BINDING_TOO_SHORT;
  float *data = TW_DATA(float, d, F32_ABS_DATA);
  data[t->x] = __builtin_fabsf(data[t->x]);
  return TW_OK;
}

uint32_t hang(const tw_dispatch *d, const tw_tile *t) {
  const hang_params *p = d->params;
  uint32_t *words = d->bindings[HANG_WORDS].data;
  if (d->bindings[HANG_WORDS].length < 8) return TW_BINDING_TOO_SHORT;
  if (t->worker == 0) {
    // The engine must not take the value from a register.
    for (uint32_t i = 0; i < p->spins; i++)
      if (__atomic_load_n(&words[1], __ATOMIC_SEQ_CST)) break;
    return TW_OK;
  }
  __atomic_store_n(&words[1], t->worker, __ATOMIC_SEQ_CST);
  while (!__atomic_load_n(&words[0], __ATOMIC_SEQ_CST)) {
  }
  return TW_OK;
}
