// cast: y[i] = x[i] in another element type; what does not fit is stated in convert.wit.
//
// Bindings: x, y, dense, aligned to their element; y may be x where the sizes are equal.
// Tile: x = tile_elements consecutive elements.
//
// Loops are written on scalars: the compiler's vectors serve every pair that has instructions.
#include "bindings.h"
#include "convert.h"

// WebAssembly's saturating truncation, NaN to 0
static inline int32_t f32_to_i32(float x) { return __builtin_wasm_trunc_saturate_s_i32_f32(x); }
static inline int32_t f64_to_i32(double x) { return __builtin_wasm_trunc_saturate_s_i32_f64(x); }
static inline int64_t f32_to_i64(float x) { return __builtin_wasm_trunc_saturate_s_i64_f32(x); }
static inline int64_t f64_to_i64(double x) { return __builtin_wasm_trunc_saturate_s_i64_f64(x); }

#define PLAIN(T, x) ((T)(x))
#define BOOLEAN(T, x) ((x) != 0)
#define F32_LOW(T, x) ((T)f32_to_i32(x))
#define F64_LOW(T, x) ((T)f64_to_i32(x))
#define F32_I32(T, x) f32_to_i32(x)
#define F64_I32(T, x) f64_to_i32(x)
#define F32_I64(T, x) f32_to_i64(x)
#define F64_I64(T, x) f64_to_i64(x)
#define TRUTH(T, x) ((T)((x) != 0))

#define LOOP(FROM, TO, RULE)                                                                     \
  {                                                                                              \
    const FROM *from = (const FROM *)x + s.first;                                       \
    TO *to = (TO *)y + s.first;                                                                  \
    _Pragma("clang loop vectorize(assume_safety)") for (uint32_t i = 0; i < n; i++)              \
        to[i] = RULE(TO, from[i]);                                                               \
    return TW_OK;                                                                                \
  }

// The cases of one source type; the rules are to int32, to int64, to a byte, and to floats.
#define TARGETS(NAME, FROM, TO_I32, TO_I64, TO_BYTE, TO_FLOAT)                                   \
  static __attribute__((noinline)) uint32_t NAME(const void *x, void *y, tw_span s,              \
                                                 convert_element_type target) {                  \
    const uint32_t n = s.last - s.first;                                                         \
    switch (target) {                                                                            \
      case CONVERT_ELEMENT_TYPE_FLOAT32: LOOP(FROM, float, TO_FLOAT)                             \
      case CONVERT_ELEMENT_TYPE_FLOAT64: LOOP(FROM, double, TO_FLOAT)                            \
      case CONVERT_ELEMENT_TYPE_INT32: LOOP(FROM, int32_t, TO_I32)                               \
      case CONVERT_ELEMENT_TYPE_INT64: LOOP(FROM, int64_t, TO_I64)                               \
      case CONVERT_ELEMENT_TYPE_INT8: LOOP(FROM, int8_t, TO_BYTE)                                \
      case CONVERT_ELEMENT_TYPE_UINT8: LOOP(FROM, uint8_t, TO_BYTE)                              \
      case CONVERT_ELEMENT_TYPE_BOOLEAN: LOOP(FROM, uint8_t, BOOLEAN)                            \
    }                                                                                            \
    return TW_INVALID_PARAMS;                                                                    \
  }
TARGETS(of_f32, float, F32_I32, F32_I64, F32_LOW, PLAIN)
TARGETS(of_f64, double, F64_I32, F64_I64, F64_LOW, PLAIN)
TARGETS(of_i32, int32_t, PLAIN, PLAIN, PLAIN, PLAIN)
TARGETS(of_i64, int64_t, PLAIN, PLAIN, PLAIN, PLAIN)
TARGETS(of_i8, int8_t, PLAIN, PLAIN, PLAIN, PLAIN)
TARGETS(of_u8, uint8_t, PLAIN, PLAIN, PLAIN, PLAIN)
TARGETS(of_bool, uint8_t, TRUTH, TRUTH, TRUTH, TRUTH)

uint32_t cast(const tw_dispatch *d, const tw_tile *t) {
  static const uint8_t sizes[7] = {4, 8, 4, 8, 1, 1, 1};  // by convert_element_type
  const cast_params *p = d->params;
  if (p->tile_elements == 0 || p->source > CONVERT_ELEMENT_TYPE_BOOLEAN ||
      p->target > CONVERT_ELEMENT_TYPE_BOOLEAN)
    return TW_INVALID_PARAMS;
  if (!tw_holds(d, CAST_X, p->count, sizes[p->source]) ||
      !tw_holds(d, CAST_Y, p->count, sizes[p->target]))
    return TW_BINDING_TOO_SHORT;
  tw_span s = tw_piece(t->x, p->tile_elements, p->count);
  const void *x = d->bindings[CAST_X].data;
  void *y = d->bindings[CAST_Y].data;
  switch (p->source) {
    case CONVERT_ELEMENT_TYPE_FLOAT32: return of_f32(x, y, s, p->target);
    case CONVERT_ELEMENT_TYPE_FLOAT64: return of_f64(x, y, s, p->target);
    case CONVERT_ELEMENT_TYPE_INT32: return of_i32(x, y, s, p->target);
    case CONVERT_ELEMENT_TYPE_INT64: return of_i64(x, y, s, p->target);
    case CONVERT_ELEMENT_TYPE_INT8: return of_i8(x, y, s, p->target);
    case CONVERT_ELEMENT_TYPE_UINT8: return of_u8(x, y, s, p->target);
    default: return of_bool(x, y, s, p->target);
  }
}
