/**
 * The bridge: the only object that Python sees. It owns the device's memory and modules, the
 * submitting thread's executor and the pool. Python owns every decision about where things lie in
 * the memory; the bridge only does as told.
 */
import { Executor } from "./executor.js";
import { Pool } from "./pool.js";
import {
  QUEUE_ENDED, QUEUE_HALTED, QUEUE_POSTED, QUEUE_SHUTDOWN, QUEUE_WATCHERS,
  THREAD_GENERATION, THREAD_READY,
} from "./abi.js";

const PAGE = 65536;
const MAX_PAGES = 65536;
// What `ready` of a worker says that could not carry out a load or an unload.
const FAILED = 2;

/**
 * Pyodide's internals, as far as they are used here.
 * @typedef {{ _module: { memory?: WebAssembly.Memory, loadWebAssemblyModule: Function } }} Pyodide
 */

/**
 * What this page and browser offer.
 * @returns {{ isolated: boolean, cores: number, window: boolean }}
 */
export function surroundings() {
  const scope = /** @type {{ document?: unknown, crossOriginIsolated?: boolean }} */ (globalThis);
  return {
    isolated: scope.crossOriginIsolated === true,
    cores: navigator.hardwareConcurrency || 1,
    window: scope.document !== undefined,
  };
}

/** Whether the engine takes a module, e.g. one with relaxed SIMD. @param {Uint8Array} binary */
export function validate(binary) {
  return WebAssembly.validate(/** @type {BufferSource} */ (binary));
}

/** The bytes behind `url`, or its HTTP status; blocks. @param {string} url */
export function download(url) {
  const request = new XMLHttpRequest();
  request.open("GET", url, false);
  // A window may not ask for a buffer while it blocks; this charset keeps every byte in a character.
  const { window } = surroundings();
  if (window) request.overrideMimeType("text/plain; charset=x-user-defined");
  else request.responseType = "arraybuffer";
  try {
    request.send();
  } catch (error) {
    return { status: 0, bytes: undefined, reason: String(error) };
  }
  if (request.status < 200 || request.status >= 300) {
    return { status: request.status, bytes: undefined, reason: request.statusText };
  }
  const bytes = window
    ? Uint8Array.from(request.responseText, (character) => character.charCodeAt(0) & 0xff)
    : new Uint8Array(request.response);
  return { status: request.status, bytes, reason: request.statusText };
}

/**
 * A device on a shared memory of its own.
 * @param {string} workerScript  URL of compute-worker.js
 */
export function openArena(workerScript) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
  return new Bridge(memory, new Pool(workerScript));
}

/**
 * A device in Pyodide's own heap: for one thread, or where the heap is shared for all.
 * @param {Pyodide} pyodide
 * @param {string} [workerScript]  URL of compute-worker.js; without it there are no workers
 */
export function openHeap(pyodide, workerScript) {
  return new Bridge(heapOf(pyodide), workerScript ? new Pool(workerScript) : undefined);
}

/** Whether workers can be given Pyodide's heap; see shared-heap.js. @param {Pyodide} pyodide */
export function heapIsShared(pyodide) {
  return surroundings().isolated && heapOf(pyodide).buffer instanceof SharedArrayBuffer;
}

// The smallest side module: a dylink.0 section and the import of env.memory.
const EMPTY_SIDE_MODULE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x00, 0x0f, 0x08, 0x64, 0x79, 0x6c, 0x69, 0x6e, 0x6b, 0x2e, 0x30, 0x01, 0x04, 0x00, 0x00, 0x00, 0x00,
  0x02, 0x0f, 0x01, 0x03, 0x65, 0x6e, 0x76, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x00, 0x00,
]);

/** Found once for each Pyodide. @type {WeakMap<object, WebAssembly.Memory>} */
const heaps = new WeakMap();

/**
 * Pyodide's memory. Pyodide 314 shows it; 0.29 does not, so an empty side module is loaded while
 * WebAssembly.Instance is watched for the memory that Pyodide gives it.
 * @param {Pyodide} pyodide
 * @returns {WebAssembly.Memory}
 */
function heapOf(pyodide) {
  const module = pyodide._module;
  if (module.memory instanceof WebAssembly.Memory) return module.memory;
  let memory = heaps.get(module);
  if (memory) return memory;
  const { Instance } = WebAssembly;
  /** @param {WebAssembly.Module} binary @param {{ env: { memory: WebAssembly.Memory } }} imports */
  function Watched(binary, imports) {
    memory = imports.env.memory;
    return new Instance(binary, imports);
  }
  WebAssembly.Instance = /** @type {any} */ (Watched);
  try {
    const options = { loadAsync: false, nodelete: true, allowUndefined: true };
    module.loadWebAssemblyModule(EMPTY_SIDE_MODULE, options, "tilework-heap", {}, null);
  } finally {
    WebAssembly.Instance = Instance;
  }
  if (!memory) throw new Error("this Pyodide does not hand its memory to side modules");
  heaps.set(module, memory);
  return memory;
}

