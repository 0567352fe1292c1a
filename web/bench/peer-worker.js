/**
 * The peer's side: onnxruntime-web's CPU build with a fixed number of threads, in a worker of its
 * own so that it blocks nobody. Feeds are copied in and results copied out as its API does.
 */
import { serve } from "./messages.js";
import { wrapWorkers } from "./nested.js";

/** @typedef {import("./messages.js").Case} Case */
/** @typedef {import("./messages.js").Prepared} Prepared */

/** @type {any} */
let ort;
/** @type {any} */
let session;
/** @type {Record<string, unknown>} */
let feeds = {};

/** ONNX's names of what feeds are made of. @type {Record<string, string>} */
const KINDS = {
  Float32Array: "float32",
  BigInt64Array: "int64",
  Uint8Array: "uint8",
  Int8Array: "int8",
};

const HOME = new URL("../../bench/onnxruntime-web/", import.meta.url).href;

let tokens = 1;
/** @type {[string, string][]} */
let fed = [];
let grows = "";

/** Ones, with so many columns more than the feed. @param {number} more */
function longer(more) {
  const [rows, columns] = /** @type {any} */ (feeds[grows]).dims;
  const data = new BigInt64Array(rows * (columns + more)).fill(1n);
  return new ort.Tensor("int64", data, [rows, columns + more]);
}

/** @returns {Promise<Float32Array>} */
async function run() {
  let results = await session.run(feeds);
  for (let token = 1; token < tokens; token++) {
    const next = { ...feeds };
    for (const [output, input] of fed) next[input] = results[output];
    if (grows) next[grows] = longer(token);
    results = await session.run(next);
  }
  return results[session.outputNames[0]].data;
}

wrapWorkers();
serve({
  /** @param {{ threads: number }} options */
  async start({ threads }) {
    ort = await import(`${HOME}ort.wasm.min.mjs`);
    ort.env.wasm.wasmPaths = HOME;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    return ort.env.versions?.web ?? "";
  },

  /** @param {Case} task @returns {Promise<Prepared>} */
  async prepare({ model, external, location, feeds: given, ...decoder }) {
    ({ tokens, fed, grows } = decoder);
    await session?.release();
    session = await ort.InferenceSession.create(model, {
      executionProviders: ["wasm"],
      ...(external.length > 0 && { externalData: [{ path: location, data: external }] }),
    });
    feeds = {};
    for (const { name, dims, data } of given) {
      feeds[name] = new ort.Tensor(KINDS[data.constructor.name], data, dims);
    }
    const output = new Float32Array(await run());
    const began = performance.now();
    let runs = 0;
    let last = began;
    while (runs < 10 || last - began < 1000) {
      await run();
      last = performance.now();
      runs++;
    }
    return { ms: (last - began) / runs, runs, output };
  },

  /**
   * Milliseconds a run, for each of `groups` groups of `size` runs, after one run that is not
   * counted.
   * @param {{ groups: number, size: number }} block
   */
  async block({ groups, size }) {
    /** @type {number[]} */
    const times = [];
    await run();
    for (let i = 0; i < groups; i++) {
      const began = performance.now();
      for (let j = 0; j < size; j++) await run();
      times.push((performance.now() - began) / size);
    }
    return times;
  },

  async release() {
    await session?.release();
    session = undefined;
    feeds = {};
  },
});
