/**
 * What the page and the Python worker say to each other. Control only: weights, sentences' numbers
 * and tensors never travel in a message.
 */

/**
 * Page to worker; `threads` null: all that there are.
 * @typedef {object} Start
 * @property {"start"} kind
 * @property {number | null} threads
 * @property {import("./python.js").PythonMemory} memory
 * @typedef {{ kind: "search", id: number, query: string }} Search
 * @typedef {{ kind: "report", id: number }} AskReport
 * @typedef {{ kind: "retry" }} Retry  after a `failure` whose `retry` is true
 * @typedef {Start | Search | AskReport | Retry} ToWorker
 */

/**
 * Where the computing is done; `reason` says in words why it is done there.
 * @typedef {{ mode: string, threads: number, reason: string }} Device
 * @typedef {{ sentence: string, score: number }} Hit
 * @typedef {{ query: string, hits: Hit[], ms: number }} Answer
 */

/**
 * `embeddings` is base64 of float32 [sentences.length, width], little endian.
 * @typedef {object} Report
 * @property {string[]} sentences
 * @property {string} embeddings
 * @property {number} corpus_ms
 * @property {Record<string, number>} steps  milliseconds of each step of the start
 */

/**
 * Worker to page.
 * @typedef {{ kind: "step", text: string }} Step  what is being done now, for people
 * @typedef {{ kind: "bytes", loaded: number, total: number }} Bytes  of the weights
 * @typedef {{ kind: "device", device: Device }} Opened
 * @typedef {{ kind: "corpus", done: number, total: number }} Corpus  sentences embedded
 * @typedef {{ kind: "ready", device: Device, sentences: number, examples: string[] }} Ready
 * @typedef {{ kind: "answer", id: number, answer: Answer }} Answered
 * @typedef {{ kind: "report", id: number, report: Report }} Reported
 * @typedef {object} Failure
 * @property {"failure"} kind
 * @property {string} name  the error's type, e.g. NoSuchFile
 * @property {string} message  what, where and what to do
 * @property {boolean} retry  whether a `retry` lets the worker go on from where it stopped
 * @property {number | null} id  the request that failed, null when it was the start
 * @typedef {Step | Bytes | Opened | Corpus | Ready | Answered | Reported | Failure} ToPage
 */

export {};
