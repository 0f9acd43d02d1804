"""Measure the rollout and its peers side by side in one run, with the real vLLM on a CPU, and hold it against its bars.

    python benchmarks/rollout.py [--problems N] [--repeats N] [--json FILE]

All play the same turns of the quickstart's policy: (a) the engine alone on the tokens of the rollout, without a tool;
(b) the rollout; (c) in step, a batch that waits for its slowest program at every turn; (d) a chat client, one text
request after another over HTTP. The engines have the same settings, with their caches emptied before each run, and each
turn has its own seed, so the tokens agree but for the rounding of floating-point numbers in differing batches.

The tool answers with what the real sandbox printed in an untimed pass before, after a latency that is drawn from a
heavy tail (lognormal, median 20 ms, 99th percentile 2 s, cut at the sandbox's own time limit, above which no program
runs) for each problem, sample and turn. So what differs is the
waiting, and not which program takes a core from the engine. The rollout with the real sandbox and no such latency is
shown too.

The last trajectories have nobody to overlap with. This tail is as long however many came before them, so a short run
shows the tail and not the rollout. It is part of every figure; how long it was, and how fast the rollout was before it,
is shown beside.

Rounds are interleaved, ratios are taken within a round, and the median counts. What the rollout itself costs is
measured with an engine and a tool that answer at once with what they answered before. The memory of many trajectories
is `rollout_memory.py`'s, in a process of its own.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

# The folder of this file holds a `sandbox.py`; the package is the one beside the folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.bars import Bar, at_least, at_most, describe_machine, show_bars
from benchmarks.rollout_memory import CHECKPOINT, Cost, measure
from benchmarks.rollout_parts import Replaying, Request, Stand, Tool, latency
from benchmarks.rollout_peers import Measured, chat_client, engine_alone, in_step, ours, serve
from mdpo.chat import ChatFormat
from mdpo.checkpoint import load_tokenizer
from mdpo.engines.vllm import VLLMEngine
from mdpo.quickstart.problems import generate_problems
from mdpo.rollout import Sampling
from mdpo.trajectory import read_trajectories
from sandbox import Limits, Sandbox

if TYPE_CHECKING:
    import httpx  # comes with vLLM

OF_ENGINE, TIMES_IN_STEP, TIMES_CLIENT, MICROSECONDS, MEGABYTES = 0.9, 1.5, 3.0, 50.0, 500.0
ALONE, OURS, IN_STEP, CLIENT = "a  engine alone", "b  rollout", "c  in step", "d  chat client"
CONTEXT_LENGTH = 448
WARM_PROBLEMS = 64


@dataclass
class Found:
    """What was measured: each way round by round, and the rest once.

    Args:
        real: The rollout with the real sandbox and no drawn latency.
        cost: Microseconds of the rollout for each token when everything answers at once, round by round.
        client_tokens: What the rollout sampled in the trajectories that the chat client played, round by round.
        seeds: Those of the turns, from which their latencies are drawn.
        live: Programs that were not recorded, so that the real sandbox ran them within the timed runs.
    """

    real: Measured
    ways: dict[str, list[Measured]] = field(default_factory=lambda: {n: [] for n in (ALONE, OURS, IN_STEP, CLIENT)})
    cost: list[float] = field(default_factory=list)
    client_tokens: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    live: int = 0

    def ratio(self, other: str) -> float:
        """Sampled tokens per second of the rollout over another way's."""
        return median(b.rate / way.rate for b, way in zip(self.ways[OURS], self.ways[other], strict=True))


async def warm_up(stand: Stand, tool: Tool, folder: Path) -> Measured:
    """The rollout with the real sandbox, after a small one that is not timed; then its programs are recorded."""
    stand = replace(stand, tool=tool.real)
    await ours(replace(stand, problems=stand.problems[:WARM_PROBLEMS]), folder / "cold.jsonl")
    await stand.engine.load(CHECKPOINT)
    measured, _ = await ours(stand, folder / "real.jsonl")
    await tool.record(read_trajectories(folder / "real.jsonl"))
    return measured


