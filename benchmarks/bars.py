"""What every benchmark prints at its end: each bar that is promised, its value, and whether it holds."""

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console


@dataclass(frozen=True)
class Bar:
    """One promise, and what was measured of it."""

    name: str
    value: float
    bar: str
    holds: bool


def at_most(name: str, value: float, bar: float) -> Bar:
    """It holds up to `bar`."""
    return Bar(name, value, f"≤ {bar:g}" if bar else "= 0", value <= bar)


def at_least(name: str, value: float, bar: float) -> Bar:
    """It holds from `bar` on."""
    return Bar(name, value, f"≥ {bar:g}", value >= bar)


def show_bars(found: list[Bar], absent: dict[str, str], console: Console) -> None:
    """Print the bars, and why others could not be measured."""
    for bar in found:
        mark = "[green]holds[/]" if bar.holds else "[red]FALLS SHORT[/]"
        console.print(f"{mark}  {bar.name}: {bar.value:.4g} ({bar.bar})", highlight=False, soft_wrap=True)
    for name, reason in absent.items():
        console.print(f"[yellow]absent[/]  {name}: {reason}", highlight=False, soft_wrap=True)


def describe_machine() -> str:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {names[0] if names else platform.processor()}, {memory:.0f} GiB"
