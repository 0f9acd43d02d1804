r"""Sets of real numbers, however they are written: intervals, unions, solved and unsolved inequalities, `\{x : …\}`.

Two sets are compared by membership: at every boundary that either side names, exactly, and between and beyond them.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

from eval.evaluate import NoValueError, written_digits
from eval.numeric import Numeric
from eval.syntax.tree import BRACKETS, CONSTANTS, Node, variables, walk

_ORDER = frozenset(("<", ">", "<=", ">="))
_ALGEBRA = frozenset(("union", "cap", "minus", "builder"))
_DIGITS = 60
_MAX_DIGITS = 400
_MAX_BOUNDARIES = 60
_GRID = tuple(
    Fraction(sign * n, 7) for n in (1, 2, 3, 5, 8, 12, 19, 30, 47, 75, 140, 400, 3000, 10**5) for sign in (1, -1)
)
_BISECTIONS = 200
_LETTERS = frozenset(("RR",))


def is_set_of_reals(node: Node) -> bool:
    """Whether the node can only be read as a set of real numbers or a condition for one."""
    if node.head == "relation":
        return not _ORDER.isdisjoint(node.data) or "!=" in node.data
    if node.head == "list" and node.data != ",":
        return any(is_set_of_reals(part) for part in node.parts)
    return node.head in _ALGEBRA or node == Node("name", (), "RR")


def equal_sets(a: Node, b: Node) -> bool | None:
    """Whether two sets hold the same real numbers; None if one of them is no such set or has several variables."""
    names = {name for node in (a, b) if (name := _variable(node)) is not None}
    if len(names) > 1 or not (_is_readable(a) and _is_readable(b)):
        return None
    digits = _DIGITS + written_digits(a, b)
    if digits > _MAX_DIGITS:
        return None
    reader = _Reader(Numeric(digits, real=True), names.pop() if names else "x")
    try:
        boundaries = reader.sorted_boundaries(a, b)
    except NoValueError:
        return None
    if boundaries is None:
        return None
    return all(reader.member(a, x) == reader.member(b, x) for x in reader.probes(boundaries))


def _variable(node: Node) -> str | None:
    """The variable that a condition is about; "" if it has several."""
    if node.head == "builder":
        bound = node.parts[0]
        return bound.data if bound.head == "name" else ""
    found = variables(node) - {"RR"}
    return None if not found else found.pop() if len(found) == 1 else ""


def _is_readable(node: Node) -> bool:
    if node.head == "builder":
        return node.parts[0].head == "name" and variables(node) == {node.parts[0].data} and _is_readable(node.parts[1])
    if node.head in {"relation"}:
        if "in" in node.data:
            return len(node.parts) == 2 and node.parts[0].head == "name" and _is_readable(node.parts[1])
        return all(sign in _ORDER or sign in {"=", "!="} for sign in node.data) and len(variables(node)) == 1
    if node.head in {"union", "cap", "minus", "list"}:
        return all(_is_readable(part) for part in node.parts)
    if node.head in BRACKETS:
        return len(node.parts) == 2 and not variables(node)
    if node.head == "{}":
        return not variables(node)
    return node == Node("name", (), "RR")


class _Reader:
    def __init__(self, numeric: Numeric, variable: str) -> None:
        self.numeric = numeric
        self.mp = numeric.mp
        self.variable = variable
        self.small = self.mp.mpf(10) ** -30

    def constant(self, node: Node) -> Any:
        """A number, or plus or minus infinity."""
        if node.head == "name" and node.data == "oo":
            return self.mp.inf
        if node.head == "neg":
            return -self.constant(node.parts[0])
        value = self.numeric.value(node, {})
        if not isinstance(value, self.mp.mpf):
            raise NoValueError("not real")
        return value

    def compare(self, x: Any, y: Any) -> int:
        """-1, 0 or 1; numbers that agree to thirty digits are equal."""
        if x == y or (self.mp.isfinite(x) and self.mp.isfinite(y) and abs(x - y) <= self.small * (1 + abs(y))):
            return 0
        return -1 if x < y else 1

    def sorted_boundaries(self, *nodes: Node) -> list[Any] | None:
        """Where membership may change, in order; None if there are too many places."""
        found: list[Any] = []
        for node in nodes:
            for value in self.boundaries(node):
                if self.mp.isfinite(value) and all(self.compare(value, other) for other in found):
                    found.append(value)
                if len(found) > _MAX_BOUNDARIES:
                    return None
        return sorted(found)

    def boundaries(self, node: Node) -> Iterator[Any]:
        if node.head in BRACKETS or node.head == "{}":
            yield from (self.constant(part) for part in node.parts)
        elif node.head == "relation" and "in" not in node.data:
            for left, right in zip(node.parts, node.parts[1:], strict=False):
                yield from self.crossings(left, right)
        else:
            for part in node.parts:
                yield from self.boundaries(part)

    def crossings(self, left: Node, right: Node) -> Iterator[Any]:
        """Where two sides of a relation are equal: read off if solved, else searched on a grid."""
        for side, other in ((left, right), (right, left)):
            if side.head == "name" and side.data == self.variable and not variables(other):
                yield self.constant(other)
                return
        if not variables(left) and not variables(right):
            return
        written = [abs(item.data.value) for node in (left, right) for item in walk(node) if item.head == "number"]
        grid = sorted(
            {
                Fraction(0),
                *_GRID,
                *(s * value + d for value in written for s in (1, -1) for d in (0, Fraction(1, 9), Fraction(-1, 9))),
            }
        )
        points = [self.numeric.fraction(value) for value in grid]
        values = [self.difference(left, right, x) for x in points]
        for (x, u), (y, v) in zip(
            zip(points, values, strict=True), list(zip(points, values, strict=True))[1:], strict=False
        ):
            if u is not None and abs(u) <= self.small:
                yield x
            elif u is not None and v is not None and abs(v) > self.small and (u < 0) != (v < 0):
                yield self.bisect(left, right, x, y, u)

    def difference(self, left: Node, right: Node, x: Any) -> Any:
        point = {self.variable: x}
        try:
            value = self.numeric.value(left, point) - self.numeric.value(right, point)
        except NoValueError:
            return None
        return value if isinstance(value, self.mp.mpf) and self.mp.isfinite(value) else None

    def bisect(self, left: Node, right: Node, low: Any, high: Any, at_low: Any) -> Any:
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            value = self.difference(left, right, middle)
            if value is None:
                break
            if (value < 0) == (at_low < 0) and value:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def probes(self, boundaries: list[Any]) -> Iterator[Any]:
        """Every boundary, and points between and beyond them."""
        if not boundaries:
            yield from (self.mp.mpf(value) for value in (-1000, 0, 1000))
            return
        yield boundaries[0] - 1000
        yield boundaries[0] - self.mp.mpf(1) / 7
        for low, high in pairwise(boundaries):
            yield low
            yield low + (high - low) / 3
            yield low + (high - low) * 2 / 3
        yield boundaries[-1]
        yield boundaries[-1] + self.mp.mpf(1) / 7
        yield boundaries[-1] + 1000

    def member(self, node: Node, x: Any) -> bool:
        """Whether `x` belongs to the set, or satisfies the condition."""
        head, parts = node.head, node.parts
        if head in BRACKETS:
            low, high = (self.compare(x, self.constant(part)) for part in parts)
            return low >= (head[0] == "(") and high <= -(head[1] == ")")
        if head == "{}":
            return any(not self.compare(x, self.constant(part)) for part in parts)
        if head == "union" or (head == "list" and node.data == "or"):
            return any(self.member(part, x) for part in parts)
        if head in {"cap", "list"}:
            return all(self.member(part, x) for part in parts)
        if head == "minus":
            return self.member(parts[0], x) and not self.member(parts[1], x)
        if head == "builder":
            return self.member(parts[1], x)
        if head == "relation":
            return self.satisfies(node, x)
        return True  # the real numbers

    def satisfies(self, node: Node, x: Any) -> bool:
        if "in" in node.data:
            return self.member(node.parts[1], x)
        pairs = zip(node.parts, node.parts[1:], node.data, strict=False)
        return all(self.holds(left, right, sign, x) for left, right, sign in pairs)

    def holds(self, left: Node, right: Node, sign: str, x: Any) -> bool:
        point = {self.variable: x}
        sides = []
        for side in (left, right):
            if not variables(side) - CONSTANTS and any(item.data == "oo" for item in walk(side)):
                sides.append(self.constant(side))
                continue
            try:
                sides.append(self.numeric.value(side, point))
            except NoValueError:
                return False
        if not all(isinstance(side, self.mp.mpf) for side in sides):
            return False
        order = self.compare(*sides)
        return {"<": order < 0, ">": order > 0, "<=": order <= 0, ">=": order >= 0, "=": order == 0, "!=": order != 0}[
            sign
        ]
