// LaTeX as MathML, as far as solutions to school mathematics use it. Elements are made, never parsed from text; a formula
// with anything unknown in it is shown as it was written.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MOST_TOKENS = 3000;
const DEEPEST = 60;
const TOKEN = /\\(?:[a-zA-Z]+\*?|[\s\S])|\d+(?:\.\d+)?|\s+|[\s\S]/gu;

/** A `math` element for a formula without its delimiters, or null if it cannot be read. */
function mathematics(source, display) {
  const tokens = source.match(TOKEN) ?? [];
  if (tokens.length > MOST_TOKENS) return null;
  const reader = { tokens, at: 0, depth: 0 };
  try {
    const content = table(reader, [undefined]);
    const math = node("math", content);
    if (display) math.setAttribute("display", "block");
    math.setAttribute("aria-label", source);
    return math;
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

class Unreadable extends Error {}

function node(tag, ...children) {
  const element = document.createElementNS(MATHML, tag);
  element.append(...children);
  return element;
}

function sign(text, stretchy = false) {
  const operator = node("mo", text);
  operator.setAttribute("stretchy", String(stretchy));
  return operator;
}

const peek = (reader) => reader.tokens[reader.at];

function skipSpace(reader) {
  while (/^\s/.test(peek(reader) ?? "")) reader.at++;
}

/** Everything up to one of the tokens that end it; `undefined` is the end of the formula. */
function row(reader, ends) {
  const parts = [];
  for (skipSpace(reader); !ends.includes(peek(reader)); skipSpace(reader)) {
    if (peek(reader) === undefined) throw new Unreadable("it ends too early");
    const part = scripted(reader);
    if (part) parts.push(part);
  }
  return node("mrow", ...parts);
}

/** Rows and cells; without `&` and line breaks just the one cell. */
function table(reader, ends) {
  const rows = [[row(reader, [...ends, "&", "\\\\"])]];
  while (!ends.includes(peek(reader))) {
    const next = reader.tokens[reader.at++];
    if (next === "\\\\") rows.push([]);
    if (next === undefined) throw new Unreadable("it ends too early");
    rows.at(-1).push(row(reader, [...ends, "&", "\\\\"]));
  }
  if (rows.length === 1 && rows[0].length === 1) return rows[0][0];
  return node("mtable", ...rows.map((cells) => node("mtr", ...cells.map((cell) => node("mtd", cell)))));
}

/** An atom with what stands below and above it. */
function scripted(reader) {
  const limits = LARGE.has((peek(reader) ?? "").slice(1));
  const base = /^[_^]$/.test(peek(reader)) ? node("mrow") : atom(reader);
  let below = null;
  const above = [];
  for (skipSpace(reader); /^[_^']$/.test(peek(reader) ?? ""); skipSpace(reader)) {
    const kind = reader.tokens[reader.at++];
    if (kind === "_") below = argument(reader);
    else above.push(kind === "'" ? sign("′") : argument(reader));
  }
  if (!base || (!below && !above.length)) return base;
  const names = limits ? ["munderover", "munder", "mover"] : ["msubsup", "msub", "msup"];
  const raised = node("mrow", ...above);
  if (below && above.length) return node(names[0], base, below, raised);
  return below ? node(names[1], base, below) : node(names[2], base, raised);
}

/** What a command applies to: a group, or the next thing; of a number its first digit, as in TeX. */
function argument(reader) {
  skipSpace(reader);
  const token = peek(reader);
  if (token === undefined || token === "}") throw new Unreadable("something is missing");
  if (/^\d./.test(token)) {
    reader.tokens[reader.at] = token.slice(1);
    return node("mn", token[0]);
  }
  return atom(reader) ?? node("mrow");
}

/** The source of a group in braces. */
function raw(reader) {
  skipSpace(reader);
  if (reader.tokens[reader.at++] !== "{") throw new Unreadable("a brace is missing");
  let text = "";
  for (let depth = 1; ; reader.at++) {
    const token = peek(reader);
    if (token === undefined) throw new Unreadable("a brace is not closed");
    if (token === "{") depth++;
    if (token === "}" && --depth === 0) break;
    text += token;
  }
  reader.at++;
  return text;
}

/** One thing, or null for a command that shows nothing. */
function atom(reader) {
  if (++reader.depth > DEEPEST) throw new Unreadable("too deep");
  const found = readAtom(reader);
  reader.depth--;
  return found;
}

function readAtom(reader) {
  const token = reader.tokens[reader.at++];
  if (token === "{") return closing(reader, row(reader, ["}"]));
  if (/^\d/.test(token)) return node("mn", token);
  if (/^\p{L}$/u.test(token)) return node("mi", token);
  if (token in SPACES) return space(SPACES[token]);
  if (/^\\[{}%$#&_|]$/.test(token)) return sign(token === "\\|" ? "‖" : token[1]);
  if (/^[}&#$%^_\\]$/.test(token)) throw new Unreadable(`${token} stands alone`);
  return token.startsWith("\\") ? command(reader, token.slice(1)) : sign(token === "-" ? "−" : token);
}

function closing(reader, content) {
  reader.at++;
  return content;
}

function space(width) {
  const element = node("mspace");
  element.setAttribute("width", `${width}em`);
  return element;
}

function command(reader, name) {
  if (SIGNS.has(name)) return sign(SIGNS.get(name));
  if (LETTERS.has(name)) return node("mi", LETTERS.get(name));
  if (FUNCTIONS.has(name)) return node("mrow", node("mi", name.replace("bmod", "mod")), space(0.17));
  if (INTEGRALS.has(name)) return node("mo", INTEGRALS.get(name));
  if (LARGE.has(name)) return large(LARGE.get(name));
  if (IGNORED.has(name)) return null;
  if (TEXTS.has(name)) return node("mtext", raw(reader));
  if (FONTS.has(name)) return argument(reader);
  if (ACCENTS.has(name)) return over(argument(reader), ACCENTS.get(name));
  if (!Object.hasOwn(COMMANDS, name)) throw new Unreadable(`\\${name} is not known`);
  return COMMANDS[name](reader);
}

function large(text) {
  const operator = node("mo", text);
  operator.setAttribute("movablelimits", "true");
  return operator;
}

function over(base, accent) {
  const element = node("mover", base, sign(accent, true));
  element.setAttribute("accent", "true");
  return element;
}

function fraction(reader) {
  return node("mfrac", argument(reader), argument(reader));
}

function bare(above, below) {
  const element = node("mfrac", above, below);
  element.setAttribute("linethickness", "0");
  return node("mrow", sign("(", true), element, sign(")", true));
}

function root(reader) {
  skipSpace(reader);
  if (peek(reader) !== "[") return node("msqrt", argument(reader));
  reader.at++;
  const degree = closing(reader, row(reader, ["]"]));
  return node("mroot", argument(reader), degree);
}

function fenced(reader) {
  const open = delimiter(reader);
  const content = row(reader, ["\\right"]);
  reader.at++;
  return node("mrow", sign(open, true), content, sign(delimiter(reader), true));
}

function delimiter(reader) {
  skipSpace(reader);
  const token = reader.tokens[reader.at++];
  if (token === undefined) throw new Unreadable("a delimiter is missing");
  if (token === ".") return "";
  if (/^\\[{}|]$/.test(token)) return token === "\\|" ? "‖" : token[1];
  return token.startsWith("\\") ? (SIGNS.get(token.slice(1)) ?? "") : token;
}

function environment(reader) {
  const name = raw(reader);
  if (!TABLES.test(name)) throw new Unreadable(`the environment ${name} is not known`);
  if (/^(?:array|tabular|alignat\*?)$/.test(name)) raw(reader);
  const content = table(reader, ["\\end"]);
  reader.at++;
  if (raw(reader) !== name) throw new Unreadable(`${name} is not closed`);
  const [open, close] = FENCES[name] ?? "  ";
  const fences = [open, close].map((text) => (text === " " ? "" : sign(text, true)));
  return node("mrow", fences[0], content, fences[1]);
}

function boxed(reader) {
  const content = node("mrow", argument(reader));
  content.setAttribute("class", "boxed");
  return content;
}

function stacked(reader) {
  const above = argument(reader);
  return node("mover", argument(reader), above);
}

const COMMANDS = {
  frac: fraction,
  dfrac: fraction,
  tfrac: fraction,
  cfrac: fraction,
  binom: (reader) => bare(argument(reader), argument(reader)),
  dbinom: (reader) => bare(argument(reader), argument(reader)),
  sqrt: root,
  left: fenced,
  begin: environment,
  boxed,
  fbox: boxed,
  mathbb: (reader) => node("mi", [...raw(reader)].map((letter) => DOUBLE[letter] ?? letter).join("")),
  underline: (reader) => node("munder", argument(reader), sign("_", true)),
  underbrace: (reader) => node("munder", argument(reader), sign("⏟", true)),
  overset: stacked,
  stackrel: stacked,
  not: (reader) => sign(`${argument(reader).textContent}\u0338`),
  pmod: (reader) => node("mrow", space(0.3), sign("("), node("mi", "mod"), space(0.2), argument(reader), sign(")")),
  tag: (reader) => node("mtext", `  (${raw(reader)})`),
  label: (reader) => (raw(reader), null),
  color: (reader) => (raw(reader), null),
  textcolor: (reader) => (raw(reader), argument(reader)),
  phantom: (reader) => (raw(reader), space(0.5)),
  cancel: (reader) => argument(reader),
};
