"""Values of trees to as many digits as asked, with mpmath; arguments are bounded before a function is computed."""

import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from eval.evaluate import MAX_FACTORIAL, OPAQUE, InexactError, NoValueError, check_time, determinant, divide, exact
from eval.syntax.tree import Node

_MAX_ARGUMENT = 10**6  # of exponentials
_MAX_ANGLE = 10**30
_MAX_GAMMA_DIGITS = 300  # gamma functions of fractions are slow to more digits
_UNBOUNDED = frozenset(("abs", "max", "min", "floor", "ceiling"))
_ANGULAR = frozenset(("sin", "cos", "tan", "sec", "csc", "cot", "atan", "acot", "asinh"))
_LOCAL = threading.local()  # a context of mpmath holds a precision, so each thread has its own


class Numeric:
    """Values to `digits` decimal digits; over the reals, where roots of negative numbers do not exist, or complex.

    `common_logarithm` reads LaTeX's `\\log` with base 10.
    """

    def __init__(self, digits: int, real: bool, common_logarithm: bool = False) -> None:
        self.mp = _context()
        self.digits = digits
        self.mp.dps = digits
        self.real = real
        self.common_logarithm = common_logarithm

    def fraction(self, value: Fraction) -> Any:
        """A rational number in this precision."""
        return self.mp.mpf(value.numerator) / value.denominator

    def value(self, node: Node, point: Mapping[str, Any]) -> Any:
        """The value of `node`.

        Raises:
            NoValueError: it is undefined, too large, or no expression.
        """
        check_time()
        head, parts = node.head, node.parts
        if head == "number":
            return self.fraction(node.data.value)
        if head == "name":
            return self._name(node.data, point)
        if head == "apply":
            return self._apply(node, point)
        if head == "quantity":
            return self._quantity(node, point)
        values = [self.value(part, point) for part in parts]
        if head == "+":
            return self.mp.fsum(values)
        if head == "*":
            return self.mp.fprod(values)
        if head == "neg":
            return -values[0]
        if head == "/":
            return divide(values[0], values[1])
        if head == "^":
            return self._power(values[0], values[1], node)
        if head == "root":
            return self._root(values[0], values[1])
        if head == "!":
            return self._function("!", values)
        if head == "call":
            return self._function(node.data, values)
        if head == "det":
            return determinant(values, node.data[0])
        raise NoValueError(head)

    def _name(self, name: str, point: Mapping[str, Any]) -> Any:
        if name in point:
            return point[name]
        if name == "pi":
            return +self.mp.pi
        if name == "e":
            return +self.mp.e
        if name == "i":
            return self.mp.j
        raise NoValueError(name)

    def _apply(self, node: Node, point: Mapping[str, Any]) -> Any:
        values = [self.value(part, point) for part in node.parts]
        if node.data in OPAQUE or len(values) != 1:
            seed = self.mp.fsum(v * (k + 1) for k, v in enumerate(values))
            return self.mp.sin(self._small(seed, _MAX_ANGLE) * self._name(node.data, point)) + len(values)
        return self._name(node.data, point) * values[0]

    def _quantity(self, node: Node, point: Mapping[str, Any]) -> Any:
        value = self.value(node.parts[0], point)
        if node.data == "%":
            return value / 100
        if node.data == "deg":
            return value * self.mp.pi / 180
        raise NoValueError("a unit")

    def _small(self, value: Any, limit: int) -> Any:
        if not self.mp.isfinite(value) or abs(value) > limit:
            raise NoValueError("too large")
        return value

    def _power(self, base: Any, exponent: Any, node: Node) -> Any:
        if not base:
            if self.mp.re(exponent) <= 0:
                raise NoValueError("zero to no positive power")
            return base * 0
        size = abs(self.mp.log(abs(base))) + 4
        self._small(exponent, int(10 * _MAX_ARGUMENT / size) + 1)
        if self._is_real(base) and base < 0 and self._is_real(exponent) and not self.mp.isint(exponent):
            odd = _odd_denominator(node.parts[1])
            if odd is not None:
                return (-1) ** (odd.numerator % 2) * (-base) ** exponent
            if self.real:
                raise NoValueError("a root of a negative number")
        return base**exponent

    def _is_real(self, value: Any) -> bool:
        return isinstance(value, self.mp.mpf)

    def _root(self, value: Any, index: Any) -> Any:
        if not self._is_real(index) or not self.mp.isint(index) or not 0 < abs(index) < 10_000:
            if not index:
                raise NoValueError("a root of index zero")
            return self._power(value, 1 / index, Node("^", (Node("text"), Node("text"))))
        n = int(index)
        if not value:
            if n < 0:
                raise NoValueError("division by zero")
            return value
        if self._is_real(value) and value < 0:
            if n % 2:
                return -((-value) ** (self.mp.mpf(1) / n))
            if self.real:
                raise NoValueError("a root of a negative number")
        return self.mp.sqrt(value) if n == 2 else value ** (self.mp.mpf(1) / n)

    def _function(self, name: str, values: list[Any]) -> Any:
        x = values[0]
        if name in {"ln", "Log"}:
            if not x or (self.real and self._is_real(x) and x < 0):
                raise NoValueError("a logarithm of no positive number")
            return self.mp.log(x) / (self.mp.log(10) if name == "Log" and self.common_logarithm else 1)
        if name in {"asin", "acos", "acosh", "atanh"} and self.real and self._is_real(x) and not _in_domain(name, x):
            raise NoValueError("outside the domain")
        if name == "!" or name == "binomial":
            if self.digits > _MAX_GAMMA_DIGITS and not all(self.mp.isint(value) for value in values):
                raise NoValueError("a gamma function to many digits")
            values = [self._small(value, MAX_FACTORIAL) for value in values]
            if any(self._is_real(v) and v < 0 for v in values):
                raise NoValueError("a factorial of a negative number")
        function = _FUNCTIONS.get(name)
        if function is None:
            raise NoValueError(name)
        if name not in _UNBOUNDED:
            values = [self._small(value, _MAX_ANGLE if name in _ANGULAR else _MAX_ARGUMENT) for value in values]
        try:
            return function(self.mp, *values)
        except (ValueError, ZeroDivisionError, OverflowError, TypeError) as error:
            raise NoValueError(name) from error


