// The command loop. Every thread, the submitting one too, walks the open region of the open
// submission: claim a tile, run its kernel, count it done; the thread that finishes a region's last
// tile opens the next, and after the last region the next submission of the ring. This is the only
// file with atomics.
//
//   push      write a slot of the ring, and open it if nothing is open
//   wait      drain until so many submissions have ended; submit is push and wait in one
//   cancel    end a submission early, also before it was opened
//   go_on     open the next, after the host has looked at a failure
//   work      a worker's life between two visits to its event loop: drain, spin, sleep
//   trapped   after a kernel trapped: record it, count its tile done
//   announce  the host wrote something that waiting threads should see
//
// Each thread begins with a range of tiles of its own, the same part of every region, so that what it
// has written is in its core's cache when the next region reads it; when it has no more it helps the
// others with theirs, one tile at a time.
//
// Why a late thread does no harm: all that it does to shared state before it owns a tile is one
// compare-and-swap of a share, whose word only grows, for tags do. It reads the open submission's
// fields only between two reads of the same open claim. While a tile of a range is not claimed its
// region cannot end; so where the swap succeeds, the tile that it takes was there to be taken, and
// whatever it was computed from is alive.
//
// Why no push is lost: pushing and ending both look for something to open after they have written
// what the other looks at (`pushed`, `running`), so one of them sees it.
#include <stddef.h>

#include "processor.h"

#define EXPORT(name) __attribute__((export_name(#name)))
#define LOAD(p) __atomic_load_n(&(p), __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n(&(p), (v), __ATOMIC_SEQ_CST)
#define RELAXED(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)

// A thread that waits for the next region spins for about 60 us before it sleeps: a wake through a
// futex costs 10 to 50 us, most regions are shorter. One spin takes about 10 ns, see `pause`.
#define SPINS_PER_US 100
#define SPINS_IN_SUBMISSION (60 * SPINS_PER_US)
#define FOR_EVER 0x7fffffff  // as a distance of `ended`

enum drain_result { CLOSED, EXHAUSTED, NOT_LOADED, ENOUGH };

static uint64_t tag_of(uint64_t claim) { return claim >> TW_TILE_BITS; }
static uint32_t tile_of(uint64_t claim) { return (uint32_t)claim & TW_CLOSED; }

static const tw_region *regions_of(const tw_program *p) {
  return (const tw_region *)((const uint8_t *)p + p->regions);
}

static const tw_command *commands_of(const tw_program *p) {
  return (const tw_command *)((const uint8_t *)p + p->commands);
}

// Execution state: tw_step[command_count], then tw_binding[ref_count].
static tw_step *steps_of(uint8_t *state) { return (tw_step *)state; }

static tw_binding *bindings_of(const tw_program *p, uint8_t *state) {
  return (tw_binding *)(steps_of(state) + p->command_count);
}

// What is there to do for others: those that sleep are woken. A wake costs the caller some
// microseconds and takes 10 to 50, so what nobody else is needed for is not announced.
static void announce(tw_queue *q) {
  __atomic_fetch_add(&q->wake, 1, __ATOMIC_SEQ_CST);
  if (LOAD(q->sleepers)) __builtin_wasm_memory_atomic_notify((int *)&q->wake, ~0u);
}

