/**
 * A worker with Pyodide in it that runs test files; see runner.py. Boots as web/python-worker.js
 * does, with everything from the site itself.
 */
import * as bridge from "/web/bridge.js";
import { loadPython } from "/web/python.js";

/**
 * @typedef {object} Start
 * @property {boolean} registered  whether Python is given the bridge, as a site of our own does
 * @property {string} entry  Python that is awaited; `task` and `post` are its globals
 * @property {unknown} task
 * @property {import("../../../web/python.js").PythonMemory} memory
 * @property {string} pyodide  the folder that Pyodide comes from
 * @property {boolean} numpy  whether NumPy and micropip are there too
 */

const PROJECT = "/project";

/** @param {string} url */
async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP status ${response.status}`);
  return response;
}

/** @param {object} message */
const say = (message) => self.postMessage(JSON.stringify(message));

/** @param {Start} start */
async function run({ registered, entry, task, memory, pyodide: folder, numpy }) {
  const options = { indexURL: new URL(folder, location.href).href, memory };
  const print = (/** @type {string} */ text) => say({ kind: "print", text });
  const pyodide = await loadPython({ ...options, stdout: print, stderr: print });
  const place = pyodide.pyimport("site").getsitepackages().toJs()[0];
  const { wheel } = await (await get("/site.json")).json();
  if (numpy) {
    await pyodide.loadPackage(["numpy", "micropip"], { messageCallback: () => undefined });
    await pyodide.pyimport("micropip").install(new URL(`/${wheel}`, location.href).href);
  } else {
    const bytes = await (await get(`/${wheel}`)).arrayBuffer();
    pyodide.unpackArchive(bytes, "zip", { extractDir: place });
  }
  if (registered) pyodide.registerJsModule("tilework_bridge", { ...bridge });
  const packages = await (await get("/in-page/packages.zip")).arrayBuffer();
  pyodide.unpackArchive(packages, "zip", { extractDir: place });
  const project = await (await get("/in-page/project.zip")).arrayBuffer();
  pyodide.unpackArchive(project, "zip", { extractDir: PROJECT });
  pyodide.FS.chdir(PROJECT);
  pyodide.runPython(`import sys; sys.path.insert(0, "${PROJECT}")`);
  const globals = pyodide.toPy({ task });
  globals.set("post", (/** @type {string} */ text) => self.postMessage(text));
  const value = await pyodide.runPythonAsync(entry, { globals });
  say({ kind: "done", value });
}

self.onmessage = (/** @type {MessageEvent<Start>} */ event) => {
  run(event.data).catch((error) => say({ kind: "failure", text: String(error.stack ?? error) }));
};
