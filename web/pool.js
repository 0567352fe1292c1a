/**
 * The pool of compute workers: makes them, sends them what is loaded, ends them. Control travels by
 * postMessage; work travels through the queue in shared memory.
 */

/** @typedef {import("./compute-worker.js").Load} Load */

export class Pool {
  /** @param {URL | string} script  the compute worker's module, same-origin or a blob */
  constructor(script) {
    this.script = script;
    /** @type {Worker[]} */
    this.workers = [];
    /** What went wrong in a worker, in words; empty while all is well. @type {string[]} */
    this.faults = [];
  }

  /**
   * The worker begins to run when its creator next returns to its event loop.
   * @param {Omit<import("./compute-worker.js").Start, "kind">} start
   * @param {Load[]} loaded  everything that earlier workers were sent
   */
  add(start, loaded) {
    const worker = new Worker(this.script, { type: "module", name: `tilework ${this.workers.length + 1}` });
    worker.onerror = (event) => {
      this.faults.push(event.message || "a compute worker's script could not be loaded");
    };
    worker.postMessage({ kind: "start", ...start });
    for (const message of loaded) worker.postMessage(message);
    this.workers.push(worker);
  }

  /** @param {Load} message */
  broadcast(message) {
    for (const worker of this.workers) worker.postMessage(message);
  }

  close() {
    for (const worker of this.workers) worker.terminate();
    this.workers.length = 0;
  }
}
