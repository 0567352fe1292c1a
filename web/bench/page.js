/**
 * The bench page: runs tilework and onnxruntime-web in turn on the same inputs and takes the times.
 * Owns the workers of both sides and the order of their blocks; tools/bench.py chooses the cases,
 * calls `bench` from outside and does the statistics.
 */
import { Remote } from "./messages.js";

/** @typedef {import("./messages.js").Case} Case */
/** @typedef {import("./messages.js").Feed} Feed */
/** @typedef {import("./messages.js").Prepared} Prepared */

/**
 * `dims` of float32 or, with `below`, of int64 in [0, below); `below` 0 and 1 mean that number.
 * With `bytes`, of that dtype over its whole range.
 * @typedef {{ name: string, dims: number[], below?: number, bytes?: "uint8" | "int8" }} FeedSpec
 */
/**
 * @typedef {object} CaseSpec
 * @property {string} name
 * @property {string} model  URL, relative to the site
 * @property {string} [manifest]  URL of the external data's manifest of pieces
 * @property {FeedSpec[]} feeds
 * @property {number} [tokens]  messages.js says of these three
 * @property {[string, string][]} [fed]
 * @property {string} [grows]
 * @property {number} seconds  of measuring, both sides together, warm-up not counted
 */

const SITE = new URL("../../", import.meta.url);
// Both sides' threads go to sleep within this time of their last work: see `control`.
const SETTLE = 30;
const GROUP_MS = 0.5; // runs shorter than this are timed together
const BLOCK_MS = 60;
const CONTROL = { steps: 2e6 };

/** @type {Remote | undefined} */
let tilework;
/** @type {Remote | undefined} */
let peer;
/** @type {Remote[]} */
let controls = [];
/** @type {Map<string, Uint8Array<ArrayBuffer>>} */
const fetched = new Map();

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} name */
async function get(name) {
  const found = fetched.get(name);
  if (found !== undefined) return found;
  const response = await fetch(new URL(name, SITE));
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  fetched.set(name, bytes);
  return bytes;
}

/** A model's external data, put together. @param {string | undefined} manifest */
async function external(manifest) {
  if (manifest === undefined) return { bytes: new Uint8Array(0), location: "" };
  const told = JSON.parse(new TextDecoder().decode(await get(manifest)));
  const found = fetched.get(`${manifest} whole`);
  if (found !== undefined) return { bytes: found, location: told.location };
  const bytes = new Uint8Array(told.bytes);
  let offset = 0;
  for (const piece of told.pieces) {
    const url = new URL(piece.name, new URL(manifest, SITE));
    const part = new Uint8Array(await (await fetch(url)).arrayBuffer());
    bytes.set(part, offset);
    offset += part.length;
  }
  if (offset !== told.bytes) throw new Error(`${manifest}: pieces hold ${offset} bytes`);
  fetched.set(`${manifest} whole`, bytes);
  return { bytes, location: told.location };
}

/** Numbers that look random and are the same each time. @param {FeedSpec} spec @returns {Feed} */
function feed({ name, dims, below, bytes }) {
  const count = dims.reduce((product, extent) => product * extent, 1);
  let state = 2463534242;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  if (below !== undefined) {
    const data = new BigInt64Array(count);
    for (let i = 0; i < count; i++) data[i] = BigInt(below > 1 ? next() % below : below);
    return { name, dims, data };
  }
  if (bytes !== undefined) {
    const data = bytes === "uint8" ? new Uint8Array(count) : new Int8Array(count);
    for (let i = 0; i < count; i++) data[i] = next() >>> 24;
    return { name, dims, data };
  }
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) data[i] = next() / 2 ** 31 - 1;
  return { name, dims, data };
}

/** @param {CaseSpec} spec @returns {Promise<Case>} */
async function task(spec) {
  const { bytes, location } = await external(spec.manifest);
  const model = await get(spec.model);
  return {
    name: spec.name,
    model,
    external: bytes,
    location,
    feeds: spec.feeds.map(feed),
    tokens: spec.tokens ?? 1,
    fed: spec.fed ?? [],
    grows: spec.grows ?? "",
  };
}

