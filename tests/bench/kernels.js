// Times single kernels in a page, one thread, with nothing of tilework between (tests/bench/kernels.py).
//
// Owns one shared memory, laid out again for each group of cases:
//
//   0 stack, grows down from 64 KiB | 64 KiB modules' data | 1 MiB bindings, scratch, structures
//
// The cases of a group are run in turn and each keeps its fastest run, so that what else the machine
// does hits all alike.

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {string} module  where the compiled family is
 * @property {string} kernel  its export
 * @property {[number, number, number]} counts  tiles
 * @property {number[]} params  bytes
 * @property {number[]} bindings  elements of each; 0 is absent
 * @property {number} scratch  bytes
 * @property {number} flops  operations of one run
 * @property {[number, string][]} [given]  bindings whose bytes are known, in base64
 */

const MODULES = 65536;
const BINDINGS = 1 << 20;
const memory = new WebAssembly.Memory({ initial: 4096, maximum: 4096, shared: true });
const words = new Uint32Array(memory.buffer);
const floats = new Float32Array(memory.buffer);

/** @type {Map<string, Promise<WebAssembly.Exports>>} */
const loaded = new Map();

/** @param {string} url @returns {Promise<WebAssembly.Exports>} */
function load(url) {
  let found = loaded.get(url);
  if (found === undefined) {
    found = instantiate(url, MODULES + loaded.size * 32768);
    loaded.set(url, found);
  }
  return found;
}

/** @param {string} url @param {number} base @returns {Promise<WebAssembly.Exports>} */
async function instantiate(url, base) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  /** @param {number} value @param {boolean} mutable */
  const global = (value, mutable) => new WebAssembly.Global({ value: "i32", mutable }, value);
  const { instance } = await WebAssembly.instantiate(await response.arrayBuffer(), {
    env: {
      memory,
      __indirect_function_table: new WebAssembly.Table({ initial: 64, element: "anyfunc" }),
      __stack_pointer: global(MODULES, true),
      __memory_base: global(base, false),
      __table_base: global(1, false),
    },
  });
  const relocate = /** @type {(() => void) | undefined} */ (
    instance.exports.__wasm_apply_data_relocs
  );
  relocate?.();
  return instance.exports;
}

let top = BINDINGS;

/** @param {number} bytes @returns {number} address */
function allocate(bytes) {
  const address = top;
  top += (bytes + 63) & ~63;
  if (top > memory.buffer.byteLength) throw new Error("the case does not fit the bench's memory");
  return address;
}

/** @param {Case} one @param {number[]} addresses @returns {Promise<() => void>} one run of all tiles */
async function prepare(one, addresses) {
  const kernel = /** @type {(dispatch: number, tile: number) => number} */ (
    (await load(one.module))[one.kernel]
  );
  const own = [...addresses];
  for (const [index, text] of one.given ?? []) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    own[index] = allocate(bytes.length);
    new Uint8Array(memory.buffer).set(bytes, own[index]);
  }
  const params = allocate(one.params.length);
  new Uint8Array(memory.buffer).set(one.params, params);
  const bindings = allocate(8 * one.bindings.length);
  one.bindings.forEach((n, i) => words.set([n ? own[i] : 0, 4 * n], bindings / 4 + 2 * i));
  const dispatch = allocate(32);
  const [nx, ny, nz] = one.counts;
  words.set([nx, ny, nz, one.bindings.length, bindings, params, one.params.length, 0], dispatch / 4);
  const tile = allocate(32);
  words.set([0, 0, 0, 0, allocate(one.scratch), one.scratch, 0, 0], tile / 4);
  return () => {
    for (let z = 0; z < nz; z++) {
      for (let y = 0; y < ny; y++) {
        for (let x = 0; x < nx; x++) {
          words[tile / 4] = x;
          words[tile / 4 + 1] = y;
          words[tile / 4 + 2] = z;
          const status = kernel(dispatch, tile);
          if (status) throw new Error(`${one.name}: tile ${x}, ${y}, ${z} returned ${status}`);
        }
      }
    }
  };
}

/**
 * Fastest run of each case of a group, in milliseconds.
 * @param {Case[]} group  cases with bindings of the same sizes share their memory
 * @param {number} milliseconds  for each case
 * @returns {Promise<number[]>}
 */
export async function measure(group, milliseconds) {
  top = BINDINGS;
  const largest = group[0].bindings.map((_, i) => Math.max(...group.map((c) => c.bindings[i])));
  const addresses = largest.map((n) => {
    const address = allocate(4 * n);
    for (let i = 0; i < n; i++) floats[address / 4 + i] = Math.random() * 2 - 1;
    return address;
  });
  /** @type {(() => void)[]} */
  const runs = [];
  for (const one of group) runs.push(await prepare(one, addresses));
  // The clock has steps of 5 us: a measurement takes 100 us or more.
  const repeats = group.map((c) => Math.max(1, Math.ceil(5e6 / c.flops)));
  const best = group.map(() => Infinity);
  /** @param {number} until */
  const rounds = (until) => {
    do {
      runs.forEach((run, i) => {
        const start = performance.now();
        for (let r = 0; r < repeats[i]; r++) run();
        best[i] = Math.min(best[i], (performance.now() - start) / repeats[i]);
      });
    } while (performance.now() < until);
  };
  rounds(performance.now() + 50 * group.length); // until V8 has optimised
  best.fill(Infinity);
  rounds(performance.now() + milliseconds * group.length);
  return best;
}
