r"""One spelling for the many ways to write the same LaTeX.

Nothing here knows mathematics: `\dfrac12`, `\frac{1}{2}` and `$\frac 12$` become one string, `0.5` stays another.
Every function takes time linear in the length of its text.
"""

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SYMBOLS = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "±": r"\pm ", "∓": r"\mp ",
        "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
        "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "°": r"^\circ ",
        "√": r"\sqrt ", "…": r"\ldots ", "∶": ":", "′": "'", "“": "", "”": "", "∠": r"\angle ", "△": r"\triangle ",

        "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "φ": r"\phi ", "λ": r"\lambda ", "ω": r"\omega ",
        "∖": r"\setminus ", "⟨": "(", "⟩": ")",
    }
)  # fmt: skip
_COMMANDS = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "left": "", "right": "", "big": "", "Big": "", "bigl": "",
    "bigr": "", "Bigl": "", "Bigr": "", "displaystyle": "", "leq": r"\le", "geq": r"\ge", "leqslant": r"\le",
    "geqslant": r"\ge", "lt": "<", "gt": ">", "neq": r"\ne", "colon": ":", "quad": " ", "qquad": " ",
    "degree": r"^\circ", "textbf": r"\text", "textit": r"\text", "textrm": r"\text", "textnormal": r"\text",
    "mbox": r"\text", "mathbf": r"\text", "varnothing": r"\emptyset", "dots": r"\ldots", "cdots": r"\ldots",
    "lbrace": r"\{", "rbrace": r"\}", "bar": r"\overline", "land": r"\text{ and }", "lor": r"\text{ or }", "limits": "",
}  # fmt: skip
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_RELATIONS = str.maketrans({"<": " < ", ">": " > "})

_COMMAND = re.compile(r"\\([A-Za-z]+)")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,?\s*\\!|\\[,; ])\s*(?=[0-9]{3}(?![0-9]))")
_SPACING = re.compile(r"(?<!\\)\\[,;:! ]|~")
_ROMAN = re.compile(r"\\(?:mathrm|rm)\s*\{\s*([a-zA-Z])\s*\}")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{(?:[bB]|small)?matrix\}")
_ARRAY = re.compile(r"[\[(]\s*\\begin\{array\}\{[^{}]*\}([^\[\]()]*)\\end\{array\}\s*[\])]")
_CIRCLE = re.compile(r"\^\s*\{?\s*\\circ\b\s*\}?")
_FRACTION_ARGUMENTS = (
    (re.compile(r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*([0-9A-Za-z])\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*(\{[^{}]*\})\s*([0-9A-Za-z])"), r"\\frac\1{\2}"),
    (re.compile(r"\\frac\s*\{"), r"\\frac{"),
    (re.compile(r"(\\frac\{[^{}]*\})\s+\{"), r"\1{"),
    (re.compile(r"\\sqrt\s*([0-9]+|[A-Za-z])"), r"\\sqrt{\1}"),
)
_OVER = re.compile(r"\{?([^{}]*)\\over\b([^{}]*)\}?")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), (r"\boxed{", "}"), (r"\fbox{", "}"))
_OUTWARD = re.compile(r"^\]([^\[\]]*,[^\[\]]*)\[$")  # an open interval in French notation
_EMPTY_SET = re.compile(r"\\\{\s*\\\}")
_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|.", re.DOTALL)
_OPENING, _CLOSING = frozenset(("(", "[", "{", r"\{")), frozenset((")", "]", "}", r"\}"))


def normal(text: str) -> str:
    r"""Return `text` in one LaTeX style: no delimiters or spacing commands, `\frac{…}{…}`, ASCII signs."""
    text = bare(ascii_text(text))
    text = _SPACING.sub(" ", _THOUSANDS.sub("", text).replace(r"\!", "").replace("{,}", ","))
    text = _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)
    text = _ROMAN.sub(r"\1", text).replace(r"\mathrm", r"\text")
    text = _ARRAY.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", _ENVIRONMENT.sub(r"\\\1{pmatrix}", text))
    text = _CIRCLE.sub(r"^\\circ ", text)
    for pattern, replacement in _FRACTION_ARGUMENTS:
        text = pattern.sub(replacement, text)
    if over := _OVER.fullmatch(text):
        text = rf"\frac{{{over[1].strip()}}}{{{over[2].strip()}}}"
    text = text.translate(_RELATIONS).replace(" < =", r"\le ").replace(" > =", r"\ge ").replace("!=", r"\ne ")
    text = _OUTWARD.sub(r"(\1)", bare(" ".join(text.split())))
    return r"\emptyset" if _EMPTY_SET.fullmatch(text) else text


def ascii_text(text: str) -> str:
    """Return `text` with LaTeX commands for the symbols of Unicode, and plain digits for those of other scripts."""
    if text.isascii():
        return text
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda m: f" {unicodedata.normalize('NFKC', m[0])}".replace("⁄", "/"), text)
    text = unicodedata.normalize("NFKC", text.translate(_SYMBOLS))
    return "".join(str(unicodedata.decimal(c, c)) if not c.isascii() else c for c in text)


def key(text: str) -> str:
    """Return the normal string without blanks, but for those between two digits, where a blank means something."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text)


def bare(text: str) -> str:
    """Return `text` without blanks, dollars, boxes, group braces, final comma and full stop around it."""
    before = None
    while text != before:
        before = text = text.strip()
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
                inner = text[len(opening) : -len(closing)]
                text = inner if balanced(inner) and (opening[0] != "$" or "$" not in inner.replace(r"\$", "")) else text
        if text.endswith((".", ",")) and not text.endswith(".."):
            text = text[:-1]
    return text


def balanced(text: str) -> bool:
    """Whether no bracket of `text` closes what it did not open, and none stays open; kinds of brackets may mix."""
    depth = 0
    for token in tokens(text):
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth < 0:
            return False
    return depth == 0


def tokens(text: str) -> list[str]:
    r"""Cut LaTeX into commands (`\frac`, `\{`) and single characters."""
    return _TOKEN.findall(text)
