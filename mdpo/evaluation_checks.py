"""`mdpo eval compare`, `contamination` and `audit` without the command line around them: nothing here needs a model."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval import Problem, load_benchmark
from eval.audit import audit_answers, audit_golds
from eval.contamination import Overlap, find_contamination, read_texts
from mdpo.errors import DataError
from mdpo.evaluation import Comparison, compare
from mdpo.folder import write_json
from mdpo.options import Source
from mdpo.quickstart.problems import generate_problems
from mdpo.trajectory import Trajectory, read_trajectories

_QUICKSTART_PROBLEMS = 1000  # as many as an evaluation takes if it is not limited


def compare_files(first: Path, second: Path, out: Path | None) -> Comparison:
    """Compare two evaluations by their trajectory files or the JSON files beside them.

    Raises:
        DataError: A file is missing, or they are not of the same problems.
    """
    compared = compare(_read(first), _read(second))
    if out is not None:
        write_json(out, {"first": str(first), "second": str(second), **asdict(compared)})
    return compared


def contamination(training: Path, source: Source, out: Path | None) -> tuple[list[Overlap], list[Problem]]:
    """The test problems that a training file contains, and all test problems.

    Raises:
        DataError: There is no training file.
        eval.EvalError: It is no JSONL file, or the benchmark cannot be loaded.
    """
    if not training.is_file():
        raise DataError(f"there is no training file {training}; check the path")
    problems = _problems(source)
    overlaps = find_contamination(read_texts(training), problems)
    if out is not None:
        write_json(out, [asdict(overlap) for overlap in overlaps])
    return overlaps, problems


def audit_file(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The answers of a file on which graders differ, and what was looked at; a trajectory is known by its problem.

    Raises:
        DataError: The file is missing, or a line is no JSON object.
        eval.EvalError: A row has no prediction or no answer.
    """
    rows = [{"id": row.get("problem_id"), **row} for row in _rows(path)]
    return [asdict(found) for found in audit_answers(rows)], f"{len(rows):,} answers of {path}"


def audit_benchmark(source: Source) -> tuple[list[dict[str, Any]], str]:
    """The gold answers of a benchmark that deserve a look, and what was looked at.

    Raises:
        eval.EvalError: The benchmark cannot be loaded.
    """
    # In the benchmark's own order: each gold is also held against the next one.
    problems = _problems(source)
    return [asdict(found) for found in audit_golds(problems)], f"{len(problems):,} gold answers of {source.benchmark}"


def _problems(source: Source) -> list[Problem]:
    if source.benchmark == "quickstart":
        return generate_problems(source.split, source.limit or _QUICKSTART_PROBLEMS, source.seed)
    return load_benchmark(
        source.benchmark, split=source.split, path=source.data, limit=source.limit, columns=source.columns()
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number} is no JSON ({error}); write one object a line") from error
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number} is no JSON object; write one object a line")
                yield row
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path} to audit; give trajectories or rows of graded answers") from error


def _read(path: Path) -> Iterator[Trajectory]:
    """The trajectories of an evaluation that is named by their file or by the JSON file beside it."""
    return read_trajectories(path.with_suffix(".jsonl") if path.suffix == ".json" else path)
