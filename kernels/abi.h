// Every layout that C, Python and JavaScript share is stated here and nowhere else.
// tools/abi.py reads this file and writes pyapp/tilework/hal/_abi.py and web/abi.js.
//
// The reader understands: `enum tw_x { TW_A = 1, ... };`, `typedef struct tw_x { ... } tw_x;` with
// fields uint8_t..uint64_t, int32_t, float, pointers (4 bytes on wasm32), fixed arrays, nested tw_
// structs and TW_LINE (start of a cache line), and `#define TW_X number`.
#ifndef TW_ABI_H
#define TW_ABI_H
#include <stddef.h>
#include <stdint.h>

#define TW_ABI_VERSION 1
#define TW_LINE _Alignas(64)
#define TW_ALIGNMENT 64  // of every buffer and of every structure below, bytes

// ---------------------------------------------------------------------------------------------
// What a kernel sees: uint32_t kernel(const tw_dispatch *, const tw_tile *), 0 is success.

typedef struct tw_binding {
  void *data;       // aligned as the buffer's own offset allows; 16 bytes unless the .wit says else
  uint32_t length;  // bytes; 0 is an absent optional binding
} tw_binding;

// Shared by all tiles of a dispatch, read-only.
typedef struct tw_dispatch {
  uint32_t count_x, count_y, count_z;  // tile counts
  uint32_t binding_count;
  const tw_binding *bindings;
  const void *params;  // the record of the kernel's .wit, 8-byte aligned
  uint32_t params_length;
  uint32_t command;  // index in the program, for failure records
} tw_dispatch;

// One tile, private to the thread that runs it.
typedef struct tw_tile {
  uint32_t x, y, z;
  uint32_t worker;  // 0 is the submitting thread
  void *scratch;    // 64-byte aligned, contents undefined
  uint32_t scratch_length;
  uint32_t reserved;
} tw_tile;

typedef uint32_t (*tw_kernel)(const tw_dispatch *, const tw_tile *);

// Codes a kernel may return; any other non-zero value is reported by number.
enum tw_status {
  TW_OK = 0,
  TW_INVALID_PARAMS = 1,      // a parameter is outside what the kernel accepts
  TW_BINDING_TOO_SHORT = 2,   // a binding is shorter than the parameters imply
  TW_SCRATCH_TOO_SMALL = 3,
  TW_INDEX_OUT_OF_RANGE = 4,  // data held an index outside its axis
  TW_COUNTS_TOO_LARGE = 5,    // written by the processor: indirect counts above the recorded ones
  TW_TRAPPED = 256,           // written by the host: the kernel trapped
  TW_CANCELLED = 257,         // written by the host
  TW_SKIPPED = 258,           // written by the host: what it needs has failed; does not halt the ring
  TW_ENDED = 259,             // success; written when the last tile is done: too late to cancel
  TW_STUCK = 260,             // written by the host: a thread did not come back from its tile
  TW_LOST = 261,              // written by the host: a thread was ended between two tiles
};

// ---------------------------------------------------------------------------------------------
// A program: a finished command buffer, immutable, position-independent apart from table indices.
// All offsets are bytes from the program's first byte.
//
//   tw_program | tw_region[region_count] | tw_command[command_count] | tw_ref[ref_count] | params
//
// Everything in one region may overlap; a barrier is the border between two regions. Fill, copy
// and update are dispatches of the processor's own kernels.

typedef struct tw_program {
  uint32_t magic;  // TW_PROGRAM_MAGIC
  uint32_t length;
  uint32_t region_count, command_count, ref_count, slot_count;
  uint32_t regions, commands, refs, params;  // offsets
  uint32_t state_length;    // bytes: tw_step[command_count], tw_binding[ref_count]
  uint32_t scratch_length;  // largest scratch any of its kernels needs
  uint32_t generation;      // threads that have loaded fewer executables sit it out
  uint32_t reserved[3];
} tw_program;

#define TW_PROGRAM_MAGIC 0x4b4c4954
#define TW_MAX_TILES 16777215  // in one region
#define TW_MOVE_TILE 65536     // bytes a tile of the processor's fill and copy moves

typedef struct tw_region {
  uint32_t first_command, command_count;
  uint32_t tile_count;  // at most; exactly where nothing is indirect
  uint32_t indirect;    // commands in it that take their tile counts from a buffer
} tw_region;

typedef struct tw_command {
  uint32_t function;  // index in the function table
  uint32_t count_x, count_y, count_z;  // the ceiling where counts_ref is given
  uint32_t first_tile;  // its first tile's number within the region
  uint32_t tile_count;
  uint32_t first_ref, ref_count;
  uint32_t params, params_length;  // offset from the program
  uint32_t counts_ref;  // 0, or 1 + the ref of three uint32_t: read when its region opens
  uint32_t reserved[5];
} tw_command;

