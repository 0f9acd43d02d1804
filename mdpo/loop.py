"""The whole experiment: SFT, then iterations of rollout, pairs, training and evaluation, in a run directory.

Every stage looks at its own output first: complete output is kept, incomplete output is completed. So the same command
on the same directory goes on wherever it was stopped.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eval import Problem
from mdpo.collect import read_asked
from mdpo.config import Config, ProblemsConfig
from mdpo.display import Display, Task
from mdpo.evaluation import evaluate
from mdpo.evaluation_file import settings, write_record
from mdpo.evaluation_table import decoding
from mdpo.folder import RunFolder, open_folder, read_json, write_json
from mdpo.pairing import Origin, choose_pairs
from mdpo.plan import Plan, Share
from mdpo.preference import read_pairs, write_pairs
from mdpo.rollout import Agent
from mdpo.sources import load_demonstrations, load_problems, place_policy, start_policy
from mdpo.stages import (
    evaluation_share,
    in_flight,
    open_agent,
    rollout_plan,
    sample_trajectories,
    sandbox_limits,
    show_steps,
    train_on_demonstrations,
    train_on_pairs,
    train_on_trajectories,
    train_options,
    uncertain_strategy,
)
from mdpo.train.stage import TrainStage
from mdpo.trajectory import read_trajectories
from mdpo.uncertain import Uncertain


class Agents:
    """The agent of each iteration's policy: on an engine of its own, or on one that is kept and given new weights."""

    def __init__(self, config: Config, display: Display) -> None:
        self._config, self._display = config, display
        self._open = AsyncExitStack()
        self._agent: Agent | None = None

    @asynccontextmanager
    async def on(self, policy: Path) -> AsyncIterator[Agent]:
        """An agent on a policy."""
        if self._agent is None:
            self._agent = await self._start(policy)
        elif self._agent.policy != str(policy):
            with self._display.task(f"Loading {policy} into the running engine"):
                await self._agent.engine.load(policy)
            self._agent = replace(self._agent, policy=str(policy))
        yield self._agent
        if not self._config.engine.keep:
            await self.close()

    async def close(self) -> None:
        """Stop the engine and the sandbox, if they run."""
        self._agent = None
        await self._open.aclose()

    async def _start(self, policy: Path) -> Agent:
        config = self._config
        limits, most = sandbox_limits(config.sandbox), config.rollout.max_tokens
        return await self._open.enter_async_context(
            open_agent(policy, config.policy, config.engine, limits, most, self._display)
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One run at work: what it shall do, where, how it is shown, and who samples."""

    config: Config
    folder: RunFolder
    display: Display
    agents: Agents

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, str]]:
        """Time a stage, and record and print what it said under `note`; a kill leaves it unrecorded."""
        started = time.monotonic()
        said = {"note": ""}
        yield said
        seconds = time.monotonic() - started
        self.folder.finish(name, said["note"], seconds)
        self.display.say(f"[green]✓[/] {name:<22} {said['note']} [dim]· {seconds:.0f} s[/]")


def run(config: Config, path: Path, display: Display) -> list[dict[str, Any]]:
    """Run an experiment to its end, or go on with one.

    Args:
        config: What to do.
        path: The run directory.
        display: Where progress is shown.

    Returns:
        The rows of `metrics.json`.
    """
    if config.engine.threads is not None:
        torch.set_num_threads(config.engine.threads)
    agents = Agents(config, display)
    # One event loop for all iterations: an engine that is kept belongs to it.
    with open_folder(path, config) as folder, asyncio.Runner() as loop:
        this = Run(config, folder, display, agents)
        for name, stage in folder.stages().items():
            display.say(f"[green]✓[/] {name:<22} {stage['note']} [dim]· done before[/]")
        _fine_tune(this)
        problems = load_problems(_train_problems(config), config.seed)
        try:
            for number in range(config.iterations + 1):
                loop.run(_generate(this, number, problems))
                if number < config.iterations:
                    _choose_pairs(this, number + 1)
                    _train(this, number + 1)
        finally:
            loop.run(agents.close())
        return folder.metrics()


def _train_problems(config: Config) -> ProblemsConfig:
    """The problems to learn from; the quickstart makes as many as the iterations need."""
    if config.problems.limit is not None or config.problems.benchmark != "quickstart":
        return config.problems
    return config.problems.model_copy(update={"limit": max(1, config.iterations) * config.rollout.problems})


def _stage_name(number: int) -> str:
    return f"iteration-{number}" if number else "sft"


def _fine_tune(this: Run) -> None:
    """The policy after SFT: trained here, or taken as it is."""
    target = this.folder.policy(0)
    if target.exists():
        return
    sft = this.config.sft
    this.folder.sft.mkdir(exist_ok=True)
    with this.stage("sft/policy") as said:
        if sft is None or sft.ready is not None:
            model = this.config.policy.model if sft is None or sft.ready is None else sft.ready
            with this.display.task(f"Loading {model}"):
                place_policy(model, target, this.folder.sft / "converted", this.config.policy.dtype)
            said["note"] = f"taken as it is from {model}"
            return
        with this.display.task("Writing demonstrations", total=sft.count) as task:
            demonstrations = load_demonstrations(
                sft, this.config.problems, sandbox_limits(this.config.sandbox), this.config.seed, task.advance
            )
        with this.display.task(f"Loading {this.config.policy.model}"):
            start = start_policy(this.config.policy.model, this.folder.sft, demonstrations, this.config.seed)
        with this.display.task("SFT") as task:
            stage = TrainStage(this.folder.sft, sft.args, this.config.seed, show_steps(task), train_options(sft))
            train_on_demonstrations(start, this.config.policy, demonstrations, sft.max_length, stage, this.display.say)
        said["note"] = f"fine-tuned on {len(demonstrations):,} demonstrations"


async def _generate(this: Run, number: int, problems: list[Problem]) -> None:
    """What the policy of an iteration is sampled for: its evaluation, and the trajectories of the next iteration.

    Both share one engine, which is needed only if something is missing.
    """
    config, policy = this.config, this.folder.policy(number)
    finished = this.folder.stages()
    evaluations = [
        source for source in config.eval.problems if f"{_stage_name(number)} {source.benchmark}" not in finished
    ]
    rollout = number < config.iterations and f"iteration-{number + 1} rollout" not in finished
    if not evaluations and not rollout:
        return
    async with this.agents.on(policy) as agent:
        for source in evaluations:
            await _evaluate(this, number, source, agent)
        if rollout:
            await _rollout(this, number + 1, problems, agent)


async def _evaluate(this: Run, number: int, source: ProblemsConfig, agent: Agent) -> None:
    """Measure a policy on held-out problems, and write the numbers beside the trajectories too."""
    stage = _stage_name(number)
    problems = load_problems(source, this.config.seed)
    share = evaluation_share(this.config.rollout, this.config.eval, this.config.seed)
    plan = Plan((share,))
    with this.stage(f"{stage} {source.benchmark}") as said:
        path = this.folder.evaluation(stage, source.benchmark)
        title = f"{stage}: evaluation on {source.benchmark}"
        _, effort = await sample_trajectories(agent, problems, plan, path, this.display, title, _in_flight(this))
        result = evaluate(read_asked(path, problems, plan), problems)
        made_with = _settings(this, number, source, share, len(problems))
        write_record(path, made_with, result)
        about = {"stage": stage, "benchmark": source.benchmark, "split": source.split, "decoding": decoding(made_with)}
        row = {**about, **asdict(result), **effort}
        this.folder.add_metrics(row)
        if number:
            _add_metrics(this, number, {f"eval {source.benchmark}": row})
        low, high = row["ci95"]
        said["note"] = (
            f"[bold]{100 * row['accuracy']:.1f} %[/] right ({100 * low:.1f}–{100 * high:.1f}) "
            f"on {len(problems)} problems"
        )


def _settings(this: Run, number: int, source: ProblemsConfig, share: Share, problems: int) -> dict[str, Any]:
    """With what a policy of this run is evaluated."""
    config, policy = this.config, this.folder.policy(number)
    talk = config.policy.model_copy(update={"model": str(policy)})
    return settings(policy, talk, config.engine, config.sandbox, share, source, problems, config.seed)


async def _rollout(this: Run, number: int, problems: list[Problem], agent: Agent) -> None:
    """Sample the trajectories of an iteration."""
    with this.stage(f"iteration-{number} rollout") as said:
        previous = str(this.folder.policy(number - 2)) if number > 1 else None
        plan = rollout_plan(this.config.rollout, this.config.seed + number, previous)
        path = this.folder.iteration(number) / "trajectories.jsonl"
        title = f"iteration-{number}: rollout"
        chosen = _problems_of(this, number, problems)
        ledger, effort = await sample_trajectories(agent, chosen, plan, path, this.display, title, _in_flight(this))
        result = {"problems": len(chosen), "mixed": ledger.mixed, **ledger.tally.row()}
        _add_metrics(this, number, {"rollout": {**result, **effort}})
        said["note"] = f"{result['trajectories']:,} trajectories, {100 * result['reward']:.1f} % right"


def _in_flight(this: Run) -> int:
    return in_flight(this.config.rollout.concurrency, this.config.engine)


def _problems_of(this: Run, number: int, problems: list[Problem]) -> list[Problem]:
    """The problems of an iteration: the next ones, from the start again when all were used."""
    count = min(this.config.rollout.problems, len(problems))
    first = (number - 1) * count
    return [problems[(first + offset) % len(problems)] for offset in range(count)]


def _choose_pairs(this: Run, number: int) -> None:
    """Choose an iteration's pairs; their file is written last, so that it says that all the others are complete."""
    folder = this.folder.iteration(number)
    path = folder / "preferences.jsonl"
    # RAFT has no pairs: it takes right trajectories as they are.
    if path.exists() or this.config.train.method == "raft":
        return
    config = this.config
    with this.stage(f"iteration-{number} pairs") as said, this.display.task(f"iteration-{number}: pairs") as task:
        uncertain = _uncertain(this, number, task) if config.pairs.strategy == "uncertain" else None
        earlier = [_origin(this, before) for before in range(number - 1, 0, -1)]
        chosen = choose_pairs(
            config.pairs, _origin(this, number), earlier, config.train.max_length, config.seed, uncertain
        )
        if uncertain is not None and uncertain.exploration is not None:
            uncertain.exploration.save(this.folder.covariance(number))
        _add_metrics(this, number, {"pairs": chosen.row()})
        write_pairs(path, chosen.pairs)
        said["note"] = str(chosen)


def _origin(this: Run, number: int) -> Origin:
    return Origin(f"iteration-{number}", this.folder.iteration(number) / "trajectories.jsonl")


def _uncertain(this: Run, number: int, task: Task) -> Uncertain:
    """The strategy `uncertain` with what the iterations before have learned."""
    earlier = (this.folder.covariance(before) for before in range(number - 1, 0, -1))
    # An iteration without a mixed problem leaves none.
    before = next((path for path in earlier if path.exists()), None)
    # Features of the policy after SFT in all iterations: Σ adds up vectors, and they must be of one space.
    return uncertain_strategy(
        this.folder.policy(0), this.config.policy.dtype, this.config.pairs.uncertainty, before, task
    )


def _train(this: Run, number: int) -> None:
    """Train an iteration's policy; without pairs it stays the policy before."""
    target, before = this.folder.policy(number), this.folder.policy(number - 1)
    if target.exists():
        return
    folder, train = this.folder.iteration(number), this.config.train
    with this.stage(f"iteration-{number} {train.method}") as said:
        with this.display.task(f"iteration-{number}: {train.method}") as task:
            stage = TrainStage(folder, train.args, this.config.seed, show_steps(task), train_options(train))
            learn = _learn_from_right_ones if train.method == "raft" else _learn_from_pairs
            learned = learn(this, number, stage)
        if learned is None:
            # Nothing to prefer, so nothing to learn.
            copied = target.with_name("policy.partial")
            shutil.copytree(before, copied, dirs_exist_ok=True)
            copied.replace(target)
            learned = "no problem has what this method learns from; the policy stays as it was"
        said["note"] = learned


def _learn_from_pairs(this: Run, number: int, stage: TrainStage) -> str | None:
    """M-DPO, M-KTO, DPO and KTO; what it did, `None` if there is no pair."""
    pairs = list(read_pairs(stage.folder / "preferences.jsonl"))
    if not pairs:
        return None
    train, before = this.config.train, this.folder.policy(number - 1)
    reference = before if train.reference == "previous" else this.folder.policy(0)
    dtype, say = this.config.policy.dtype, this.display.say
    train_on_pairs(before, reference, dtype, pairs, train.max_length, stage, say, train.method)
    return f"trained on {len(pairs):,} pairs"


def _learn_from_right_ones(this: Run, number: int, stage: TrainStage) -> str | None:
    """RAFT; what it did, `None` if no trajectory is right."""
    right = [t for t in read_trajectories(stage.folder / "trajectories.jsonl") if t.reward > 0.5]
    if not right:
        return None
    config, before = this.config, this.folder.policy(number - 1)
    most, length = config.pairs.per_problem, config.train.max_length
    train_on_trajectories(before, config.policy.dtype, right, most, length, stage, this.display.say)
    return f"trained on right trajectories, up to {most} of a problem"


def _add_metrics(this: Run, number: int, values: dict[str, Any]) -> None:
    """Add to an iteration's own `metrics.json`."""
    path = this.folder.iteration(number) / "metrics.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, {**read_json(path, {}), **values})
