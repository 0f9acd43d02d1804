// The browser of trajectories: filters, a list of which only the visible rows exist, and one attempt or two side by side.

const ROW = 54;
const SPARE_ROWS = 6;
const byId = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  ["search", "set", "outcome", "stop", "change", "programs", "only", "clear", "count", "list", "detail", "both"].map((id) => [id, byId(id)]),
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

const setOf = (i) => index.sets[index.set[i]];

/** An attempt at a problem before, and one after: the first and the last evaluation, or of two runs the last of each. */
function beforeAndAfter(problem) {
  const held = index.attempts[problem].filter((i) => setOf(i).kind === "evaluation");
  if (held.length < 2) return null;
  const after = held.findLast((i) => index.sample[i] === index.sample[held[0]]) ?? held.at(-1);
  const others = held.filter((i) => setOf(i).run !== setOf(after).run);
  const before = others.length ? others.findLast((i) => index.sample[i] === index.sample[after]) ?? others.at(-1) : held[0];
  return before === after ? null : [before, after];
}

function changeOf(problem) {
  const pair = beforeAndAfter(problem);
  return pair ? `${index.right[pair[0]]}${index.right[pair[1]]}` : "";
}

function fillSelects() {
  const runs = new Set(index.sets.map((set) => set.run)).size;
  index.sets.forEach((set, i) => {
    set.label = runs > 1 ? `${set.run} · ${set.name}` : set.name;
    if (set.shown) ui.set.append(make("option", { value: String(i) }, set.label));
  });
  const present = new Set(index.stop);
  index.stops.forEach((stop, i) => present.has(i) && ui.stop.append(make("option", { value: String(i) }, stop)));
}

function filter(keep = null) {
  const wanted = ui.search.value.trim().toLowerCase();
  const hit = index.text.map((text, problem) =>
    (only === null || only === problem) && text.includes(wanted) && (!ui.change.value || index.change[problem] === ui.change.value));
  const equal = [[index.set, ui.set], [index.right, ui.outcome], [index.stop, ui.stop]]
    .filter(([, select]) => select.value !== "")
    .map(([column, select]) => [column, Number(select.value)]);
  const programs = PROGRAMS[ui.programs.value];
  rows = [];
  for (let i = 0; i < index.problem.length; i++) {
    if (hit[index.problem[i]] && equal.every(([column, value]) => column[i] === value) && programs(i)) rows.push(i);
  }
  ui.count.textContent = `${rows.length.toLocaleString("en")} of ${index.problem.length.toLocaleString("en")} trajectories`;
  ui.only.hidden = only === null;
  ui.only.textContent = only === null ? "" : `only ${index.problems[only][0]} ×`;
  choose(Math.max(0, rows.indexOf(keep)));
}

const PROGRAMS = {
  "": () => true,
  failed: (i) => index.failed[i] > 0,
  well: (i) => index.calls[i] > 0 && index.failed[i] === 0,
  none: (i) => index.calls[i] === 0,
};

function choose(place) {
  at = Math.max(0, Math.min(place, rows.length - 1));
  const top = at * ROW;
  if (top < ui.list.scrollTop) ui.list.scrollTop = top;
  if (top + ROW > ui.list.scrollTop + ui.list.clientHeight) ui.list.scrollTop = top + ROW - ui.list.clientHeight;
  drawList();
  drawDetail();
}

function drawList() {
  const first = Math.max(0, Math.floor(ui.list.scrollTop / ROW) - SPARE_ROWS);
  const last = Math.min(rows.length, Math.ceil((ui.list.scrollTop + ui.list.clientHeight) / ROW) + SPARE_ROWS);
  const inner = ui.list.firstElementChild;
  inner.style.height = `${rows.length * ROW}px`;
  inner.replaceChildren(...Array.from({ length: Math.max(0, last - first) }, (_, i) => listRow(first + i)));
  if (rows.length) ui.list.setAttribute("aria-activedescendant", `row-${at}`);
  else ui.list.removeAttribute("aria-activedescendant");
}

