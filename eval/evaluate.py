"""Values of trees, exactly as fractions, under a time limit.

Exponents and factorials are bounded before they are computed: what would be too large raises `NoValueError`.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import comb, factorial, gcd, lcm
from typing import Any

from eval.syntax.tree import Node, walk

_MAX_BITS = 100_000
MAX_FACTORIAL = 5_000
_LOCAL = threading.local()  # each thread has its own deadline


class NoValueError(Exception):
    """The tree has no value here: undefined, too large, or no expression."""


class InexactError(Exception):
    """The value is not rational, or not known to be."""


class OutOfTimeError(Exception):
    """The time of `time_limit` is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End all evaluation of this thread inside the block with `OutOfTimeError` when the seconds are over."""
    _LOCAL.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        _LOCAL.deadline = None


def check_time() -> None:
    """Raise `OutOfTimeError` if this thread's time is over."""
    deadline = getattr(_LOCAL, "deadline", None)
    if deadline is not None and time.monotonic() > deadline:
        raise OutOfTimeError


def exact(node: Node, point: Mapping[str, Fraction]) -> Fraction:
    """The value of `node` where its variables have the values of `point`.

    Raises:
        InexactError: it needs roots, logarithms, constants and the like.
        NoValueError: it is undefined there.
    """
    head, parts = node.head, node.parts
    if parts:
        check_time()
    if head == "number":
        value: Fraction = node.data.value
        return value
    if head == "name":
        if node.data in point:
            return point[node.data]
        raise InexactError
    if head == "+":
        return sum((exact(part, point) for part in parts), Fraction(0))
    if head == "*":
        product = Fraction(1)
        for part in parts:
            product *= exact(part, point)
        return product
    if head == "/":
        return Fraction(divide(exact(parts[0], point), exact(parts[1], point)))
    if head == "neg":
        return -exact(parts[0], point)
    if head == "^":
        return _power(exact(parts[0], point), exact(parts[1], point))
    if head == "apply" and node.data not in OPAQUE and len(parts) == 1 and node.data in point:
        return point[node.data] * exact(parts[0], point)
    if head == "quantity" and node.data == "%":
        return exact(parts[0], point) / 100
    if head in {"!", "root", "call", "det"}:
        return _exact_function(node, [exact(part, point) for part in parts])
    if head in {"apply", "quantity"}:
        raise InexactError
    raise NoValueError(head)


OPAQUE = frozenset("fgFG")  # before brackets these letters are functions, all others factors


def divide(a: Any, b: Any) -> Any:
    """a / b, undefined for b = 0."""
    if not b:
        raise NoValueError("division by zero")
    return a / b


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise InexactError
    bits = base.numerator.bit_length() + base.denominator.bit_length()
    if abs(exponent) * bits > _MAX_BITS and abs(base) not in (0, 1):
        raise NoValueError("a power that is too large")
    if not base and exponent <= 0:
        raise NoValueError("zero to no positive power")
    return base ** int(exponent)


def _exact_function(node: Node, values: list[Fraction]) -> Fraction:
    name = node.data if node.head == "call" else node.head
    if name == "abs":
        return abs(values[0])
    if name == "det":
        return Fraction(determinant(values, node.data[0]))
    if name in {"floor", "ceiling"}:
        return Fraction(values[0].__floor__() if name == "floor" else values[0].__ceil__())
    if name in {"max", "min"}:
        return max(values) if name == "max" else min(values)
    whole = [int(value) for value in values if value.denominator == 1]
    if name in {"!", "binomial", "gcd", "lcm"} and len(whole) == len(values):
        if max(map(abs, whole)) > MAX_FACTORIAL and name in {"!", "binomial"}:
            raise NoValueError("too large")
        if name == "!" and whole[0] >= 0:
            return Fraction(factorial(whole[0]))
        if name == "binomial" and min(whole) >= 0:
            return Fraction(comb(whole[0], whole[1]))
        if name in {"gcd", "lcm"}:
            return Fraction(gcd(*whole) if name == "gcd" else lcm(*whole))
    raise InexactError


def determinant(cells: list[Any], size: int) -> Any:
    """The determinant of a square matrix given row by row, by expansion; up to 5 rows."""
    if size * size != len(cells) or size > 5:
        raise NoValueError("no determinant")
    if size == 1:
        return cells[0]
    total = 0
    for column in range(size):
        minor = [cells[r * size + c] for r in range(1, size) for c in range(size) if c != column]
        total += (-1) ** column * cells[column] * determinant(minor, size - 1)
    return total


def written_digits(*nodes: Node) -> int:
    """How many digits all numbers of the trees have: the precision that their smallest difference may need."""
    total = 0
    for node in nodes:
        for item in walk(node):
            if item.head == "number":
                value = item.data.value
                total += (value.numerator.bit_length() + value.denominator.bit_length()) // 3
    return total
