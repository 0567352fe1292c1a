// The command loop. Every thread, the submitting one too, walks the open region of the running
// submission: claim a tile, run its kernel, count it done; the thread that finishes a region's last
// tile opens the next. This is the only file with atomics.
//
//   submit    closed claim -> resolve bindings -> open region 0 -> drain until closed -> status
//   work      a worker's life between two visits to its event loop: drain, spin, sleep
//   trapped   after a kernel trapped: record it, count its tile done
//   announce  the host wrote something that waiting threads should see
//
// Why a late thread does no harm: all that it does to shared state before it owns a tile is one
// compare-and-swap of `claim`, and a tag is never used twice. It reads the submission's fields only
// between two reads of the same open tag, and a submission cannot close while a claimed tile is
// unfinished, so whatever a successful swap was computed from was alive at the swap.
#include "processor.h"

#define EXPORT(name) __attribute__((export_name(#name)))
#define LOAD(p) __atomic_load_n(&(p), __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n(&(p), (v), __ATOMIC_SEQ_CST)
#define RELAXED(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)

// A thread that waits for the next region spins for about 60 us (Chromium 156, Zen 5, 2026-11)
// before it sleeps: a wake through a futex costs 10 to 50 us, most regions are shorter.
#define SPINS_IN_SUBMISSION 40000

enum drain_result { CLOSED, EXHAUSTED, NOT_LOADED };

static uint64_t tag_of(uint64_t claim) { return claim >> TW_TILE_BITS; }
static uint32_t tile_of(uint64_t claim) { return (uint32_t)claim & TW_CLOSED; }

static const tw_region *regions_of(const tw_program *p) {
  return (const tw_region *)((const uint8_t *)p + p->regions);
}

static const tw_command *commands_of(const tw_program *p) {
  return (const tw_command *)((const uint8_t *)p + p->commands);
}

// Execution state: tw_dispatch[command_count], then tw_binding[ref_count].
static tw_dispatch *dispatches_of(uint8_t *state) { return (tw_dispatch *)state; }

static void announce(tw_queue *q) {
  __atomic_fetch_add(&q->wake, 1, __ATOMIC_SEQ_CST);
  if (LOAD(q->sleepers)) __builtin_wasm_memory_atomic_notify((int *)&q->wake, ~0u);
}

// Opens the first region at or after `index` that has tiles, or closes the submission.
static void open_region(tw_queue *q, uint32_t index) {
  const tw_program *p = q->program;
  const tw_region *regions = regions_of(p);
  while (index < p->region_count && regions[index].tile_count == 0) index++;
  uint64_t tag = q->first_tag + index;
  if (index == p->region_count) {
    STORE(q->running, 0);
    __atomic_fetch_add(&q->timeline, 1, __ATOMIC_SEQ_CST);
    STORE(q->claim, tag << TW_TILE_BITS | TW_CLOSED);
  } else {
    STORE(q->done, 0);
    STORE(q->claim, tag << TW_TILE_BITS);
  }
  announce(q);
}

static void finish_tile(tw_queue *q, uint32_t index, uint32_t tile_count) {
  if (__atomic_add_fetch(&q->done, 1, __ATOMIC_SEQ_CST) == tile_count) open_region(q, index + 1);
}

