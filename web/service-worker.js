/**
 * Gives the site the two headers that isolate it, for hosts that cannot send them: an isolated page
 * may share memory between threads. It stores nothing and answers nothing by itself. The build puts
 * it at the site's root, because its folder is its scope.
 */

const scope = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/** @param {Request} request */
async function isolated(request) {
  const response = await fetch(request);
  // An opaque response shows no headers and takes none; an error and a redirect carry no body.
  if (response.status === 0 || response.type === "opaqueredirect") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}

scope.addEventListener("install", () => {
  scope.skipWaiting().catch(console.error);
});
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (event) => {
  const { request } = event;
  if (new URL(request.url).origin !== scope.location.origin) return;
  // What devtools ask of the cache alone may not be fetched.
  if (request.cache === "only-if-cached" && request.mode !== "same-origin") return;
  event.respondWith(isolated(request));
});
