/**
 * The worker in which Python lives: boots Pyodide, brings the weights to the device, answers the
 * page. Owns Pyodide and everything in it; the page owns this worker. Python may block here.
 */
import * as bridge from "./bridge.js";
import { PieceError, get, pieces } from "./pieces.js";
import { loadPython } from "./python.js";
import { workerScript } from "./worker-script.js";

/** @typedef {import("./messages.js").ToPage} ToPage */
/** @typedef {import("./messages.js").ToWorker} ToWorker */

/**
 * pyapp/search/app.py's App, as Pyodide shows it. Answers come as JSON, so that nothing of Python's
 * has to be released here.
 * @typedef {object} App
 * @property {(nbytes: number) => void} reserve
 * @property {(offset: number, bytes: Uint8Array) => void} receive
 * @property {(model: Uint8Array) => void} load
 * @property {() => Promise<void>} ready
 * @property {() => string} device
 * @property {(progress: (done: number, total: number) => void) => string} index
 * @property {(query: string) => string} search
 * @property {() => string} report
 */

/**
 * The little of Pyodide that is used.
 * @typedef {object} Pyodide
 * @property {(names: string[], options: object) => Promise<{ name: string }[]>} loadPackage
 * @property {(name: string) => any} pyimport
 * @property {(name: string, module: object) => void} registerJsModule
 * @property {(data: ArrayBuffer, format: string, options: object) => void} unpackArchive
 * @property {{ writeFile: (path: string, data: Uint8Array) => void, unlink: (path: string) => void }} FS
 */

const SITE = new URL("../", import.meta.url);
const MODEL = new URL("models/minilm/", SITE);

/** @type {App | undefined} */
let app;
/** @type {(() => void) | undefined} */
let tryAgain;
/** @type {Record<string, number>} */
const steps = {};

/** @param {ToPage} message */
const post = (message) => self.postMessage(message);

/**
 * Does one step of the start: tells the page, takes the time.
 * @template T
 * @param {string} name
 * @param {string} text
 * @param {() => Promise<T> | T} work
 * @returns {Promise<T>}
 */
async function step(name, text, work) {
  post({ kind: "step", text });
  const began = performance.now();
  const result = await work();
  steps[name] = Math.round((performance.now() - began) * 10) / 10;
  return result;
}

/** Error type and words. Pyodide gives a traceback; people get its last paragraph.
 * @param {unknown} error
 * @returns {{ name: string, message: string }} */
function words(error) {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const type = /** @type {{ type?: string }} */ (error).type;
  if (!type) return { name: error.name, message: error.message };
  const last = new RegExp(`^(?:[\\w.]+\\.)?${type}(?:: |$)`, "m");
  const at = error.message.search(last);
  const message = at < 0 ? error.message : error.message.slice(at).replace(last, "");
  return { name: type, message: message.trim() };
}

/** @param {unknown} error @param {number | null} [id] */
function fail(error, id = null) {
  console.error(error);
  post({ kind: "failure", ...words(error), retry: false, id });
}

/**
 * The same promise, which no longer counts as unhandled until somebody awaits it.
 * @template T
 * @param {Promise<T>} promise
 */
function owned(promise) {
  promise.catch(() => undefined);
  return promise;
}

/** @param {import("./python.js").PythonMemory} memory @returns {Promise<Pyodide>} */
async function bootPyodide(memory) {
  const { warn } = console;
  // When its binary is missing or damaged Pyodide only warns, and then waits for ever.
  const refused = new Promise((_, reject) => {
    console.warn = (...said) => {
      warn(...said);
      const [error] = said;
      if (!(error instanceof Error)) return;
      reject(new PieceError("InvalidExecutable", `pyodide.asm.wasm could not be started. ${error.message}`));
    };
  });
  try {
    const indexURL = new URL("pyodide/", SITE).href;
    return await Promise.race([loadPython({ indexURL, memory }), refused]);
  } finally {
    console.warn = warn;
  }
}

/**
 * Pyodide's loadPackage, which tells of a package that is missing or damaged and goes on without it.
 * @param {Pyodide} pyodide
 * @param {string[]} names
 */
async function loadPackages(pyodide, names) {
  /** @type {string[]} */
  const said = [];
  const options = {
    messageCallback: () => undefined,
    errorCallback: (/** @type {string} */ text) => said.push(text),
  };
  const loaded = await pyodide.loadPackage(names, options);
  const missing = names.filter((name) => !loaded.some((found) => found.name === name));
  if (missing.length) {
    throw new PieceError("NoSuchFile", `${missing.join(" and ")} could not be loaded. ${said.join(" ")}`);
  }
}

