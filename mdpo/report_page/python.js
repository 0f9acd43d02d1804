// Python in colours: one expression that finds what has a colour; everything else is text.

const KEYWORDS = new Set(
  (
    "False None True and as assert async await break class continue def del elif else except finally for from global " +
    "if import in is lambda match nonlocal not or pass raise return try while with yield"
  ).split(" "),
);
// Comments; strings, with prefixes and three quotes or one; numbers; names.
const PYTHON =
  /(#[^\n]*)|((?:\b[rbfuRBFU]{1,2})?(?:"""[\s\S]*?(?:"""|$(?![\s\S]))|'''[\s\S]*?(?:'''|$(?![\s\S]))|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|(\b\d[\w.]*)|([A-Za-z_]\w*)/g;

/** A `pre` element with a program. */
function python(source) {
  const pre = make("pre", { class: "code" });
  let end = 0;
  for (const found of source.matchAll(PYTHON)) {
    const look = lookOf(found);
    if (look === null) continue;
    pre.append(source.slice(end, found.index), make("span", { class: look }, found[0]));
    end = found.index + found[0].length;
  }
  pre.append(source.slice(end));
  return pre;
}

function lookOf([whole, comment, string, number, name]) {
  if (comment !== undefined) return "comment";
  if (string !== undefined) return "string";
  if (number !== undefined) return "number";
  return name !== undefined && KEYWORDS.has(whole) ? "keyword" : null;
}
