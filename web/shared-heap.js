/**
 * Pyodide on a shared heap: from `shareHeap()` on, every WebAssembly memory that is made in this
 * worker is a shared one, and every binary that is compiled here takes it. NumPy's arrays then lie
 * where compute workers see them. Call it before Pyodide is loaded; it cannot be undone.
 *
 * Pyodide is built for a memory of its own. Nothing in its code minds that others see it too, but
 * two things around it do. A module that imports a plain memory is not linked to a shared one, so
 * the flags of each memory import are rewritten on the way to the compiler. And a few functions of
 * the browser refuse views of shared memory, so they are given copies.
 */

const MAX_PAGES = 65536;
const HAS_MAXIMUM = 1;
const SHARED = 2;
const MAGIC = 0x6d736100; // "\0asm"
const HEADER = 8; // bytes: the magic number and the version
const IMPORTS = 2; // section ids
const MEMORIES = 5;
const FUNCTION = 0; // kinds of imports
const TABLE = 1;
const MEMORY = 2;
const GLOBAL = 3;
const TAG = 4;
const REFERENCE = 0x63; // (ref null ht); (ref ht) is one up: types of more than one byte

class Reader {
  /** @param {Uint8Array} bytes @param {number} at */
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  /** An unsigned LEB128 number. */
  number() {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (!(byte & 0x80)) return value;
    }
  }

  name() {
    const length = this.number();
    this.at += length;
  }

  /** The type of a table's elements or of a global. */
  type() {
    if ((this.byte() & 0xfe) === (REFERENCE & 0xfe)) this.number();
  }

  limits() {
    const flags = this.number();
    const least = this.number();
    const most = flags & HAS_MAXIMUM ? this.number() : MAX_PAGES;
    return { flags, least, most };
  }
}

/** @param {number} value @returns {number[]} */
function leb(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 0x80);
  return [...bytes, value];
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * A memory's limits as a shared memory's; what is shared already, or of 64 bits, stays.
 * @param {Reader} reader
 * @returns {Uint8Array | undefined}
 */
function sharedLimits(reader) {
  const { flags, least } = reader.limits();
  if (flags & ~HAS_MAXIMUM) return undefined;
  // The maximum must be no less than the memory's, and shareHeap gives every memory all there is.
  return Uint8Array.from([HAS_MAXIMUM | SHARED, ...leb(least), ...leb(MAX_PAGES)]);
}

/**
 * A section's content with every memory in it shared, or undefined where nothing changes.
 * @param {Reader} reader
 * @param {number} end
 * @param {(reader: Reader) => boolean} memoryComes  reads on to the entry's limits, or past the entry
 */
function sharedSection(reader, end, memoryComes) {
  /** @type {Uint8Array[]} */
  const parts = [];
  let copied = reader.at;
  for (let left = reader.number(); left > 0; left--) {
    if (!memoryComes(reader)) continue;
    const from = reader.at;
    const limits = sharedLimits(reader);
    if (!limits) continue;
    parts.push(reader.bytes.subarray(copied, from), limits);
    copied = reader.at;
  }
  return parts.length ? joined([...parts, reader.bytes.subarray(copied, end)]) : undefined;
}

/** @param {Reader} reader */
function memoryImported(reader) {
  reader.name();
  reader.name();
  const kind = reader.byte();
  if (kind === MEMORY) return true;
  if (kind === FUNCTION) reader.number();
  else if (kind === TABLE) {
    reader.type();
    reader.limits();
  } else if (kind === GLOBAL) {
    reader.type();
    reader.byte();
  } else if (kind === TAG) {
    reader.byte();
    reader.number();
  } else throw new WebAssembly.CompileError(`shared heap: an import of the unknown kind ${kind}`);
  return false;
}