// A turn of the event loop by message. What Pyodide's `asyncio.sleep(0)` is, scheduler.postTask, keeps
// Firefox 153 from ever coming to its timers when one follows the other; messages do not.
const turn = new MessageChannel();
/** @type {(() => void)[]} */
const resting = [];
turn.port1.onmessage = () => resting.shift()?.();

export class Bridge {
  /**
   * @param {WebAssembly.Memory} memory
   * @param {Pool | undefined} pool
   */
  constructor(memory, pool) {
    this.memory = memory;
    this.pool = pool;
    /** @type {Executor | undefined} */
    this.executor = undefined;
    /** Loads and unloads so far. */
    this.generation = 0;
    this.queue = 0;
  }

  /** `length` bytes of device memory; in inline mode valid until the heap next grows.
   * @param {number} address @param {number} length */
  bytes(address, length) {
    return new Uint8Array(this.memory.buffer, address, length);
  }

  /** The same as Python copies to and from it, whatever its buffers are made of: a typed array
   * asks for its own format.
   * @param {number} address @param {number} length */
  view(address, length) {
    return new DataView(this.memory.buffer, address, length);
  }

  /** @param {number} address @param {Uint8Array} data */
  write(address, data) {
    this.bytes(address, data.length).set(data);
  }

  /** @param {number} address @param {number} length */
  clear(address, length) {
    this.bytes(address, length).fill(0);
  }

  /** Grows the memory; its address, or -1 when the browser refuses. @param {number} pages */
  grow(pages) {
    try {
      return this.memory.grow(pages) * PAGE;
    } catch (error) {
      if (error instanceof RangeError) return -1;
      throw error;
    }
  }

