r"""Decide whether an answer equals the gold answer.

Layers, cheapest first; each decides or passes on:

1. equal texts, then exact numbers (`number.py`): no tree is built
2. words, choices, times, dates, numerals with a base (`words.py`, `number.py`)
3. both answers are read into small trees (`syntax/`), LaTeX and Python's print alike, and compared part by part
   (`equal.py`): units, labels, lists, sets, matrices, relations; single expressions by their values (`scalars.py`)
4. math-verify in a worker process under a hard limit (`worker.py`), only where an answer holds a LaTeX command that
   the grammar does not know
5. anything else is different

Nothing of an answer is ever run. Conventions: the gold answer is the only source of format; equal value is enough.
`( )` is ordered, `\{ \}` and a bare list are not. A unit, currency sign or name (`x =`) on one side only is ignored,
two different ones are different answers. `50\%` is 0.5, and also 50. A rounded decimal is wrong unless it has ten
digits or more. Several values where one is asked are wrong.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal

from eval.equal import equal
from eval.evaluate import OutOfTimeError, time_limit
from eval.normal import key, normal
from eval.number import equal_based, equal_numbers, parse_number
from eval.paper import check_paper
from eval.syntax import Node, NotReadError, UnknownCommandError, parse
from eval.syntax.parser import clean
from eval.words import as_mathematics, equal_words, plain, without_choice
from eval.worker import SHARED, WorkerPool

_MAX_CHARS = 2_000
_LIMIT_SECONDS = 2.0
_CACHED_TREES = 4_096  # a gold answer is compared with many predictions


Mode = Literal["strict", "paper"]


def check(
    prediction: str | None,
    answer: str,
    *,
    mode: Mode = "strict",
    limit: float = _LIMIT_SECONDS,
    pool: WorkerPool = SHARED,
) -> bool:
    """Whether `prediction` is right, given the gold `answer`.

    Never hangs, never runs code from either text, and no text makes it raise. Safe in any thread.

    Args:
        prediction: what `extract_answer` returned; None and blank texts are wrong.
        answer: the gold answer, in LaTeX or as plain text.
        mode: "strict" labels training data; "paper" judges as the grader behind the paper's published numbers does,
            looseness included, to compare with them.
        limit: seconds for what math-verify is asked about this pair; what takes longer is different.
        pool: the workers to ask; all callers share one by default.

    Raises:
        CheckerError: math-verify is needed and does not work on this machine. Wrong labels would be worse.
        ValueError: There is no such mode.
    """
    if mode == "paper":
        return check_paper(prediction, answer, limit=limit)
    if mode != "strict":
        raise ValueError(f"eval.check has no mode {mode!r}: give 'strict' or 'paper'")
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
    for decide in (equal_words, _equal_based):
        verdict = decide(prediction, answer)
        if verdict is not None:
            return verdict
    return _equal_trees(prediction, answer, limit, pool)


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


def _equal_based(prediction: str, answer: str) -> bool | None:
    return equal_based(plain(clean(prediction)), plain(clean(answer))) if "_" in prediction or "_" in answer else None


def _equal_trees(prediction: str, answer: str, limit: float, pool: WorkerPool) -> bool:
    start = time.monotonic()
    try:
        with time_limit(limit):
            verdict = _decide(prediction, answer)
    except (OutOfTimeError, RecursionError):
        return False  # no answer of a person or program is so large
    if verdict is None:
        left = limit - (time.monotonic() - start)
        return left > 0 and pool.ask(normal(prediction), normal(answer), left)
    return verdict


def _decide(prediction: str, answer: str) -> bool | None:
    """The verdict of the trees; None if one of the texts has none and math-verify may know more."""
    a, b = _read(prediction, True), _read(answer, True)
    if isinstance(a, Node) and isinstance(b, Node):
        if equal(a, b):
            return True
        if (a.head == "list") != (b.head == "list"):  # `100,200` may be two numbers, if the other side is a list
            a, b = _read(prediction, False), _read(answer, False)
            return isinstance(a, Node) and isinstance(b, Node) and equal(a, b)
        return False
    first, second = normal(prediction), normal(answer)
    if key(first) == key(second):
        return True
    unknown = (isinstance(a, Node) or a) and (isinstance(b, Node) or b)
    return None if unknown else False


@lru_cache(_CACHED_TREES)
def _read(text: str, thousands: bool) -> Node | bool:
    """The tree of a text; else whether a larger grammar may be able to read it."""
    try:
        return parse(as_mathematics(plain(text)) or without_choice(text) or text, thousands)
    except UnknownCommandError:
        return True
    except NotReadError:
        return False
