// One attempt: its question, its actions and observations, and which of its tokens are in the loss.

// Formulas: $$…$$, \[…\], $…$, \(…\), environments, and a box on its own. A dollar before a price opens no formula: the
// closing one stands behind no blank and before no digit.
const FORMULA =
  /\$\$([^$]{1,4000})\$\$|\\\[([\s\S]{1,4000}?)\\\]|\\\(([\s\S]{1,4000}?)\\\)|(?<![\\$])\$(?![\s$])([^$\n]{0,1000}[^$\s\\])\$(?!\d)|(\\begin\{([a-z]+\*?)\}[\s\S]{1,4000}?\\end\{\6\})/g;
const BOX = "\\boxed{";
const PROGRAM = /^ {0,3}```(\w*)[ \t]*\n([\s\S]*?)(^ {0,3}```[ \t]*$|$(?![\s\S]))/gm;

/** Prose with its formulas rendered; the text between them stays as it is. */
function prose(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(FORMULA)) {
    const source = found[1] ?? found[2] ?? found[3] ?? found[4] ?? found[5];
    const inline = (found[3] ?? found[4]) !== undefined;
    parts.push(...boxes(text.slice(end, found.index)), mathematics(source, !inline) ?? unread(found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, ...boxes(text.slice(end))];
}

/** Text in which an answer may stand in a box without any delimiters around it. */
function boxes(text) {
  const start = text.indexOf(BOX);
  if (start < 0) return [text];
  const end = closingBrace(text, start + BOX.length);
  if (end < 0) return [text];
  const source = text.slice(start, end);
  return [text.slice(0, start), mathematics(source, false) ?? unread(source), ...boxes(text.slice(end))];
}

/** The place behind the brace that closes the one before `start`, or -1. */
function closingBrace(text, start) {
  for (let depth = 1, i = start; i < Math.min(text.length, start + 1000); i++) {
    if (text[i] === "{") depth++;
    if (text[i] === "}" && --depth === 0) return i + 1;
  }
  return -1;
}

const unread = (source) => make("code", { class: "unread" }, source);

/** An action: prose, and its blocks of code in colours. */
function action(text) {
  const parts = [];
  let end = 0;
  for (const block of text.matchAll(PROGRAM)) {
    parts.push(paragraph(text.slice(end, block.index)), python(block[2].replace(/\n$/, "")));
    end = block.index + block[0].length;
  }
  return [...parts, paragraph(text.slice(end))].filter(Boolean);
}

function paragraph(text) {
  const trimmed = text.replace(/^\n+|\n+$/g, "");
  return trimmed ? make("div", { class: "prose" }, ...prose(trimmed)) : null;
}

const tokens = (count) => `${count.toLocaleString("en")} ${count === 1 ? "token" : "tokens"}`;

function part(look, title, note, ...content) {
  return make("section", { class: `part ${look}` }, make("h4", {}, title, make("span", {}, note)), ...content);
}

function turnParts(turn, number) {
  const sure = turn.logprob === null ? "" : ` · mean log-probability ${String(turn.logprob).replace("-", "−")}`;
  const parts = [
    part("sampled", `Action ${number}`, `mask 1 · ${tokens(turn.sampled)}${sure}`, ...action(turn.action)),
  ];
  if (turn.status === null && turn.observation === null) return parts;
  const ran = turn.status === null ? "" : `${turn.status} in ${turn.seconds} s · `;
  const look = turn.status === "ok" || turn.status === null ? "observed" : "observed failed";
  const content = turn.observation ?? "It had no room in the context.";
  parts.push(
    part(look, `Observation ${number}`, `${ran}mask 0 · ${tokens(turn.observed)}`, make("pre", {}, content)),
  );
  return parts;
}

/** The action mask to scale: one bar of all tokens, full where they are in the loss. */
function maskBar(body) {
  const spans = [["prompt", body.prompt]];
  for (const turn of body.turns) spans.push(["sampled", turn.sampled], ["observed", turn.observed]);
  const all = spans.reduce((sum, [, count]) => sum + count, 0) || 1;
  const inLoss = spans.reduce((sum, [look, count]) => sum + (look === "sampled" ? count : 0), 0);
  const bar = make("div", {
    class: "mask",
    role: "img",
    "aria-label": `Action mask: ${inLoss} of ${tokens(all)} have mask 1`,
  });
  for (const [look, count] of spans.filter(([, count]) => count)) {
    const piece = make("i", { class: look, title: `${look}: ${tokens(count)}` });
    piece.style.flexGrow = String(count);
    bar.append(piece);
  }
  const told = `${inLoss.toLocaleString("en")} of ${tokens(all)} have mask 1`;
  return make("div", { class: "mask-row" }, bar, make("span", {}, told));
}

function questionPart(question, prompt) {
  return part(
    "prompt",
    "Question",
    `mask 0 · the prompt has ${tokens(prompt)}`,
    make("div", { class: "prose" }, ...prose(question)),
  );
}

/** The whole attempt. `about` is what the index knows of it, `body` what its chunk holds. */
function attempt(about, body) {
  const verdict = make("strong", { class: about.right ? "right" : "wrong" }, about.right ? "✓ right" : "✗ wrong");
  const heat = typeof body.temperature === "number" ? ` · temperature ${body.temperature}` : "";
  const answered = make(
    "p",
    { class: "answers" },
    "answered ",
    make("b", {}, ...prose(asFormula(body.prediction))),
    " · gold ",
    make("b", {}, ...prose(asFormula(about.answer))),
  );
  return [
    make("p", { class: "about" }, verdict, ` · stopped: ${about.stop} · policy ${body.policy}${heat}`),
    answered,
    maskBar(body),
    ...body.turns.flatMap((turn, i) => turnParts(turn, i + 1)),
    make("p", { class: "command" }, "Every token, from the run directory: ", make("code", {}, about.command)),
  ];
}

/** An answer that looks like LaTeX as a formula, anything else as it is. */
function asFormula(answer) {
  if (answer === null) return "nothing";
  return /[\\^_]/.test(answer) && !answer.includes("$") ? `\\(${answer}\\)` : answer;
}
