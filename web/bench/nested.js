/**
 * Nested workers for headless runs. Chromium does not show a browser's driver the request for the
 * script of a worker that another worker makes, so a page without a server cannot answer it; it does
 * show what a blob's module imports. Only the bench needs this for code that is not ours.
 */

/** The URL of a blob that imports `script`. @param {string | URL} script */
function importing(script) {
  const url = new URL(script, self.location.href).href;
  if (!url.startsWith("http")) return url;
  const blob = new Blob([`import ${JSON.stringify(url)};`], { type: "text/javascript" });
  return URL.createObjectURL(blob);
}

/** Makes every module worker that is created from here on start from such a blob. */
export function wrapWorkers() {
  const Original = self.Worker;
  self.Worker = class extends Original {
    /** @param {string | URL} script @param {WorkerOptions} [options] */
    constructor(script, options) {
      super(options?.type === "module" ? importing(script) : script, options);
    }
  };
}
