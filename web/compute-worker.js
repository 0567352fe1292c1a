/**
 * A compute worker: takes modules by message, drains tiles in wasm, and comes back to its event
 * loop whenever there is nothing to do. It owns its executor and nothing else; the pool owns it.
 */
import { Executor } from "./executor.js";
import { QUEUE_SHUTDOWN, QUEUE_SLEEPERS, QUEUE_WAKE, THREAD_GENERATION, THREAD_READY } from "./abi.js";

/**
 * @typedef {object} Start
 * @property {"start"} kind
 * @property {WebAssembly.Memory} memory
 * @property {number} queue  address of the tw_queue
 * @property {number} thread  address of this worker's tw_thread
 * @property {number} stackTop
 * @property {number} spins  how often `wake` is read before the thread sleeps
 */
/**
 * @typedef {object} Load
 * @property {"load"} kind
 * @property {WebAssembly.Module} module
 * @property {import("./executor.js").Placement} placement
 * @property {boolean} processor
 * @property {number} generation  loads and unloads so far, this one included
 * @property {WebAssembly.Memory} [far]  what env.far is
 */
/**
 * @typedef {object} Unload
 * @property {"unload"} kind
 * @property {number} first  table slot
 * @property {number} slots
 * @property {number} generation
 */
/**
 * What a worker that came late has got: everything that is still loaded, up to here.
 * @typedef {object} UpToDate
 * @property {"generation"} kind
 * @property {number} generation
 */
/** @typedef {Load | Unload | UpToDate} Change */
/** @typedef {Start | Change} Message */

// In the futex a worker wakes in 10 to 50 us but reads no message; in its event loop it wakes in
// 100 to 150 us. It sleeps this long in the first before it goes to the second.
const FUTEX_MICROSECONDS = 20_000;
// A safety net only: every opening and every message wakes an asynchronous wait too.
const IDLE_MILLISECONDS = 2_000;
// What `ready` of a worker says that could not carry out a load or an unload.
const FAILED = 2;

/** @type {Start | undefined} */
let start;
/** @type {Executor | undefined} */
let executor;
let draining = false;
// After a change that could not be carried out the table is not what others think it is: the worker
// says so in its tw_thread, where a host sees it that never goes back to its event loop, and ends.
let failed = false;
// Ends the wait in the event loop: after a change this thread may take what it could not before, and
// nobody else announces that.
let look = () => {};

/** @param {Int32Array} words @param {Start} own */
async function live(words, own) {
  const { thread, queue, spins } = own;
  const wake = (queue + QUEUE_WAKE) / 4;
  const sleepers = (queue + QUEUE_SLEEPERS) / 4;
  const host = /** @type {Executor} */ (executor);
  const parameters = [spins, FUTEX_MICROSECONDS];
  while (!failed && Atomics.load(words, (queue + QUEUE_SHUTDOWN) / 4) === 0) {
    const seen = host.run("tw_work", thread, parameters, "tw_work", parameters);
    Atomics.add(words, sleepers, 1);
    const wait = Atomics.waitAsync(words, wake, seen, IDLE_MILLISECONDS);
    // A message is a task of its own; a value that is already there would starve it.
    const changed = new Promise((resolve) => { look = () => resolve(undefined); });
    const turn = wait.async ? wait.value : new Promise((resolve) => setTimeout(resolve, 0));
    await Promise.race([turn, changed]);
    Atomics.sub(words, sleepers, 1);
  }
  self.close();
}

/** @param {Message} message */
function receive(message) {
  if (message.kind === "start") {
    start = message;
    executor = new Executor(message.memory, message.stackTop);
    return;
  }
  if (!start || !executor) throw new Error("a module arrived before the start message");
  if (failed) return;
  const words = new Int32Array(start.memory.buffer);
  try {
    if (message.kind === "load") {
      const exports = executor.load(message.module, message.placement, message.far);
      if (message.processor) executor.processor = exports;
    } else if (message.kind === "unload") {
      executor.unload(message.first, message.slots);
    }
  } catch (error) {
    failed = true;
    Atomics.store(words, (start.thread + THREAD_READY) / 4, FAILED);
    throw error;
  }
  Atomics.store(words, (start.thread + THREAD_GENERATION) / 4, message.generation);
  look();
  if (message.kind === "load" && message.processor && !draining) {
    draining = true;
    // A rejection here is a fault of the processor or of this file; the pool sees the error event.
    live(words, start).catch((error) => setTimeout(() => { throw error; }, 0));
  }
}

self.onmessage = (/** @type {MessageEvent<Message>} */ event) => receive(event.data);
