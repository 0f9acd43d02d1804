"""Run the quickstart for some seeds as a user would, and hold it against its bars.

    python benchmarks/quickstart.py --seeds 0 1 2 [--json FILE]

Each run is the command `mdpo run configs/quickstart.yaml` in a process of its own; time and memory are those of the
whole process tree. Memory is proportional set size: pages that processes share are counted once.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bars import Bar, at_least, at_most, describe_machine, show_bars

RECIPE = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
MINUTES, GIB, POINTS, PROBLEMS, SFT_RANGE, SILENCE = 5.0, 4.0, 25.0, 500, (0.30, 0.70), 10.0


@dataclass(frozen=True)
class Result:
    seed: int
    seconds: float
    gib: float
    silence: float
    problems: int
    accuracy: list[float]

    @property
    def gain(self) -> float:
        return 100 * (self.accuracy[-1] - self.accuracy[0])


def memory_of_tree(process: psutil.Process) -> int:
    """Proportional set size of a process and its descendants, in bytes; those that just ended count nothing."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def run(seed: int, folder: Path, overrides: list[str]) -> Result:
    """One run of the quickstart, watched."""
    command = [sys.executable, "-m", "mdpo.cli", "run", str(RECIPE), *overrides]
    command += ["--seed", str(seed), "--dir", str(folder)]
    log = folder.with_suffix(".log")
    started = last = time.monotonic()
    peak = size = 0
    silence = 0.0
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, memory_of_tree(watched))
            except psutil.NoSuchProcess:
                continue
            now = time.monotonic()
            if log.stat().st_size > size:
                size, last = log.stat().st_size, now
            silence = max(silence, now - last)
            time.sleep(0.3)
    seconds = time.monotonic() - started
    if process.returncode != 0:
        raise SystemExit(f"seed {seed} failed:\n{log.read_text()}")
    rows = json.loads((folder / "metrics.json").read_text())
    return Result(seed, seconds, peak / 2**30, silence, min(r["problems"] for r in rows), [r["accuracy"] for r in rows])


def bars(results: list[Result]) -> list[Bar]:
    """The worst value over the seeds of everything that is promised."""
    minutes = max(r.seconds for r in results) / 60
    gib = max(r.gib for r in results)
    gain = min(r.gain for r in results)
    low, high = min(r.accuracy[0] for r in results), max(r.accuracy[0] for r in results)
    problems = min(r.problems for r in results)
    silence = max(r.silence for r in results)
    return [
        at_most("minutes of the whole command", minutes, MINUTES),
        at_most("peak memory, GiB", gib, GIB),
        at_least("points from SFT to the last iteration", gain, POINTS),
        at_least("held-out problems", problems, PROBLEMS),
        at_least("lowest accuracy after SFT", low, SFT_RANGE[0]),
        at_most("highest accuracy after SFT", high, SFT_RANGE[1]),
        at_most("longest silence, s", silence, SILENCE),
    ]


def show(results: list[Result], found: list[Bar], machine: str, console: Console) -> None:
    stages = ["SFT", *(f"it. {i}" for i in range(1, len(results[0].accuracy)))]
    table = Table("seed", "seconds", "GiB", *stages, "points", title=machine, title_justify="left")
    for r in results:
        scores = (f"{100 * value:.1f} %" for value in r.accuracy)
        table.add_row(str(r.seed), f"{r.seconds:.0f}", f"{r.gib:.2f}", *scores, f"{r.gain:+.1f}")
    console.print(table)
    show_bars(found, {}, console)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the quickstart for some seeds and hold it against its bars.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--dir", type=Path, help="keep the run directories here")
    parser.add_argument("overrides", nargs="*", help="section.key=value for every run")
    args = parser.parse_args()
    console = Console()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        root = args.dir or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        for seed in args.seeds:
            console.print(f"seed {seed} …")
            results.append(run(seed, root / f"seed-{seed}", args.overrides))
    found, machine = bars(results), describe_machine()
    show(results, found, machine, console)
    if args.json:
        values: dict[str, Any] = {
            "machine": machine,
            "bars": [asdict(bar) for bar in found],
            "runs": [asdict(result) for result in results],
        }
        args.json.write_text(json.dumps(values, indent=1) + "\n")
    sys.exit(0 if all(bar.holds for bar in found) else 1)


if __name__ == "__main__":
    main()
