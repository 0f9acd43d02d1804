"""Problems with gold answers, from the Hugging Face hub or from a JSONL file with columns of any name."""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eval.answer import last_boxed
from eval.errors import BenchmarkError

Row = dict[str, Any]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
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
    """Where a benchmark lives on the hub, and how one of its rows becomes the fields of a problem.

    `parts` lists, for each split of ours, the configurations and splits of the hub that make it up; `columns` are those
    by which a row of the hub is known; `read` returns None for a row that is left out.
    """

    dataset: str
    parts: Mapping[str, Sequence[tuple[str | None, str]]]
    columns: tuple[str, ...]
    read: Callable[[Row], Row | None]


def load_benchmark(
    name_or_path: str,
    *,
    split: str = "test",
    path: str | Path | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Load the problems of a benchmark.

    A named benchmark comes from `path` if it is given, else from `<folder>/<name>_<split>.jsonl` (or
    `<folder>/<name>.jsonl`, if it has no other split) where the environment variable MDPO_DATA names a folder that has
    this file, else from the hub.

    Args:
        name_or_path: one of `benchmark_names()`, in any of its usual spellings, the path of a `.jsonl` file, or any
            data set of the hub as `org/name`.
        split: a split of the named benchmark or data set; not used for files.
        path: a JSONL file, one object a line with `question, answer` and, where known, `id, source, solution, subject,
            level`. A local copy of the hub's own rows is read too.
        limit: take only the first so many problems.
        columns: for files and data sets whose columns have other names: field → column, e.g. `{"question": "problem"}`.

    Raises:
        BenchmarkError: for an unknown name, split or column, a missing or broken file, repeated ids, or an unreachable
            hub.
    """
    if limit is not None and limit < 1:
        raise BenchmarkError(f"limit must be at least 1, not {limit}; leave it out to take every problem")
    name = benchmark_name(name_or_path)
    file = _local_file(name, split, path)
    if columns and file is None and name in _HUB:
        raise BenchmarkError(
            f"columns can be named for files only, or for a data set that is not known by name, and {name} is; leave "
            "them out"
        )
    unknown = [field for field in columns or () if field not in _FIELDS]
    if unknown:
        raise BenchmarkError(f"a problem has no field {unknown[0]!r} to name a column for; it has {', '.join(_FIELDS)}")
    problems = _from_file(file, name, split, columns or {}) if file else _from_hub(name, split, columns or {})
    taken: list[Problem] = []
    seen: dict[str, int] = {}
    for number, problem in enumerate(problems, start=1):
        if problem.id in seen:
            raise BenchmarkError(
                f"{file or name}: problems {seen[problem.id]} and {number} share the id {problem.id!r}; "
                "give each problem its own"
            )
        seen[problem.id] = number
        taken.append(problem)
        if len(taken) == limit:
            break
    if not taken:
        raise BenchmarkError(f"{file or name} holds no problem; give a file with at least one line")
    return taken


def benchmark_names() -> tuple[str, ...]:
    """The benchmarks that are known by name."""
    return tuple(_HUB)


def benchmark_name(name_or_path: str) -> str:
    """The name by which a benchmark is recorded: `MATH-500` is `math500`; a path or a hub id stays as it is.

    Raises:
        BenchmarkError: it is neither a known name, nor the path of a `.jsonl` file, nor of the form `org/name`.
    """
    if name_or_path.endswith(".jsonl") or _HUB_ID.fullmatch(name_or_path):
        return name_or_path
    known = {_letters(name): name for name in _HUB}
    found = known.get(_letters(name_or_path))
    if found is None:
        near = difflib.get_close_matches(_letters(name_or_path), known, n=1)
        hint = f"did you mean {known[near[0]]!r}?" if near else "or give the path of a .jsonl file"
        raise BenchmarkError(f"there is no benchmark {name_or_path!r}; known are {', '.join(_HUB)}; {hint}")
    return found


def benchmark_origin(name_or_path: str, *, split: str = "test", path: str | Path | None = None) -> str:
    """Where `load_benchmark` takes these problems from: a file, or a data set of the hub with its own splits.

    Raises:
        BenchmarkError: as `load_benchmark`.
    """
    name = benchmark_name(name_or_path)
    file = _local_file(name, split, path)
    if file is not None:
        return str(file)
    if name not in _HUB:
        return f"{name} on the hub, {split}"
    parts = dict.fromkeys(part for _, part in _parts(name, split))
    return f"{_HUB[name].dataset} on the hub, {' and '.join(parts)}"


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _local_file(name: str, split: str, path: str | Path | None) -> Path | None:
    """The file to read, None for the hub."""
    if path is not None:
        return _existing(Path(path))
    if name.endswith(".jsonl"):
        return _existing(Path(name))
    if name not in _HUB:
        return None
    splits = tuple(_parts_by_split(name, split))
    folder = os.environ.get("MDPO_DATA")
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise BenchmarkError(f"MDPO_DATA names {folder!r}, which is no folder; correct or unset it")
    names = [f"{name}_{split}.jsonl"] + ([f"{name}.jsonl"] if splits == (split,) else [])
    return next((file for each in names if (file := Path(folder, each)).is_file()), None)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BenchmarkError(f"there is no file {str(path)!r}; check the path, it is taken from {str(Path.cwd())!r}")
    return path


def _parts_by_split(name: str, split: str) -> Mapping[str, Sequence[tuple[str | None, str]]]:
    parts = _HUB[name].parts
    if split not in parts:
        raise BenchmarkError(f"{name} has no split {split!r}; it has {', '.join(parts)}")
    return parts


def _parts(name: str, split: str) -> Sequence[tuple[str | None, str]]:
    return _parts_by_split(name, split)[split]


def _from_file(path: Path, name: str, split: str, columns: Mapping[str, str]) -> Iterator[Problem]:
    source = None if columns else _HUB.get(name)
    index = 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            row = _row(line, place)
            if source is not None and "source" not in row and row.keys() >= set(source.columns):
                read = _numbered(source.read(row), name, split, index)
            else:
                named = _named(row, columns, place)
                read = {"id": f"{path.stem}/{index}", "source": path.stem} | _without_gaps(named)
            if read is not None:
                yield _problem(read, place)
                index += 1


def _row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BenchmarkError(f"{place} is no JSON ({error}); write one object a line") from error
    if not isinstance(row, dict):
        raise BenchmarkError(f"{place} holds a {type(row).__name__}; write one JSON object a line")
    return row


def _named(row: Row, columns: Mapping[str, str], place: str) -> Row:
    """The row with its columns under the names of our fields."""
    for field, column in columns.items():
        if column not in row:
            raise BenchmarkError(
                f"{place} has no column {column!r}, which is named for {field}; it has {', '.join(row) or 'none'}"
            )
    return row | {field: row[column] for field, column in columns.items()}


def _without_gaps(row: Row) -> Row:
    return {name: value for name, value in row.items() if value not in (None, "")}


def _numbered(read: Row | None, name: str, split: str, index: int) -> Row | None:
    return None if read is None else {"id": f"{name}/{split}/{index}", "source": name, **read}


def _problem(row: Row, place: str) -> Problem:
    missing = [name for name in _REQUIRED if row.get(name) in (None, "")]
    if missing:
        raise BenchmarkError(
            f"{place} lacks {', '.join(missing)}; every problem needs a question and an answer, and columns of other "
            f"names can be named ({missing[0]}=COLUMN)"
        )
    wrong = [name for name in _FIELDS if not isinstance(row.get(name), str | int | float | None)]
    if wrong:
        raise BenchmarkError(f"{place}: {wrong[0]} is a {type(row[wrong[0]]).__name__}; write a string")
    return Problem(**{name: str(row[name]) for name in _FIELDS if row.get(name) is not None})


def _from_hub(name: str, split: str, columns: Mapping[str, str]) -> Iterator[Problem]:
    if name not in _HUB:
        stem = name.rpartition("/")[2]
        for number, row in enumerate(_hub_rows(name, name, None, split, split)):
            place = f"{name}, {split}, row {number}"
            named = {"id": f"{stem}/{split}/{number}", "source": stem} | _without_gaps(_named(row, columns, place))
            yield _problem(named, place)
        return
    source = _HUB[name]
    index = 0
    for config, part in _parts(name, split):
        for row in _hub_rows(name, source.dataset, config, split, part):
            read = _numbered(source.read(row), name, split, index)
            if read is not None:
                yield _problem(read, f"{source.dataset}, {part}, problem {index}")
                index += 1


def _hub_rows(name: str, dataset: str, config: str | None, split: str, part: str) -> Sequence[Row]:
    from datasets import load_dataset

    try:
        rows: Sequence[Row] = load_dataset(dataset, config, split=part)
    # Network, hub and cache errors are OSError; an unknown split is ValueError; a loading script is RuntimeError.
    except (OSError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        folder = f", or set MDPO_DATA to a folder that has {name}_{split}.jsonl" if name in _HUB else ""
        raise BenchmarkError(
            f"{name} ({split}) could not be loaded from {dataset} on the hub ({type(error).__name__}: {cause}); "
            f"give a local file with --data FILE{folder}"
        ) from error
    return rows


def _gsm8k(row: Row) -> Row:
    answer = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
    return {"question": row["question"], "answer": answer, "solution": row["answer"]}


def _math(row: Row) -> Row:
    return {
        "question": row["problem"],
        "answer": last_boxed(row["solution"]),
        "solution": row["solution"],
        "subject": row["type"],
        "level": re.sub(r"^Level ", "", str(row["level"])),
    }


def _math500(row: Row) -> Row:
    names = ("answer", "solution", "subject", "level")
    return {"question": row["problem"], **{name: row[name] for name in names}}


def _gsm_hard(row: Row) -> Row:
    return {"question": row["input"], "answer": row["target"]}


def _svamp(row: Row) -> Row:
    body = str(row["Body"]).strip()
    # A body that ends inside a sentence ("If he has 34 books …") goes on in the question.
    comma = "" if body.endswith((".", "?", "!", ",")) else ","
    question = f"{body}{comma} {str(row['Question']).strip()}"
    return {"question": question, "answer": row["Answer"], "subject": row["Type"]}


def _asdiv(row: Row) -> Row | None:
    # As the field counts them (2,215): a problem that asks for several values has one gold answer for each of them.
    if ";" in row["answer"]:
        return None
    answer = re.sub(r"\s*\(.*\)$", "", str(row["answer"]))
    return {"question": f"{row['body']} {row['question']}", "answer": answer, "subject": row["solution_type"]}


_FIELDS = tuple(field.name for field in fields(Problem))
_HUB = {
    "gsm8k": _HubSource("openai/gsm8k", {s: [("main", s)] for s in ("train", "test")}, ("question", "answer"), _gsm8k),
    "math": _HubSource(
        "EleutherAI/hendrycks_math",
        {s: [(subject, s) for subject in _MATH_SUBJECTS] for s in ("train", "test")},
        ("problem", "solution", "type", "level"),
        _math,
    ),
    "math500": _HubSource(
        "HuggingFaceH4/MATH-500", {"test": [(None, "test")]}, ("problem", "answer", "solution", "subject"), _math500
    ),
    # The hub calls its only split "train"; it was made from GSM8K's test set and is a test set.
    "gsm_hard": _HubSource("reasoning-machines/gsm-hard", {"test": [(None, "train")]}, ("input", "target"), _gsm_hard),
    # The 1,000 problems of the paper; the hub's copy is split, the field reports all of them.
    "svamp": _HubSource(
        "ChilleD/SVAMP", {"test": [(None, "train"), (None, "test")]}, ("Body", "Question", "Answer", "Type"), _svamp
    ),
    "asdiv": _HubSource(
        "EleutherAI/asdiv",
        {"test": [(None, "validation")]},
        ("body", "question", "answer", "solution_type"),
        _asdiv,
    ),
}