async def one_round(
    stand: Stand, client: "httpx.AsyncClient", client_trajectories: int, folder: Path, found: Found
) -> None:
    """Each way once. The load of the engine alone is what the rollout asked for in this round."""
    number = len(found.ways[OURS])
    await stand.engine.load(CHECKPOINT)
    measured, requests = await ours(stand, folder / f"ours-{number}.jsonl")
    found.ways[OURS].append(measured)
    found.seeds = [request.params.seed or 0 for request in requests]
    await stand.engine.load(CHECKPOINT)
    found.ways[ALONE].append(await engine_alone(stand, requests))
    await stand.engine.load(CHECKPOINT)
    found.ways[IN_STEP].append(await in_step(stand, folder / f"in-step-{number}.jsonl"))

    attempts = [stand.attempts[(number * client_trajectories + i) % len(stand.attempts)]
                for i in range(client_trajectories)]  # fmt: skip
    (await client.post("/reset_prefix_cache")).raise_for_status()
    found.ways[CLIENT].append(await chat_client(stand, client, attempts))
    keys = {(problem.id, sample) for problem, sample in attempts}
    played = (t for t in read_trajectories(folder / f"ours-{number}.jsonl") if t.key in keys)
    found.client_tokens.append(sum(sum(t.completion_mask) for t in played))
    found.cost.append(await own_cost(stand, requests, folder / f"cost-{number}.jsonl"))


async def own_cost(stand: Stand, requests: Sequence[Request], path: Path) -> float:
    """Microseconds of this rollout for each sampled token, when engine and tool answer at once."""
    engine = Replaying(requests, stand.engine.context_length)
    at_once = replace(stand, engine=engine, tool=replace(stand.tool, wait=None))
    measured, _ = await ours(at_once, path)
    return 1e6 * measured.seconds / measured.tokens


async def compare(args: argparse.Namespace, folder: Path, console: Console) -> Found:
    """Everything that needs the engine."""
    sampling = Sampling(horizon=4, max_action_tokens=96, max_tokens=CONTEXT_LENGTH)
    async with contextlib.AsyncExitStack() as stack:
        say(console, "starting vLLM, and its server …")
        engine = VLLMEngine(
            CHECKPOINT, dtype=torch.float32, context_length=CONTEXT_LENGTH, max_concurrency=args.in_flight
        )
        stack.push_async_callback(engine.close)
        client = await stack.enter_async_context(serve(CHECKPOINT, CONTEXT_LENGTH, args.in_flight))
        real = await stack.enter_async_context(Sandbox())
        tool = Tool(real)
        chat = ChatFormat(load_tokenizer(CHECKPOINT))
        stand = Stand(
            engine, chat, tool, sampling, args.samples, generate_problems("train", args.problems), args.in_flight
        )
        say(console, "warming up, and recording what the programs print …")
        found = Found(await warm_up(stand, tool, folder))
        # The server's first requests too are slower than the others.
        await chat_client(stand, client, stand.attempts[: args.samples])
        tool.wait = lambda seed: asyncio.sleep(latency(seed, args.longest))
        for number in range(args.repeats):
            say(console, f"round {number + 1} of {args.repeats} …")
            await one_round(stand, client, args.client_trajectories, folder, found)
        found.live = tool.live
    return found


def bars(found: Found, memory: Cost) -> list[Bar]:
    return [
        at_least("the rollout's tokens per second over those of the engine alone", found.ratio(ALONE), OF_ENGINE),
        at_least("times the tokens per second of the same in step", found.ratio(IN_STEP), TIMES_IN_STEP),
        at_least("times the tokens per second of a chat client", found.ratio(CLIENT), TIMES_CLIENT),
        at_most("the rollout's own cost, µs a token", median(found.cost), MICROSECONDS),
        at_most(f"peak memory of {memory.trajectories:,} simulated trajectories, MB", memory.peak_mb, MEGABYTES),
    ]


