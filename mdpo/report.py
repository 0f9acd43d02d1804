"""What a run came to: a table at the terminal, a picture, and one HTML page."""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mdpo.errors import DataError
from mdpo.folder import RunFolder, read_json, replace_text
from mdpo.trajectory import Trajectory, read_trajectories

_BAR_WIDTH = 32
_SHOWN_TRAJECTORIES = 4


def print_result(path: Path, console: Console) -> None:
    """Print the accuracy after SFT and after each iteration, as a table with bars, and where to look next."""
    folder = _open(path)
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


def write_report(path: Path) -> None:
    """Write `accuracy.png` and `report.html` into a run directory.

    Raises:
        DataError: It is no run directory, or nothing was evaluated yet.
    """
    folder = _open(path)
    rows = folder.metrics()
    figure = _figure(rows)
    figure.savefig(path / "accuracy.png", dpi=150)
    environment = Environment(loader=PackageLoader("mdpo"), autoescape=True)
    html = environment.get_template("report.html.j2").render(
        name=path.name,
        picture=_as_data_url(figure),
        rows=rows,
        iterations=[(file.parent.name, read_json(file, {})) for file in sorted(path.glob("iteration-*/metrics.json"))],
        stages=folder.stages(),
        trajectories=_examples(path),
        config=folder.config.read_text(encoding="utf-8"),
    )
    replace_text(path / "report.html", html)


def _open(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.config.exists():
        raise DataError(f"{path} is no run directory: it has no config.yaml; make one with `mdpo run`")
    if not folder.metrics():
        raise DataError(f"nothing was evaluated in {path} yet; go on with `mdpo run … --dir {path}`")
    return folder


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


def _as_data_url(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _examples(path: Path) -> list[tuple[str, Trajectory]]:
    """A few trajectories of the first and of the last iteration, right and wrong ones."""
    files = sorted(path.glob("iteration-*/trajectories.jsonl"))
    shown: list[tuple[str, Trajectory]] = []
    for file in dict.fromkeys([*files[:1], *files[-1:]]):
        for right in (False, True):
            found = (t for t in read_trajectories(file) if (t.reward > 0.5) is right)
            shown += [(file.parent.name, t) for t in islice(found, _SHOWN_TRAJECTORIES // 2)]
    return shown