/** @param {Pyodide} pyodide @param {Promise<string | undefined>} script */
async function installTilework(pyodide, script) {
  const site = await (await get(new URL("site.json", SITE))).json();
  // Fetched here, because micropip takes a server's "not found" for the wheel itself.
  const wheel = await (await get(new URL(site.wheel, SITE))).arrayBuffer();
  const file = `/tmp/${site.wheel.replace(/.*\//, "")}`;
  pyodide.FS.writeFile(file, new Uint8Array(wheel));
  const micropip = pyodide.pyimport("micropip");
  await micropip.install(`emfs:${file}`);
  pyodide.FS.unlink(file);
  micropip.destroy();
  // Python finds the bridge as a module of ours, so no text has to be evaluated on this page.
  pyodide.registerJsModule("tilework_bridge", { ...bridge, workerScript: await script });
  const archive = await (await get(new URL("search/search.zip", SITE))).arrayBuffer();
  const place = pyodide.pyimport("site").getsitepackages().toJs()[0];
  pyodide.unpackArchive(archive, "zip", { extractDir: place });
}

/** @param {Pyodide} pyodide @param {number | null} threads @returns {Promise<App>} */
async function openApp(pyodide, threads) {
  const vocabulary = await (await get(new URL("vocab.txt", MODEL))).text();
  return pyodide.pyimport("search.app").App(vocabulary, threads ?? undefined);
}

/** Resolves when the page asks for another attempt. @param {PieceError} error */
function askForRetry(error) {
  console.error(error);
  post({ kind: "failure", name: error.name, message: error.message, retry: true, id: null });
  return /** @type {Promise<void>} */ (new Promise((resolve) => { tryAgain = resolve; }));
}

/** @param {import("./pieces.js").Manifest} manifest */
function streamWeights(manifest) {
  let said = 0;
  return pieces(manifest, MODEL, {
    progress(loaded, total) {
      // The bar moves often enough at sixty times a second.
      if (performance.now() - said < 16 && loaded < total) return;
      said = performance.now();
      post({ kind: "bytes", loaded, total });
    },
    failed: askForRetry,
  });
}

/** @returns {Promise<import("./pieces.js").Manifest>} */
async function fetchManifest() {
  for (;;) {
    try {
      return await (await get(new URL("model.onnx.data.json", MODEL))).json();
    } catch (error) {
      if (!(error instanceof PieceError)) throw error;
      await askForRetry(error);
    }
  }
}

/** @param {import("./messages.js").Start} message */
async function start({ threads, memory }) {
  const manifest = await step("manifest", "Starting Python", fetchManifest);
  // The weights are on their way while Python starts; a rejection is met where `next` is awaited.
  const stream = streamWeights(manifest);
  let next = owned(stream.next());
  const script = workerScript();
  const pyodide = await step("python", "Starting Python", () => bootPyodide(memory));
  await step("numpy", "Loading NumPy", () => loadPackages(pyodide, ["numpy", "micropip"]));
  await step("wheel", "Installing tilework", () => installTilework(pyodide, script));
  const opened = await step("device", "Waking the cores", () => openApp(pyodide, threads));
  post({ kind: "device", device: JSON.parse(opened.device()) });
  await step("weights", "Loading the model", async () => {
    opened.reserve(manifest.bytes);
    for (let piece = await next; !piece.done; piece = await next) {
      next = owned(stream.next());
      opened.receive(piece.value.offset, piece.value.bytes);
    }
  });
  await step("session", "Planning the model", async () => {
    const model = await (await get(new URL("model.onnx", MODEL))).arrayBuffer();
    opened.load(new Uint8Array(model));
  });
  await step("threads", "Waiting for the threads", () => opened.ready());
  const { sentences, examples } = await step("corpus", "Reading the sentences", () =>
    JSON.parse(opened.index((done, total) => post({ kind: "corpus", done, total }))),
  );
  app = opened;
  post({ kind: "ready", device: JSON.parse(app.device()), sentences, examples });
}

/** @param {ToWorker} message */
function receive(message) {
  if (message.kind === "start") {
    start(message).catch(fail);
  } else if (message.kind === "retry") {
    tryAgain?.();
    tryAgain = undefined;
  } else {
    try {
      if (!app) throw new Error("a question came before the sentences were read");
      const { id } = message;
      if (message.kind === "search") {
        post({ kind: "answer", id, answer: JSON.parse(app.search(message.query)) });
      } else {
        post({ kind: "report", id, report: { ...JSON.parse(app.report()), steps } });
      }
    } catch (error) {
      fail(error, message.id);
    }
  }
}

// What Pyodide leaves behind; nothing of this file's own comes here.
self.addEventListener("unhandledrejection", (event) => fail(event.reason));
self.onmessage = (/** @type {MessageEvent<ToWorker>} */ event) => receive(event.data);
