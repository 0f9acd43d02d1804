"""Problems with gold answers, from the Hugging Face hub or from a JSONL file."""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.answer import last_boxed
from eval.errors import BenchmarkError

_REQUIRED = ("id", "question", "answer", "source")
_MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


@dataclass(frozen=True)
class Problem:
    """A question with its gold answer. `id` is unique within a benchmark; the last three are None where unknown."""

    id: str
    question: str
    answer: str
    source: str
    subject: str | None = None
    level: str | None = None
    solution: str | None = None


@dataclass(frozen=True)
class _HubSource:
    """Where a benchmark lives on the hub, and how one of its rows becomes the fields of a problem."""

    dataset: str
    configs: tuple[str | None, ...]
    fields: Callable[[dict[str, Any]], dict[str, Any]]


def load_benchmark(
    name_or_path: str, *, split: str = "test", path: str | Path | None = None, limit: int | None = None
) -> list[Problem]:
    """Load the problems of a benchmark.

    A named benchmark comes from `path` if it is given, else from `<folder>/<name>_<split>.jsonl` if the environment
    variable MDPO_DATA names a folder that has this file, else from the hub.

    Args:
        name_or_path: "gsm8k", "math", "math500", or the path of a `.jsonl` file.
        split: a split of the named benchmark; not used for files.
        path: a JSONL file, one object a line with `id, question, answer, source` and, where known, `solution,
            subject, level`.
        limit: take only the first so many problems.

    Raises:
        BenchmarkError: for an unknown name, a missing or broken file, repeated ids, or an unreachable hub.
    """
    if limit is not None and limit < 1:
        raise BenchmarkError(f"limit must be at least 1, not {limit}; leave it out to take every problem")
    file = _local_file(name_or_path, split, path)
    problems = _from_file(file) if file else _from_hub(name_or_path, split)
    taken: list[Problem] = []
    seen: dict[str, int] = {}
    for number, problem in enumerate(problems, start=1):
        if problem.id in seen:
            raise BenchmarkError(
                f"{file or name_or_path}: problems {seen[problem.id]} and {number} share the id {problem.id!r}; "
                "give each problem its own"
            )
        seen[problem.id] = number
        taken.append(problem)
        if len(taken) == limit:
            break
    if not taken:
        raise BenchmarkError(f"{file or name_or_path} holds no problem; give a file with at least one line")
    return taken


def _local_file(name_or_path: str, split: str, path: str | Path | None) -> Path | None:
    """The file to read, None for the hub."""
    if path is not None:
        return _existing(Path(path))
    if name_or_path.endswith(".jsonl"):
        return _existing(Path(name_or_path))
    if name_or_path not in _HUB:
        near = difflib.get_close_matches(name_or_path.lower(), _HUB, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "or give the path of a .jsonl file"
        raise BenchmarkError(f"there is no benchmark {name_or_path!r}; known are {', '.join(_HUB)}; {hint}")
    folder = os.environ.get("MDPO_DATA")
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise BenchmarkError(f"MDPO_DATA names {folder!r}, which is no folder; correct or unset it")
    file = Path(folder, f"{name_or_path}_{split}.jsonl")
    return file if file.is_file() else None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BenchmarkError(f"there is no file {str(path)!r}; check the path, it is taken from {str(Path.cwd())!r}")
    return path


def _from_file(path: Path) -> Iterator[Problem]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _problem(_row(line, f"{path}, line {number}"), f"{path}, line {number}")


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BenchmarkError(f"{place} is no JSON ({error}); write one object a line") from error
    if not isinstance(row, dict):
        raise BenchmarkError(f"{place} holds a {type(row).__name__}; write one JSON object a line")
    return row


def _problem(row: dict[str, Any], place: str) -> Problem:
    missing = [name for name in _REQUIRED if row.get(name) in (None, "")]
    if missing:
        raise BenchmarkError(f"{place} lacks {', '.join(missing)}; every problem needs {', '.join(_REQUIRED)}")
    wrong = [name for name in (*_REQUIRED, *_OPTIONAL) if not isinstance(row.get(name), str | int | float | None)]
    if wrong:
        raise BenchmarkError(f"{place}: {wrong[0]} is a {type(row[wrong[0]]).__name__}; write a string")
    required = [str(row[name]) for name in _REQUIRED]
    return Problem(*required, *(None if row.get(name) is None else str(row[name]) for name in _OPTIONAL))


def _from_hub(name: str, split: str) -> Iterator[Problem]:
    source = _HUB[name]
    index = 0
    for config in source.configs:
        for row in _hub_rows(name, source.dataset, config, split):
            place = f"{source.dataset}, {split}, row {index}"
            yield _problem({"id": f"{name}/{split}/{index}", "source": name, **source.fields(row)}, place)
            index += 1


def _hub_rows(name: str, dataset: str, config: str | None, split: str) -> Sequence[dict[str, Any]]:
    from datasets import load_dataset

    try:
        rows: Sequence[dict[str, Any]] = load_dataset(dataset, config, split=split)
    except (OSError, ValueError) as error:  # network, hub and cache errors are OSError; an unknown split is ValueError
        cause = " ".join(str(error).split())[:200]
        raise BenchmarkError(
            f"{name} ({split}) could not be loaded from {dataset} on the hub ({type(error).__name__}: {cause}); "
            f"give a local file with --data FILE, or set MDPO_DATA to a folder that has {name}_{split}.jsonl"
        ) from error
    return rows


def _gsm8k(row: dict[str, Any]) -> dict[str, Any]:
    answer = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
    return {"question": row["question"], "answer": answer, "solution": row["answer"]}


def _math(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": row["problem"],
        "answer": last_boxed(row["solution"]),
        "solution": row["solution"],
        "subject": row["type"],
        "level": re.sub(r"^Level ", "", str(row["level"])),
    }


def _math500(row: dict[str, Any]) -> dict[str, Any]:
    names = ("answer", "solution", "subject", "level")
    return {"question": row["problem"], **{name: row[name] for name in names}}


_OPTIONAL = ("subject", "level", "solution")
_HUB = {
    "gsm8k": _HubSource("openai/gsm8k", ("main",), _gsm8k),
    "math": _HubSource("EleutherAI/hendrycks_math", _MATH_SUBJECTS, _math),
    "math500": _HubSource("HuggingFaceH4/MATH-500", (None,), _math500),
}
