"""Read what Python and sympy print (`sqrt(3)/2`, `{x: 3}`, `Matrix([[1], [2]])`) and write it as LaTeX.

The text is parsed to a syntax tree and never compiled or run; a tree with anything but the names and forms below is
refused, and so are deep trees and towers of powers.
"""

import ast
import re
from collections.abc import Callable
from decimal import Decimal

from eval.normal import bracketed

_MAX_CHARS = 1_000
_MAX_DEPTH = 40
_MAX_POWER = 10_000

_SIGNS = re.compile(r"[\\^$!]|[0-9][A-Za-df-ik-zA-DF-IK-Z_]|[0-9][eE](?![0-9+-])")
_ARITHMETIC = re.compile(r"[-+*/0-9]")
_CONSTANT_LETTER = re.compile(
    r"(?<!['\"])\b([EI])\b"
)  # in an answer without arithmetic they are choices, not constants
_NAMES = {
    "_E": "E",
    "_I": "I",
    "pi": r"\pi",
    "I": "i",
    "E": "e",
    "oo": r"\infty",
    "inf": r"\infty",
    "EmptySet": r"\emptyset",
} | {
    name: rf"\{name}"
    for name in ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "rho", "sigma", "phi", "omega")
}
_REFUSED_NAMES = frozenset(("nan", "zoo", "None", "True", "False"))
_FUNCTIONS = {name: rf"\{name}" for name in ("sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh")} | {
    f"{prefix}{name}": rf"\arc{name}" for name in ("sin", "cos", "tan") for prefix in ("a", "arc")
}
_NUMBER_TYPES = frozenset(
    ("float64", "float32", "int64", "int32", "float", "int", "mpf", "mpz", "array", "tuple", "list")
)
_RELATIONS = {ast.Lt: "<", ast.Gt: ">", ast.LtE: r"\le", ast.GtE: r"\ge", ast.Eq: "=", ast.NotEq: r"\ne"}
_INTERVALS = {"Interval": "[]", "Interval.open": "()", "Interval.Lopen": "(]", "Interval.Ropen": "[)"}
_MATRICES = frozenset(("Matrix", "ImmutableMatrix", "ImmutableDenseMatrix", "MutableDenseMatrix"))


class _RefusedError(Exception):
    """The tree holds something that no answer needs."""


def python_to_latex(text: str) -> str | None:
    r"""Return `text` as LaTeX if it is an answer as Python prints it, else None.

    Lists become `[a, b]`, tuples `(a, b)`, sets and `FiniteSet` `\{a, b\}`, dictionaries `x=1, y=2`, lists of equal
    rows a matrix, `Interval` and `Union` their usual notation.
    """
    if len(text) > _MAX_CHARS or _SIGNS.search(text):
        return None
    if not _ARITHMETIC.search(text):
        text = _CONSTANT_LETTER.sub(r"_\1", text)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Tuple) and bracketed(text.strip()) is None:
            return ", ".join(_latex(item, 1) for item in tree.elts)
        return _latex(tree, 0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, _RefusedError):
        return None  # no Python print: other readers of the answer have their turn


def _latex(node: ast.expr, depth: int) -> str:
    writer = _WRITERS.get(type(node))
    if writer is None or depth > _MAX_DEPTH:
        raise _RefusedError
    return writer(node, depth + 1)


def _constant(node: ast.Constant, depth: int) -> str:
    value = node.value
    if isinstance(value, str):
        return rf"\text{{{value}}}"
    if isinstance(value, complex):
        return rf"{_plain(value.imag)} \cdot i"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RefusedError
    return _plain(value)


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else format(Decimal(repr(value)), "f")


def _name(node: ast.Name, depth: int) -> str:
    if node.id in _REFUSED_NAMES:
        raise _RefusedError
    letter = re.fullmatch(r"([A-Za-z])_?([0-9]+)", node.id)
    return _NAMES.get(node.id) or (f"{letter[1]}_{{{letter[2]}}}" if letter else node.id)


def _operation(node: ast.BinOp, depth: int) -> str:
    if isinstance(node.op, ast.Pow):
        _check_power(node)
        return f"{_grouped(node.left, depth, atoms_only=True)}^{{{_latex(node.right, depth)}}}"
    if isinstance(node.op, ast.Div):
        return rf"\frac{{{_latex(node.left, depth)}}}{{{_latex(node.right, depth)}}}"
    if isinstance(node.op, ast.Mult):
        return rf"{_grouped(node.left, depth)} \cdot {_grouped(node.right, depth)}"
    if isinstance(node.op, ast.Add):
        return f"{_latex(node.left, depth)} + {_grouped(node.right, depth)}"
    if isinstance(node.op, ast.Sub):
        return f"{_latex(node.left, depth)} - {_grouped(node.right, depth)}"
    if isinstance(node.op, ast.BitAnd | ast.BitOr):
        word = "and" if isinstance(node.op, ast.BitAnd) else "or"
        return rf"{_latex(node.left, depth)} \text{{ {word} }} {_latex(node.right, depth)}"
    raise _RefusedError


def _check_power(node: ast.BinOp) -> None:
    """Refuse towers of numbers and large exponents: nobody could evaluate them."""
    if isinstance(node.right, ast.Constant):
        too_big = not isinstance(node.right.value, int | float) or abs(node.right.value) > _MAX_POWER
    else:
        too_big = any(isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Pow) for inner in ast.walk(node.right))
    if too_big:
        raise _RefusedError


