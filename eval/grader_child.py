r"""The process of one grader, one pair a line; run as a script by `worker.py`.

`paper` is the symbolic step of the paper's grader (see `paper.py`), `math-verify` is that library alone, with both
sides between dollars and the gold first. A request is `[prediction, gold, seconds]`, the reply `true` or `false`. The
kernel ends the process when a request uses more processor time than it may. It must not import this package.
"""

import ast
import json
import logging
import math
import operator
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import sympy

_MEMORY_BYTES = 2 << 30  # address space
_MAX_BITS = 1 << 18  # of a power of numbers
_MAX_COUNT = 10_000  # of what a factorial or a binomial coefficient counts
_VALUE_TOLERANCE = 1e-3


def _power(base: Any, exponent: Any) -> Any:
    if base.is_Rational and exponent.is_Rational:
        bits = max(abs(base.p), base.q).bit_length()
        if abs(exponent) * bits > _MAX_BITS:
            raise ValueError("a power too large to be an answer")
    return base**exponent


def _counting(function: Any) -> Callable[..., Any]:
    def bounded(*arguments: Any) -> Any:
        if any(argument.is_number and abs(argument) > _MAX_COUNT for argument in arguments):
            raise ValueError(f"a {function} too large to be an answer")
        return function(*arguments)

    return bounded


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_CONSTANTS = {"pi": sympy.pi, "E": sympy.E, "I": sympy.I, "oo": sympy.oo}
_FUNCTIONS = {
    name: getattr(sympy, name)
    for name in (
        "sqrt", "cbrt", "root", "exp", "log", "ln", "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan",
        "sinh", "cosh", "tanh", "Abs", "Rational", "Integer", "Float", "floor", "ceiling",
    )
}  # fmt: skip
_COUNTING = {name: _counting(getattr(sympy, name)) for name in ("factorial", "binomial")}
_CALLED = {**_FUNCTIONS, **_COUNTING}
_LATEX_FUNCTIONS = {
    **{
        name: getattr(sympy, name) for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp")
    },
    **{f"arc{name}": getattr(sympy, f"a{name}") for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    "log": sympy.log,
    "ln": sympy.log,
}
_INVERSE = {sympy.sin: sympy.asin, sympy.cos: sympy.acos, sympy.tan: sympy.atan}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|(?<=_)[0-9]|[0-9]*(?:,[0-9]{3})*\.[0-9]+|[0-9]+(?:,[0-9]{3})*|.", re.DOTALL)
_SPACING = re.compile(r"\\(?:[,;:!]|q?quad(?![A-Za-z]))|\s")
_OPENING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
_TIMES = ("*", r"\cdot", r"\times")
_INFIX = (*_TIMES, "/", ":", r"\div")
_RELATIONS = ("=", "<", ">", r"\le", r"\ge", r"\leq", r"\geq", r"\lt", r"\gt", r"\ne", r"\neq")
_SIGNS = frozenset((*_OPENING, *_OPENING.values(), *"+-*/:^_!|=<>,'", r"\to", ""))


def main() -> None:
    """Prove that the grader works here, say so, then answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like a reply
    logging.disable(logging.CRITICAL)
    _limit_memory()
    grade = {"paper": equal, "math-verify": math_verify}[sys.argv[1]]
    problem = _self_test(grade)
    print(json.dumps({"problem": problem}), file=replies, flush=True)
    if problem:
        return
    for line in sys.stdin:
        prediction, gold, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal's default action ends the process
        verdict = _verdict(grade, prediction, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=replies, flush=True)


def _verdict(grade: Callable[[str, str], bool], prediction: str, gold: str) -> bool:
    try:
        return grade(prediction, gold)
    except Exception as error:  # noqa: BLE001 (sympy raises anything on odd input; both graders then say "different")
        logging.getLogger(__name__).debug("%.80r and %.80r: %r", prediction, gold, error)
        return False


def math_verify(prediction: str, gold: str) -> bool:
    """math-verify as its documentation recommends it."""
    from math_verify import parse, verify

    sides = [parse(f"${text}$", parsing_timeout=None) for text in (gold, prediction)]
    return bool(verify(*sides, timeout_seconds=None))


def equal(prediction: str, gold: str) -> bool:
    """Whether the difference of two expressions simplifies to 0, or their values agree within a relative 1e-3."""
    a, b = read(prediction), read(gold)
    if a is None or b is None:
        return False
    if a == b:
        return a is not sympy.nan and a is not sympy.zoo
    if a.is_extended_real and b.is_extended_real and not (a.free_symbols or b.free_symbols):
        return math.isclose(sympy.N(a), sympy.N(b), rel_tol=_VALUE_TOLERANCE)
    return bool(sympy.simplify(a - b) == 0)


def read(text: str) -> Any:
    """The sympy expression of a text, as LaTeX or else as Python; None if it is neither, or no expression."""
    try:
        return Latex(text).expression()
    except UnreadableError:
        expression = _read_python(text)
    return expression if isinstance(expression, sympy.Expr) else None


def _read_python(text: str) -> Any:
    try:
        return _build(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):  # ValueError: also what `_build` does not know
        return None


def _build(node: ast.expr) -> Any:
    """The sympy object of a syntax tree of numbers, names, arithmetic and listed functions; nothing else is read."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return sympy.sympify(value)
        case ast.Name(id=name):
            return _CONSTANTS.get(name, sympy.Symbol(name))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_build(left), _build(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_build(operand))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(_build, args))
    raise ValueError(f"{type(node).__name__} is no arithmetic")


