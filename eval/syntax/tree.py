"""The tree that an answer is read into.

| head | parts | data |
|---|---|---|
| `number` | | `Number` |
| `name` | | name of a variable, a constant (`pi e i oo`) or a set (`RR`) |
| `+ * / ^ neg pm mp !` | operands | |
| `root` | radicand, index | |
| `call` | arguments | function (`sin`, `ln`, `abs`, `f`) |
| `apply` | arguments | a letter before brackets: a product or a function of the answer's own |
| `quantity` | value | unit |
| `list` | items | `,`, `or`, `and` |
| `() [] (] [)` | items | a point, a Python list or an interval |
| `{}` | elements | |
| `union cap minus` | sets | |
| `builder` | variable, condition | |
| `relation` | terms | the signs between them |
| `ratio` | terms | |
| `matrix`, `det` | cells, row by row | (rows, columns) |
| `text` | | words |
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

from eval.number import Number

CONSTANTS = frozenset(("pi", "e", "i", "oo", "RR", "NN", "ZZ", "QQ", "CC"))
BRACKETS = frozenset(("()", "[]", "(]", "[)"))


class NotReadError(Exception):
    """The text is no answer that this grammar knows."""


class UnknownCommandError(NotReadError):
    r"""The text holds a LaTeX command that this grammar does not know, such as `\int`; a larger grammar may."""


class Node(NamedTuple):
    """One node; two trees are equal exactly if they were written alike, up to style."""

    head: str
    parts: tuple["Node", ...] = ()
    data: Any = None


def number(value: int | Fraction) -> Node:
    """A number that is no decimal."""
    return Node("number", (), Number(Fraction(value)))


def name(text: str) -> Node:
    """A variable or constant."""
    return Node("name", (), text)


def negative(node: Node) -> Node:
    """Minus `node`; the sign of a quantity belongs to its value."""
    if node.head == "quantity":
        return Node("quantity", (negative(node.parts[0]),), node.data)
    if node.head == "number":
        return Node("number", (), replace(node.data, value=-node.data.value))
    return Node("neg", (node,))


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes under it."""
    stack = [node]
    while stack:
        item = stack.pop()
        yield item
        stack.extend(item.parts)


def variables(node: Node) -> set[str]:
    """Names in the tree that are no constants."""
    return {item.data for item in walk(node) if item.head in {"name", "apply"}} - CONSTANTS


def contains(node: Node, test: Callable[[Node], bool]) -> bool:
    """Whether `test` holds for any node of the tree."""
    return any(test(item) for item in walk(node))
