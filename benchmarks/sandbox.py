"""Measure the sandbox and its peers side by side in one run, and hold it against its bars.

    python benchmarks/sandbox.py [--soak N] [--json FILE]

The peers are `sandbox_peers.py`'s; one that is not installed is left out and says how to install it. All run the same
sympy snippets, one a session where sessions are counted, and must give the right answers. Rounds are interleaved: each
round measures every executor once, a ratio is taken within a round, and the median over the rounds counts. Times are
milliseconds.
"""

import argparse
import asyncio
import gc
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

# The folder of this file holds another `sandbox`: this one. The package is the one beside the folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bars import Bar, at_least, at_most, describe_machine, show_bars
from benchmarks.sandbox_peers import PEERS, TRAJECTORIES, Executor, Run, UnusableError, ours
from benchmarks.sandbox_soak import Soak, session_mb, soak
from sandbox import Limits, Sandbox, Session

READY, READY_P99, OVERHEAD, RATE, TIMES_FRESH, MEGABYTES, STEADY = 5.0, 25.0, 0.5, 150.0, 50.0, 10.0, 0.9
FRESH, ISOLATING = "fresh python -c", ("IPython kernel", "bubblewrap")

OPENINGS, BLOCKS, IDLE_SESSIONS = 300, 700, 50  # of each a round; the last of the whole run
LATER_BLOCKS = 3
PAUSE = 0.02  # seconds in which the sandbox can get ready for the next session
# Time for a block that shares the cores with 63 others; the measure is not how it is stopped.
LIMITS = Limits(seconds=30)


@dataclass
class Compared:
    """What was measured of one executor: milliseconds of each event, and sessions per second of each round."""

    isolates: str
    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


@dataclass
class Own:
    """What is measured of our sandbox only, in milliseconds.

    Args:
        ready: From asking for a session until it is open, by the way it was asked for.
        answered: Until it has also answered a first block, so that nothing is only put off.
        overhead: One block, `1`, from asking to the answer.
        sympy_overhead: One sympy block, less the time that it takes by its own clock.
        sympy: The two blocks of a trajectory in a fresh session, by their own clock: what no executor can save.
        trivial_rates: Sessions per second if a session runs two trivial blocks.
        trajectory_rates: Sessions per second if a session runs both blocks of its trajectory.
    """

    start: list[float] = field(default_factory=list)
    ready: dict[str, list[float]] = field(default_factory=lambda: {"idle": [], "back to back": []})
    answered: dict[str, list[float]] = field(default_factory=lambda: {"idle": [], "back to back": []})
    overhead: list[float] = field(default_factory=list)
    sympy_overhead: list[float] = field(default_factory=list)
    sympy: list[float] = field(default_factory=list)
    trivial_rates: list[float] = field(default_factory=list)
    trajectory_rates: list[float] = field(default_factory=list)
    sync_overhead: float = math.nan
    idle_mb: float | None = None
    used_mb: float | None = None


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return 1000 * (time.perf_counter() - began)


async def answer(run: Run, code: str, expected: str) -> None:
    output = await run(code)
    if output.strip().rpartition("\n")[2] != expected:
        raise RuntimeError(f"a wrong answer makes the figures worthless: {output!r} instead of {expected!r} to\n{code}")


async def run_trajectory(executor: Executor, number: int, blocks: int | None = None) -> None:
    """A session that runs a trajectory, or only its first `blocks`."""
    async with executor.session() as run:
        for code, expected in TRAJECTORIES[number % len(TRAJECTORIES)][:blocks]:
            await answer(run, code, expected)


async def measure_latency(executor: Executor, result: Compared) -> None:
    """One session at a time, one for each trajectory."""
    for blocks in TRAJECTORIES:
        began = time.perf_counter()
        async with executor.session() as run:
            await answer(run, *blocks[0])
            result.first.append(1000 * (time.perf_counter() - began))
            result.later += [await timed(answer(run, "print(1)", "1")) for _ in range(LATER_BLOCKS)]


async def sessions_per_second(sessions: int, in_flight: int, work: Callable[[int], Awaitable[None]]) -> float:
    numbers = iter(range(sessions))

    async def go_on() -> None:
        for number in numbers:
            await work(number)

    seconds = await timed(asyncio.gather(*(go_on() for _ in range(in_flight)))) / 1000
    return sessions / seconds


async def measure(executor: Executor, result: Compared) -> None:
    await measure_latency(executor, result)
    rate = await sessions_per_second(executor.sessions, executor.in_flight, lambda n: run_trajectory(executor, n, 1))
    result.rates.append(rate)


async def measure_ready(sandbox: Sandbox, way: str, own: Own) -> None:
    for _ in range(OPENINGS):
        if way == "idle":
            await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        async with sandbox.session() as session:
            own.ready[way].append(1000 * (time.perf_counter() - began))
            await session.run("1")
            own.answered[way].append(1000 * (time.perf_counter() - began))


