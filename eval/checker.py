r"""Decide whether an answer equals the gold answer.

Layers, cheapest first; each decides or passes on:

1. equal texts, then equal texts in one LaTeX style (`normal.py`)
2. exact numbers, with units and percent signs (`number.py`, `words.py`)
3. words, choices, times; the same outer shape, part by part (`words.py`, `shapes.py`, `compare.py`)
4. single expressions: math-verify in a worker process under a hard limit (`worker.py`)
5. anything else is different

What Python prints is written as LaTeX first (`python_print.py`). Nothing of an answer is ever run.

Conventions: the gold answer is the only source of format; equal value is enough. `( )` is ordered, `\{ \}` and a bare
list are not. A unit, currency sign or name (`x =`) on one side only is ignored, two different ones are different
answers. `50\%` is 0.5, and also 50. A rounded decimal is wrong unless it has ten digits or more. Several values where
one is asked are wrong.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from eval.compare import same
from eval.normal import balanced, normal
from eval.number import equal_numbers, parse_number
from eval.python_print import python_to_latex
from eval.worker import SHARED, WorkerPool

_MAX_CHARS = 2_000
_LIMIT_SECONDS = 2.0


def check(prediction: str | None, answer: str, *, limit: float = _LIMIT_SECONDS, pool: WorkerPool = SHARED) -> bool:
    """Whether `prediction` is right, given the gold `answer`.

    Never hangs, never runs code from either text, and no text makes it raise. Safe in any thread.

    Args:
        prediction: what `extract_answer` returned; None and blank texts are wrong.
        answer: the gold answer, in LaTeX or as plain text.
        limit: seconds for everything that math-verify is asked about this pair; what takes longer is different.
        pool: the workers to ask; all callers share one by default.

    Raises:
        CheckerError: math-verify is needed and does not work on this machine. Wrong labels would be worse.
    """
    if prediction is None or not (prediction := prediction.strip()):
        return False
    answer = answer.strip()
    if prediction == answer:
        return True
    if max(len(prediction), len(answer)) > _MAX_CHARS:
        return False
    x, y = parse_number(prediction), parse_number(answer)
    if x is not None and y is not None:
        return equal_numbers(x, y)
    left = limit

    def ask(a: str, b: str) -> bool:
        nonlocal left
        if left <= 0:
            return False
        start = time.monotonic()
        verdict = pool.ask(a, b, left)
        left -= time.monotonic() - start
        return verdict

    return any(same(a, b, ask) for a, b in _readings(prediction, answer))


def check_many(
    pairs: Iterable[tuple[str | None, str]], *, workers: int | None = None, limit: float = _LIMIT_SECONDS
) -> list[bool]:
    """`check` for many `(prediction, answer)` pairs, in their order; equal pairs are compared once.

    Args:
        pairs: predictions with their gold answers.
        workers: worker processes, at most; by default those that all callers share, one a processor and eight at most.
        limit: seconds a pair, as in `check`.

    Raises:
        CheckerError: as `check`.
    """
    pairs = list(pairs)
    distinct = list(dict.fromkeys(pairs))
    pool = SHARED if workers is None else WorkerPool(workers)
    try:
        with ThreadPoolExecutor(pool.size) as threads:
            verdicts = list(threads.map(lambda pair: check(*pair, limit=limit, pool=pool), distinct))
    finally:
        if pool is not SHARED:
            pool.close()
    table = dict(zip(distinct, verdicts, strict=True))
    return [table[pair] for pair in pairs]


def _readings(prediction: str, answer: str) -> list[tuple[str, str]]:
    """The pair in normal form; and again with the brackets of a Python list gone, if only one side has them."""
    a, b = _normal(prediction), _normal(answer)
    if a.startswith("[") == b.startswith("["):
        return [(a, b)]
    return [(a, b), (_without_brackets(a), _without_brackets(b))]


def _normal(text: str) -> str:
    latex = normal(text)
    printed = None if parse_number(latex) else python_to_latex(text)
    return latex if printed is None else normal(printed)


def _without_brackets(text: str) -> str:
    return text[1:-1].strip() if text.startswith("[") and text.endswith("]") and balanced(text[1:-1]) else text
