/**
 * The search page's behaviour: shows the start's progress, takes queries, shows hits, says in words
 * what goes wrong. Owns what is on the page; the computing is the worker's.
 */
import { isolate } from "./isolation.js";
import { PythonWorker } from "./loader.js";

/** @typedef {import("./loader.js").News} News */
/** @typedef {import("./messages.js").Answer} Answer */
/** @typedef {import("./messages.js").Device} Device */
/** @typedef {import("./messages.js").Failure} Failure */

// Typing on within this time changes the query instead of asking twice.
const PAUSE_MILLISECONDS = 120;

const parameters = new URLSearchParams(location.search);
const auto = parameters.has("auto");

/** @template {HTMLElement} T @param {string} id @param {new () => T} type @returns {T} */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`search/index.html has no ${type.name} #${id}`);
  return found;
}

const page = {
  form: element("form", HTMLFormElement),
  query: element("query", HTMLInputElement),
  examples: element("examples", HTMLElement),
  loading: element("loading", HTMLElement),
  step: element("step", HTMLElement),
  amount: element("amount", HTMLElement),
  bar: element("bar", HTMLProgressElement),
  failure: element("failure", HTMLElement),
  failureTitle: element("failure-title", HTMLElement),
  failureText: element("failure-text", HTMLElement),
  failureType: element("failure-type", HTMLElement),
  again: element("again", HTMLButtonElement),
  hits: element("hits", HTMLOListElement),
  status: element("status", HTMLElement),
  reason: element("reason", HTMLElement),
};

/** @type {PythonWorker | undefined} */
let python;
/** @type {Device | undefined} */
let device;
let notIsolated = "";
let ready = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
// One question at a time is with the worker; of those asked meanwhile only the last counts.
let asking = false;
let wanted = "";
let shown = "";

/** @param {number} bytes */
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** @param {Record<string, unknown>} result */
function setResult(result) {
  /** @type {{ RESULT?: unknown }} */ (globalThis).RESULT = result;
}

/** @param {string} step @param {string} amount @param {number} done @param {number} total */
function showProgress(step, amount, done, total) {
  page.step.textContent = step;
  page.amount.textContent = amount;
  page.bar.max = total;
  page.bar.value = done;
}

/** Words of Python's as a sentence. @param {string} words */
function sentence(words) {
  return words && `${words[0].toUpperCase()}${words.slice(1)}${words.endsWith(".") ? "" : "."}`;
}

/** @param {number} [ms] */
function showDevice(ms) {
  if (!device) return;
  const { threads, mode, reason } = device;
  const parts = [`${threads} ${threads === 1 ? "thread" : "threads"}`, mode];
  if (ms !== undefined) parts.push(`${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
  page.status.textContent = parts.join(" · ");
  page.reason.textContent = [sentence(reason), notIsolated].filter(Boolean).join(" ");
}

/** @param {Omit<Failure, "kind" | "id">} failure */
function showFailure({ name, message, retry }) {
  page.failureTitle.textContent = ready ? "The search failed" : "The search could not start";
  page.failureText.textContent = message;
  page.failureType.textContent = name;
  page.again.textContent = retry ? "Try again" : "Reload the page";
  page.again.onclick = () => {
    page.failure.hidden = true;
    if (!retry) {
      location.reload();
      return;
    }
    python?.retry();
    page.query.focus();
  };
  page.failure.hidden = false;
  if (!ready && !retry) page.loading.hidden = true;
  if (auto) setResult({ error: `${name}: ${message}` });
}

/** @param {unknown} error */
function fail(error) {
  console.error(error);
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  showFailure({ name, message, retry: false });
}

/** @param {Answer} answer */
function showAnswer({ hits, ms }) {
  page.failure.hidden = true;
  page.hits.replaceChildren(
    ...hits.map(({ sentence, score }) => {
      const item = document.createElement("li");
      const text = document.createElement("span");
      text.className = "sentence";
      text.textContent = sentence;
      const bar = document.createElement("span");
      bar.className = "score-bar";
      bar.setAttribute("aria-hidden", "true");
      bar.style.setProperty("--score", String(Math.max(0, score)));
      const number = document.createElement("span");
      number.className = "score";
      number.textContent = score.toFixed(2);
      number.setAttribute("aria-label", `similarity ${score.toFixed(2)}`);
      item.append(text, bar, number);
      return item;
    }),
  );
  showDevice(ms);
}

/** Asks for what is wanted now, unless a question is out or the answer is on the page. */
async function ask() {
  if (!python || !ready || asking || wanted === shown) return;
  if (!wanted) {
    shown = "";
    page.hits.replaceChildren();
    showDevice();
    return;
  }
  asking = true;
  const query = wanted;
  try {
    const answer = await python.search(query);
    shown = query;
    if (wanted) showAnswer(answer);
  } catch (error) {
    // Not asked again by itself; typing on does.
    shown = query;
    fail(error);
  } finally {
    asking = false;
  }
  if (wanted !== shown) await ask();
}

/** @param {string[]} queries */
function showExamples(queries) {
  page.examples.replaceChildren(
    ...queries.map((query) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = query;
      button.onclick = () => {
        page.query.value = query;
        want();
      };
      return button;
    }),
  );
}

function want() {
  clearTimeout(timer);
  wanted = page.query.value.trim();
  ask().catch(fail);
}

/** The five queries, answered one after the other, for a caller without eyes. @param {string[]} queries */
async function runAll(queries) {
  const host = /** @type {PythonWorker} */ (python);
  const answers = [];
  for (const query of queries) {
    page.query.value = query;
    const answer = await host.search(query);
    showAnswer(answer);
    answers.push(answer);
  }
  setResult({ queries: answers, ...device, ...(await host.report()) });
}

/** @param {News} news */
function hear(news) {
  if (news.kind === "failure") {
    showFailure(news);
  } else if (news.kind === "step") {
    page.step.textContent = news.text;
  } else if (news.kind === "bytes") {
    const { loaded, total } = news;
    const amount = `${megabytes(loaded)} of ${megabytes(total)} MB`;
    showProgress(page.step.textContent ?? "", amount, loaded, total);
  } else if (news.kind === "device") {
    device = news.device;
    showDevice();
  } else if (news.kind === "corpus") {
    showProgress("Reading the sentences", `${news.done} of ${news.total}`, news.done, news.total);
  } else {
    device = news.device;
    ready = true;
    page.loading.hidden = true;
    document.body.dataset.state = "ready";
    showExamples(news.examples);
    showDevice();
    if (auto) runAll(news.examples).catch(fail);
    else ask().catch(fail);
  }
}

async function main() {
  page.form.addEventListener("submit", (event) => {
    event.preventDefault();
    want();
  });
  page.query.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(want, PAUSE_MILLISECONDS);
  });
  const { reloading, why } = await isolate();
  if (reloading) return;
  notIsolated = why;
  const asked = Number(parameters.get("threads"));
  const threads = Number.isInteger(asked) && asked > 0 ? asked : null;
  const memory = parameters.get("memory") === "heap" ? "heap" : "own";
  python = new PythonWorker({ threads, memory }, hear);
  addEventListener("pagehide", (event) => {
    if (!event.persisted) python?.close();
  });
}

main().catch(fail);