static int swap(uint32_t *word, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static int reached(uint32_t ended, uint32_t target) { return (int32_t)(ended - target) >= 0; }

static tw_submission *slot(tw_queue *q, uint32_t number) { return &q->ring[number % TW_RING]; }

static void resolve(const tw_program *p, uint8_t *state, const tw_binding *slots) {
  const tw_command *commands = commands_of(p);
  const tw_ref *refs = (const tw_ref *)((const uint8_t *)p + p->refs);
  tw_step *steps = steps_of(state);
  tw_binding *bindings = bindings_of(p, state);
  for (uint32_t i = 0; i < p->ref_count; i++) {
    uint8_t *base = refs[i].slot == TW_NO_SLOT ? 0 : slots[refs[i].slot].data;
    bindings[i] = (tw_binding){base + refs[i].offset, refs[i].length};
  }
  for (uint32_t i = 0; i < p->command_count; i++) {
    const tw_command *c = &commands[i];
    steps[i] = (tw_step){
        .dispatch = {
            .count_x = c->count_x, .count_y = c->count_y, .count_z = c->count_z,
            .binding_count = c->ref_count, .bindings = bindings + c->first_ref,
            .params = (const uint8_t *)p + c->params, .params_length = c->params_length,
            .command = i,
        },
        .function = c->function, .first_tile = c->first_tile, .tile_count = c->tile_count,
    };
  }
}

// Reads the counts of a region's indirect commands, numbers its tiles anew and returns how many
// there are. Counts above the recorded ones fail the submission: 0, and nothing of the region runs.
static uint32_t count_tiles(tw_queue *q, const tw_region *region) {
  const tw_program *p = q->program;
  const tw_binding *bindings = bindings_of(p, q->state);
  uint32_t tiles = 0;
  for (uint32_t i = region->first_command, n = region->command_count; n; i++, n--) {
    const tw_command *c = commands_of(p) + i;
    tw_step *step = steps_of(q->state) + i;
    if (c->counts_ref) {
      const uint32_t *counts = bindings[c->counts_ref - 1].data;
      uint32_t x = counts[0], y = counts[1], z = counts[2];
      if (x > c->count_x || y > c->count_y || z > c->count_z) {
        if (swap(&q->current->status, TW_OK, TW_COUNTS_TOO_LARGE)) {
          q->current->failed_command = i;
          q->current->failed_x = x;
          q->current->failed_y = y;
          q->current->failed_z = z;
        }
        return 0;
      }
      step->dispatch.count_x = x;
      step->dispatch.count_y = y;
      step->dispatch.count_z = z;
      step->tile_count = x * y * z;  // no more than the recorded product
    }
    step->first_tile = tiles;
    tiles += step->tile_count;
  }
  return tiles;
}

// Opens the first region at or after `index` that has tiles; 0 when there is none, or when the
// submission has failed. `mine`: the calling thread goes on with it, so that from where regions have
// one tile each it needs nobody. Before that such a region is announced too: a thread that sleeps is
// on its way while it runs (without: whisper_step on two threads 2 to 7 % slower, 2026-11).
static int open_region(tw_queue *q, uint32_t index, int mine) {
  const tw_program *p = q->program;
  const tw_region *regions = regions_of(p);
  for (; index < p->region_count && LOAD(q->current->status) == TW_OK; index++) {
    uint32_t tiles = regions[index].tile_count;
    if (tiles && regions[index].indirect) {
      // The region before still shows its tag. Who took that for the count below could claim a tile
      // that it does not have; a closed claim lets no swap succeed.
      STORE(q->claim, LOAD(q->claim) | TW_CLOSED);
      tiles = count_tiles(q, &regions[index]);
      STORE(q->tile_count, tiles);
    }
    if (!tiles) continue;
    STORE(q->done, 0);
    STORE(q->claim, (q->first_tag + index) << TW_TILE_BITS);
    if (!mine || index < q->shared_regions) announce(q);
    return 1;
  }
  return 0;
}

// Opens the submission `s`; 0 when it has nothing to run. Its bindings are resolved even then: a
// later submission may rely on its state.
static int open_submission(tw_queue *q, tw_submission *s, int mine) {
  const tw_program *p = s->program;
  if (s->slots) resolve(p, s->state, s->slots);
  STORE(q->current, s);
  STORE(q->program, p);
  STORE(q->state, s->state);
  STORE(q->generation, p->generation);
  STORE(q->first_tag, tag_of(LOAD(q->claim)) + 1);
  const tw_region *regions = regions_of(p);
  uint32_t shared = p->region_count;
  while (shared && regions[shared - 1].tile_count <= 1) shared--;
  q->shared_regions = shared;
  return open_region(q, 0, mine);
}

// `ended` and `halted` in one store: a host that saw a failed submission ended and the ring not
// halted, or the ring halted and the submission not ended, would take another's end for its.
static void store_end(tw_queue *q, uint32_t ended, uint32_t halted) {
  _Static_assert(offsetof(tw_queue, ended) % 8 == 0, "one store of eight bytes");
  _Static_assert(offsetof(tw_queue, halted) == offsetof(tw_queue, ended) + 4, "side by side");
  STORE(*(uint64_t *)&q->ended, (uint64_t)halted << 32 | ended);
}

// Ends the current submission. Its slot is the host's again as soon as `ended` is written. Only the
// submitting thread waits for that: a `worker` wakes it, it wakes nobody.
static void end_submission(tw_queue *q, uint32_t worker) {
  uint32_t *status = &q->current->status;
  uint32_t failed = !swap(status, TW_OK, TW_ENDED) && LOAD(*status) != TW_SKIPPED;
  STORE(q->claim, (tag_of(LOAD(q->claim)) + 1) << TW_TILE_BITS | TW_CLOSED);
  store_end(q, q->ended + 1, failed);
  STORE(q->running, 0);
  if (worker)
    announce(q);
  else
    __atomic_fetch_add(&q->wake, 1, __ATOMIC_SEQ_CST);
  if (LOAD(q->watchers)) __builtin_wasm_memory_atomic_notify((int *)&q->ended, ~0u);
}

// Opens what was pushed, unless something is open or the ring has halted. A loop: submissions
// without tiles end at once. `mine`: the calling thread, number `worker`, goes on with what it opens.
static void open_next(tw_queue *q, uint32_t worker, int mine) {
  while (!LOAD(q->halted) && LOAD(q->ended) != LOAD(q->pushed)) {
    if (!swap(&q->running, 0, 1)) return;  // whoever has it looks again when it lets go
    if (LOAD(q->halted) || LOAD(q->ended) == LOAD(q->pushed))
      STORE(q->running, 0);
    else if (open_submission(q, slot(q, q->ended), mine))
      return;
    else
      end_submission(q, worker);
  }
}

// Counts this thread's tiles of the open region done; it has `tile_count`. The next region of the
// submission is this thread's too; the next submission may need what it has not loaded.
static void finish(tw_thread *thread, uint32_t index, uint32_t tile_count) {
  tw_queue *q = thread->queue;
  uint32_t tiles = thread->uncounted;
  thread->uncounted = 0;
  if (__atomic_add_fetch(&q->done, tiles, __ATOMIC_SEQ_CST) != tile_count) return;
  if (open_region(q, index + 1, 1)) return;
  end_submission(q, thread->worker);
  open_next(q, thread->worker, 0);
}

static void record_failure(tw_thread *thread, tw_submission *s, uint32_t status) {
  if (!swap(&s->status, TW_OK, status)) return;
  s->failed_command = thread->command;
  s->failed_x = thread->x;
  s->failed_y = thread->y;
  s->failed_z = thread->z;
  s->failed_worker = thread->worker;
}

static void run_tile(tw_thread *thread, tw_submission *current, const tw_step *step, uint32_t local) {
  const tw_dispatch *dispatch = &step->dispatch;
  uint32_t row = local / dispatch->count_x;
  tw_tile tile = {
      .x = local - row * dispatch->count_x,
      .y = row % dispatch->count_y,
      .z = row / dispatch->count_y,
      .worker = thread->worker,
      .scratch = thread->scratch,
      .scratch_length = thread->scratch_length,
  };
  thread->command = dispatch->command;
  thread->x = tile.x;
  thread->y = tile.y;
  thread->z = tile.z;
  thread->in_tile = 1;
  uint32_t status = ((tw_kernel)(uintptr_t)step->function)(dispatch, &tile);
  thread->in_tile = 0;
  thread->tiles++;
  if (status != TW_OK) record_failure(thread, current, status);
}

// The tiles of one region that a thread takes from.
typedef struct range {
  uint32_t each, longer;  // all have `each` tiles, the first so many one more
  uint32_t whose, first, length;
} range;

static void go_to(range *r, uint32_t whose) {
  r->whose = whose;
  r->first = whose * r->each + (whose < r->longer ? whose : r->longer);
  r->length = r->each + (whose < r->longer);
}

// Runs tiles, across regions and submissions, until the open region has none left to claim, nothing
// is open, `target` submissions have ended or `tiles` tiles were run (0: no limit).
static enum drain_result drain(tw_thread *thread, uint32_t target, uint32_t tiles) {
  tw_queue *q = thread->queue;
  const uint32_t threads = q->thread_count;
  uint64_t known = ~0ull;  // the tag that the variables below belong to
  uint32_t index = 0, tile_count = 0;
  range range = {0};
  uint32_t passed = 0;  // ranges that have no more
  const tw_step *steps = 0, *step = 0;
  tw_submission *current = 0;
  for (;;) {
    uint64_t claim = LOAD(q->claim);
    uint64_t tag = tag_of(claim);
    if (tile_of(claim) == TW_CLOSED) return CLOSED;
    if (tag != known) {
      const tw_program *p = RELAXED(q->program);
      uint8_t *state = RELAXED(q->state);
      uint32_t generation = RELAXED(q->generation);
      current = RELAXED(q->current);
      index = (uint32_t)(tag - RELAXED(q->first_tag));
      uint32_t counted = RELAXED(q->tile_count);
      if (LOAD(q->claim) != claim) continue;
      if (reached(LOAD(q->ended), target)) return ENOUGH;
      if (generation > thread->generation) return NOT_LOADED;
      const tw_region region = regions_of(p)[index];
      if (LOAD(q->claim) != claim) continue;
      tile_count = region.indirect ? counted : region.tile_count;
      step = steps = steps_of(state) + region.first_command;
      range.each = tile_count / threads;
      range.longer = tile_count % threads;
      go_to(&range, thread->worker);
      passed = 0;
      known = tag;
    }
    uint64_t *share = &q->shares[range.whose].taken;
    uint64_t word = range.length ? LOAD(*share) : claim;
    if (tag_of(word) > tag) continue;
    uint32_t taken = tag_of(word) == tag ? tile_of(word) : 0;
    if (taken >= range.length) {
      if (thread->uncounted) {
        finish(thread, index, tile_count);
        continue;
      }
      if (++passed == threads) return EXHAUSTED;
      go_to(&range, range.whose + 1 == threads ? 0 : range.whose + 1);
      step = steps;
      continue;
    }
    // After a failure the remaining tiles of a range are claimed and counted all at once, not run.
    int alive = LOAD(current->status) == TW_OK;
    uint32_t claimed = alive ? 1 : range.length - taken;
    if (!__atomic_compare_exchange_n(share, &word, claim + taken + claimed, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
      continue;
    // Claims within a range only grow, so the cursor only moves forward.
    uint32_t tile = range.first + taken;
    while (tile - step->first_tile >= step->tile_count) step++;
    if (alive) run_tile(thread, current, step, tile - step->first_tile);
    thread->uncounted += claimed;
    if (--tiles == 0) {
      finish(thread, index, tile_count);
      announce(q);  // others may have to do what this thread has opened for itself
      return ENOUGH;
    }
  }
}

// About 10 ns, for who waits in a loop: each product needs the one before. A loop of bare loads takes
// 0.3 ns a turn in optimised code and 1.5 in what is not yet, so its length would say nothing.
static uint32_t pause(uint32_t x) {
  for (int i = 0; i < 8; i++) x = (x ^ x >> 15) * 0x2c1b3c6d;
  return x;
}

// Waits until `wake` is no longer `seen`; returns 0 when the time-out passed first.
static int wait(tw_thread *thread, uint32_t seen, uint32_t spins, uint32_t timeout_us) {
  tw_queue *q = thread->queue;
  // Where blocking is not allowed there is no clock either: about as long, in spins.
  if (!thread->may_block) spins = timeout_us < ~0u / SPINS_PER_US ? timeout_us * SPINS_PER_US : ~0u;
  // What `pause` gives is never 0, which the compiler does not know.
  for (uint32_t i = 0, x = 1; i < spins; i += x != 0, x = pause(x))
    if (RELAXED(q->wake) != seen) return 1;
  if (thread->may_block) {
    __atomic_fetch_add(&q->sleepers, 1, __ATOMIC_SEQ_CST);
    __builtin_wasm_memory_atomic_wait32((int *)&q->wake, (int)seen, (int64_t)timeout_us * 1000);
    __atomic_fetch_sub(&q->sleepers, 1, __ATOMIC_SEQ_CST);
  }
  return LOAD(q->wake) != seen;
}

static uint32_t push(tw_queue *q, const tw_program *program, uint8_t *state,
                     const tw_binding *slots, int mine) {
  uint32_t number = q->pushed;
  *slot(q, number) = (tw_submission){.program = program, .state = state, .slots = slots};
  STORE(q->pushed, number + 1);
  open_next(q, 0, mine);
  return number;
}

// Appends a submission and returns its number. Only the submitting thread pushes, and it sees to it
// that the slot's last submission has ended and was looked at.
EXPORT(tw_push)
uint32_t tw_push(tw_queue *q, const tw_program *program, uint8_t *state, const tw_binding *slots) {
  return push(q, program, state, slots, 0);
}

// Drains and sleeps until `target` submissions have ended; returns how many have. Comes back before
// that when the ring has halted, when nothing has happened for `timeout_us`, and, where `tiles` is
// not 0, when this thread has run that many or has slept once, so that a host with a deadline can
// look at its clock. It does nothing when the target was reached before.
EXPORT(tw_wait)
uint32_t tw_wait(tw_thread *thread, uint32_t target, uint32_t tiles, uint32_t timeout_us) {
  tw_queue *q = thread->queue;
  for (;;) {
    uint32_t seen = LOAD(q->wake);
    if (reached(LOAD(q->ended), target) || LOAD(q->halted)) break;
    if (drain(thread, target, tiles) == ENOUGH) break;
    if (reached(LOAD(q->ended), target) || LOAD(q->halted) || !timeout_us) break;
    int woken = wait(thread, seen, SPINS_IN_SUBMISSION, timeout_us);
    if (!woken || tiles) break;
  }
  return LOAD(q->ended);
}

// Drains until everything that was pushed has ended; returns the last one's status, or TW_OK when it
// has not ended: the ring has halted, or nothing has happened for TW_PATIENCE. Also the way back in
// after a trap on the submitting thread.
EXPORT(tw_resume) uint32_t tw_resume(tw_thread *thread) {
  tw_queue *q = thread->queue;
  uint32_t pushed = q->pushed;
  return reached(tw_wait(thread, pushed, 0, TW_PATIENCE), pushed) ? slot(q, pushed - 1)->status : TW_OK;
}

// Pushes `program` and runs it to its end; see tw_push and tw_resume.
EXPORT(tw_submit)
uint32_t tw_submit(tw_thread *thread, const tw_program *program, uint8_t *state,
                   const tw_binding *slots) {
  push(thread->queue, program, state, slots, 1);
  return tw_resume(thread);
}

// Ends a submission with `status` unless it is over; 1 if it did. Tiles that run now end first.
EXPORT(tw_cancel) uint32_t tw_cancel(tw_submission *s, uint32_t status) {
  return (uint32_t)swap(&s->status, TW_OK, status);
}

// The host has looked at what halted the ring.
EXPORT(tw_go_on) void tw_go_on(tw_queue *q) {
  STORE(q->halted, 0);
  open_next(q, 0, 0);
}

// Writes a word of the queue for the host and wakes all that wait, so that they look at it.
EXPORT(tw_announce) void tw_announce(tw_queue *q, uint32_t *word, uint32_t value) {
  STORE(*word, value);
  announce(q);
}

// A worker's loop. Returns the last seen `wake` when there was nothing to do for `timeout_ns`, when
// an executable was posted, when the open submission needs an executable that this thread has not
// loaded, or at shutdown; the caller goes back to its event loop and comes again.
EXPORT(tw_work)
uint32_t tw_work(tw_thread *thread, uint32_t spins, uint32_t timeout_us) {
  tw_queue *q = thread->queue;
  STORE(thread->ready, 1);
  for (;;) {
    uint32_t seen = LOAD(q->wake);
    if (LOAD(q->shutdown) || LOAD(q->posted) != thread->generation) return seen;
    enum drain_result result = drain(thread, LOAD(q->ended) + FOR_EVER, 0);
    if (result == NOT_LOADED) return seen;
    if (result == EXHAUSTED) {
      wait(thread, seen, SPINS_IN_SUBMISSION, timeout_us);
      continue;
    }
    if (!wait(thread, seen, spins, timeout_us)) return seen;
  }
}

// A kernel trapped on this thread: its tile has failed and is done.
// Returns 0 when no kernel was running: then the trap was not a kernel's.
EXPORT(tw_trapped) uint32_t tw_trapped(tw_thread *thread) {
  tw_queue *q = thread->queue;
  if (!thread->in_tile) return 0;
  thread->in_tile = 0;
  record_failure(thread, q->current, TW_TRAPPED);
  // The tile is unfinished, so its region is still the open one.
  uint32_t index = (uint32_t)(tag_of(LOAD(q->claim)) - q->first_tag);
  const tw_region *region = &regions_of(q->program)[index];
  thread->uncounted++;
  finish(thread, index, region->indirect ? q->tile_count : region->tile_count);
  return 1;
}
