"""Trajectories as data of one page: an index for lists and filters, and chunks that are unpacked when one is looked at.

Everything is gzip in base64: a page with 20,000 trajectories stays small, and no text of a model can end the element
that holds it.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mdpo.report_data import Attempts
from mdpo.report_sample import Shown
from mdpo.trajectory import STOP_REASONS

# Large enough to compress well, small enough to be unpacked in a few milliseconds.
_CHUNK_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class Packed:
    """What the page's script reads: base64 texts of gzipped JSON."""

    index: str
    chunks: list[str]
    count: int


def pack(files: Sequence[Attempts]) -> Packed:
    """The kept trajectories of some files."""
    shown = [(number, each) for number, attempts in enumerate(files) for each in attempts.sample.shown()]
    problems: dict[tuple[str, ...], int] = {}
    for _, each in shown:
        problems.setdefault(_problem(each), len(problems))
    places, chunks = _chunks(each.body for _, each in shown)
    stops = list(dict.fromkeys((*STOP_REASONS, *(each.stop_reason for _, each in shown))))
    index = {
        "sets": [_about(attempts) for attempts in files],
        "stops": stops,
        "problems": list(problems),
        "set": [number for number, _ in shown],
        "problem": [problems[_problem(each)] for _, each in shown],
        "sample": [each.sample for _, each in shown],
        "right": [int(each.right) for _, each in shown],
        "stop": [stops.index(each.stop_reason) for _, each in shown],
        "calls": [each.calls for _, each in shown],
        "failed": [each.failed for _, each in shown],
        "chunk": [chunk for chunk, _ in places],
        "place": [place for _, place in places],
    }
    return Packed(_squeeze(json.dumps(index, separators=(",", ":"))), list(map(_squeeze, chunks)), len(shown))


def _problem(shown: Shown) -> tuple[str, ...]:
    return shown.problem_id, shown.question, shown.answer, shown.source


def _about(attempts: Attempts) -> dict[str, Any]:
    """What the page says of a file."""
    return {
        "run": attempts.run,
        "name": attempts.name,
        "kind": attempts.kind,
        "file": attempts.file,
        "shown": attempts.sample.size,
        "total": attempts.tally.trajectories,
    }


def _chunks(bodies: Iterable[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """JSON lists of bodies, and in which of them at which place each body is."""
    places: list[tuple[int, int]] = []
    chunks: list[str] = []
    for chunk in _filled(bodies):
        places += [(len(chunks), place) for place in range(len(chunk))]
        chunks.append(f"[{','.join(chunk)}]")
    return places, chunks


def _filled(bodies: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for body in bodies:
        if chunk and size + len(body) > _CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
        chunk.append(body)
        size += len(body)
    if chunk:
        yield chunk


def _squeeze(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")