// A binding: `length` bytes at `offset` of the span in slot `slot` of the submission's table, or,
// for TW_NO_SLOT, at the absolute address `offset`.
typedef struct tw_ref {
  uint32_t slot, offset, length, reserved;
} tw_ref;

#define TW_NO_SLOT 0xffffffff

// What a thread reads of a command while its region is open: one cache line in the state.
typedef struct tw_step {
  TW_LINE tw_dispatch dispatch;
  uint32_t function;    // index in the function table
  uint32_t first_tile;  // its first tile's number within the region
  uint32_t tile_count;
  uint32_t reserved[5];
} tw_step;

// ---------------------------------------------------------------------------------------------
// A queue: the words through which threads meet, and a ring of submissions that run in the order in
// which they were pushed, one at a time. Whichever thread finishes one opens the next.
//
// `claim` is the tag of the open region, (tag << TW_TILE_BITS); a tag names one region of one
// submission and is never used twice. Between submissions its low bits are TW_CLOSED, so that nobody
// takes the fields under "open" for those of a region while they change.
//
// A region's tiles are cut into one range for each thread, as even as can be. Each thread has a share
// on a line of its own: (tag << TW_TILE_BITS | tiles taken of its range); with an older tag, none
// are. Its owner takes from it by compare-and-swap, and so does whoever has none left of its own.
// The word only grows, so the swap of a late thread fails and it can claim nothing of a dead submission.

#define TW_TILE_BITS 24
#define TW_CLOSED 16777215
#define TW_RING 64  // submissions in the ring; a host that has more keeps them
#define TW_PATIENCE 20000  // us without any event after which a submitting thread looks around

// Written by the host before it adds one to `pushed`; after that only `status` changes, by
// compare-and-swap from 0, and whoever wins writes where it failed. The record stays until the host
// pushes into the same slot again.
typedef struct tw_submission {
  TW_LINE const tw_program *program;
  uint8_t *state;           // the program's; one submission is open at a time, so one is enough
  const tw_binding *slots;  // 0: the state holds these bindings already
  uint32_t status;          // tw_status; final once the submission has ended
  uint32_t failed_command, failed_x, failed_y, failed_z, failed_worker;
  uint32_t reserved[7];
} tw_submission;

typedef struct tw_share {
  TW_LINE uint64_t taken;  // any thread, by compare-and-swap
} tw_share;

typedef struct tw_queue {
  // Whoever opens something writes both `claim` and `wake`: who waits gets them in one line.
  TW_LINE uint64_t claim;       // written by the thread that opens a region or ends a submission
  uint32_t wake;                // counts openings, closings and messages; futex of all that wait
  uint32_t sleepers;            // threads waiting on `wake`, blocked or in their event loop
  uint32_t posted;              // executables posted to all workers; written by the host
  uint32_t shutdown;            // 1: threads leave their loops; written by the host
  TW_LINE uint32_t done;        // tiles finished in the open region; any thread
  // the ring
  TW_LINE uint32_t pushed;      // submissions pushed, modulo 2^32; written by the submitting thread
  uint32_t watchers;            // of `ended`
  // These two change in one store when a submission ends, so that nobody sees one without the other.
  uint32_t ended;               // of the pushed, ended; a futex of hosts that wait asynchronously
  uint32_t halted;              // 1: number ended - 1 failed, and the host has not looked at it yet
  uint32_t running;             // 1: some thread opens, runs or ends one; by compare-and-swap
  tw_submission *ring;          // number n lies in ring[n % TW_RING]
  tw_share *shares;             // one for each thread
  uint32_t thread_count;        // of the device, whether they have come or not
  // open; written while the claim is closed, by the thread that has set `running`
  TW_LINE tw_submission *current;
  const tw_program *program;
  uint8_t *state;
  uint32_t generation;          // threads that have loaded fewer executables sit it out
  uint64_t first_tag;           // tag of region 0
  uint32_t tile_count;          // of the open region, where it has indirect commands
  uint32_t shared_regions;      // behind the last one of more than one tile; for who opens regions
} tw_queue;

// What one thread owns. The first line is written by the host, the second by the thread; only the
// submitting thread's `generation` is the host's.
typedef struct tw_thread {
  TW_LINE tw_queue *queue;
  uint32_t worker;              // 0 is the submitting thread
  uint8_t *scratch;
  uint32_t scratch_length;
  uint32_t may_block;           // 0 on a page's main thread: spin instead of waiting on a futex
  uint32_t reserved[3];
  TW_LINE uint32_t generation;  // executables loaded so far
  uint32_t ready;               // 1 once it can take tiles, 2 when it failed to load a module
  uint32_t in_tile;             // 1 while a kernel runs; tells a trap what it hit
  uint32_t command, x, y, z;
  uint32_t tiles;               // tiles run since start, for statistics
  uint32_t uncounted;           // of the open region, not yet in `done`: counted range by range
} tw_thread;

#endif
