/**
 * Starts Pyodide, the one way that the demo's page, the tests' and the benchmark's do.
 */
import { shareHeap } from "./shared-heap.js";

/**
 * Where Python's memory lies. "own": Pyodide as it is, and tilework takes a memory beside it.
 * "heap": Pyodide's heap is shared, so that all threads compute on NumPy's arrays in place; only in
 * a cross-origin isolated page, elsewhere as "own".
 * @typedef {"own" | "heap"} PythonMemory
 */

/**
 * Pyodide, from the files at `indexURL`, which ends with a slash; further options are
 * `loadPyodide`'s. With `memory: "heap"` all later WebAssembly of this worker is shared as well.
 * @param {{ indexURL: string, memory?: PythonMemory, [option: string]: unknown }} options
 * @returns {Promise<any>}
 */
export async function loadPython({ memory = "own", ...options }) {
  const { loadPyodide } = await import(new URL("pyodide.mjs", options.indexURL).href);
  if (memory === "heap" && globalThis.crossOriginIsolated) shareHeap();
  return loadPyodide(options);
}