def _in_domain(name: str, x: Any) -> bool:
    return bool(x >= 1) if name == "acosh" else bool(abs(x) <= 1)


def _odd_denominator(node: Node) -> Fraction | None:
    """The exponent, if it is a fraction with odd denominator: such powers of negative numbers are real."""
    try:
        value = exact(node, {})
    except (InexactError, NoValueError):
        return None
    return value if value.denominator % 2 else None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": lambda mp, x: mp.sin(x),
    "cos": lambda mp, x: mp.cos(x),
    "tan": lambda mp, x: mp.tan(x),
    "sec": lambda mp, x: 1 / mp.cos(x),
    "csc": lambda mp, x: 1 / mp.sin(x),
    "cot": lambda mp, x: mp.cos(x) / mp.sin(x),
    "asin": lambda mp, x: mp.asin(x),
    "acos": lambda mp, x: mp.acos(x),
    "atan": lambda mp, x: mp.atan(x),
    "asec": lambda mp, x: mp.acos(1 / x),
    "acsc": lambda mp, x: mp.asin(1 / x),
    "acot": lambda mp, x: mp.pi / 2 - mp.atan(x),
    "sinh": lambda mp, x: mp.sinh(x) if abs(x) < _MAX_ARGUMENT else mp.nan,
    "cosh": lambda mp, x: mp.cosh(x) if abs(x) < _MAX_ARGUMENT else mp.nan,
    "tanh": lambda mp, x: mp.tanh(x) if abs(x) < _MAX_ARGUMENT else mp.nan,
    "asinh": lambda mp, x: mp.asinh(x),
    "acosh": lambda mp, x: mp.acosh(x),
    "atanh": lambda mp, x: mp.atanh(x),
    "abs": lambda mp, x: abs(x),
    "floor": lambda mp, x: mp.floor(x),
    "ceiling": lambda mp, x: mp.ceil(x),
    "max": lambda _, *values: max(values),
    "min": lambda _, *values: min(values),
    "!": lambda mp, x: mp.gamma(x + 1),
    "binomial": lambda mp, n, k: mp.binomial(n, k),
}


def _context() -> Any:
    context = getattr(_LOCAL, "context", None)
    if context is None:
        from mpmath.ctx_mp import MPContext

        context = _LOCAL.context = MPContext()
    return context