class UnreadableError(Exception):
    """A text that the LaTeX reader cannot read."""


class Latex:
    r"""A reader of LaTeX expressions that stops where sympy's `parse_latex` stops, without its grammar's runtime.

    Letters are names that multiply (`abc`), a letter before a parenthesis is a function (`n(n+1)`), unknown commands
    are names too, and `1/2x` is 1/(2x). What follows the longest expression is not looked at.
    """

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(_SPACING.sub("", text))
        self._next = 0

    def expression(self) -> Any:
        """The expression that the text begins with; None if it is the left side of a relation."""
        value = self._sum()
        after = self._peek()
        if after not in _SIGNS and not after.isalnum() and after not in _RELATIONS:
            raise UnreadableError(f"{after!r} is no LaTeX")
        return None if after in _RELATIONS else value

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str | None:
        token = self._peek()
        if token not in wanted:
            return None
        self._next += 1
        return token

    def _operand_at(self, place: int) -> bool:
        token, after = [*self._tokens[place : place + 2], "", ""][:2]
        if token in _OPENING:
            return after != _OPENING[token]
        return token.isascii() and token[-1:].isalnum() and token not in (*_INFIX, *_RELATIONS, r"\to")

    def _operand(self, read: Callable[[], Any], signs: tuple[str, ...]) -> tuple[str, Any] | None:
        """Take one of `signs`, if any are given, and an operand; None, and nothing taken, where they do not follow."""
        start = self._next
        sign = self._take(*signs) or ""
        if bool(sign) != bool(signs) or not (sign or self._operand_at(start)):
            return None
        try:
            return sign, read()
        except UnreadableError:
            self._next = start
            return None

    def _sum(self) -> Any:
        value = self._product()
        while more := self._operand(self._product, ("+", "-")):
            value = value + more[1] if more[0] == "+" else value - more[1]
        return value

    def _product(self) -> Any:
        value = self._signed()
        while more := self._operand(self._signed, _INFIX):
            value = value * more[1] if more[0] in _TIMES else value / more[1]
        return value

    def _signed(self) -> Any:
        if sign := self._take("+", "-"):
            value = self._signed()
            return -value if sign == "-" else value
        value = self._power()
        while more := self._operand(self._power, ()):
            value = value * more[1]
        return value

    def _power(self) -> Any:
        value = self._atom()
        while True:
            if self._take("!"):
                value = _COUNTING["factorial"](value)
            elif more := self._operand(self._argument, ("^",)):
                value = _power(value, more[1])
            else:
                return value

    def _argument(self) -> Any:
        """What stands in braces, or the next single thing."""
        return self._group("}") if self._take("{") else self._atom()

    def _group(self, closing: str) -> Any:
        value = self._sum()
        if not self._take(closing):
            raise UnreadableError(f"no {closing}")
        return value

    def _atom(self) -> Any:
        token = self._peek()
        self._next += 1
        if token in _OPENING:
            return self._group(_OPENING[token])
        if token == "|":
            return sympy.Abs(self._group("|"))
        if token[:1].isdigit() or (token[:1] == "." and token[1:].isdigit()):
            return sympy.Number(token.replace(",", ""))
        if token[-1:].isalpha():
            return self._command(token) if token.startswith("\\") else self._name(token)
        raise UnreadableError(f"{token!r} is no operand")

    def _name(self, letter: str) -> Any:
        if self._take("_"):
            letter += f"_{{{self._argument()}}}"
        if not self._take("("):
            return sympy.Symbol(letter)
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        if not self._take(")"):
            raise UnreadableError("no )")
        return sympy.Function(letter)(*arguments)

    def _command(self, name: str) -> Any:
        match name[1:]:
            case "frac":
                return self._argument() / self._argument()
            case "binom":
                return _COUNTING["binomial"](self._argument(), self._argument())
            case "sqrt":
                degree = self._group("]") if self._take("[") else 2
                return sympy.root(self._argument(), degree)
            case "overline":
                return sympy.conjugate(self._argument())
            case "infty":
                return sympy.oo
            case "sum" | "int" | "lim" | "prod":
                raise UnreadableError(name)
            case function if function in _LATEX_FUNCTIONS:
                return self._applied(_LATEX_FUNCTIONS[function])
            case letter:
                return self._name(letter) if self._peek() == "_" else sympy.Symbol(letter)

    def _applied(self, function: Any) -> Any:
        base = [self._argument()] if function is sympy.log and self._take("_") else []
        power = self._argument() if self._take("^") else 1
        argument = self._group(")") if self._take("(") else self._signed()
        inverse = _INVERSE.get(function) if power == -1 else None
        return inverse(argument) if inverse else function(argument, *base) ** power


def _self_test(grade: Callable[[str, str], bool]) -> str | None:
    try:
        works = grade(r"\frac{1}{2}", "0.5") and not grade(r"\frac{1}{2}", "0.6")
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return None if works else r"it does not find \frac{1}{2} equal to 0.5"


def _limit_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
