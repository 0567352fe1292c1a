// y = the largest uint8 of each window; byte_pool.h has the formula, the layouts and what a tile is.
#include "byte_pool.h"

uint32_t u8_max_pool(const tw_dispatch *d, const tw_tile *t) { return byte_max_pool(d, t, 0); }