/** Largest difference relative to the largest value. @param {Float32Array[]} outputs */
function difference([a, b]) {
  if (a.length !== b.length) throw new Error(`outputs have ${a.length} and ${b.length} elements`);
  let most = 0;
  let scale = 0;
  for (let i = 0; i < a.length; i++) {
    if (Number.isNaN(a[i]) !== Number.isNaN(b[i])) return Infinity;
    most = Math.max(most, Math.abs(a[i] - b[i]));
    scale = Math.max(scale, Math.abs(b[i]));
  }
  return most / (scale || 1);
}

/** @param {Prepared} prepared */
function blockOf({ ms }) {
  const size = Math.max(1, Math.ceil(GROUP_MS / ms));
  return { size, groups: Math.max(1, Math.min(40, Math.floor(BLOCK_MS / (ms * size)))) };
}

export const bench = {
  /**
   * Starts both sides' workers with `threads` threads each; `sides` may leave one out. `device`
   * false leaves tilework installed and not yet imported; `memory` is python.js's.
   * @param {{ threads: number, sides: string[], device: boolean, memory?: string }} options
   */
  async open({ threads, sides, device, memory }) {
    const told = { tilework: "", peer: "" };
    if (sides.includes("peer")) {
      peer = new Remote(new URL("./peer-worker.js", import.meta.url), "onnxruntime-web");
      told.peer = await peer.ask("start", { threads });
    }
    if (sides.includes("tilework")) {
      tilework = new Remote(new URL("./tilework-worker.js", import.meta.url), "tilework");
      told.tilework = await tilework.ask("start", { threads, device, memory });
    }
    return told;
  },

  close() {
    for (const remote of [tilework, peer, ...controls]) remote?.close();
    tilework = peer = undefined;
    controls = [];
  },

  /**
   * Warms each side up, then lets them take turns: A B, B A, ... in blocks of about 60 ms, with a
   * pause in which the one's threads fall asleep. Milliseconds of each run or group of runs.
   * @param {CaseSpec} spec
   */
  async compare(spec) {
    const given = await task(spec);
    const sides = [tilework, peer].filter((side) => side !== undefined);
    /** @type {Prepared[]} */
    const prepared = [];
    for (const side of sides) {
      prepared.push(await side.ask("prepare", given));
      await sleep(SETTLE);
    }
    const turns = sides.map((side, i) => ({
      side,
      block: blockOf(prepared[i]),
      times: /** @type {number[]} */ ([]),
    }));
    const began = performance.now();
    let rounds = 0;
    while (rounds < 5 || (rounds < 40 && performance.now() - began < spec.seconds * 1000)) {
      for (const turn of rounds % 2 === 0 ? turns : [...turns].reverse()) {
        turn.times.push(...(await turn.side.ask("block", turn.block)));
        await sleep(SETTLE);
      }
      rounds++;
    }
    const at = (/** @type {Remote | undefined} */ side) =>
      turns.find((turn) => turn.side === side)?.times ?? [];
    return {
      tilework: at(tilework),
      peer: at(peer),
      rounds,
      difference: sides.length === 2 ? difference(prepared.map((side) => side.output)) : null,
    };
  },

  /** One of the figures that only tilework has. @param {string} name @param {CaseSpec} [spec] */
  async figure(name, spec) {
    if (tilework === undefined) throw new Error("tilework's side is not open");
    return tilework.ask("figure", { name, task: spec && (await task(spec)) });
  },

  /**
   * The control: a fixed piece of plain work on every core at once, `repeat` times. `after` names
   * the side that has run just before and has then been given the pause of `compare`. Times as
   * without it mean that its threads sleep by then.
   * @param {{ repeat: number, after: string }} options
   */
  async control({ repeat, after }) {
    while (controls.length < navigator.hardwareConcurrency) {
      const url = new URL("./control-worker.js", import.meta.url);
      controls.push(new Remote(url, "control"));
      for (let i = 0; i < 20; i++) await controls[controls.length - 1].ask("work", CONTROL);
    }
    const side = { tilework, peer, "": undefined }[after];
    const times = [];
    for (let i = 0; i < repeat; i++) {
      await side?.ask("block", { groups: 1, size: 1 });
      await sleep(SETTLE);
      const all = await Promise.all(controls.map((worker) => worker.ask("work", CONTROL)));
      times.push(Math.max(...all));
    }
    return times;
  },
};

Object.assign(globalThis, { bench });