async def clocked(session: Session, code: str) -> tuple[float, float]:
    """Milliseconds that a block takes for the caller, and by its own clock."""
    code = f"import time\nbegan = time.perf_counter()\n{code}\nprint(1000 * (time.perf_counter() - began))"
    began = time.perf_counter()
    result = await session.run(code)
    return 1000 * (time.perf_counter() - began), float(result.output.split()[-1])


async def measure_blocks(sandbox: Sandbox, own: Own) -> None:
    async with sandbox.session() as session:
        own.overhead += [await timed(session.run("1")) for _ in range(BLOCKS)]
        for _ in range(BLOCKS // 10):
            outside, inside = await clocked(session, TRAJECTORIES[0][0][0])
            own.sympy_overhead.append(outside - inside)
    for blocks in TRAJECTORIES:
        async with sandbox.session() as session:
            own.sympy.append(sum([(await clocked(session, code))[1] for code, _ in blocks]))


async def measure_own(sandbox: Sandbox, executor: Executor, own: Own) -> None:
    for way in own.ready:
        await measure_ready(sandbox, way, own)
    await measure_blocks(sandbox, own)

    async def trivial(_: int) -> None:
        async with executor.session() as run:
            await answer(run, "x = 6\nprint(x)", "6")
            await answer(run, "print(x * 7)", "42")

    own.trivial_rates.append(await sessions_per_second(executor.sessions, executor.in_flight, trivial))

    def trajectory(number: int) -> Awaitable[None]:
        return run_trajectory(executor, number)

    own.trajectory_rates.append(await sessions_per_second(executor.sessions, executor.in_flight, trajectory))


def measure_sync() -> float:
    """A block's overhead through the synchronous face."""
    measured = []
    with Sandbox() as sandbox, sandbox.session() as session:
        for _ in range(BLOCKS):
            began = time.perf_counter()
            session.run_sync("1")
            measured.append(1000 * (time.perf_counter() - began))
    return median(measured)


async def warm(executor: Executor) -> None:
    # The collector would go through what the others have imported, at the cost of whoever is measured.
    gc.collect()
    gc.freeze()
    for number in range(max(executor.in_flight, len(TRAJECTORIES))):
        await run_trajectory(executor, number)


async def measure_peers(results: dict[str, Compared], absent: dict[str, str], console: Console) -> None:
    """Each peer that works here, alone; notes why another does not."""
    for name, peer in PEERS.items():
        if name in absent:
            continue
        try:
            async with peer() as executor:
                await warm(executor)
                console.print(f"  {name} …", style="dim", highlight=False)
                await measure(executor, results.setdefault(name, Compared(executor.isolates)))
        except UnusableError as reason:
            absent[name] = str(reason)
            console.print(f"left out: {name}: {reason}", style="yellow", highlight=False)


async def compare(rounds: int, console: Console) -> tuple[dict[str, Compared], Own, dict[str, str]]:
    """All executors, round after round; while one is measured no other is open."""
    results: dict[str, Compared] = {}
    absent: dict[str, str] = {}
    own, mine = Own(), Compared("see doctor")
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}", style="dim", highlight=False)
        await measure_peers(results, absent, console)
        began = time.perf_counter()
        async with Sandbox(LIMITS) as sandbox:
            own.start.append(1000 * (time.perf_counter() - began))
            executor = ours(sandbox)
            await warm(executor)
            console.print(f"  {executor.name} …", style="dim", highlight=False)
            await measure(executor, mine)
            await measure_own(sandbox, executor, own)
            if number == rounds - 1:
                own.idle_mb = await session_mb(sandbox, IDLE_SESSIONS)
                own.used_mb = await session_mb(sandbox, IDLE_SESSIONS, TRAJECTORIES[0][0][0])
    return {**results, executor.name: mine}, own, absent


def p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def times(results: dict[str, Compared], peer: str) -> float:
    """Our sessions per second over those of a peer: the median of the rounds' ratios."""
    mine = results[list(results)[-1]].rates
    return median(a / b for a, b in zip(mine, results[peer].rates, strict=True))


def times_sooner(results: dict[str, Compared]) -> float:
    """The time from asking for a session to its first sympy answer: a fresh process's over ours."""
    return median(results[FRESH].first) / median(results[list(results)[-1]].first)


