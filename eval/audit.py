"""Where a benchmark's gold answers, or a file of graded answers, deserve a look by a person."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.answer import extract_answer
from eval.benchmarks import Problem
from eval.checker import check_many
from eval.errors import EvalError
from eval.normal import key, normal
from eval.paper import check_paper
from eval.worker import Grader, shared_pool

_MAX_CHARS = 2_000
_LIMIT_SECONDS = 5.0  # math-verify's own limit for each of its steps

_MATH_VERIFY = shared_pool(1, Grader("math-verify alone", ("grader_child.py", "math-verify"), patience=3.0))


@dataclass(frozen=True)
class GoldDisagreement:
    """A gold answer on which the strict checker does not do what one expects.

    `test` names the expectation: "self", the gold accepts itself; "solution", it accepts what is extracted from its
    own solution; "next", it rejects the gold of the next problem. `other` is the text it was compared with, None if
    none could be extracted. Two golds that are written differently may be equal: a "next" is a question, not an error.
    """

    id: str
    test: Literal["self", "solution", "next"]
    gold: str
    other: str | None


@dataclass(frozen=True)
class AnswerDisagreement:
    """A graded answer on which the graders differ; `row` counts from 1, `id` is that of the row, if it has one."""

    row: int
    id: str | None
    prediction: str | None
    answer: str
    strict: bool
    paper: bool
    math_verify: bool


def audit_golds(problems: Sequence[Problem]) -> list[GoldDisagreement]:
    """Hold the gold answers of a benchmark against themselves, their solutions and their neighbours.

    Args:
        problems: as `load_benchmark` returns them; those without a solution are not held against it.

    Returns:
        What is not as expected, in the order of the problems.

    Raises:
        CheckerError: as `check`.
    """
    tests: list[tuple[Problem, Literal["self", "solution", "next"], str | None]] = []
    for problem, following in zip(problems, [*problems[1:], *problems[:1]], strict=True):
        tests.append((problem, "self", problem.answer))
        if problem.solution is not None:
            tests.append((problem, "solution", extract_answer(problem.solution)))
        if _spelling(problem.answer) != _spelling(following.answer):
            tests.append((problem, "next", following.answer))
    verdicts = check_many((other, problem.answer) for problem, _, other in tests)
    return [
        GoldDisagreement(problem.id, test, problem.answer, other)
        for (problem, test, other), accepted in zip(tests, verdicts, strict=True)
        if accepted == (test == "next")
    ]


def audit_answers(rows: Iterable[Mapping[str, Any]]) -> list[AnswerDisagreement]:
    """Grade answers by the strict checker, the paper's and math-verify alone, and return those on which they differ.

    Args:
        rows: objects with `prediction` (None where a text states no answer), `answer` and perhaps `id`, such as the
            lines of a trajectory file.

    Raises:
        EvalError: a row has no `answer` or no `prediction`.
        CheckerError: as `check`.
    """
    rows = list(rows)
    pairs = [_pair(row, number) for number, row in enumerate(rows, start=1)]
    strict = dict(zip(pairs, check_many(pairs), strict=True))
    lenient = {pair: (check_paper(*pair), check_math_verify(*pair)) for pair in strict}
    return [
        AnswerDisagreement(
            number, None if row.get("id") is None else str(row["id"]), *pair, strict[pair], *lenient[pair]
        )
        for number, (row, pair) in enumerate(zip(rows, pairs, strict=True), start=1)
        if len({strict[pair], *lenient[pair]}) > 1
    ]


def check_math_verify(prediction: str | None, answer: str, *, limit: float = _LIMIT_SECONDS) -> bool:
    """math-verify alone, as it is recommended (both sides between dollars, gold first), bounded in time and memory.

    Texts of more than 2,000 characters, and what takes more than `limit` seconds of processor time, are different.

    Raises:
        CheckerError: math-verify does not work on this machine.
    """
    if prediction is None or max(len(prediction), len(answer)) > _MAX_CHARS:
        return False
    return _MATH_VERIFY.ask(prediction, answer, limit)


def _spelling(gold: str) -> str:
    return key(normal(gold))


def _pair(row: Mapping[str, Any], number: int) -> tuple[str | None, str]:
    if row.get("answer") is None or "prediction" not in row:
        missing = "answer" if row.get("answer") is None else "prediction"
        raise EvalError(
            f"row {number} has no {missing!r}; an audit needs the columns prediction and answer, "
            f"and this row has {', '.join(sorted(row)) or 'none'}"
        )
    prediction = row["prediction"]
    return None if prediction is None else str(prediction), str(row["answer"])
