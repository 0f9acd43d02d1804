"""Whether two expressions have the same value wherever they have one.

Rational functions are compared exactly, at random points with large numerators (a false "equal" has a chance below
10^-9); all others at random real points to fifty digits and more. Variables are real, and may be negative.
"""

import random
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from eval.evaluate import InexactError, NoValueError, exact, written_digits
from eval.number import equal_numbers
from eval.numeric import Numeric
from eval.syntax.tree import Node, contains, variables, walk

_EXACT_POINTS = 2
_POINTS = 8  # real points; at least two must lie where both sides are defined
_DIGITS = 50
_MAX_DIGITS = 3_000
_GUARD = 20
_LONG = 10  # significant digits from which a decimal is a computed value and not a rounded one
_SCALES = (1, 3, 1, 10, 2, 100, 5, 30)


def equal_scalars(a: Node, b: Node) -> bool:
    """Whether two expressions are equal; long decimals may differ in their last places."""
    if a.head == b.head == "number":
        return equal_numbers(a.data, b.data)
    names = sorted(variables(a) | variables(b))
    points = _points(a, b, names)
    try:
        verdict = _equal_exactly(a, b, points)
    except InexactError:
        verdict = None
    except NoValueError:
        return False
    if verdict is True:
        return True
    tolerance = max(_tolerance(a), _tolerance(b))
    if verdict is False and not tolerance:
        return False
    return _equal_numerically(a, b, names, points, tolerance)


def proportional(a: Node, b: Node) -> Fraction | int | None:
    """The sign of c if a = c·b for a constant c other than 0, else None."""
    names = sorted(variables(a) | variables(b))
    points = [{name: Fraction(value) for name, value in point.items()} for point in _take(_points(a, b, names), 4)]
    try:
        pairs: list[Any] = [(exact(a, point), exact(b, point)) for point in points]
        close = _same
    except InexactError:
        digits = min(_MAX_DIGITS, _DIGITS + written_digits(a, b))
        numeric = Numeric(digits, real=False)
        small = numeric.mp.mpf(10) ** (_GUARD - digits)
        try:
            pairs = [
                tuple(numeric.value(node, {k: numeric.fraction(v) for k, v in point.items()}) for node in (a, b))
                for point in points
            ]
        except NoValueError:
            return None

        def close(x: Any, y: Any) -> bool:
            return bool(abs(x - y) <= small * max(abs(x), abs(y)))

        if not any(abs(x) > small for x, _ in pairs):
            return None
    except NoValueError:
        return None
    x0, y0 = pairs[0]
    if not x0 or not y0 or not all(close(x * y0, x0 * y) for x, y in pairs):
        return None
    ratio = x0 / y0
    return 0 if getattr(ratio, "imag", 0) else (1 if ratio > 0 else -1)


def _same(x: Fraction, y: Fraction) -> bool:
    return x == y


def _points(a: Node, b: Node, names: list[str]) -> Iterator[dict[str, Fraction]]:
    """Random points that are the same each time, but cannot be foreseen when an answer is written."""
    if not names:
        yield {}
        return
    source = random.Random(zlib.crc32(repr((a, b)).encode()))
    for trial in range(100):
        scale = _SCALES[trial % len(_SCALES)]
        yield {name: Fraction(source.randint(-(10**6), 10**6) | 1, 10**6 - 3) * scale for name in names}


def _take(points: Iterator[dict[str, Fraction]], count: int) -> list[dict[str, Fraction]]:
    return [point for point, _ in zip(points, range(count), strict=False)]


def _equal_exactly(a: Node, b: Node, points: Iterator[dict[str, Fraction]]) -> bool:
    tried = 0
    for point in points:
        try:
            x, y = exact(a, point), exact(b, point)
        except NoValueError:
            if not point or tried > 20:
                raise
            continue
        finally:
            tried += 1
        if x != y:
            return False
        if tried >= _EXACT_POINTS:
            break
    return True


def _tolerance(node: Node) -> Fraction:
    """The relative error that the long decimals of a tree excuse."""
    digits = [item.data.digits for item in walk(node) if item.head == "number" and item.data.step is not None]
    long = [count for count in digits if count >= _LONG]
    return Fraction(1, 10 ** (min(min(long), 16) - 2)) if long else Fraction(0)


def _equal_numerically(
    a: Node, b: Node, names: list[str], points: Iterator[dict[str, Fraction]], tolerance: Fraction
) -> bool:
    digits = _DIGITS + written_digits(a, b)
    if digits > _MAX_DIGITS:
        return False
    real = bool(names) and not contains(a, _is_i) and not contains(b, _is_i)
    samples = _take(points, _POINTS) if names else [{}]
    if _whole_numbers_only(a) or _whole_numbers_only(b):
        samples = [{name: Fraction(3 + 2 * k + j) for j, name in enumerate(names)} for k in range(_POINTS)]
    for common in (False, True) if contains(a, _is_log) or contains(b, _is_log) else (False,):
        verdict = _agree(a, b, samples, digits, real, common, tolerance)
        if verdict is None and real:
            verdict = _agree(a, b, samples, digits, False, common, tolerance)
        if verdict:
            return True
    return False


def _agree(
    a: Node, b: Node, samples: list[dict[str, Fraction]], digits: int, real: bool, common: bool, tolerance: Fraction
) -> bool | None:
    """Whether both agree at all points, undefined ones included; None if too few points are defined."""
    defined = 0
    for sample in samples:
        x, y = (_value(node, sample, digits, real, common) for node in (a, b))
        if x is None and y is None:
            continue
        if x is None or y is None or not _close(a, b, x, y, sample, digits, real, common, tolerance):
            return False
        defined += 1
    return True if defined >= min(2, len(samples)) else None


def _value(node: Node, sample: dict[str, Fraction], digits: int, real: bool, common: bool) -> Any:
    numeric = Numeric(digits, real, common)
    try:
        value = numeric.value(node, {name: numeric.fraction(value) for name, value in sample.items()})
    except NoValueError:
        return None
    return value if numeric.mp.isfinite(value) else None


def _close(
    a: Node, b: Node, x: Any, y: Any, sample: dict[str, Fraction], digits: int, real: bool, common: bool,
    tolerance: Fraction,
) -> bool:  # fmt: skip
    numeric = Numeric(digits, real, common)
    difference, size = abs(x - y), max(abs(x), abs(y))
    if difference <= size * numeric.mp.mpf(10) ** (_GUARD - digits):
        return True
    if tolerance and difference <= size * numeric.fraction(tolerance):
        return True
    if difference > numeric.mp.mpf(10) ** (-_DIGITS // 2):
        return False
    # Both are almost zero: a true zero shrinks with the precision, a small number does not.
    u, v = (_value(node, sample, 2 * digits, real, common) for node in (a, b))
    return u is not None and v is not None and bool(abs(u - v) < difference * numeric.mp.mpf(10) ** (-digits // 2))


def _is_i(node: Node) -> bool:
    return node.head == "name" and node.data == "i"


def _is_log(node: Node) -> bool:
    return node.head == "call" and node.data == "Log"


def _whole_numbers_only(node: Node) -> bool:
    """Whether a negative number stands under a variable exponent, as in (-1)^n, or a factorial holds a variable."""
    for item in walk(node):
        if (item.head == "!" or item.data == "binomial") and variables(item):
            return True
        if item.head == "^" and variables(item.parts[1]):
            try:
                if exact(item.parts[0], {}) < 0:
                    return True
            except (InexactError, NoValueError):
                continue
    return False