def bars(results: dict[str, Compared], own: Own, soaked: Soak) -> list[Bar]:
    """All that is promised. A session is ready once it has answered a block; the slower way to ask for one counts."""
    rate = median(results[list(results)[-1]].rates)
    found = [
        at_most("new session ready, ms, median", max(map(median, own.answered.values())), READY),
        at_most("new session ready, ms, p99", max(map(p99, own.answered.values())), READY_P99),
        at_most("overhead of a block, ms, median", median(own.overhead), OVERHEAD),
        at_least("sessions per second", rate, RATE),
        at_least("times the sessions per second of a fresh process", times(results, FRESH), TIMES_FRESH),
        at_least("times faster to a first sympy answer than a fresh process", times_sooner(results), TIMES_FRESH),
    ]
    for peer in ISOLATING:
        if peer in results:
            ratio = times(results, peer)
            found.append(Bar(f"times the sessions per second of {peer}", ratio, "> 1", ratio > 1))
    if own.idle_mb is not None:
        found.append(at_most("memory of an idle session, MB PSS", own.idle_mb, MEGABYTES))
    steady = soaked.last_rate / soaked.first_rate
    found.append(at_least(f"rate at the end of {soaked.sessions} sessions over that at the start", steady, STEADY))
    for kind in ("processes", "descriptors", "files"):
        left = max(getattr(soaked.open, kind), getattr(soaked.closed, kind))
        found.append(at_most(f"leaked {kind}", left, 0))
    return found


def show(results: dict[str, Compared], own: Own, soaked: Soak, machine: str, console: Console) -> None:
    columns = ("executor", "isolated by", "first block,\nms", "later block,\nms", "sessions\n/s", "ours,\ntimes")
    table = Table(*columns, title=f"{machine}; first block: with the new session", title_justify="left")
    for name, r in results.items():
        figures = (median(r.first), median(r.later), median(r.rates), times(results, name))
        table.add_row(name, r.isolates, *(f"{value:.3g}" for value in figures))
    console.print(table)
    table = Table("the sandbox", "median", "p99", title_justify="left")
    for way in own.ready:
        for what, values in (("ready", own.ready[way]), ("ready and `1` answered", own.answered[way])):
            table.add_row(f"new session {what}, {way}, ms", f"{median(values):.2f}", f"{p99(values):.2f}")
    for what, values in (("`1`", own.overhead), ("a sympy block less its own time", own.sympy_overhead)):
        table.add_row(f"overhead of {what}, ms", f"{median(values):.3f}", f"{p99(values):.3f}")
    table.add_row("overhead of `1` by run_sync, ms", f"{own.sync_overhead:.3f}", "")
    table.add_row("a sympy trajectory by its own clock, ms, mean", f"{mean(own.sympy):.1f}", "")
    table.add_row("sessions per second, two trivial blocks", f"{median(own.trivial_rates):.0f}", "")
    table.add_row("sessions per second, two sympy blocks", f"{median(own.trajectory_rates):.0f}", "")
    table.add_row("start of the sandbox, ms", f"{median(own.start):.0f}", "")
    for state, value in (("idle", own.idle_mb), ("after a sympy block", own.used_mb)):
        table.add_row(f"memory of a session, {state}, MB PSS", "not readable" if value is None else f"{value:.2f}", "")
    console.print(table)
    rates = f"{soaked.first_rate:.0f} sessions/s in the first tenth, {soaked.last_rate:.0f} in the last"
    growth = "" if soaked.growth_mb is None else f"; the sandbox's processes grew by {soaked.growth_mb:.1f} MB"
    left = "".join(f"; left behind: {name}" for name in soaked.left_behind)
    console.print(f"soak of {soaked.sessions}: {rates}{growth}{left}", highlight=False, soft_wrap=True)


def summary(value: Any) -> Any:
    """The same with every list of measurements told by its number, median and 99th percentile."""
    if isinstance(value, dict):
        return {key: summary(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return {"measurements": len(value), "median": median(value), "p99": p99(value)}
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the sandbox and its peers, and hold it against its bars.")
    parser.add_argument("--soak", type=int, default=2000, metavar="N", help="sessions of the soak (100000 in the docs)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    if args.soak < 500 or args.rounds < 1:
        parser.error("--soak needs at least 500 sessions and --rounds at least 1")
    console = Console()
    results, own, absent = asyncio.run(compare(args.rounds, console))
    own.sync_overhead = measure_sync()
    soaked = asyncio.run(soak(args.soak, lambda line: console.print(line, style="dim", highlight=False)))
    found, machine = bars(results, own, soaked), describe_machine()
    if own.idle_mb is None:
        absent["memory of an idle session"] = "the system does not let us read smaps_rollup of sessions: run as root"
    show(results, own, soaked, machine, console)
    show_bars(found, absent, console)
    if args.json:
        values = {
            "machine": machine,
            "bars": [asdict(bar) for bar in found],
            "absent": absent,
            "executors": {name: summary(asdict(result)) for name, result in results.items()},
            "sandbox": summary(asdict(own)),
            "soak": asdict(soaked),
        }
        args.json.write_text(json.dumps(values, indent=1) + "\n")
    sys.exit(0 if all(bar.holds for bar in found) else 1)


if __name__ == "__main__":
    main()
