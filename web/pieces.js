/**
 * Fetches a large file that was cut into pieces, verifies each and hands it on. Runs in the Python
 * worker. Holds at most three pieces (48 MB) at a time; where they go is the caller's business.
 */

/** @typedef {{ name: string, bytes: number, sha256: string }} Piece */
/** @typedef {{ location: string, bytes: number, pieces: Piece[] }} Manifest */

// While one piece is verified and copied, the next two are on their way.
const AHEAD = 2;

/** A piece is missing or is not what the manifest says. `name` is the typed error's. */
export class PieceError extends Error {
  /** @param {string} name @param {string} message */
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

/** @param {number} bytes */
const grouped = (bytes) => bytes.toLocaleString("en-GB");

/**
 * @param {URL} url
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}  always a successful one
 */
export async function get(url, options) {
  const name = url.pathname.slice(url.pathname.lastIndexOf("/") + 1);
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw new PieceError("NoSuchFile", `${name} could not be fetched; check the connection. (${error})`);
  }
  if (!response.ok) {
    const why = response.status === 404 ? "is missing on this site" : "could not be fetched";
    throw new PieceError("NoSuchFile", `${name} ${why}: the server answered ${response.status}.`);
  }
  return response;
}

/**
 * @param {URL} url
 * @param {Piece} piece
 * @param {RequestCache} cache
 * @param {(bytes: number) => void} arrived  called with the bytes since the last call
 */
async function download(url, piece, cache, arrived) {
  const response = await get(url, { cache });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const bytes = new Uint8Array(piece.bytes);
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw new PieceError("NoSuchFile", `${piece.name} broke off after ${grouped(length)} bytes. (${error})`);
    });
    if (done) break;
    if (length + value.length <= bytes.length) {
      bytes.set(value, length);
      arrived(value.length);
    }
    length += value.length;
  }
  if (length !== piece.bytes) {
    throw new PieceError(
      "InvalidProtobuf",
      `${piece.name} has ${grouped(length)} bytes, but ${grouped(piece.bytes)} were expected.`,
    );
  }
  return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * One piece, verified. A cached copy that is not what the manifest says is fetched anew once: after
 * an update of the site it may be an older one.
 * @param {URL} base
 * @param {Piece} piece
 * @param {(bytes: number) => void} arrived
 */
async function fetchPiece(base, piece, arrived) {
  /** @type {RequestCache[]} */
  const attempts = ["default", "reload"];
  /** @type {PieceError | undefined} */
  let wrong;
  for (const cache of attempts) {
    let counted = 0;
    try {
      const bytes = await download(new URL(piece.name, base), piece, cache, (more) => {
        counted += more;
        arrived(more);
      });
      // Without a secure context there is no crypto.subtle; the length has been checked.
      if (!globalThis.isSecureContext || (await sha256(bytes)) === piece.sha256) return bytes;
      wrong = new PieceError(
        "InvalidProtobuf",
        `${piece.name} is damaged: its SHA-256 is not the one in the manifest.`,
      );
    } catch (error) {
      if (!(error instanceof PieceError)) throw error;
      wrong = error;
    }
    arrived(-counted);
    if (wrong.name === "NoSuchFile") break;
  }
  throw wrong;
}

/**
 * The file's pieces in order, fetched ahead of their use.
 * @param {Manifest} manifest
 * @param {URL} base  the folder's URL
 * @param {object} hooks
 * @param {(loaded: number, total: number) => void} hooks.progress
 * @param {(error: PieceError) => Promise<void>} hooks.failed  resolves when it is to be tried again
 * @returns {AsyncGenerator<{ offset: number, bytes: Uint8Array }>}
 */
export async function* pieces(manifest, base, { progress, failed }) {
  let loaded = 0;
  /** @param {number} more */
  const arrived = (more) => progress((loaded += more), manifest.bytes);
  /** @type {Promise<{ bytes: Uint8Array } | { error: unknown }>[]} */
  const coming = [];
  // A rejection is kept as a value until its turn, so that none is ever unhandled.
  /** @param {Piece} piece */
  const begin = (piece) =>
    fetchPiece(base, piece, arrived).then(
      (bytes) => ({ bytes }),
      (error) => ({ error }),
    );
  let offset = 0;
  for (const [index, piece] of manifest.pieces.entries()) {
    while (coming.length <= AHEAD && index + coming.length < manifest.pieces.length) {
      coming.push(begin(manifest.pieces[index + coming.length]));
    }
    let result = await /** @type {NonNullable<typeof coming[0]>} */ (coming.shift());
    while ("error" in result) {
      if (!(result.error instanceof PieceError)) throw result.error;
      await failed(result.error);
      result = await begin(piece);
    }
    yield { offset, bytes: result.bytes };
    offset += piece.bytes;
  }
}