def _grouped(node: ast.expr, depth: int, atoms_only: bool = False) -> str:
    """A factor or a base: sums and signed terms need brackets, as a base everything but names and numbers does."""
    text = _latex(node, depth)
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
    is_atom = isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and not isinstance(node.value, complex))
    return f"({text})" if is_sum or isinstance(node, ast.UnaryOp) or (atoms_only and not is_atom) else text


def _sign(node: ast.UnaryOp, depth: int) -> str:
    if not isinstance(node.op, ast.USub | ast.UAdd):
        raise _RefusedError
    return ("-" if isinstance(node.op, ast.USub) else "") + _grouped(node.operand, depth)


def _call(node: ast.Call, depth: int) -> str:
    name = _called(node.func)
    if node.keywords:
        raise _RefusedError
    if name in _MATRICES and len(node.args) == 1:
        return _matrix(node.args[0], depth)
    if name == "Decimal" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
        return str(node.args[0].value)
    arguments = [_latex(argument, depth) for argument in node.args]
    if name in _INTERVALS and len(arguments) == 2:
        return _interval(arguments[0], arguments[1], _INTERVALS[name])
    if name in {"FiniteSet", "set"}:
        return rf"\{{{', '.join(arguments)}\}}" if arguments else r"\emptyset"
    if name == "Union":
        return r" \cup ".join(arguments)
    return _function(name, arguments)


def _called(function: ast.expr) -> str:
    """The name of what is called, without its module: `np.float64` is `float64`, `Interval.open` stays."""
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        owner = function.value.id
        return f"{owner}.{function.attr}" if owner == "Interval" else function.attr
    raise _RefusedError


def _interval(low: str, high: str, brackets: str) -> str:
    opening = "(" if low.endswith(r"\infty") else brackets[0]  # sympy prints (-oo, 3] as Interval(-oo, 3)
    closing = ")" if high.endswith(r"\infty") else brackets[1]
    return f"{opening}{low}, {high}{closing}"


def _function(name: str, arguments: list[str]) -> str:
    match (name, *arguments):
        case (wrapper, x) if wrapper in _NUMBER_TYPES:
            return x
        case ("sqrt", x):
            return rf"\sqrt{{{x}}}"
        case ("cbrt", x):
            return rf"\sqrt[3]{{{x}}}"
        case ("exp", x):
            return f"e^{{{x}}}"
        case ("Rational" | "Fraction", x):
            return x
        case ("Rational" | "Fraction" | "mpq", x, y):
            return rf"\frac{{{x}}}{{{y}}}"
        case ("log" | "ln", x):
            return rf"\ln({x})"
        case ("log", x, base):
            return rf"\frac{{\ln({x})}}{{\ln({base})}}"
        case ("Abs" | "abs", x):
            return f"|{x}|"
        case ("factorial", x):
            return f"({x})!"
        case ("binomial" | "comb", n, k):
            return rf"\binom{{{n}}}{{{k}}}"
        case ("Eq", x, y):
            return f"{x} = {y}"
        case (function, x) if function in _FUNCTIONS:
            return rf"{_FUNCTIONS[function]}({x})"
    raise _RefusedError


def _matrix(node: ast.expr, depth: int) -> str:
    if not isinstance(node, ast.List):
        raise _RefusedError
    rows = [row.elts if isinstance(row, ast.List) else [row] for row in node.elts]
    body = r" \\ ".join(" & ".join(_latex(cell, depth) for cell in row) for row in rows)
    return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"


def _list(node: ast.List, depth: int) -> str:
    rows = [row for row in node.elts if isinstance(row, ast.List)]
    if rows and len(rows) == len(node.elts) and len({len(row.elts) for row in rows}) == 1:
        return _matrix(node, depth)
    return f"[{', '.join(_latex(item, depth) for item in node.elts)}]" if node.elts else r"\emptyset"


def _tuple(node: ast.Tuple, depth: int) -> str:
    return f"({', '.join(_latex(item, depth) for item in node.elts)})"


def _set(node: ast.Set, depth: int) -> str:
    return rf"\{{{', '.join(_latex(item, depth) for item in node.elts)}\}}"


def _dictionary(node: ast.Dict, depth: int) -> str:
    pairs = [(name, value) for name, value in zip(node.keys, node.values, strict=True) if name is not None]
    return ", ".join(f"{_latex(name, depth)} = {_latex(value, depth)}" for name, value in pairs) or r"\emptyset"


def _comparison(node: ast.Compare, depth: int) -> str:
    text = _latex(node.left, depth)
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if type(operator) not in _RELATIONS:
            raise _RefusedError
        text += f" {_RELATIONS[type(operator)]} {_latex(right, depth)}"
    return text


# The key of an entry is the type of node that its writer takes, which the type system cannot say.
_WRITERS: dict[type[ast.expr], Callable[..., str]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BinOp: _operation,
    ast.UnaryOp: _sign,
    ast.Call: _call,
    ast.List: _list,
    ast.Tuple: _tuple,
    ast.Set: _set,
    ast.Dict: _dictionary,
    ast.Compare: _comparison,
}
