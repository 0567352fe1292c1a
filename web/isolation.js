/**
 * Threads need a cross-origin isolated page. Where the host sends no such headers, a service worker
 * adds them, and the first visit reloads once to come under it.
 */

const TRIED = "tilework-isolation-tried";
// A service worker that installs takes far less; a browser that never answers must not stop the page.
const PATIENCE = 5000;

/** @returns {Promise<void>} */
function controlled() {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the service worker did not take over")), PATIENCE);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    if (navigator.serviceWorker.controller) done();
    else navigator.serviceWorker.addEventListener("controllerchange", done, { once: true });
  });
}

/**
 * Isolates the page if it can. Never rejects.
 * @returns {Promise<{ isolated: boolean, reloading: boolean, why: string }>}  `why`, when not
 *   isolated, is a sentence for people; "it" is the page
 */
export async function isolate() {
  if (globalThis.crossOriginIsolated) return { isolated: true, reloading: false, why: "" };
  /** @param {string} why */
  const not = (why) => ({ isolated: false, reloading: false, why });
  if (!globalThis.isSecureContext) {
    return not("It is not served over https.");
  }
  if (!navigator.serviceWorker) {
    return not("This browser window has no service worker that could isolate it.");
  }
  try {
    if (sessionStorage.getItem(TRIED)) {
      // Once a visit: the next reload by hand may try again.
      sessionStorage.removeItem(TRIED);
      return not("A service worker tried to isolate it, in vain.");
    }
    const site = new URL("../", import.meta.url);
    await navigator.serviceWorker.register(new URL("service-worker.js", site), { scope: site.pathname });
    await controlled();
    sessionStorage.setItem(TRIED, "yes");
    location.reload();
    return { isolated: false, reloading: true, why: "" };
  } catch (error) {
    return not(`No service worker could isolate it: ${error instanceof Error ? error.message : error}.`);
  }
}
