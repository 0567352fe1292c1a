/**
 * Which script the compute workers of a site of our own start from: a blob, which asks no host for
 * anything, or the site's own file where the site's Content-Security-Policy allows no blobs.
 */

// A worker that starts says so in milliseconds; one that is refused says so too, in every engine known.
const PATIENCE = 10_000;

/**
 * The URL of compute-worker.js where workers may not start from blobs, else undefined. A policy
 * cannot be asked, only tried: where it refuses, the console and the policy's reports show it once.
 * @returns {Promise<string | undefined>}
 */
export async function workerScript() {
  const own = new URL("./compute-worker.js", import.meta.url).href;
  return (await blobsMayWork()) ? undefined : own;
}

/** @returns {Promise<boolean>} */
async function blobsMayWork() {
  const url = URL.createObjectURL(new Blob(["postMessage(0)"], { type: "text/javascript" }));
  /** @type {Worker | undefined} */
  let worker;
  try {
    const tried = new Worker(url, { type: "module" });
    worker = tried;
    return await new Promise((resolve) => {
      tried.onmessage = () => resolve(true);
      tried.onerror = () => resolve(false);
      setTimeout(resolve, PATIENCE, false);
    });
  } catch {
    return false;
  } finally {
    worker?.terminate();
    URL.revokeObjectURL(url);
  }
}
