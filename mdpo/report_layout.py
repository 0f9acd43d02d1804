"""What the page above the trajectories consists of: sections with pictures, tables and remarks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from mdpo.report_data import Attempts, Kind, RunData


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; a column whose heading begins with `#` holds numbers."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(slots=True)
class Section:
    """A part of the page: its anchor, its title, a sentence, and what it holds."""

    name: str
    title: str
    intro: str
    figures: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def table(
    caption: str, headings: Sequence[str], rows: Iterable[tuple[RunData, Sequence[str]]], *, named: bool
) -> Table:
    """A table of rows that belong to runs; the runs are named in a column of their own where there are several."""
    if named:
        return Table(caption, ["run", *headings], [[run.name, *cells] for run, cells in rows])
    return Table(caption, headings, [cells for _, cells in rows])


def every(runs: Sequence[RunData], kind: Kind | None = None) -> list[tuple[str, RunData, Attempts]]:
    """Trajectory files with their labels, which name the run where there are several."""
    return [
        (f"{run.name} · {each.name}" if len(runs) > 1 else each.name, run, each)
        for run in runs
        for each in run.attempts
        if kind is None or each.kind == kind
    ]
