r"""The outer shape of an answer: lists, tuples, sets, intervals, unions, ratios, matrices, `x = …`, inequalities."""

import re
from dataclasses import dataclass

from eval.normal import bracketed, split, tokens

_AND_OR = re.compile(r"[,;]?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*\}\s*|[,;]?(?<=[\s0-9})])(?:and|or)(?=[\s0-9A-Z(\\-])")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)
_LABEL = re.compile(r"(?:[A-Za-z]|\\[A-Za-z]+\b|\()(?:[A-Za-z0-9_{}(),:' \\]|\^\{-1\})*")
_OPERATOR = re.compile(r"\\(?:cdot|times|div|pm|cup|cap|in|le|ge|ne|text)\b")
_RELATION = re.compile(r"(<|>|\\le\b|\\ge\b)")
_ANY_RELATION = re.compile(r"[=<>]|\\(?:le|ge|ne|approx|equiv|in)\b")
_VARIABLE = re.compile(r"[A-Za-z](?:_\{?[0-9a-z]\}?)?|\\(?:theta|alpha|beta|lambda)|f\(x\)")
_BUILDER = re.compile(r"\\\{\s*([a-z])\s*(?::|\\mid\b|\|)\s*(.*)\\\}", re.DOTALL)
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_FROM, _UP_TO = r"([(\[][^,]*),\s*\+?\\infty\s*\)", r"\(-\\infty\s*,([^,]*[)\]])"
_MEETING = re.compile(rf"{_FROM}\s*\\cap\s*{_UP_TO}|{_UP_TO}\s*\\cap\s*{_FROM}")
_MAX_PARTS = 40


@dataclass(frozen=True)
class Shape:
    r"""`kind` is "list", "set", "union", "ratio", "matrix 2x3" or two brackets ("()", "[)"), `parts` its elements."""

    kind: str
    parts: tuple[str, ...]


def read_shape(text: str) -> Shape | None:
    """Return the outer shape of a normal text, or None if it is a single expression."""
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix[1])
    items = _items(_AND_OR.sub(", ", text), frozenset((",", ";")))
    if len(items) > 1 and bracketed(text) is None:
        return _shape("list", items)
    union = split(text, frozenset((r"\cup",)))
    if len(union) > 1:
        return _shape("union", union)
    if (brackets := bracketed(text)) and (shape := _bracketed(*brackets)):
        return shape
    if len(ratio := split(text.replace(r"\text{ to }", ":"), frozenset((":",)))) > 1:
        return _shape("ratio", ratio)
    return None


def plus_minus(text: str) -> list[str]:
    r"""`1 \pm \sqrt{2}` as its two values; a text without `\pm` as itself."""
    pieces = tokens(text)
    if r"\pm" not in pieces and r"\mp" not in pieces:
        return [text]
    upper = {r"\pm": "+", r"\mp": "-"}
    lower = {r"\pm": "-", r"\mp": "+"}
    return [
        "".join(signs.get(piece, piece) for piece in pieces).replace("=+", "=").replace("= +", "= ")
        for signs in (upper, lower)
    ]


def has_relation(text: str) -> bool:
    r"""Whether `=`, `<`, `\le`, `\in` or the like occurs in the text."""
    return _ANY_RELATION.search(text) is not None


def split_label(text: str) -> tuple[str, str]:
    r"""Split `x = 5`, `f(x) = 5`, `(x, y) = (1, 2)`, `x \in [0, 1]`, `x = 2 + 3 = 5` into label and last right side.

    The label is "" if the text is no such thing: `2x = 4` and `x + y = 3` are equations, not named values.
    """
    first, *rest = split(text, frozenset(("=", r"\in")))
    if not rest or not rest[-1] or any(has_relation(part) for part in rest):
        return "", text
    if not _LABEL.fullmatch(first) or _OPERATOR.search(first):
        return "", text
    return "".join(first.split()), rest[-1]


def solution_interval(text: str) -> tuple[str, str] | None:
    r"""Return (variable, interval) for a solved inequality: `x > 5`, `0 < x \le 1`, `x \ne 0`, `x < 1 or x > 3`."""
    if meeting := _meeting(text):
        return "", meeting
    if text == r"\mathbb{R}":
        return "", r"(-\infty,\infty)"
    if builder := _BUILDER.fullmatch(text):
        inner = solution_interval(builder[2].strip())
        return ("", inner[1]) if inner and inner[0] == builder[1] else None
    for word, operator in (("or", r"\cup"), ("and", r"\cap")):
        parts = re.split(rf"\s*\\text\s*\{{\s*{word}\s*\}}\s*|\s+{word}\s+", text)
        if len(parts) > 1:
            found = [solution_interval(part) for part in parts[:_MAX_PARTS]]
            names = {item[0] for item in found if item}
            if None in found or len(names) != 1:
                return None
            joined = f" {operator} ".join(item[1] for item in found if item)
            return names.pop(), _meeting(joined) or joined
    if len(sides := split(text, frozenset((r"\ne",)))) == 2 and _VARIABLE.fullmatch(sides[0]):
        return sides[0], rf"(-\infty,{sides[1]}) \cup ({sides[1]},\infty)"
    return _chain(_RELATION.split(text))


def _meeting(text: str) -> str | None:
    r"""The interval `(a, b)` of `(a, \infty) \cap (-\infty, b)`, in either order; None for other texts."""
    halves = _MEETING.fullmatch(text)
    if halves is None:
        return None
    return f"{halves[1]},{halves[2]}" if halves[1] else f"{halves[4]},{halves[3]}"


def _chain(pieces: list[str]) -> tuple[str, str] | None:
    """The interval of [left, relation, right] or [left, relation, middle, relation, right]."""
    pieces = [piece.strip() for piece in pieces]
    if len(pieces) == 3:
        left, relation, right = pieces
        if _VARIABLE.fullmatch(right):
            left, relation, right = right, _FLIPPED[relation], left
        if not _VARIABLE.fullmatch(left) or not right:
            return None
        end = "]" if "e" in relation else ")"
        if relation in {"<", r"\le"}:
            return left, rf"(-\infty,{right}{end}"
        return left, rf"{'[' if end == ']' else '('}{right},\infty)"
    if len(pieces) == 5 and _VARIABLE.fullmatch(pieces[2]):
        low, first, variable, second, high = pieces
        if first in {">", r"\ge"}:
            low, first, second, high = high, _FLIPPED[second], _FLIPPED[first], low
        if first in {"<", r"\le"} and second in {"<", r"\le"}:
            return variable, f"{'[' if 'e' in first else '('}{low},{high}{']' if 'e' in second else ')'}"
    return None


def _items(text: str, separators: frozenset[str]) -> list[str]:
    return [item for part in split(text, separators) if part for item in plus_minus(part)]


def _bracketed(opening: str, inside: str, closing: str) -> Shape | None:
    items = _items(inside, frozenset((",", ";")))
    if opening == r"\{" or (opening == "{" and len(items) > 1):
        return _shape("set", items)
    return _shape(opening + closing, items) if len(items) > 1 else None


def _matrix(body: str) -> Shape | None:
    rows = [split(row, frozenset(("&",))) for row in body.split(r"\\") if row.strip()]
    columns = {len(row) for row in rows}
    return (
        _shape(f"matrix {len(rows)}x{columns.pop()}", [cell for row in rows for cell in row])
        if len(columns) == 1
        else None
    )


def _shape(kind: str, parts: list[str]) -> Shape:
    return Shape(kind, tuple(parts))
