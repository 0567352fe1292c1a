// The formula of f32_trees and f64_trees: eight rows walk down a tree side by side, so that one's
// loads hide the others'; 64 rows take all trees, so that a tree stays in the cache meanwhile.
// T is the type of x, splits and weights.
#ifndef TW_TREES_WALK_H
#define TW_TREES_WALK_H
#include "bindings.h"
#include "trees.h"

#define ABREAST 8
#define BLOCK 64  // rows; 512 bytes a target in trees.wit
#define INNER 1
#define NAN_FIRST 2
#define LAST_VOTE 0x80000000u

#define TW_TREES(KERNEL, T)                                                                      \
  typedef struct node {                                                                          \
    T split;                                                                                     \
    uint32_t feature, child, flags;                                                              \
  } node;                                                                                        \
  typedef struct vote {                                                                          \
    T weight;                                                                                    \
    uint32_t target;                                                                             \
  } vote;                                                                                        \
  /* The leaves that `count` rows come to; false where a number points nowhere. */               \
  static inline __attribute__((always_inline)) int walked(                                      \
      const trees_params *p, const node *nodes, const T *x, uint32_t root, uint32_t *at,         \
      uint32_t count) {                                                                          \
    for (uint32_t i = 0; i < count; i++) at[i] = root;                                           \
    for (uint32_t step = 0; step <= p->depth; step++) {                                          \
      uint32_t any = 0;                                                                          \
      for (uint32_t i = 0; i < count; i++) {                                                     \
        const node *n = nodes + at[i];                                                           \
        uint32_t feature = n->feature, flags = n->flags;                                         \
        if (__builtin_expect(feature >= p->features, 0)) return 0;                               \
        T value = x[(size_t)i * p->features + feature];                                          \
        uint32_t first = (value <= n->split) | ((value != value) & (flags / NAN_FIRST));         \
        uint32_t next = n->child + (~first & flags & INNER);                                     \
        if (__builtin_expect(next >= p->nodes, 0)) return 0;                                     \
        at[i] = next;                                                                            \
        any |= flags;                                                                            \
      }                                                                                          \
      if (!(any & INNER)) return 1;                                                              \
    }                                                                                            \
    return 0;                                                                                    \
  }                                                                                              \
  static __attribute__((noinline)) int walk_abreast(const trees_params *p, const node *nodes,    \
                                                    const T *x, uint32_t root, uint32_t *at) {   \
    return walked(p, nodes, x, root, at, ABREAST);                                               \
  }                                                                                              \
  static __attribute__((noinline)) int walk(const trees_params *p, const node *nodes,            \
                                            const T *x, uint32_t root, uint32_t *at,             \
                                            uint32_t count) {                                    \
    return walked(p, nodes, x, root, at, count);                                                 \
  }                                                                                              \
  /* A leaf's votes into a row's totals. */                                                      \
  static int counted(const trees_params *p, const vote *votes, uint32_t at, double *totals) {    \
    for (;; at++) {                                                                              \
      if (at >= p->votes) return 0;                                                              \
      uint32_t target = votes[at].target & ~LAST_VOTE;                                           \
      double weight = (double)votes[at].weight;                                                  \
      if (target < p->targets) {                                                                 \
        double *total = totals + target;                                                         \
        if (p->op == TREES_AGGREGATE_LEAST)                                                      \
          *total = weight < *total ? weight : *total;                                            \
        else if (p->op == TREES_AGGREGATE_LARGEST)                                               \
          *total = weight > *total ? weight : *total;                                            \
        else                                                                                     \
          *total += weight;                                                                      \
      }                                                                                          \
      if (votes[at].target & LAST_VOTE) return 1;                                                \
    }                                                                                            \
  }                                                                                              \
  uint32_t KERNEL(const tw_dispatch *d, const tw_tile *t) {                                      \
    const trees_params *p = d->params;                                                           \
    if (p->tile_rows == 0 || p->op > TREES_AGGREGATE_LARGEST) return TW_INVALID_PARAMS;          \
    uint64_t results = (uint64_t)p->rows * p->targets;                                           \
    if (results == 0) return TW_OK;                                                              \
    if (!tw_holds(d, 0, (uint64_t)p->rows * p->features, sizeof(T)) ||                           \
        !tw_holds(d, 1, p->trees, 4) || !tw_holds(d, 2, p->nodes, sizeof(node)) ||               \
        !tw_holds(d, 3, p->votes, sizeof(vote)) || !tw_holds(d, 4, p->targets, sizeof(T)) ||     \
        !tw_holds(d, 5, results, sizeof(T)))                                                     \
      return TW_BINDING_TOO_SHORT;                                                               \
    if (t->scratch_length < (uint64_t)p->targets * BLOCK * sizeof(double))                       \
      return TW_SCRATCH_TOO_SMALL;                                                               \
    const uint32_t *roots = TW_DATA(uint32_t, d, 1);                                             \
    const node *nodes = TW_DATA(node, d, 2);                                                     \
    const vote *votes = TW_DATA(vote, d, 3);                                                     \
    const T *base = TW_DATA(T, d, 4);                                                            \
    double *totals = t->scratch;                                                                 \
    int extreme = p->op >= TREES_AGGREGATE_LEAST;                                                \
    double none = p->op == TREES_AGGREGATE_LEAST ? __builtin_inf() : -__builtin_inf();           \
    double share = p->op == TREES_AGGREGATE_AVERAGE ? (double)p->trees : 1;                      \
    tw_span part = tw_piece(t->x, p->tile_rows, p->rows);                                        \
    for (uint32_t first = part.first; first < part.last; first += BLOCK) {                       \
      uint32_t rows = part.last - first < BLOCK ? part.last - first : BLOCK;                     \
      const T *x = TW_DATA(T, d, 0) + (size_t)first * p->features;                               \
      for (uint32_t i = 0; i < rows * p->targets; i++) totals[i] = extreme ? none : 0;           \
      for (uint32_t tree = 0; tree < p->trees; tree++) {                                         \
        if (roots[tree] >= p->nodes) return TW_INDEX_OUT_OF_RANGE;                               \
        for (uint32_t r = 0; r < rows; r += ABREAST) {                                           \
          uint32_t at[ABREAST], count = rows - r < ABREAST ? rows - r : ABREAST;                 \
          const T *from = x + (size_t)r * p->features;                                           \
          int good = count == ABREAST ? walk_abreast(p, nodes, from, roots[tree], at)            \
                                      : walk(p, nodes, from, roots[tree], at, count);            \
          for (uint32_t i = 0; i < count && good; i++)                                           \
            good = counted(p, votes, nodes[at[i]].flags / 4, totals + (r + i) * p->targets);     \
          if (!good) return TW_INDEX_OUT_OF_RANGE;                                               \
        }                                                                                        \
      }                                                                                          \
      T *y = TW_DATA(T, d, 5) + (size_t)first * p->targets;                                      \
      for (uint32_t i = 0; i < rows * p->targets; i++) {                                         \
        double total = totals[i] / share;                                                        \
        if (extreme && __builtin_isinf(total)) total = 0;                                        \
        y[i] = (T)(total + (double)base[i % p->targets]);                                        \
      }                                                                                          \
    }                                                                                            \
    return TW_OK;                                                                                \
  }

#endif
