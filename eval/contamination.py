"""Does a training file contain test problems? Exact matches and shared runs of words, after normalising."""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.benchmarks import Problem
from eval.errors import BenchmarkError

GRAM = 13
_SEPARATOR = re.compile(r"[\W_]+")

Words = tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """A test problem that a line of the training file contains.

    Attributes:
        problem_id: Of the test problem.
        line: Of the training file, counted from 1.
        kind: `exact`, the question is a whole text (or a whole line of a text) of the row; `ngram`, they share at
            least one run of 13 words.
        coverage: Share of the question's runs of 13 words that the row contains; 1 for an exact match. A low one is
            often a phrase that many problems use.
        shared: The first shared run of words, normalised.
    """

    problem_id: str
    line: int
    kind: Literal["exact", "ngram"]
    coverage: float
    shared: str


def normalise(text: str) -> Words:
    """The words of a text, without case, punctuation and white space."""
    return tuple(_SEPARATOR.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())


def read_texts(path: Path) -> Iterator[list[str]]:
    """All texts of each line of a JSONL file, at whatever depth and under whatever name: questions, messages, turns.

    Raises:
        BenchmarkError: the file is missing or a line is no JSON.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield list(_texts(json.loads(line))) if line.strip() else []
                except ValueError as error:
                    raise BenchmarkError(
                        f"{path}, line {number} is no JSON ({error}); write one value a line"
                    ) from error
    except FileNotFoundError as error:
        raise BenchmarkError(f"there is no training file {str(path)!r}; check the path") from error


def find_contamination(rows: Iterable[Iterable[str]], problems: Sequence[Problem]) -> list[Overlap]:
    """Find test problems in training rows.

    Args:
        rows: The texts of each row, as `read_texts` gives them.
        problems: The test problems. One whose question has fewer than 13 words can only match exactly.

    Returns:
        One overlap for each row and problem that match, by row; the exact ones of a row first.
    """
    exact: dict[Words, list[int]] = defaultdict(list)
    grams: dict[Words, list[int]] = defaultdict(list)
    counts: list[int] = []
    for index, problem in enumerate(problems):
        words = normalise(problem.question)
        own = set(_grams(words))
        counts.append(len(own))
        if words:
            exact[words].append(index)
        for gram in own:
            grams[gram].append(index)
    overlaps: list[Overlap] = []
    for line, texts in enumerate(rows, start=1):
        whole, shared = _search(texts, exact, grams)
        overlaps += [Overlap(problems[i].id, line, "exact", 1.0, " ".join(words)) for i, words in whole.items()]
        overlaps += [
            Overlap(problems[i].id, line, "ngram", len(found) / counts[i], " ".join(next(iter(found))))
            for i, found in shared.items()
            if i not in whole
        ]
    return overlaps


def _search(
    texts: Iterable[str], exact: dict[Words, list[int]], grams: dict[Words, list[int]]
) -> tuple[dict[int, Words], dict[int, dict[Words, None]]]:
    """Which problems a row has as a whole text, and which runs of words it shares with which problems."""
    whole: dict[int, Words] = {}
    shared: dict[int, dict[Words, None]] = defaultdict(dict)
    for text in texts:
        for part in dict.fromkeys((text, *text.splitlines())):
            words = normalise(part)
            whole.update(dict.fromkeys(exact.get(words, ()), words))
        for gram in _grams(normalise(text)):
            for index in grams.get(gram, ()):
                shared[index][gram] = None
    return whole, shared


def _grams(words: Words) -> Iterator[Words]:
    return (words[start : start + GRAM] for start in range(len(words) - GRAM + 1))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