def show(found: Found, memory: Cost, longest: float, machine: str, console: Console) -> None:
    columns = ("way", "trajectories", "tokens", "seconds", "tokens/s", "b, times")
    table = Table(*columns, title=machine, title_justify="left")
    for name, rounds in found.ways.items():
        tokens = " ".join(dict.fromkeys(f"{r.tokens:,}" for r in rounds))
        figures = (f"{median(r.seconds for r in rounds):.1f}", f"{median(r.rate for r in rounds):,.0f}")
        table.add_row(name, f"{rounds[0].trajectories:,}", tokens, *figures, f"{found.ratio(name):.2f}")
    real = found.real
    table.add_row("b' real sandbox,\n   no latency", f"{real.trajectories:,}", f"{real.tokens:,}",
                  f"{real.seconds:.1f}", f"{real.rate:,.0f}", "")  # fmt: skip
    console.print(table)
    rollout = found.ways[OURS]
    others = (zip(found.ways[name], rollout, strict=True) for name in (ALONE, IN_STEP))
    off = max(abs(other.tokens / b.tokens - 1) for pairs in others for other, b in pairs)
    client = [r.tokens / tokens - 1 for r, tokens in zip(found.ways[CLIENT], found.client_tokens, strict=True)]
    latencies = sorted(latency(seed, longest) for seed in found.seeds)
    lines = [
        f"token totals: (a) and (c) differ from (b) by {100 * off:.2f} % at most, (d) from the same trajectories "
        f"of (b) by {100 * max(map(abs, client)):.2f} %; {found.live} programs of the timed runs were not recorded",
        f"latencies of the turns: median {1000 * median(latencies):.0f} ms, 99th percentile "
        f"{latencies[int(0.99 * len(latencies))]:.2f} s, longest {latencies[-1]:.1f} s",
        tail(found),
        f"{memory.trajectories:,} simulated trajectories: {memory.before_mb:.0f} MB before the first, "
        f"{memory.peak_mb:.0f} MB at most; {memory.seconds:.0f} s; a file of {memory.file_mb:.0f} MB",
    ]
    for line in lines:
        say(console, line)


def tail(found: Found) -> str:
    rounds = list(zip(found.ways[ALONE], found.ways[OURS], strict=True))
    left, whole = median(b.seconds - b.full_seconds for _, b in rounds), median(b.seconds for _, b in rounds)
    text = f"tail of (b), after its last trajectory was started: {left:.1f} s of {whole:.1f} s"
    if left > whole / 2:
        return f"{text}: too much for a figure of the rollout; give more --problems"
    share = median(b.full_rate / a.full_rate for a, b in rounds)
    return f"{text}; before it {share:.2f} of the tokens per second of (a) before its last request"


def say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the rollout and its peers, and hold it against its bars.")
    parser.add_argument("--problems", type=int, default=2048, help="of the quickstart (default: 2048)")
    parser.add_argument("--samples", type=int, default=4, help="trajectories of each problem (default: 4)")
    parser.add_argument("--in-flight", type=int, default=256, help="trajectories at once (default: 256)")
    parser.add_argument("--repeats", type=int, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument("--client-trajectories", type=int, default=64, help="of the chat client in a round; it is slow")
    parser.add_argument("--simulated", type=int, default=100_000, help="trajectories of the measurement of memory")
    parser.add_argument("--longest", type=float, default=Limits().seconds, help="cut latencies at so many seconds")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        parser.error("vLLM is not installed: CONTRIBUTING.md says how to install it for a CPU")
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = asyncio.run(compare(args, folder, console))
        say(console, f"{args.simulated:,} simulated trajectories …")
        memory = measure(args.simulated, folder / "simulated.jsonl")
    held, machine = bars(found, memory), describe_machine()
    show(found, memory, args.longest, machine, console)
    show_bars(held, {}, console)
    if args.json:
        args.json.write_text(json.dumps(summary(args, found, memory, held, machine), indent=1) + "\n")
    sys.exit(0 if all(bar.holds for bar in held) else 1)


def summary(args: argparse.Namespace, found: Found, memory: Cost, held: list[Bar], machine: str) -> dict[str, Any]:
    return {
        "machine": machine,
        "bars": [asdict(bar) for bar in held],
        "sizes": {name: value for name, value in vars(args).items() if name not in ("json", "longest")},
        "longest latency, s": max(latency(seed, args.longest) for seed in found.seeds),
        "ways": {name: [asdict(r) | {"rate": r.rate} for r in rounds] for name, rounds in found.ways.items()},
        "real sandbox": asdict(found.real) | {"rate": found.real.rate},
        "cost, µs a token": found.cost,
        "simulated": asdict(memory),
    }


if __name__ == "__main__":
    main()
