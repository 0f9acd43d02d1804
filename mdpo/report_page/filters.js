// Which trajectories are listed, and how an attempt at a problem before compares with one after.

const setOf = (i) => index.sets[index.set[i]];

/** An attempt at a problem before, and one after: the first and the last evaluation, or of two runs the last of each. */
function beforeAndAfter(problem) {
  const held = index.attempts[problem].filter((i) => setOf(i).kind === "evaluation");
  if (held.length < 2) return null;
  const after = held.findLast((i) => index.sample[i] === index.sample[held[0]]) ?? held.at(-1);
  const others = held.filter((i) => setOf(i).run !== setOf(after).run);
  const before = others.length
    ? (others.findLast((i) => index.sample[i] === index.sample[after]) ?? others.at(-1))
    : held[0];
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
  const hit = index.text.map(
    (text, problem) =>
      (only === null || only === problem) &&
      text.includes(wanted) &&
      (!ui.change.value || index.change[problem] === ui.change.value),
  );
  const equal = [
    [index.set, ui.set],
    [index.right, ui.outcome],
    [index.stop, ui.stop],
  ]
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
