"""Functions by name, in LaTeX and in Python, and the nodes that their calls become."""

from collections.abc import Callable

from eval.number import parse_number
from eval.syntax.tree import Node, NotReadError, name, number

_TRIGONOMETRIC = ("sin", "cos", "tan", "sec", "csc", "cot")
_PLAIN = {f"{prefix}{fn}": f"a{fn}" for fn in _TRIGONOMETRIC for prefix in ("a", "arc")} | {
    fn: fn for fn in (*_TRIGONOMETRIC, "sinh", "cosh", "tanh", "floor", "ceiling", "Log", "ln", "lg")
} | {"abs": "abs", "Abs": "abs", "ceil": "ceiling", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh",
     "comb": "binomial", "binomial": "binomial", "gcd": "gcd", "lcm": "lcm", "max": "max", "min": "min",
     "Max": "max", "Min": "min"}  # fmt: skip
_WRAPPERS = frozenset(
    ("float64", "float32", "int64", "int32", "float", "int", "mpf", "mpz", "array", "tuple", "list",
     "sympify", "Integer",
     "tensor", "Float", "str", "Tuple", "simplify")
)  # fmt: skip
_RELATIONS = {"Eq": "=", "Ne": "!=", "Lt": "<", "Le": "<=", "Gt": ">", "Ge": ">=", "StrictLessThan": "<",
              "LessThan": "<=", "StrictGreaterThan": ">", "GreaterThan": ">="}  # fmt: skip
_INTERVALS = {"Interval": "[]", "Interval.open": "()", "Interval.Lopen": "(]", "Interval.Ropen": "[)"}
_MATRICES = frozenset(("Matrix", "ImmutableMatrix", "ImmutableDenseMatrix", "MutableDenseMatrix"))
_OTHER = frozenset(
    ("sqrt", "cbrt", "root", "Pow", "exp", "log", "factorial", "Rational", "Fraction", "mpq", "Decimal",
     "mpc", "complex",
     "And", "Or", "FiniteSet", "set", "Union", "Intersection", "Complement", "Point",
     "Point2D", "Point3D")
)  # fmt: skip
WORDS = frozenset(_PLAIN) | {"sqrt", "log", "exp"}
FUNCTIONS = frozenset(_PLAIN) | _WRAPPERS | _RELATIONS.keys() | _INTERVALS.keys() | _MATRICES | _OTHER


def call(function: str, arguments: list[Node]) -> Node:
    """The node for `function(arguments)`.

    Raises:
        NotReadError: the function does not take these arguments.
    """
    if function in _PLAIN:
        return _plain(_PLAIN[function], arguments)
    if function in _RELATIONS and len(arguments) == 2:
        return Node("relation", tuple(arguments), (_RELATIONS[function],))
    if function in _INTERVALS and len(arguments) == 2:
        return _interval(arguments[0], arguments[1], _INTERVALS[function])
    if function in _MATRICES and arguments:
        return _matrix(arguments[0])
    if function in _WRAPPERS and len(arguments) == 1:
        return _text_value(arguments[0])
    return _other(function, arguments)


def _plain(function: str, arguments: list[Node]) -> Node:
    if function == "lg":
        arguments = [*arguments, number(10)]
    if function in {"ln", "Log", "lg"} and len(arguments) == 2:
        return _quotient(arguments)
    expected = {"binomial": 2}.get(function, 1)
    if len(arguments) != expected and function not in {"gcd", "lcm", "max", "min"}:
        raise NotReadError(f"{function} of {len(arguments)} arguments")
    return Node("call", tuple(arguments), function)


def _quotient(arguments: list[Node]) -> Node:
    return Node("/", (Node("call", (arguments[0],), "ln"), Node("call", (arguments[1],), "ln")))


def _other(function: str, arguments: list[Node]) -> Node:
    if function in _ANY_NUMBER and arguments:
        return _ANY_NUMBER[function](arguments)
    build = _BUILDERS.get((function, len(arguments)))
    if build is None:
        raise NotReadError(f"{function} of {len(arguments)} arguments")
    return build(*arguments)


def _text_value(node: Node) -> Node:
    """`Decimal('3.5')` holds its number as text."""
    if node.head != "text":
        return node
    value = parse_number(str(node.data))
    if value is None:
        raise NotReadError(f"{node.data!r} is no number")
    return Node("number", (), value)


def _complex(real: Node, imaginary: Node) -> Node:
    return Node("+", (_text_value(real), Node("*", (_text_value(imaginary), name("i")))))


def _interval(low: Node, high: Node, brackets: str) -> Node:
    opening = "(" if _infinite(low) else brackets[0]  # sympy prints (-oo, 3] as Interval(-oo, 3)
    closing = ")" if _infinite(high) else brackets[1]
    return Node(opening + closing, (low, high))


def _infinite(node: Node) -> bool:
    return node == name("oo") or (node.head == "neg" and node.parts[0] == name("oo"))


def _matrix(node: Node) -> Node:
    if node.head != "[]" or not node.parts:
        raise NotReadError("a matrix without rows")
    rows = [row.parts if row.head == "[]" else (row,) for row in node.parts]
    if len({len(row) for row in rows}) != 1:
        raise NotReadError("rows of different length")
    return Node("matrix", tuple(cell for row in rows for cell in row), (len(rows), len(rows[0])))


_ANY_NUMBER: dict[str, Callable[[list[Node]], Node]] = {
    "And": lambda parts: Node("list", tuple(parts), "and"),
    "Or": lambda parts: Node("list", tuple(parts), "or"),
    "Union": lambda parts: Node("union", tuple(parts)),
    "FiniteSet": lambda parts: Node("{}", tuple(parts)),
    "set": lambda parts: Node("{}", tuple(parts)),
    "Point": lambda parts: Node("()", tuple(parts)),
    "Point2D": lambda parts: Node("()", tuple(parts)),
    "Point3D": lambda parts: Node("()", tuple(parts)),
}
_BUILDERS: dict[tuple[str, int], Callable[..., Node]] = {
    ("sqrt", 1): lambda x: Node("root", (x, number(2))),
    ("cbrt", 1): lambda x: Node("root", (x, number(3))),
    ("root", 2): lambda x, n: Node("root", (x, n)),
    ("Pow", 2): lambda x, n: Node("^", (x, n)),
    ("exp", 1): lambda x: Node("^", (name("e"), x)),
    ("log", 1): lambda x: Node("call", (x,), "ln"),
    ("log", 2): lambda x, base: _quotient([x, base]),
    ("factorial", 1): lambda x: Node("!", (x,)),
    ("Rational", 1): _text_value,
    ("Fraction", 1): _text_value,
    ("Decimal", 1): _text_value,
    ("Rational", 2): lambda x, y: Node("/", (x, y)),
    ("Fraction", 2): lambda x, y: Node("/", (x, y)),
    ("mpq", 2): lambda x, y: Node("/", (x, y)),
    ("complex", 2): lambda x, y: _complex(x, y),
    ("mpc", 2): lambda x, y: _complex(x, y),
    ("FiniteSet", 0): lambda: Node("{}"),
    ("set", 0): lambda: Node("{}"),
    ("Intersection", 2): lambda x, y: Node("cap", (x, y)),
    ("Complement", 2): lambda x, y: Node("minus", (x, y)),
}