function listRow(place) {
  const i = rows[place];
  const [id, question] = index.problems[index.problem[i]];
  const calls = `${index.calls[i]} ${index.calls[i] === 1 ? "call" : "calls"}${index.failed[i] ? `, ${index.failed[i]} failed` : ""}`;
  const stop = index.stops[index.stop[i]];
  const element = make("div", {
    class: "row", role: "option", id: `row-${place}`, "aria-selected": String(place === at),
    "aria-setsize": String(rows.length), "aria-posinset": String(place + 1),
  },
    make("span", { class: index.right[i] ? "right" : "wrong" }, make("span", { "aria-hidden": "true" }, index.right[i] ? "✓" : "✗"),
      make("span", { class: "unseen" }, index.right[i] ? "right" : "wrong")),
    make("span", { class: "what" }, make("bdi", {}, question.slice(0, 200))),
    make("small", {}, [`${setOf(i).label} #${index.sample[i]}`, calls, ...(stop === "answered" ? [] : [stop]), id].join(" · ")));
  element.style.transform = `translateY(${place * ROW}px)`;
  return element;
}

/** The attempts that are looked at: one, or two of the same problem. */
function looked() {
  const i = rows[at];
  if (!both) return [i];
  const problem = index.problem[i];
  const pair = setOf(i).kind === "evaluation" ? beforeAndAfter(problem) : null;
  if (pair) return pair;
  const others = index.attempts[problem].filter((other) => other !== i);
  const other = others.find((each) => index.right[each] !== index.right[i]) ?? others[0];
  return other === undefined ? [i] : [i, other];
}

async function drawDetail(shown = rows.length ? looked() : []) {
  const mine = ++drawing;
  ui.both.setAttribute("aria-pressed", String(both));
  if (!shown.length) return ui.detail.replaceChildren(make("p", { class: "empty" }, "No trajectory passes these filters."));
  const bodies = await Promise.all(shown.map(async (i) => (await chunk(index.chunk[i]))[index.place[i]]));
  if (mine !== drawing) return undefined;
  const question = index.problems[index.problem[shown[0]]][1];
  ui.detail.replaceChildren(detailHead(shown[0]), questionPart(question, bodies[0].prompt), make("div", { class: both ? "columns" : "" },
    ...shown.map((i, column) => attemptColumn(i, bodies[column], column, shown))));
  ui.detail.scrollTop = 0;
  return remember(shown[0]);
}

function detailHead(i) {
  const problem = index.problem[i];
  const change = { "01": "became right", "10": "became wrong", "11": "stayed right", "00": "stayed wrong" }[index.change[problem]];
  const button = make("button", { type: "button", id: "this-problem" }, only === problem ? "All problems (p)" : "Only this problem (p)");
  button.addEventListener("click", toggleProblem);
  return make("header", {}, make("h3", {}, make("bdi", {}, index.problems[problem][0])), change ? make("span", { class: "tag" }, change) : "", button);
}

/** An attempt under the choice of all attempts at its problem. */
function attemptColumn(i, body, column, shown) {
  const select = make("select", { "aria-label": "Attempt at this problem" });
  for (const other of index.attempts[index.problem[i]]) {
    const text = `${index.right[other] ? "✓" : "✗"} ${setOf(other).label} #${index.sample[other]}`;
    select.append(make("option", { value: String(other), selected: other === i }, text));
  }
  select.addEventListener("change", async () => {
    await drawDetail(shown.with(column, Number(select.value)));
    ui.detail.querySelectorAll("select")[column].focus();
  });
  const [id, , answer] = index.problems[index.problem[i]];
  const about = {
    answer, right: index.right[i] === 1, stop: index.stops[index.stop[i]],
    command: `mdpo inspect ${setOf(i).file} --problem ${quoted(id)} --sample ${index.sample[i]} --mask`,
  };
  return make("article", { "aria-label": setOf(i).label }, select, ...attempt(about, body));
}

/** A word of a command line, in quotes if a shell would read more than a word. */
const quoted = (text) => (/^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

let remembering;
function remember(i) {
  clearTimeout(remembering);
  // Browsers refuse many such changes in a short time.
  remembering = setTimeout(() => history.replaceState(null, "", `#attempt-${i}`), 400);
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
  for (const name of ["set", "outcome", "stop", "change", "programs"]) ui[name].addEventListener("change", () => filter(rows[at]));
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

// After the first picture of the page, which does not need the data.
if (byId("index")) requestAnimationFrame(() => setTimeout(start));
