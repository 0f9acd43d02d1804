// The list: only the rows that can be seen exist, so that it is as quick for many trajectories as for few.

const ROW = 54;
const SPARE_ROWS = 6;

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
  const element = make(
    "div",
    {
      class: "row",
      role: "option",
      id: `row-${place}`,
      "aria-selected": String(place === at),
      "aria-setsize": String(rows.length),
      "aria-posinset": String(place + 1),
    },
    make(
      "span",
      { class: index.right[i] ? "right" : "wrong" },
      make("span", { "aria-hidden": "true" }, index.right[i] ? "✓" : "✗"),
      make("span", { class: "unseen" }, index.right[i] ? "right" : "wrong"),
    ),
    make("span", { class: "what" }, make("bdi", {}, question.slice(0, 200))),
    make(
      "small",
      {},
      [`${setOf(i).label} #${index.sample[i]}`, calls, ...(stop === "answered" ? [] : [stop]), id].join(" · "),
    ),
  );
  element.style.transform = `translateY(${place * ROW}px)`;
  return element;
}
