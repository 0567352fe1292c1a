/**
 * The landing page: its example names this site's own files, and a line says what this browser will
 * do.
 */

const SITE = new URL("../", import.meta.url);
// A module with one function, () -> v128: i32.const 0, i8x16.splat.
const SIMD = [
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 8, 1, 6, 0, 0x41, 0,
  0xfd, 0x0f, 0x0b,
];

/** @param {string} id */
function part(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/** What tilework does in this browser, and why not more. */
function here() {
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    return "It does not run in this browser, which has no WebAssembly SIMD. Any of the last years has.";
  }
  const cores = navigator.hardwareConcurrency;
  if (cores < 2) return "It runs in this browser, which has one core.";
  if (globalThis.crossOriginIsolated || (globalThis.isSecureContext && navigator.serviceWorker)) {
    return `It runs in this browser, on ${cores} threads.`;
  }
  const why = globalThis.isSecureContext
    ? "this window has no service worker that could isolate a page"
    : "the site is not served over https";
  return `It runs in this browser, on one thread: ${why}.`;
}

async function showWheel() {
  const { wheel } = await (await fetch(new URL("site.json", SITE))).json();
  part("wheel").textContent = new URL(wheel, SITE).href;
}

part("here").textContent = here();
part("model").textContent = new URL("example.onnx", SITE).href;
// Without it the example says "tilework", which is as true.
showWheel().catch(console.warn);
