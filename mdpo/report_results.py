"""How good the policies are: accuracy over the stages, by subject and level, and one policy against another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mdpo.evaluation import GROUPS, Comparison
from mdpo.report_bars import Step, step_chart
from mdpo.report_charts import Line, line_chart
from mdpo.report_data import RunData, difference, short
from mdpo.report_layout import Section, Table, table
from mdpo.report_svg import percent

Row = Mapping[str, Any]
_SMALL = 0.001  # nobody should read a meaning into smaller p-values


def headlines(runs: Sequence[RunData]) -> list[str]:
    """What each run came to, one sentence for each benchmark."""
    return [
        (f"{run.name}, " if len(runs) > 1 else "") + _headline(run, benchmark)
        for run in runs
        for benchmark in _benchmarks([run])
    ]


def accuracy(runs: Sequence[RunData]) -> Section:
    """Accuracy by stage, one picture for each benchmark and one line for each run."""
    section = Section("accuracy", "Accuracy", "On held-out problems; bands and intervals hold 95 %.")
    section.figures += [_curve(runs, benchmark) for benchmark in _benchmarks(runs)]
    if len(runs) == 1:
        section.figures += _groups(runs[0])
    headings = ["policy", "benchmark", "# right", "# 95 % interval", "# problems", "decoding"]
    rows = [(run, _cells(row)) for run in runs for row in run.rows]
    section.tables.append(table("Every evaluation", headings, rows, named=len(runs) > 1))
    return section


def comparison(runs: Sequence[RunData]) -> Section:
    """The last policy of each run against that of the first, on the problems that both were evaluated on."""
    first = runs[0]
    section = Section("comparison", "Comparison", f"The last policy of each run minus that of {first.name}.")
    rows = []
    for run in runs[1:]:
        for benchmark in _benchmarks([first, run]):
            found = _last_against_last(first, run, benchmark)
            if isinstance(found, Comparison):
                rows.append([f"{run.name} − {first.name}", short(benchmark), *_compared(found)])
            else:
                section.notes.append(f"{run.name} and {first.name} on {short(benchmark)}: {found}.")
    headings = [
        "runs",
        "benchmark",
        "# second",
        "# first",
        "# difference",
        "# 95 % interval",
        "# p",
        "# alone better on",
    ]
    if rows:
        section.tables.append(Table("Paired by problem, in points", headings, rows))
    return section


def _headline(run: RunData, benchmark: str) -> str:
    rows = _rows(run, benchmark)
    first, last = rows[0], rows[-1]
    before = f"{short(benchmark)}: {percent(first['accuracy'])} right after {first['stage']}"
    if len(rows) == 1:
        return before
    whole = f"{before}, {percent(last['accuracy'])} after {last['stage']}"
    compared = difference(run, run, benchmark, (first["stage"], last["stage"]))
    if not isinstance(compared, Comparison):
        return whole
    _, _, points, interval, p, _ = _compared(compared)
    return f"{whole}: {points} points, 95 % interval {interval}, {p} ({compared.method})"


def _curve(runs: Sequence[RunData], benchmark: str) -> Markup:
    stages = list(dict.fromkeys(row["stage"] for run in runs for row in _rows(run, benchmark)))
    lines = [
        Line(
            run.name,
            [(float(stages.index(row["stage"])), float(row["accuracy"])) for row in rows],
            [(float(row["ci95"][0]), float(row["ci95"][1])) for row in rows],
        )
        for run in runs
        if (rows := _rows(run, benchmark))
    ]
    ticks = [(float(place), stage) for place, stage in enumerate(stages)]
    return line_chart(f"Accuracy on {short(benchmark)}", lines, ticks, percent, limits=(0, 1))


def _groups(run: RunData) -> Iterator[Markup]:
    """The first against the last policy by subject, level or source, where a benchmark has several of them."""
    for benchmark in _benchmarks([run]):
        rows = [row for row in _rows(run, benchmark) if row.get("by")]
        for group in GROUPS if len(rows) > 1 else ():
            before, after = (row["by"].get(group, {}) for row in (rows[0], rows[-1]))
            both = [value for value in before if value in after]
            if len(both) > 1:
                steps = [Step(value, before[value]["accuracy"], after[value]["accuracy"]) for value in both]
                yield step_chart(f"{short(benchmark)} by {group}, {rows[0]['stage']} → {rows[-1]['stage']}", steps)


def _last_against_last(first: RunData, second: RunData, benchmark: str) -> Comparison | str:
    rows = [_rows(run, benchmark) for run in (first, second)]
    if not all(rows):
        return "only one of them was evaluated there"
    return difference(first, second, benchmark, (rows[0][-1]["stage"], rows[1][-1]["stage"]))


def _compared(compared: Comparison) -> tuple[str, str, str, str, str, str]:
    """The second, the first, their difference and its interval in points, p, and who was alone better how often."""
    d = compared.difference
    return (
        percent(compared.second.accuracy),
        percent(compared.first.accuracy),
        f"{100 * d.difference:+.1f}",
        f"{100 * d.low:+.1f} to {100 * d.high:+.1f}",
        f"p = {d.p_value:.2g}" if d.p_value >= _SMALL else f"p < {_SMALL}",
        f"{d.only_second:,} : {d.only_first:,}",
    )


def _cells(row: Row) -> list[str]:
    low, high = row["ci95"]
    return [
        row["stage"],
        " ".join(filter(None, (short(row["benchmark"]), row.get("split")))),
        percent(row["accuracy"]),
        f"{100 * low:.1f} – {100 * high:.1f}",
        f"{row['problems']:,}",
        row.get("decoding", "–"),
    ]


def _benchmarks(runs: Sequence[RunData]) -> list[str]:
    return list(dict.fromkeys(row["benchmark"] for run in runs for row in run.rows))


def _rows(run: RunData, benchmark: str) -> list[dict[str, Any]]:
    return [row for row in run.rows if row["benchmark"] == benchmark]