static void record_failure(tw_thread *thread, uint32_t status) {
  tw_queue *q = thread->queue;
  uint32_t none = TW_OK;
  if (!__atomic_compare_exchange_n(&q->status, &none, status, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
    return;
  q->failed_command = thread->command;
  q->failed_x = thread->x;
  q->failed_y = thread->y;
  q->failed_z = thread->z;
  q->failed_worker = thread->worker;
}

static void run_tile(tw_thread *thread, const tw_command *command, const tw_dispatch *dispatch,
                     uint32_t local) {
  uint32_t row = local / command->count_x;
  tw_tile tile = {
      .x = local - row * command->count_x,
      .y = row % command->count_y,
      .z = row / command->count_y,
      .worker = thread->worker,
      .scratch = thread->scratch,
      .scratch_length = thread->scratch_length,
  };
  thread->command = dispatch->command;
  thread->x = tile.x;
  thread->y = tile.y;
  thread->z = tile.z;
  thread->in_tile = 1;
  uint32_t status = ((tw_kernel)(uintptr_t)command->function)(dispatch, &tile);
  thread->in_tile = 0;
  thread->tiles++;
  if (status != TW_OK) record_failure(thread, status);
}

// Runs tiles until the open region has none left to claim, across regions.
static enum drain_result drain(tw_thread *thread) {
  tw_queue *q = thread->queue;
  uint64_t known = ~0ull;  // the tag that the variables below belong to
  uint32_t index = 0, tile_count = 0;
  const tw_command *command = 0;
  const tw_dispatch *dispatch = 0;
  for (;;) {
    uint64_t claim = LOAD(q->claim);
    uint64_t tag = tag_of(claim);
    uint32_t tile = tile_of(claim);
    if (tile == TW_CLOSED) return CLOSED;
    if (tag != known) {
      const tw_program *p = RELAXED(q->program);
      uint8_t *state = RELAXED(q->state);
      uint32_t generation = RELAXED(q->generation);
      index = (uint32_t)(tag - RELAXED(q->first_tag));
      if (LOAD(q->claim) >> TW_TILE_BITS != tag) continue;
      if (generation > thread->generation) return NOT_LOADED;
      const tw_region region = regions_of(p)[index];
      tile_count = region.tile_count;
      if (LOAD(q->claim) >> TW_TILE_BITS != tag) continue;
      command = commands_of(p) + region.first_command;
      dispatch = dispatches_of(state) + region.first_command;
      known = tag;
    }
    if (tile >= tile_count) return EXHAUSTED;
    if (!__atomic_compare_exchange_n(&q->claim, &claim, claim + 1, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
      continue;
    // Claims within a region only grow, so the cursor only moves forward.
    while (tile - command->first_tile >= command->tile_count) command++, dispatch++;
    // After a failure the remaining tiles are claimed and counted, not run.
    if (LOAD(q->status) == TW_OK) run_tile(thread, command, dispatch, tile - command->first_tile);
    finish_tile(q, index, tile_count);
  }
}

// Waits until `wake` is no longer `seen`; returns 0 when the time-out passed first.
static int wait(tw_thread *thread, uint32_t seen, uint32_t spins, int64_t timeout_ns) {
  tw_queue *q = thread->queue;
  for (uint32_t i = 0; i < spins || !thread->may_block; i++)
    if (RELAXED(q->wake) != seen) return 1;
  __atomic_fetch_add(&q->sleepers, 1, __ATOMIC_SEQ_CST);
  __builtin_wasm_memory_atomic_wait32((int *)&q->wake, (int)seen, timeout_ns);
  __atomic_fetch_sub(&q->sleepers, 1, __ATOMIC_SEQ_CST);
  return LOAD(q->wake) != seen;
}

static void resolve(const tw_program *p, uint8_t *state, const tw_binding *slots) {
  const tw_command *commands = commands_of(p);
  const tw_ref *refs = (const tw_ref *)((const uint8_t *)p + p->refs);
  tw_dispatch *dispatches = dispatches_of(state);
  tw_binding *bindings = (tw_binding *)(dispatches + p->command_count);
  for (uint32_t i = 0; i < p->ref_count; i++) {
    uint8_t *base = refs[i].slot == TW_NO_SLOT ? 0 : slots[refs[i].slot].data;
    bindings[i] = (tw_binding){base + refs[i].offset, refs[i].length};
  }
  for (uint32_t i = 0; i < p->command_count; i++) {
    const tw_command *c = &commands[i];
    dispatches[i] = (tw_dispatch){
        .count_x = c->count_x, .count_y = c->count_y, .count_z = c->count_z,
        .binding_count = c->ref_count, .bindings = bindings + c->first_ref,
        .params = (const uint8_t *)p + c->params, .params_length = c->params_length,
        .command = i,
    };
  }
}

// Drains the running submission until it has closed; returns its status. Also the way back in after
// a trap on the submitting thread.
EXPORT(tw_resume) uint32_t tw_resume(tw_thread *thread) {
  tw_queue *q = thread->queue;
  for (;;) {
    uint32_t seen = LOAD(q->wake);
    if (drain(thread) == CLOSED) return LOAD(q->status);
    wait(thread, seen, SPINS_IN_SUBMISSION, -1);
  }
}

// Writes a word of the queue for the host and wakes all that wait, so that they look at it.
EXPORT(tw_announce) void tw_announce(tw_queue *q, uint32_t *word, uint32_t value) {
  STORE(*word, value);
  announce(q);
}

// Runs `program` to its end. `state` holds program->state_length bytes. The bindings are resolved
// only when `slots` is given: a replay with the same slots passes 0.
EXPORT(tw_submit)
uint32_t tw_submit(tw_thread *thread, const tw_program *program, uint8_t *state,
                   const tw_binding *slots) {
  tw_queue *q = thread->queue;
  if (slots) resolve(program, state, slots);
  q->status = TW_OK;
  STORE(q->program, program);
  STORE(q->state, state);
  STORE(q->generation, program->generation);
  STORE(q->first_tag, tag_of(LOAD(q->claim)) + 1);
  STORE(q->running, 1);
  open_region(q, 0);
  return tw_resume(thread);
}

// A worker's loop. Returns the last seen `wake` when there was nothing to do for `timeout_ns`, when
// an executable was posted, when the running submission needs an executable that this thread has not loaded,
// or at shutdown; the caller goes back to its event loop and comes again.
EXPORT(tw_work)
uint32_t tw_work(tw_thread *thread, uint32_t spins, uint32_t timeout_us) {
  tw_queue *q = thread->queue;
  STORE(thread->ready, 1);
  for (;;) {
    uint32_t seen = LOAD(q->wake);
    if (LOAD(q->shutdown) || LOAD(q->posted) != thread->generation) return seen;
    enum drain_result result = drain(thread);
    if (result == NOT_LOADED) return seen;
    if (result == EXHAUSTED) {
      wait(thread, seen, SPINS_IN_SUBMISSION, (int64_t)timeout_us * 1000);
      continue;
    }
    if (!wait(thread, seen, spins, (int64_t)timeout_us * 1000)) return seen;
  }
}

// A kernel trapped on this thread: its tile has failed and is done.
// Returns 0 when no kernel was running: then the trap was not a kernel's.
EXPORT(tw_trapped) uint32_t tw_trapped(tw_thread *thread) {
  tw_queue *q = thread->queue;
  if (!thread->in_tile) return 0;
  thread->in_tile = 0;
  record_failure(thread, TW_TRAPPED);
  // The tile is unfinished, so its region is still the open one.
  uint32_t index = (uint32_t)(tag_of(LOAD(q->claim)) - q->first_tag);
  finish_tile(q, index, regions_of(q->program)[index].tile_count);
  return 1;
}
