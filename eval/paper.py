r"""The lenient grader behind the published numbers of the paper, for comparing with them. Rewards use `eval.check`.

The paper (Xiong et al., multi-turn iterative preference learning) evaluates with the grader of ToRA (Gou et al.). Its
rules, all of them with their looseness:

1. One spelling (`normalise`): units, percent and dollar signs, degrees, `x=`, `\cdot` and blanks are dropped,
   the letters "and" too; "inf" becomes `\infty` wherever it stands.
2. Two numbers are equal within a relative 1e-4 of gold, gold/100 or 100·gold, and otherwise different.
3. Equal texts after deleting `{}()`, and outer brackets where only one side has square ones.
4. Tuples and lists with the same brackets and length, element by element.
5. sympy: the difference simplifies to 0, or both values agree within a relative 1e-3.

So `12` equals `1200`, `10001` equals `10000`, `2(3)` equals `23`, `(x-5)(x+1)` equals `(x-5)(x+2)`, but `\{1,2\}` is
not `\{2,1\}`, and an equation equals another only if it has the same text.

Deliberate deviations, each to be safe or to give the same verdict everywhere:

- Nothing of an answer is run. The original hands texts to sympy's `parse_expr`, which does; here Python-like text is
  read as a syntax tree of which only arithmetic and a list of functions is accepted.
- LaTeX is read by a small reader of our own that knows what sympy's `parse_latex` knows and stops where it stops
  (`1, 2` is read as 1, `x**2` as x, `\pi` as a letter), but for sums, integrals and limits. `parse_latex` itself only
  works with an old ANTLR runtime, and without it the original silently becomes stricter.
- sympy works in a process of its own and is bounded in processor time and memory; a kill means "different". Powers of
  more than 2^18 bits and factorials of more than 10,000 are different from everything.
- Texts of more than 2,000 characters are different unless they are equal. Undefined values equal nothing.
"""

import math
import re
import time
from collections.abc import Callable

from eval.worker import Grader, shared_pool

_MAX_CHARS = 2_000
_LIMIT_SECONDS = 2.0
_SYMPY = shared_pool(1, Grader("the paper's grader", ("grader_child.py", "paper"), patience=3.0))
_NUMBER_TOLERANCE = 1e-4
_NAME_CHARS = 2  # of a left side that is dropped, blanks counted: `x=`, `k =`

_REPLACED = (
    ("\n", ""),
    (r"\!", ""),
    ("\\ ", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    (r"\left", ""),
    (r"\right", ""),
)
_DELETED = (r"^{\circ}", r"^\circ", r"\$", "$", r"x\in", r"\%", "%", r"\mathbf", r"\cdot", "and")
_UNIT = re.compile(r"\\text\{.*\}$")  # from the first text on, whatever stands between it and the last
_MBOX = re.compile(r"\\mbox\{[^{}]*\}")
_BARE_POINT = re.compile(r"(^|\{)\.(?=[0-9])")
_INFINITY = re.compile(r"(?<!\\)inf(?:inity)?")
_ZERO_DECIMALS = re.compile(r"([0-9])\.0+(?![0-9])")
_SQRT = re.compile(r"\\sqrt([A-Za-z0-9]+)")
_FRAC = re.compile(r"\\frac([^{\\])(?:\{([^{}]*)\}|([^{\\]))")
_SLASH = re.compile(r"(-?[0-9]+)/(-?[0-9]+)")
_BRACKETS = str.maketrans("", "", "{}()")


def check_paper(prediction: str | None, answer: str, *, limit: float = _LIMIT_SECONDS) -> bool:
    """Whether the paper's grader accepts `prediction` for the gold `answer`.

    Never hangs, never runs code from either text, and no text makes it raise. Safe in any thread.

    Args:
        prediction: the final answer of a text; None and blank texts are wrong.
        answer: the gold answer.
        limit: seconds for everything that sympy is asked about this pair; what takes longer is different. The
            published runs allowed ten seconds an answer.

    Raises:
        CheckerError: sympy or its LaTeX grammar is needed and does not work on this machine.
    """
    if prediction is None or not prediction.strip():
        return False
    if prediction.strip() == answer.strip():
        return True
    if max(len(prediction), len(answer)) > _MAX_CHARS:
        return False
    left = limit

    def ask(a: str, b: str) -> bool:
        nonlocal left
        if left <= 0:
            return False
        start = time.monotonic()
        verdict = _SYMPY.ask(a, b, left)
        left -= time.monotonic() - start
        return verdict

    return _equal(normalise(prediction), normalise(answer), ask)


def normalise(text: str) -> str:
    """Return `text` in the one spelling that the grader compares; not always a sensible one (`2 and 3` is `23`)."""
    text = text.strip().rstrip(".")
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = _UNIT.sub("", text).strip() or text
    for part in _DELETED:
        text = text.replace(part, "")
    text = _MBOX.sub("", text.replace(r"\text", ""))
    text = _INFINITY.sub(r"\\infty", _BARE_POINT.sub(r"\g<1>0.", text))
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = _without_name(_ZERO_DECIMALS.sub(r"\1", text))
    text = "".join(_SQRT.sub(r"\\sqrt{\1}", text).split())
    text = _FRAC.sub(lambda m: rf"\frac{{{m[1]}}}{{{m[2] or m[3]}}}", text)
    fraction = _SLASH.fullmatch(text)
    return rf"\frac{{{fraction[1]}}}{{{fraction[2]}}}" if fraction else text


def _without_name(text: str) -> str:
    left, sign, right = text.partition("=")
    return right.strip() if sign and "=" not in right and len(left) <= _NAME_CHARS else text


def _equal(a: str, b: str, ask: Callable[[str, str], bool]) -> bool:
    """Rules 2 to 5 on two normalised texts, the prediction first."""
    if a == b:
        return bool(a)
    x, y = _number(a), _number(b)
    if x is not None and y is not None:
        return any(math.isclose(value, x, rel_tol=_NUMBER_TOLERANCE) for value in (y / 100, y, y * 100))
    if not a or not b:
        return False
    if _without_brackets(a, b):
        return True
    parts = _elements(a, b)
    if parts and all(_equal(first, second, ask) for first, second in parts):
        return True
    return ask(a, b)


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _without_brackets(a: str, b: str) -> bool:
    if (_held(a, "[]") and not b.startswith("(")) or (_held(a, "()") and not b.startswith("[")):
        a, b = a.strip("[]()"), b.strip("[]()")
    return a.translate(_BRACKETS) == b.translate(_BRACKETS)


def _held(text: str, brackets: str) -> bool:
    return text.startswith(brackets[0]) and text.endswith(brackets[1])


def _elements(a: str, b: str) -> list[tuple[str, str]]:
    """The elements of two lists, paired; none unless both have the same brackets and length.

    A product of two parentheses passes for a list of one element, and is then read up to its first closing one.
    """
    if not any(_held(a, kind) and _held(b, kind) for kind in ("[]", "()")):
        return []
    first, second = a[1:-1].split(","), b[1:-1].split(",")
    return list(zip(first, second, strict=True)) if len(first) == len(second) else []
