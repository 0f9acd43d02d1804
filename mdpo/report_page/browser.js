// The browser of trajectories: its state, its start, and its keys.

const byId = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  ["search", "set", "outcome", "stop", "change", "programs", "only", "clear", "count", "list", "detail", "both"].map(
    (id) => [id, byId(id)],
  ),
);
let index; // the columns of the index, and what is made of them once
let rows = []; // the trajectories that pass the filters
let at = 0; // the row that is chosen
let only = null; // the one problem that is shown, if so
let both = false;
let drawing = 0; // rises with each drawing, so that a late one does not overwrite a newer one

async function start() {
  index = await unpack("index");
  index.text = index.problems.map(([id, question]) => `${id}\n${question}`.toLowerCase());
  index.attempts = index.problems.map(() => []);
  index.problem.forEach((problem, i) => index.attempts[problem].push(i));
  index.change = index.problems.map((_, problem) => changeOf(problem));
  fillSelects();
  listen();
  const asked = /^#attempt-(\d+)$/.exec(location.hash);
  filter();
  if (asked) choose(Math.max(0, rows.indexOf(Number(asked[1]))));
  document.documentElement.dataset.ready = "true";
}

function toggleProblem() {
  const i = rows[at];
  if (i === undefined) return;
  only = only === null ? index.problem[i] : null;
  filter(i);
}

function toggleBoth() {
  both = !both;
  drawDetail();
}

function clear() {
  for (const name of ["search", "set", "outcome", "stop", "change", "programs"]) ui[name].value = "";
  only = null;
  filter(rows[at]);
}

const KEYS = {
  j: () => choose(at + 1),
  k: () => choose(at - 1),
  s: toggleBoth,
  p: toggleProblem,
  "/": () => ui.search.focus(),
};
const LIST_KEYS = {
  ArrowDown: KEYS.j,
  ArrowUp: KEYS.k,
  Home: () => choose(0),
  End: () => choose(rows.length - 1),
  PageDown: () => choose(at + Math.max(1, Math.floor(ui.list.clientHeight / ROW) - 1)),
  PageUp: () => choose(at - Math.max(1, Math.floor(ui.list.clientHeight / ROW) - 1)),
  Enter: () => ui.detail.focus(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (typing) {
    if (event.target === ui.search && (event.key === "Enter" || event.key === "Escape")) ui.list.focus();
    return;
  }
  const does = (event.target === ui.list ? LIST_KEYS[event.key] : undefined) ?? KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

function listen() {
  document.addEventListener("keydown", onKey);
  ui.search.addEventListener("input", () => filter(rows[at]));
  for (const name of ["set", "outcome", "stop", "change", "programs"])
    ui[name].addEventListener("change", () => filter(rows[at]));
  ui.both.addEventListener("click", toggleBoth);
  ui.clear.addEventListener("click", clear);
  ui.only.addEventListener("click", toggleProblem);
  ui.list.addEventListener("scroll", () => requestAnimationFrame(drawList), { passive: true });
  ui.list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    choose(Number(row.id.slice("row-".length)));
    // On a narrow page the attempt is below the list.
    if (matchMedia("(max-width: 52rem)").matches) ui.detail.scrollIntoView({ block: "start" });
  });
  addEventListener("resize", drawList);
}

function fail(error) {
  ui.count.textContent = `The trajectories cannot be unpacked (${error}); use a current browser, or write the report again.`;
}

// After the first picture of the page, which does not need the data.
if (byId("index")) requestAnimationFrame(() => setTimeout(() => start().catch(fail)));
