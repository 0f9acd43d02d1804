"""From a text to its tree."""

import re

from eval.normal import ascii_text, bare
from eval.syntax.atoms import Parser
from eval.syntax.tokens import tokenize
from eval.syntax.tree import Node

_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,?\s*\\!|\\[,; ])\s*(?=[0-9]{3}(?![0-9]))")
_BLANK_THOUSANDS = re.compile(r"([+-]?)([0-9]{1,3}(?: [0-9]{3})+)(\.[0-9]+)?")
_PREAMBLE = re.compile(
    r"(?:\\text\{\s*)?"
    r"(?:(?:so |thus |hence |therefore,? )?(?:the )?(?:final )?answer(?: is)?\s*:?"
    r"|about|approximately|roughly|=|~|\\approx)"
    r"(?:\s*\}\s*|\s+)(?=\S)",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"(?<!\\)\$((?:[^$\\]|\\.)+)\$(?![0-9])")  # a formula amid words; `$5, $6` are amounts
_ARRAY = re.compile(r"[][0-9.\s+eE-]+")  # as numpy prints, without commas
_ARRAY_GAP = re.compile(r"(?<=[0-9.\]])\s+(?=[-0-9.\[])")
_LATEX = re.compile(r"[\\^$]")
_ARITHMETIC = re.compile(r"[-+*/0-9]")


def parse(text: str, thousands: bool = True) -> Node:
    """Read an answer.

    Args:
        text: the answer, in LaTeX, plain text or Python's print, of bounded length.
        thousands: whether `1,234` outside brackets is one number; else it is a list.

    Raises:
        NotReadError: it is no answer of this grammar; `UnknownCommandError` where a larger grammar may know it.
    """
    text = clean(text)
    # Without arithmetic E and I are options or names, not the constants of sympy.
    python = not _LATEX.search(text) and _ARITHMETIC.search(text) is not None
    parser = Parser(tokenize(text, thousands), python)
    return parser.answer()


def clean(text: str) -> str:
    """`text` in ASCII, without delimiters, thousands separators of LaTeX and words that only introduce the answer."""
    text = bare(ascii_text(text)) if not text.isascii() or text[:1] in "$\\{" or text[-1:] in ".,$" else text.strip()
    if "\\" in text or "{,}" in text:
        text = _THOUSANDS.sub("", text).replace(r"\!", "").replace("{,}", ",")
    text = text.strip("*").strip() if text[:1] == "*" else text
    text = text.rstrip("\\ ")
    if "$" in text:
        text = _FORMULA.sub(r" \1 ", text).strip()
    if text[:1] == "[" and _ARRAY.fullmatch(text):
        text = _ARRAY_GAP.sub(", ", text)
    if blank := _BLANK_THOUSANDS.fullmatch(text):
        return blank[1] + blank[2].replace(" ", "") + (blank[3] or "")
    if introduced := _PREAMBLE.match(text):
        text = text[introduced.end() :]
        text = bare(text)
    return text
