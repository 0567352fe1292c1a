/**
 * The page's end of the Python worker: starts it, asks it, and reports what becomes of it. Owns the
 * worker and every promise that waits for it: a crash rejects them, `close` ends them.
 */

/** @typedef {import("./messages.js").ToPage} ToPage */
/** @typedef {import("./messages.js").ToWorker} ToWorker */
/** @typedef {import("./messages.js").Failure} Failure */
/** @typedef {import("./messages.js").Answer} Answer */
/** @typedef {import("./messages.js").Report} Report */
/** @typedef {import("./python.js").PythonMemory} PythonMemory */
/** @typedef {Exclude<ToPage, { kind: "answer" | "report" }>} News  what no request asked for */

/** An error of the worker's, with the type's name and words for people. */
export class WorkerError extends Error {
  /** @param {string} name @param {string} message */
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

/**
 * @typedef {object} Waiting
 * @property {(value: any) => void} resolve
 * @property {(reason: WorkerError) => void} reject
 */

export class PythonWorker {
  /**
   * @param {{ threads: number | null, memory: PythonMemory }} options
   * @param {(news: News) => void} listener
   */
  constructor({ threads, memory }, listener) {
    this.listener = listener;
    /** @type {Map<number, Waiting>} */
    this.waiting = new Map();
    this.asked = 0;
    this.ended = false;
    this.worker = new Worker(new URL("./python-worker.js", import.meta.url), {
      type: "module",
      name: "tilework python",
    });
    this.worker.onmessage = (/** @type {MessageEvent<ToPage>} */ event) => this.receive(event.data);
    this.worker.onmessageerror = () => this.crash("a message of the worker's could not be read");
    this.worker.onerror = (event) =>
      this.crash(event.message || "the worker's script could not be loaded");
    this.post({ kind: "start", threads, memory });
  }

  /** @param {string} query @returns {Promise<Answer>} */
  search(query) {
    return this.ask((id) => ({ kind: "search", id, query }));
  }

  /** @returns {Promise<Report>} */
  report() {
    return this.ask((id) => ({ kind: "report", id }));
  }

  /** Lets the start go on after a failure whose `retry` is true. */
  retry() {
    this.post({ kind: "retry" });
  }

  /** Ends the worker; what still waits is rejected. */
  close() {
    this.ended = true;
    this.worker.terminate();
    this.rejectAll(new WorkerError("DeviceLost", "the page closed its Python worker"));
  }

  /** @param {(id: number) => ToWorker} message @returns {Promise<any>} */
  ask(message) {
    if (this.ended) {
      return Promise.reject(new WorkerError("DeviceLost", "the Python worker has ended; reload the page"));
    }
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.post(message(id));
    });
  }

  /** @param {ToWorker} message */
  post(message) {
    this.worker.postMessage(message);
  }

  /** @param {ToPage} message */
  receive(message) {
    if (message.kind === "answer") this.settle(message.id)?.resolve(message.answer);
    else if (message.kind === "report") this.settle(message.id)?.resolve(message.report);
    else if (message.kind === "failure" && message.id !== null) {
      this.settle(message.id)?.reject(new WorkerError(message.name, message.message));
    } else this.listener(message);
  }

  /** @param {number} id */
  settle(id) {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    return waiting;
  }

  /** The worker is beyond saving. @param {string} message */
  crash(message) {
    if (this.ended) return;
    this.close();
    this.listener({ kind: "failure", name: "WorkerError", message, retry: false, id: null });
  }

  /** @param {WorkerError} error */
  rejectAll(error) {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}
