"""Named values (`x = 5`, `f(x) = …`), equations and inequalities."""

from collections.abc import Callable
from typing import Any

from eval.scalars import equal_scalars, proportional
from eval.syntax.tree import CONSTANTS, Node, negative, number, variables, walk

_NAMING = frozenset(("=", "in", "~"))
_FLIPPED = {">": "<", ">=": "<="}
_LABEL_HEADS = frozenset(("*", "/", "ratio", "()", "list"))
Same = Callable[[Node, Node], bool]


def has_relation(node: Node) -> bool:
    """Whether the node is a relation, or a list or set with one."""
    return any(item.head in {"relation", "builder"} for item in walk(node))


def split_label(node: Node, same: Same) -> tuple[Node | None, Node]:
    r"""Split `x = 5`, `f(x) = 5`, `(x, y) = (1, 2)`, `x \in [0, 1]`, `x = 2 + 3 = 5` into label and last right side.

    The label is None if the node is no such thing: `2x = 4` and `x + y = 3` are equations, and `x = 5 = 6` is nothing.
    """
    if node.head != "relation" or not _NAMING.issuperset(node.data):
        return None, node
    first, *rest = node.parts
    if is_label(first) and not (len(rest) == 1 and is_name(rest[0]) and not is_name(first)):
        value = rest[-1]
        return (first, value) if all(same(part, value) for part in rest[:-1]) else (None, node)
    if len(rest) == 1 and is_name(rest[0]) and node.data == ("=",):
        return rest[0], first
    return None, node


def is_name(node: Node) -> bool:
    """Whether the node is a single variable."""
    return node.head == "name" and node.data not in CONSTANTS


def is_label(node: Node) -> bool:
    r"""Whether the node names a value: `x`, `f(x)`, `f^{-1}(x)`, `AB`, `(x, y)`, `\frac{AB}{CD}`, `\sin x`."""
    if node.head in {"name", "apply"}:
        return node.data not in CONSTANTS
    if node.head == "call":
        return bool(variables(node))
    if node.head == "^":
        return is_label(node.parts[0]) and node.parts[1] == number(-1)
    if node.head == "*" and node.parts[0].head == "^":  # f^{-1}(2)
        return is_label(node.parts[0])
    return node.head in _LABEL_HEADS and bool(node.parts) and all(is_label(part) for part in node.parts)


def equal_relations(a: Node, b: Node, same: Same) -> bool:
    """Whether two relations say the same: moved, multiplied, turned round."""
    if set(a.data) == set(b.data) == {"="} and len(a.parts) == len(b.parts) == 2:
        return _equal_equations(a, b)
    first, second = _inequalities(a), _inequalities(b)
    if first is None or second is None:
        return a.data == b.data and all(same(x, y) for x, y in zip(a.parts, b.parts, strict=True))
    return len(first) == len(second) and all(any(_same_inequality(x, y) for y in second) for x in first)


def _equal_equations(a: Node, b: Node) -> bool:
    f, g = _difference(*a.parts), _difference(*b.parts)
    if proportional(f, g) is not None:
        return True
    return any(_solves(x, y) for x, y in ((a, g), (b, f)))


def _solves(solved: Node, other: Node) -> bool:
    """Whether `v = …` solves `other` = 0, which must be of first degree in v."""
    for left, right in (solved.parts, solved.parts[::-1]):
        if is_name(left) and left.data not in variables(right) and left.data in variables(other):
            at = [_substituted(other, left.data, number(value)) for value in (0, 1, 2)]
            is_line = equal_scalars(_difference(at[2], at[1]), _difference(at[1], at[0]))
            zero = _substituted(other, left.data, right)
            return is_line and not equal_scalars(at[1], at[0]) and equal_scalars(zero, number(0))
    return False


def _inequalities(node: Node) -> list[tuple[str, Node]] | None:
    """Each step of a chain as a sign and the side that is above 0."""
    found = []
    for left, right, sign in zip(node.parts, node.parts[1:], node.data, strict=False):
        if sign in _FLIPPED:
            left, right, sign = right, left, _FLIPPED[sign]
        if sign not in {"<", "<=", "!="}:
            return None
        found.append((sign, _difference(right, left)))
    return found


def _same_inequality(x: tuple[str, Node], y: tuple[str, Node]) -> bool:
    if x[0] != y[0]:
        return False
    sign = proportional(x[1], y[1])
    return sign is not None and (sign > 0 or (x[0] == "!=" and sign != 0))


def _difference(left: Node, right: Node) -> Node:
    return Node("+", (left, negative(right)))


def _substituted(node: Node, variable: str, value: Node) -> Node:
    if node.head == "name" and node.data == variable:
        return value
    parts: Any = tuple(_substituted(part, variable, value) for part in node.parts)
    if node.head == "apply" and node.data == variable:
        return Node("*", (value, *parts))
    return node._replace(parts=parts)
