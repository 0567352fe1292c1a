/**
 * tilework's side: Pyodide and the wheel, as on the demo's page, and tests/bench/in_page.py, which
 * holds the session and takes the times in Python, where a person would.
 */
import * as bridge from "../bridge.js";
import { loadPython } from "../python.js";
import { serve } from "./messages.js";

/** @typedef {import("./messages.js").Case} Case */
/** @typedef {import("./messages.js").Prepared} Prepared */

const SITE = new URL("../../", import.meta.url);

/** Python's `Side`. @type {any} */
let side;

/** @param {string} name */
async function get(name) {
  const response = await fetch(new URL(name, SITE));
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return response;
}

/** A Python list, dict or array as JavaScript's own. @param {any} value */
function plain(value) {
  const result = value.toJs({ dict_converter: Object.fromEntries });
  value.destroy();
  return result;
}

/**
 * Pyodide with NumPy and tilework's wheel; nothing of tilework is imported.
 * @param {import("../python.js").PythonMemory} [memory]
 */
async function boot(memory) {
  const pyodide = await loadPython({ indexURL: new URL("pyodide/", SITE).href, memory });
  await pyodide.loadPackage(["numpy", "micropip"], { messageCallback: () => undefined });
  const { wheel } = await (await get("site.json")).json();
  const micropip = pyodide.pyimport("micropip");
  await micropip.install(new URL(wheel, SITE).href);
  micropip.destroy();
  pyodide.registerJsModule("tilework_bridge", bridge);
  const place = pyodide.pyimport("site").getsitepackages().toJs()[0];
  pyodide.FS.writeFile(`${place}/bench_side.py`, await (await get("bench/in_page.py")).text());
  return pyodide;
}

serve({
  /**
   * @param {{ threads: number, device: boolean, memory?: import("../python.js").PythonMemory }} options
   */
  async start({ threads, device, memory }) {
    const pyodide = await boot(memory);
    side = pyodide.pyimport("bench_side").Side(threads);
    return device ? side.open() : "";
  },

  /** @param {Case} task @returns {Prepared} */
  prepare(task) {
    const { ms, runs, output } = plain(side.prepare(task));
    return { ms, runs, output: new Float32Array(output) };
  },

  /** @param {{ groups: number, size: number }} block @returns {number[]} */
  block({ groups, size }) {
    return plain(side.block(groups, size));
  },

  /** @param {{ name: string, task: Case | undefined }} options */
  figure({ name, task }) {
    return plain(side.figure(name, task));
  },

  release() {
    side.release();
  },
});
