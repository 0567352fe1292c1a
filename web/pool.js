/**
 * The pool of compute workers: makes them, sends them what is loaded, ends them. Control travels by
 * postMessage; work travels through the queue in shared memory.
 */

/** @typedef {import("./compute-worker.js").Load} Load */
/** @typedef {import("./compute-worker.js").Change} Change */

const REFUSED =
  "a compute worker's script could not be loaded; if this page has a Content-Security-Policy, its " +
  "worker-src must allow blob:";

export class Pool {
  /** @param {URL | string} script  the compute worker's module, same-origin or a blob */
  constructor(script) {
    this.script = script;
    /** @type {Worker[]} */
    this.workers = [];
    /** The workers' tw_threads, in the same order. @type {number[]} */
    this.threads = [];
    /** What is loaded now, by first table slot: what a worker that comes late needs.
     * @type {Map<number, Load>} */
    this.loaded = new Map();
    /** Loads and unloads so far. */
    this.generation = 0;
    /** What went wrong in a worker, in words; empty while all is well. @type {string[]} */
    this.faults = [];
    /** The tw_threads of workers whose script never came: they have no part in anything.
     * @type {Set<number>} */
    this.refused = new Set();
  }

  /**
   * The worker begins to run when its creator next returns to its event loop.
   * @param {Omit<import("./compute-worker.js").Start, "kind">} start
   */
  add(start) {
    const worker = new Worker(this.script, { type: "module", name: `tilework ${this.workers.length + 1}` });
    worker.onerror = (event) => {
      // An error of the script's own has words; one that could not be loaded has none.
      if (!event.message) this.refused.add(start.thread);
      this.faults.push(event.message || REFUSED);
      // Python reports it; without this it would end up as this thread's own uncaught error.
      event.preventDefault();
    };
    worker.postMessage({ kind: "start", ...start });
    for (const message of this.loaded.values()) worker.postMessage(message);
    worker.postMessage({ kind: "generation", generation: this.generation });
    this.workers.push(worker);
    this.threads.push(start.thread);
  }

  /** Has every worker carry out a change, after all earlier ones. @param {Change} message */
  post(message) {
    this.generation = message.generation;
    if (message.kind === "load") this.loaded.set(message.placement.tableBase, message);
    if (message.kind === "unload") this.loaded.delete(message.first);
    for (const worker of this.workers) worker.postMessage(message);
  }

  /** Ends all workers but keeps what is loaded for those that come. */
  abandon() {
    for (const worker of this.workers) worker.terminate();
    this.workers.length = 0;
    this.threads.length = 0;
    this.faults.length = 0;
    this.refused.clear();
  }

  close() {
    this.abandon();
    this.loaded.clear();
  }
}
