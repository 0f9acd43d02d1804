r"""Cut an answer into tokens. Commands that only set type are dropped; `\text{…}` gives the tokens of its content."""

import re
from typing import NamedTuple

from eval.syntax.tree import NotReadError

_MAX_TOKENS = 1_500


class Token(NamedTuple):
    """A piece of text: `kind` is number, word, call (a word glued to a bracket), command, begin, end, string or sign.

    `space`: a blank stands before it. `roman`: it stood in a text command, where letters are words.
    """

    kind: str
    text: str
    space: bool
    roman: bool


END = Token("stop", "", False, False)

_TOKEN = re.compile(
    r"""(?P<skip>\s+|~|(?<=[A-Za-z0-9])\{\}|\\[,;:!\ ]|\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle
      |quad|qquad|limits|large|Large|small|blacksquare|square|qed|color\{[a-z]*\}|hspace\*?\{[^{}]*\})(?![A-Za-z]))
    |(?P<number>[0-9]*\.[0-9]*(?:\\(?:overline|bar|dot)\s*(?:\{[0-9]+\}|[0-9])|\([0-9]+\)|(?<=[0-9]{3})(?:\.\.\.|\\l?dots\b))
      |(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]{1,3}(?:_[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+|\.(?![0-9.]))?(?:[eE][+-]?[0-9]{1,4}(?![0-9A-Za-z.]))?
      |\.[0-9]+(?:[eE][+-]?[0-9]{1,4}(?![0-9A-Za-z.]))?)
    |\\(?P<text>text|textbf|textit|textrm|textnormal|texttt|textsf|mbox|hbox|mathrm|mathbf|mathit|mathsf|boldsymbol|bf|rm|operatorname)(?:\*|(?![A-Za-z]))\s*
    |\\(?P<edge>begin|end)\s*\{(?P<environment>[A-Za-z]+)\*?\}(?:\{[clr|\s]*\})?
    |\\mathbb\s*(?:\{\s*(?P<bold>[RNZQC])\s*\}|(?P<bold2>[RNZQC])(?![A-Za-z]))
    |(?P<command>\\(?:[A-Za-z]+|\\|.))
    |(?P<joiner>(?<=[0-9)}\]])(?:or|and)(?=[A-Z0-9(\\-]))
    |(?P<call>(?:[A-Za-z]+\.)*[A-Za-z]+[0-9]*(?=\())
    |(?P<word>[A-Za-z]+)
    |(?<![A-Za-z)\]}'])(?P<string>'[^'\\]*'|"[^"\\]*")
    |(?P<sign>\*\*|<=|>=|!=|==|->|\.\.\.|.)""",
    re.VERBOSE | re.DOTALL,
)  # fmt: skip
_SIGNS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=",
    "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "{": "\\{", "}": "\\}",
    "lbrace": "\\{", "rbrace": "\\}", "lvert": "|", "rvert": "|", "vert": "|", "mid": "mid", "langle": "(",
    "rangle": ")", "lbrack": "[", "rbrack": "]", "colon": ":", "cup": "cup", "cap": "cap", "setminus": "minus",
    "backslash": "minus", "ldots": "...", "dots": "...", "cdots": "...", "%": "%", "$": "$", "&": "&", "pm": "pm",
    "mp": "mp", "approx": "~", "in": "in", "\\": "\\\\", "circ": "deg", "degree": "deg", "prime": "'", "#": "#",
    "cr": "\\\\", "lparen": "(", "rparen": ")", "equiv": "equiv", "_": "_",
}  # fmt: skip
_WORDS = {"land": "and", "wedge": "and", "lor": "or", "vee": "or", "infty": "oo", "pounds": "£", "euro": "€"}
_NAMES = frozenset(
    ("alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
     "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega", "Gamma",
     "Delta", "Theta",
     "Lambda", "Xi", "Sigma", "Phi", "Psi", "Omega", "pi", "ell")
)  # fmt: skip
_SAME_SIGN = {"**": "^", "==": "=", "∪": "cup", "∩": "cap"}
_OPENING, _CLOSING = frozenset(("(", "[", "{", "\\{")), frozenset((")", "]", "}", "\\}"))
_BOLD = {"R": "RR", "N": "NN", "Z": "ZZ", "Q": "QQ", "C": "CC"}


def tokenize(text: str, thousands: bool = True) -> list[Token]:
    """Cut `text`, in ASCII, into tokens; `1,234` outside brackets is one number if `thousands`.

    Raises:
        NotReadError: the text has too many tokens or unbalanced text commands.
    """
    tokens: list[Token] = []
    _cut(text, 0, len(text), thousands, False, tokens)
    return tokens


def _cut(text: str, start: int, stop: int, thousands: bool, roman: bool, tokens: list[Token]) -> None:
    depth, space = 0, roman
    while start < stop:
        match = _TOKEN.match(text, start, stop)
        assert match is not None  # the last alternative takes any character
        kind, found = match.lastgroup or "", match[0]
        start = match.end()
        if kind == "skip":
            space = True
            continue
        if kind == "text":
            start = _cut_text(text, start, stop, match["text"], tokens, roman)
            space = False
            continue
        if kind == "number" and depth and "," in found:
            found = found[: found.index(",")]
            start = match.start() + len(found)
        if kind == "number" and not thousands and "," in found:
            found = found[: found.index(",")]
            start = match.start() + len(found)
        token = _token(match, kind, found, space, roman)
        depth += (token.text in _OPENING) - (token.text in _CLOSING) if token.kind == "sign" else 0
        tokens.append(token)
        if len(tokens) > _MAX_TOKENS:
            raise NotReadError("too long")
        space = False


def _token(match: re.Match[str], kind: str, found: str, space: bool, roman: bool) -> Token:
    if kind == "sign":
        return Token("sign", _SAME_SIGN.get(found, found), space, roman)
    if kind == "environment":
        return Token(match["edge"], match["environment"], space, roman)
    if kind in {"bold", "bold2"}:
        return Token("name", _BOLD[match[kind]], space, roman)
    if kind != "command":
        return Token("word" if kind == "joiner" else kind, found, space, roman)
    command = found[1:]
    if command in _SIGNS:
        return Token("sign", _SIGNS[command], space, roman)
    if command in _NAMES:
        return Token("name", command, space, roman)
    if command in _WORDS:
        word = _WORDS[command]
        return Token("word" if word.isalpha() else "sign", word, space, True)
    return Token("command", command, space, roman)


def _cut_text(text: str, start: int, stop: int, command: str, tokens: list[Token], roman: bool) -> int:
    """Append the tokens of a text command's argument; return where the text goes on."""
    if not text.startswith("{", start):
        return start
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start, stop):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            inside = text[start + 1 : brace.start()]
            if command == "operatorname":
                tokens.append(Token("command", inside.strip(), False, roman))
            else:
                words = len(inside.strip()) > 1 or command not in {"mathrm", "mathbf", "mathit", "boldsymbol"}
                _cut(text, start + 1, brace.start(), True, words, tokens)
            return brace.end()
    raise NotReadError("a text command is not closed")