  /** A memory beside this one, as shared as this one, for a module that imports env.far; undefined
   * when the browser refuses. @param {number} pages */
  openFar(pages) {
    const shared = this.memory.buffer.constructor.name === "SharedArrayBuffer";
    try {
      return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  /** @param {WebAssembly.Memory} far @param {number} offset @param {number} length */
  farBytes(far, offset, length) {
    return new Uint8Array(far.buffer, offset, length);
  }

  /** @param {number} stackTop */
  start(stackTop) {
    this.executor = new Executor(this.memory, stackTop);
  }

  /**
   * Loads a module on this thread and posts it to all workers. Returns why the engine refuses it,
   * or "": nobody but this thread has seen it then.
   * @param {Uint8Array} binary
   * @param {number} memoryBase
   * @param {number} tableBase
   * @param {string} functions  JSON of [table index, export name] pairs
   * @param {boolean} processor
   * @param {number} generation
   * @param {WebAssembly.Memory} [far]  what env.far is
   */
  load(binary, memoryBase, tableBase, functions, processor, generation, far) {
    const executor = /** @type {Executor} */ (this.executor);
    const placement = { memoryBase, tableBase, functions: JSON.parse(functions) };
    let module;
    try {
      module = new WebAssembly.Module(/** @type {BufferSource} */ (binary));
      const exports = executor.load(module, placement, far);
      if (processor) executor.processor = exports;
    } catch (error) {
      const { CompileError, LinkError, RuntimeError } = WebAssembly;
      const refused = [CompileError, LinkError, RuntimeError, RangeError, TypeError];
      if (!refused.some((kind) => error instanceof kind)) throw error;
      /** @type {[number, string][]} */
      const entries = placement.functions;
      executor.unload(tableBase, Math.max(tableBase, ...entries.map(([index]) => index + 1)) - tableBase);
      return String(error);
    }
    this.change({ kind: "load", module, placement, processor, generation, far });
    return "";
  }

  /**
   * Empties table slots on this thread and has all workers do so.
   * @param {number} first
   * @param {number} slots
   * @param {number} generation
   */
  unload(first, slots, generation) {
    this.executor?.unload(first, slots);
    this.change({ kind: "unload", first, slots, generation });
  }

  /** @param {import("./compute-worker.js").Change} message */
  change(message) {
    this.generation = message.generation;
    if (!this.pool) return;
    this.pool.post(message);
    this.announce(QUEUE_POSTED, message.generation);
  }

  /** Whether every worker has carried out all changes up to `generation`. @param {number} generation */
  passed(generation) {
    const words = new Int32Array(this.memory.buffer);
    const threads = this.pool?.threads ?? [];
    return threads.every((thread) => {
      // One that never came or that has failed carries out nothing any more.
      if (this.pool?.refused.has(thread)) return true;
      if (Atomics.load(words, (thread + THREAD_READY) / 4) === FAILED) return true;
      return Atomics.load(words, (thread + THREAD_GENERATION) / 4) >= generation;
    });
  }

  /** Why a worker that takes tiles could not carry out a load or an unload, or "". One that never came
   * is no such thing: it takes no tiles, and the others do without it. */
  fault() {
    const words = new Int32Array(this.memory.buffer);
    const threads = this.pool?.threads ?? [];
    const failed = threads.some((thread) => Atomics.load(words, (thread + THREAD_READY) / 4) === FAILED);
    if (!failed) return "";
    // The error event itself needs this thread's event loop.
    return this.pool?.faults[0] ?? "it could not carry out a load or an unload";
  }

  /**
   * @param {number} queue  address of the tw_queue
   * @param {number} thread  address of the worker's tw_thread
   * @param {number} stackTop
   * @param {number} spins
   */
  addWorker(queue, thread, stackTop, spins) {
    this.queue = queue;
    const start = { memory: this.memory, queue, thread, stackTop, spins };
    this.pool?.add(start);
    this.announce(QUEUE_POSTED, this.generation);
  }

  /** Ends all workers; those that come next are on another queue. */
  abandonWorkers() {
    // One that is in the middle of a kernel runs on for a while: it must find its queue closed.
    this.announce(QUEUE_SHUTDOWN, 1);
    this.pool?.abandon();
  }

  /** Writes a word of the queue and wakes all that wait there. @param {number} field @param {number} value */
  announce(field, value) {
    if (this.queue) this.executor?.call("tw_announce", this.queue, this.queue + field, value);
  }

  /**
   * Runs a program on all threads that are ready.
   * @param {number} thread @param {number} program @param {number} state @param {number} slots
   * @returns {number} a tw_status, as tw_resume says
   */
  submit(thread, program, state, slots) {
    const executor = /** @type {Executor} */ (this.executor);
    return executor.run("tw_submit", thread, [program, state, slots], "tw_resume", []);
  }

  /** @param {number} queue @param {number} program @param {number} state @param {number} slots */
  push(queue, program, state, slots) {
    this.executor?.call("tw_push", queue, program, state, slots);
  }

  /**
   * See tw_wait.
   * @param {number} thread @param {number} target @param {number} tiles @param {number} microseconds
   * @returns {number} how many submissions have ended
   */
  wait(thread, target, tiles, microseconds) {
    const executor = /** @type {Executor} */ (this.executor);
    const parameters = [target, tiles, microseconds];
    return executor.run("tw_wait", thread, parameters, "tw_wait", parameters);
  }

  /** Whether the submission was ended with `status`. @param {number} submission @param {number} status */
  cancel(submission, status) {
    return this.executor?.call("tw_cancel", submission, status) === 1;
  }

  /** @param {number} queue */
  goOn(queue) {
    this.executor?.call("tw_go_on", queue);
  }

  /**
   * Waits without blocking until `target` submissions have ended, the ring halts or the time is over.
   * @param {number} queue @param {number} target @param {number} milliseconds
   * @returns {Promise<number>} how many submissions have ended
   */
  async ended(queue, target, milliseconds) {
    const deadline = performance.now() + milliseconds;
    const at = (queue + QUEUE_ENDED) / 4;
    for (;;) {
      // Made anew each time: inline, the heap may have grown meanwhile.
      const words = new Int32Array(this.memory.buffer);
      const seen = Atomics.load(words, at);
      const left = deadline - performance.now();
      const there = ((seen - target) | 0) >= 0 || Atomics.load(words, (queue + QUEUE_HALTED) / 4) !== 0;
      if (there || left <= 0) return seen;
      if (!this.pool) {
        await new Promise((resolve) => setTimeout(resolve, left));
        continue;
      }
      const watchers = (queue + QUEUE_WATCHERS) / 4;
      Atomics.add(words, watchers, 1);
      const wait = Atomics.waitAsync(words, at, seen, left);
      await wait.value;
      Atomics.sub(words, watchers, 1);
    }
  }

  /** Lets the event loop do what is due, timers and messages too. @returns {Promise<void>} */
  rest() {
    return new Promise((resolve) => {
      resting.push(resolve);
      turn.port2.postMessage(0);
    });
  }

  /** Whether the worker with this tw_thread takes tiles of everything loaded. @param {number} thread */
  isReady(thread) {
    const words = new Int32Array(this.memory.buffer);
    const loaded = Atomics.load(words, (thread + THREAD_GENERATION) / 4) === this.generation;
    return loaded && Atomics.load(words, (thread + THREAD_READY) / 4) === 1;
  }

  /** Resolves when all the given workers take tiles. @param {number[]} threads @param {number} milliseconds */
  async ready(threads, milliseconds) {
    const deadline = performance.now() + milliseconds;
    while (!threads.every((thread) => this.isReady(thread))) {
      if (this.pool?.faults.length) throw new Error(this.pool.faults[0]);
      if (performance.now() > deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return true;
  }

  close() {
    this.announce(QUEUE_SHUTDOWN, 1);
    this.pool?.close();
  }
}
