// What is looked at: one attempt, or two at the same problem side by side.

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
  if (!shown.length)
    return ui.detail.replaceChildren(make("p", { class: "empty" }, "No trajectory passes these filters."));
  const bodies = await Promise.all(shown.map(async (i) => (await chunk(index.chunk[i]))[index.place[i]]));
  if (mine !== drawing) return undefined;
  const question = index.problems[index.problem[shown[0]]][1];
  ui.detail.replaceChildren(
    detailHead(shown[0]),
    questionPart(question, bodies[0].prompt),
    make(
      "div",
      { class: both ? "columns" : "" },
      ...shown.map((i, column) => attemptColumn(i, bodies[column], column, shown)),
    ),
  );
  ui.detail.scrollTop = 0;
  return remember(shown[0]);
}

function detailHead(i) {
  const problem = index.problem[i];
  const change = { "01": "became right", 10: "became wrong", 11: "stayed right", "00": "stayed wrong" }[
    index.change[problem]
  ];
  const button = make(
    "button",
    { type: "button", id: "this-problem" },
    only === problem ? "All problems (p)" : "Only this problem (p)",
  );
  button.addEventListener("click", toggleProblem);
  return make(
    "header",
    {},
    make("h3", {}, make("bdi", {}, index.problems[problem][0])),
    change ? make("span", { class: "tag" }, change) : "",
    button,
  );
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
    answer,
    right: index.right[i] === 1,
    stop: index.stops[index.stop[i]],
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
