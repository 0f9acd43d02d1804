"""Makes the warm process warm: what sessions would otherwise each have to import, compute and hide."""

import contextlib
import gc
import importlib
import importlib.util
import inspect
import sys
import types

from sandbox import kernel, root
from sandbox.cells import prepare

# What models use, and what the import of it or its first use would cost every session.
WARM = (
    "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "fractions", "functools", "heapq",
    "inspect", "itertools", "json", "math", "numpy.linalg", "numpy.random", "operator", "random", "re", "scipy",
    "statistics", "string", "sympy", "sympy.parsing.sympy_parser", "time", "traceback", "typing",
)  # fmt: skip

# What models ask of sympy most: its first call of each loads modules and fills caches, which forks then share.
EXERCISES = """
from sympy import *
x, y, n = symbols("x y n")
k = symbols("k", integer=True, positive=True)
solve(x**2 - 5*x + 6, x), solve([x + y - 3, x - y - 1], [x, y]), solve(Eq(2*x + 3, 7), x), solve(x**3 - x - 1, x)
solve(x**2 - 4 > 0, x), solveset(sin(x), x), linsolve([x + y - 2], x, y), nsolve(x**2 - 2, x, 1), roots(x**2 - 2)
factor(x**4 - 1), expand((x + 1)**3), simplify(sin(x)**2 + cos(x)**2), cancel((x**2 - 1)/(x - 1)), apart(1/(x**2 - 1))
diff(x**2*sin(x), x), integrate(x*exp(x), x), integrate(x**2, (x, 0, 1)), limit(sin(x)/x, x, 0), series(exp(x), x, 0, 3)
summation(k, (k, 1, n)), Sum(k**2, (k, 1, 10)).doit(), binomial(10, 3), factorial(5), factorint(360), isprime(97)
gcd(12, 18), lcm(4, 6), divisors(12), totient(12), mod_inverse(3, 7), primerange(10), N(sqrt(2)), sqrt(8)
Matrix([[1, 2], [3, 4]]).inv(), Matrix([[2, 0], [0, 3]]).eigenvals(), Matrix([[1, 2], [3, 4]]).det()
str(sqrt(3)/2 + pi), repr(x**2), latex(x**2/3), nsimplify(0.5), Interval(0, 1), Poly(x**2 - 1, x), (x**2).subs(x, 2)
Point(0, 0).distance(Point(3, 4)), sympify("x**2 + 1"), Piecewise((x, x > 0), (0, True)), I**2
"""


def warm_up() -> None:
    """Import what is installed of `WARM`; what lies outside the interpreter's own folders is none of a session's."""
    sys.path[:] = root.own_modules()
    for name in WARM:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    if "sympy" in sys.modules:
        exec(EXERCISES, {})
    prepare()


def freeze() -> None:
    """Keep what is there out of the collector's way, and in few pages: forks are then cheap and share it."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError):
        kernel.collapse_heap()


def hide_places() -> None:
    """Have this package's code say nothing of where it lies: a session can look at the frames below its own."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "sandbox":
            for value in [*vars(module).values()]:
                members = [*vars(value).values()] if isinstance(value, type) else [value]
                for member in members:
                    _hide_place(member)


def _hide_place(member: object) -> None:
    function = inspect.unwrap(getattr(member, "__func__", member))  # type: ignore[arg-type]
    if isinstance(function, types.FunctionType) and function.__module__.partition(".")[0] == "sandbox":
        function.__code__ = _placeless(function.__code__)


def _placeless(code: types.CodeType) -> types.CodeType:
    inner = (_placeless(part) if isinstance(part, types.CodeType) else part for part in code.co_consts)
    return code.replace(co_filename="<sandbox>", co_consts=tuple(inner))
