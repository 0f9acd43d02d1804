"""The process that asks math-verify, one pair a line; run as a script by `worker.py`.

It must not import this package: it is started by path, without the folder of the caller. A request is
`[prediction, gold, seconds]`, the reply `true` or `false`. The kernel ends the process when a request uses more
processor time than it may, whatever it is doing, and so it can never outlive its caller for long: at the end of the
input it leaves.
"""

import json
import logging
import os
import re
import resource
import signal
import sys
from fractions import Fraction
from importlib import metadata
from typing import Any

_MEMORY_BYTES = 4 << 30  # address space; mpmath and ANTLR need less than a tenth
_DIGITS = 50  # decimal digits for constants, beyond those before the point
_GUARD_DIGITS = 20  # of them, left to rounding
_MOST_DIGITS = 3_000
_COMPUTED_DIGITS = 10
_LONG_DECIMAL = re.compile(r"[+-]?\s*([0-9]*)\.([0-9]+)(?:\s*\\cdot\s*10\^\{([+-]?[0-9]{1,3})\})?")


def main() -> None:
    """Prove that math-verify works here, say so, then answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like a reply
    logging.disable(logging.CRITICAL)
    _limit_memory()
    problem = _self_test()
    print(json.dumps({"problem": problem}), file=replies, flush=True)
    if problem:
        return
    for line in sys.stdin:
        prediction, gold, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal's default action ends the process
        verdict = equal(prediction, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=replies, flush=True)


def equal(prediction: str, gold: str) -> bool:
    """Whether math-verify reads both LaTeX texts and finds them equal."""
    a, b = parse(prediction), parse(gold)
    if a is None or b is None:
        return False
    constants = _equal_constants(a, b, max(_tolerance(prediction), _tolerance(gold)))
    if constants is not None:
        return constants
    from math_verify import verify

    return bool(verify([b], [a], timeout_seconds=None))


def parse(text: str) -> Any:
    """The sympy object that math-verify reads in `text`, with exact decimals and the constant i; None if it reads none.

    Its second reading, the string itself, is left out: it would make any two unreadable texts of equal letters equal.
    """
    import sympy
    from math_verify import LatexExtractionConfig
    from math_verify import parse as read

    found = read(f"${text}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
    expression = next((item for item in found if not isinstance(item, str)), None)
    if isinstance(expression, sympy.Expr):
        exact = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float) if number.is_finite}
        constants = {"i": sympy.I, "e": sympy.E}
        letters = {name: constants[name.name] for name in expression.free_symbols if name.name in constants}
        return expression.xreplace(exact).subs(letters)
    return expression


def _tolerance(text: str) -> Fraction:
    """Half of the last place of a decimal with ten digits or more, which a program computed; 0 for any other text."""
    match = _LONG_DECIMAL.fullmatch(text.strip())
    if match is None or len((match[1] + match[2]).lstrip("0")) < _COMPUTED_DIGITS:
        return Fraction(0)
    noise = 20 if len(match[1] + match[2]) > _COMPUTED_DIGITS + 4 else 1  # the last digits of a float may be wrong
    return noise * Fraction(10) ** (int(match[3] or 0) - len(match[2])) / 2


def _equal_constants(a: Any, b: Any, tolerance: Fraction) -> bool | None:
    """Compare two expressions without letters; None if they are anything else.

    They must agree to 30 digits, integers to the last one, or differ by no more than `tolerance`.

    math-verify compares 15 absolute digits, which takes 1/2004! for 1/2006!.
    """
    import sympy

    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)) or a.free_symbols or b.free_symbols:
        return None
    size = abs(sympy.N(b))
    if not (size.is_Float and size.is_finite):
        return None
    digits = _DIGITS + (int(sympy.log(size, 10).evalf()) if size > 1 else 0)
    if digits > _MOST_DIGITS:
        return bool(a == b)
    x, y = sympy.N(a, digits), sympy.N(b, digits)
    if not (x.is_number and x.is_finite):
        return None
    rounding = max(abs(x), abs(y)) * sympy.Rational(1, 10 ** (digits - _GUARD_DIGITS))
    return bool(abs(x - y) <= max(rounding, sympy.Rational(tolerance.numerator, tolerance.denominator)))


def _self_test() -> str | None:
    """Why math-verify cannot be trusted here, or None. Without its grammar it reads nothing and calls all different."""
    try:
        import sympy

        read = parse(r"\frac{1}{2}")
        works = read == sympy.Rational(1, 2) and equal(r"\sqrt{12}", r"2\sqrt{3}")
    except ImportError as error:
        return f"{type(error).__name__}: {error}; {_installed()}"
    return None if works else rf"it reads \frac{{1}}{{2}} as {read}; {_installed()}"


def _installed() -> str:
    names = ("math-verify", "latex2sympy2-extended", "antlr4-python3-runtime", "sympy")
    present = {distribution.metadata["Name"]: distribution.version for distribution in metadata.distributions()}
    known = {name.lower().replace("_", "-"): version for name, version in present.items() if name}
    return "installed: " + ", ".join(f"{name} {known.get(name, 'missing')}" for name in names)


def _limit_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
