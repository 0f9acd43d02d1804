"""What a run came to: a table at the terminal, a picture, and one HTML page; or several runs in one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mdpo.errors import DataError
from mdpo.folder import replace_text
from mdpo.report_data import open_run, read_run, read_runs
from mdpo.report_html import page

SHOWN = 2000
_BAR_WIDTH = 32


def print_result(path: Path, console: Console) -> None:
    """Print the accuracy after SFT and after each iteration, as a table with bars, and where to look next."""
    folder = open_run(path)
    for benchmark, rows in _by_benchmark(folder.metrics()).items():
        about = rows[0]
        title = f"Accuracy on {benchmark} {about['split']}, {about['problems']:,} problems, {about['decoding']}"
        table = Table(title=title, title_justify="left")
        table.add_column("policy")
        table.add_column("right", justify="right")
        table.add_column("95 % interval", justify="right")
        table.add_column("0 %" + "100 %".rjust(_BAR_WIDTH - 3), no_wrap=True)
        for row in rows:
            low, high = row["ci95"]
            table.add_row(
                row["stage"], f"{100 * row['accuracy']:.1f} %", f"{100 * low:.1f} – {100 * high:.1f}", _bar(row)
            )
        console.print()
        console.print(table)
        gain = 100 * (rows[-1]["accuracy"] - rows[0]["accuracy"])
        if len(rows) > 1:
            console.print(f"{rows[0]['stage']} → {rows[-1]['stage']}: [bold]{gain:+.1f} points[/]", highlight=False)
    console.print("\nLook next:", highlight=False)
    first = next(iter(sorted(path.glob("iteration-*/trajectories.jsonl"))), None)
    if first is not None:
        console.print(
            f"  [bold]mdpo inspect {first} --wrong --mask[/]   a trajectory with its mask",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"  [bold]mdpo report {path}[/]   writes {path / 'report.html'} again (curve, tables, trajectories)\n"
        f"  {path / 'accuracy.png'}   the picture",
        highlight=False,
        soft_wrap=True,
    )


def write_report(path: Path, trajectories: int = SHOWN, out: Path | None = None) -> None:
    """Write `accuracy.png` and the page of a run.

    Args:
        path: The run directory.
        trajectories: Largest number of trajectories of each file that the page shows; its numbers are of all of them.
        out: The page; default: `report.html` in the run directory.

    Raises:
        DataError: It is no run directory, nothing was evaluated yet, a file of it cannot be read, or the page cannot
            be written.
    """
    run = read_run(path, trajectories)
    _figure(run.rows).savefig(path / "accuracy.png", dpi=150)
    _write(out or path / "report.html", page([run]))


def write_comparison(paths: Sequence[Path], out: Path, trajectories: int = SHOWN) -> None:
    """Write one page that shows several runs in the same pictures.

    Args:
        paths: Run directories; differences are to the first one.
        out: The page.
        trajectories: As in `write_report`.

    Raises:
        DataError: As in `write_report`, or a run is named twice.
    """
    _write(out, page(read_runs(paths, trajectories)))


def _write(out: Path, text: str) -> None:
    try:
        replace_text(out, text)
    except OSError as error:
        raise DataError(f"cannot write the page {out}: {error}; name another file with --out") from error


def _by_benchmark(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["benchmark"], []).append(row)
    return grouped


def _bar(row: Mapping[str, Any]) -> str:
    """A bar up to the accuracy, its interval drawn as a line."""
    low, middle, high = (round(_BAR_WIDTH * value) for value in (row["ci95"][0], row["accuracy"], row["ci95"][1]))
    cells = ["█" if i < middle else " " for i in range(_BAR_WIDTH)]
    for i in range(low, min(high + 1, _BAR_WIDTH)):
        cells[i] = "▓" if i < middle else "░"
    return f"[green]{''.join(cells)}[/]"


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy with intervals over the stages, one line for each benchmark."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for benchmark, group in _by_benchmark(rows).items():
        accuracy = [100 * row["accuracy"] for row in group]
        below = [100 * (row["accuracy"] - row["ci95"][0]) for row in group]
        above = [100 * (row["ci95"][1] - row["accuracy"]) for row in group]
        places = range(len(group))
        axes.errorbar(places, accuracy, yerr=[below, above], marker="o", capsize=4, linewidth=2, label=benchmark)
        for place, value in zip(places, accuracy, strict=True):
            axes.annotate(f"{value:.1f}", (place, value), xytext=(8, -12), textcoords="offset points")
        axes.set_xticks(list(places), [row["stage"] for row in group])
    axes.set_ylim(0, 102)
    axes.set_ylabel("held-out accuracy, % (95 % interval)")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure
