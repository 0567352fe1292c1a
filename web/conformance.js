/**
 * The page of ONNX's backend suite: shows the results of one run, counted and searchable. The run
 * itself is `build.py conformance --suite onnx`, which writes results.json.
 */

/** Suite, case, operator, status, where, reason. @typedef {string[]} Case */

const SHOWN = 200; // cases at a time
const PLACES = ["kernel", "mixed", "host"];

/** @param {string} id */
function part(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {(string | number)[]} cells */
function row(cells) {
  const line = document.createElement("tr");
  cells.forEach((text, index) => {
    const cell = document.createElement(index === 0 ? "th" : "td");
    if (index === 0) cell.scope = "row";
    // A long name breaks behind its dots and underscores.
    const words = String(text).split(/(?<=[._])/);
    cell.append(...words.flatMap((word) => [word, document.createElement("wbr")]));
    line.append(cell);
  });
  return line;
}

/** @param {Case[]} cases @param {string} name */
function counts(cases, name) {
  const passed = cases.filter((one) => one[3] === "passed");
  const places = PLACES.map((place) => passed.filter((one) => one[4] === place).length);
  return row([name, cases.length, passed.length, ...places]);
}

/** @param {Case[]} cases */
function show(cases) {
  const query = /** @type {HTMLInputElement} */ (part("query")).value.trim().toLowerCase();
  const failed = /** @type {HTMLInputElement} */ (part("failed")).checked;
  const found = cases.filter(
    ([suite, name, operator, status]) =>
      !(failed && status === "passed") &&
      `${suite} ${name} ${operator}`.toLowerCase().includes(query),
  );
  const lines = found
    .slice(0, SHOWN)
    .map(([suite, name, operator, status, where, reason]) =>
      row([name, operator || suite, status, status === "passed" ? where : reason]),
    );
  part("cases").replaceChildren(...lines);
  const rest = found.length > SHOWN ? `, the first ${SHOWN} are shown` : "";
  part("count").textContent = `${found.length} cases${rest}`;
}

async function start() {
  const answer = await fetch(new URL("../conformance/results.json", import.meta.url));
  if (!answer.ok) throw new Error(`results.json: the server answered ${answer.status}`);
  const results = await answer.json();
  /** @type {Case[]} */
  const cases = results.cases;
  const suites = [...new Set(cases.map(([suite]) => suite))];
  part("suites").replaceChildren(
    ...suites.map((name) => counts(cases.filter(([suite]) => suite === name), name)),
    counts(cases, "all"),
  );
  const passed = cases.filter((one) => one[3] === "passed").length;
  part("status").textContent = `${passed} of ${cases.length} cases pass`;
  part("engine").textContent = `onnx ${results.onnx}, ${results.engine}.`;
  for (const id of ["query", "failed"]) part(id).addEventListener("input", () => show(cases));
  part("form").addEventListener("submit", (event) => event.preventDefault());
  show(cases);
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  document.body.dataset.state = "failed";
  part("status").textContent = `The results could not be shown: ${error.message}`;
});
