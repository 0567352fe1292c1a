/**
 * What the bench page and its workers say to each other: a request carries an id, the answer brings
 * it back with a result or an error.
 */

/**
 * @typedef {Float32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer> | Uint8Array<ArrayBuffer>
 *   | Int8Array<ArrayBuffer>} Data
 */
/** @typedef {{ name: string, dims: number[], data: Data }} Feed */

/**
 * One thing to measure. `external` is the model's external data, empty when it has none.
 * @typedef {object} Case
 * @property {string} name
 * @property {Uint8Array<ArrayBuffer>} model
 * @property {Uint8Array<ArrayBuffer>} external
 * @property {string} location  the name that the model gives its external data
 * @property {Feed[]} feeds
 * @property {number} tokens  how often the model is called in one run, 1 unless it is a decoder
 * @property {[string, string][]} fed  which outputs are fed as which inputs from call to call
 * @property {string} grows  the feed, of ones, that has a column more at each call; "" if none has
 */

/**
 * `ms` is what one run takes on the average while it gets warm, `output` the first output, to
 * compare the sides by.
 * @typedef {{ ms: number, runs: number, output: Float32Array }} Prepared
 */

/** @typedef {{ id: number, name: string, argument: any }} Request */
/** @typedef {{ id: number, result?: any, error?: string }} Answer */

/**
 * Makes this worker answer requests, one after the other, with the functions of `commands`.
 * @param {Record<string, (argument: any) => any>} commands
 */
export function serve(commands) {
  let last = Promise.resolve();
  self.onmessage = (/** @type {MessageEvent<Request>} */ event) => {
    const { id, name, argument } = event.data;
    last = last.then(async () => {
      /** @type {Answer} */
      let answer;
      try {
        answer = { id, result: await commands[name](argument) };
      } catch (error) {
        answer = { id, error: error instanceof Error ? `${error.stack}` : String(error) };
      }
      self.postMessage(answer);
    });
  };
}

const LIMIT = 60;

/** A worker of the bench, owned by the page. A crash rejects every open request. */
export class Remote {
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  #open = new Map();
  #next = 1;
  #worker;
  #label;

  /** @param {URL} url @param {string} label */
  constructor(url, label) {
    this.#label = label;
    this.#worker = new Worker(url, { type: "module", name: label });
    this.#worker.onmessage = (/** @type {MessageEvent<Answer>} */ event) => {
      const { id, result, error } = event.data;
      const waiting = this.#open.get(id);
      this.#open.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(`${label}: ${error}`));
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#open.values()) {
        reject(new Error(`${label} crashed: ${event.message ?? "its script did not load"}`));
      }
      this.#open.clear();
    };
  }

  /**
   * What the worker answers; an error after `LIMIT` seconds of silence.
   * @param {string} name
   * @param {unknown} [argument]
   * @returns {Promise<any>}
   */
  ask(name, argument) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      const limit = setTimeout(() => {
        if (!this.#open.delete(id)) return;
        reject(new Error(`${this.#label}: no answer to "${name}" within ${LIMIT} s`));
      }, LIMIT * 1000);
      const settle = () => clearTimeout(limit);
      this.#open.set(id, {
        resolve: (value) => (settle(), resolve(value)),
        reject: (error) => (settle(), reject(error)),
      });
      this.#worker.postMessage({ id, name, argument });
    });
  }

  close() {
    this.#worker.terminate();
  }
}