/**
 * A wasm binary whose memories are shared ones; the very bytes when none had to change, or when
 * they are no wasm, of which the compiler tells better.
 * @param {BufferSource} binary
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function withSharedMemory(binary) {
  const bytes = /** @type {Uint8Array<ArrayBuffer>} */ (
    ArrayBuffer.isView(binary)
      ? new Uint8Array(binary.buffer, binary.byteOffset, binary.byteLength)
      : new Uint8Array(binary)
  );
  const { length } = bytes;
  const word = new DataView(bytes.buffer, bytes.byteOffset, length);
  if (length < HEADER || word.getUint32(0, true) !== MAGIC) return bytes;
  const reader = new Reader(bytes, HEADER);
  const parts = [];
  let copied = 0;
  while (reader.at < length) {
    const start = reader.at;
    const id = reader.byte();
    const size = reader.number();
    const end = reader.at + size;
    let section;
    if (id === IMPORTS) section = sharedSection(reader, end, memoryImported);
    else if (id === MEMORIES) section = sharedSection(reader, end, () => true);
    if (section) {
      parts.push(bytes.subarray(copied, start), Uint8Array.from([id, ...leb(section.length)]), section);
      copied = end;
    }
    reader.at = end;
  }
  return parts.length ? joined([...parts, bytes.subarray(copied)]) : bytes;
}

/** @param {unknown} value @returns {value is ArrayBufferView<SharedArrayBuffer>} */
function isShared(value) {
  return ArrayBuffer.isView(value) && value.buffer instanceof SharedArrayBuffer;
}

/** A copy that is not shared. @param {ArrayBufferView<SharedArrayBuffer>} view */
function copyOf({ buffer, byteOffset, byteLength }) {
  return new Uint8Array(buffer, byteOffset, byteLength).slice();
}

/**
 * Has a method take copies of shared views; with `back`, what it wrote there is copied back.
 * @param {any} prototype
 * @param {string} name
 * @param {boolean} back
 */
function takeCopies(prototype, name, back) {
  const method = prototype[name];
  prototype[name] = function (/** @type {unknown[]} */ ...given) {
    const taken = given.map((value) => (isShared(value) ? copyOf(value) : value));
    const result = method.apply(this, taken);
    if (!back) return result;
    given.forEach((value, i) => {
      if (isShared(value)) {
        new Uint8Array(value.buffer, value.byteOffset, value.byteLength).set(
          /** @type {Uint8Array} */ (taken[i]),
        );
      }
    });
    // getRandomValues gives back what it was given.
    return taken.includes(result) ? given[taken.indexOf(result)] : result;
  };
}

let done = false;

/** Makes this worker's WebAssembly memories shared, from now on. */
export function shareHeap() {
  if (done) return;
  done = true;
  const wasm = /** @type {any} */ (WebAssembly);
  const { Memory, Module, compile, instantiate } = WebAssembly;
  const compilable = (/** @type {any} */ source) =>
    source instanceof Module ? source : withSharedMemory(source);
  const received = async (/** @type {Response | PromiseLike<Response>} */ source) => {
    const response = await source;
    if (!response.ok) throw new TypeError(`${response.url}: HTTP status ${response.status}`);
    return withSharedMemory(await response.arrayBuffer());
  };
  wasm.Memory = new Proxy(Memory, {
    // Addresses of 64 bits are asked for by who knows of shared memory too.
    construct: (target, [limits]) =>
      new target(limits.address ? limits : { ...limits, maximum: MAX_PAGES, shared: true }),
  });
  wasm.Module = new Proxy(Module, {
    construct: (target, [binary]) => new target(withSharedMemory(binary)),
  });
  wasm.compile = async (/** @type {any} */ binary) => compile(withSharedMemory(binary));
  wasm.instantiate = async (/** @type {any} */ source, /** @type {any} */ imports) =>
    instantiate(compilable(source), imports);
  wasm.compileStreaming = async (/** @type {any} */ source) => compile(await received(source));
  wasm.instantiateStreaming = async (/** @type {any} */ source, /** @type {any} */ imports) =>
    instantiate(await received(source), imports);
  takeCopies(TextDecoder.prototype, "decode", false);
  takeCopies(TextEncoder.prototype, "encodeInto", true);
  takeCopies(Crypto.prototype, "getRandomValues", true);
}
