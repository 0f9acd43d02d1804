"""Many attempts at once, written as they finish; what a kill interrupted is made later.

The trajectories go to the file and are not kept: memory holds those in flight, and a few numbers for each problem.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.errors import DataError
from mdpo.plan import Attempt, Ledger, Plan, Share
from mdpo.rollout import Agent, attempt
from mdpo.trajectory import Trajectory, TrajectoryWriter, read_trajectories


async def collect(
    agent: Agent,
    problems: Sequence[Problem],
    plan: Plan,
    path: Path,
    *,
    concurrency: int = 256,
    on_trajectory: Callable[[Trajectory], None] = lambda _: None,
    on_owed: Callable[[int], None] = lambda _: None,
) -> Ledger:
    """Make every attempt of a plan that a file still lacks, and append the trajectories to it.

    Calling it once more after a kill completes the file. Policies other than the agent's are loaded into its engine
    first, one after the other, and then its own again.

    Args:
        agent: The policy with its tools.
        problems: With distinct ids.
        plan: The attempts at each.
        path: The trajectory file; made if it does not exist.
        concurrency: Largest number of attempts in flight.
        on_trajectory: Told of each new trajectory after it was written.
        on_owed: Told how many more trajectories are to come, at the start and when extra attempts are granted.

    Returns:
        What was done, of all that the plan asks for.

    Raises:
        DataError: The file holds trajectories of another policy, of other settings or of another question, or cannot be
            written.
        EngineError, SandboxError: The engine or the sandbox stopped. Finished trajectories are in the file.
    """
    ledger = read_ledger(path, problems, plan, agent.policy, agent.chat)
    others = [policy for policy in plan.others if ledger.missing(policy)]
    on_owed(sum(ledger.missing(policy) for policy in (*others, None)))
    with TrajectoryWriter(path) as writer:

        def finish(trajectory: Trajectory) -> list[Attempt]:
            writer.append(trajectory)
            ledger.add(trajectory)
            on_trajectory(trajectory)
            more = ledger.more(trajectory.problem_id)
            if more:
                on_owed(len(more))
            # What an attempt of another policy makes necessary is owed by the agent's own, later.
            return more if trajectory.policy == agent.policy else []

        for policy in others:
            await agent.engine.load(Path(policy))
            await _make(replace(agent, policy=policy), ledger.owed(policy), finish, concurrency)
        if others:
            await agent.engine.load(Path(agent.policy))
        await _make(agent, ledger.owed(None), finish, concurrency)
    return ledger


def read_ledger(path: Path, problems: Sequence[Problem], plan: Plan, policy: str, chat: ChatFormat) -> Ledger:
    """What of a plan a file already holds, and so what is owed.

    Raises:
        DataError: As in `collect`.
    """
    ledger = Ledger(problems, plan)
    for number, (trajectory, share) in enumerate(_asked(path, ledger)):
        if not number and trajectory.prompt_ids != chat.prompt_ids(trajectory.question):
            raise DataError(f"{path} was made with another tokenizer, template or system prompt; use another file")
        _check_same(trajectory, ledger.problem(trajectory), share, share.policy or policy, path)
        ledger.add(trajectory)
    for problem_id in ledger.problems():
        ledger.more(problem_id)
    return ledger


def read_asked(path: Path, problems: Sequence[Problem], plan: Plan) -> Iterator[Trajectory]:
    """The trajectories of a file that a plan asks for, in the order of the file."""
    ledger = Ledger(problems, plan)
    for trajectory, _ in _asked(path, ledger):
        yield trajectory


def _asked(path: Path, ledger: Ledger) -> Iterator[tuple[Trajectory, Share]]:
    if path.exists():
        for trajectory in read_trajectories(path):
            share = ledger.share(trajectory)
            if share is not None:
                yield trajectory, share


async def _make(
    agent: Agent, owed: Iterator[Attempt], finish: Callable[[Trajectory], list[Attempt]], concurrency: int
) -> None:
    """Make the attempts that are owed, and those that `finish` adds to them."""
    queue = _Queue(owed)

    async def work() -> None:
        while (task := await queue.take()) is not None:
            trajectory = await attempt(agent, task.problem, task.sample, task.sampling)
            queue.done(finish(trajectory))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except ExceptionGroup as errors:
        # The first failure cancelled the rest; it is the one that says what happened.
        raise errors.exceptions[0] from errors


class _Queue:
    """Hands out attempts: extra ones first, since their problem's prompt is still in the engine's prefix cache."""

    def __init__(self, owed: Iterator[Attempt]) -> None:
        self._owed = owed
        self._extra: deque[Attempt] = deque()
        self._running = 0
        self._changed = asyncio.Event()

    async def take(self) -> Attempt | None:
        """The next attempt; waits while one that runs may still add some; `None` when all is done."""
        while True:
            task = self._extra.popleft() if self._extra else next(self._owed, None)
            if task is not None:
                self._running += 1
                return task
            if not self._running:
                return None
            self._changed.clear()
            await self._changed.wait()

    def done(self, more: list[Attempt]) -> None:
        """An attempt that was taken is finished, and `more` are to be made."""
        self._running -= 1
        self._extra.extend(more)
        if more or not self._running:
            self._changed.set()


def _check_same(trajectory: Trajectory, problem: Problem, share: Share, policy: str, path: Path) -> None:
    """Refuse to go on with a file that was made otherwise: what it lacks would be of another kind than what it has."""
    where = f"{path}, problem {problem.id}, sample {trajectory.sample}"
    if trajectory.question != problem.question:
        raise DataError(f"{where}: it holds another question; use another file")
    if trajectory.policy != policy and Path(trajectory.policy).resolve() != Path(policy).resolve():
        raise DataError(f"{where}: it was sampled by {trajectory.policy}, and not by {policy}; use another file")
    ours, theirs = asdict(share.sampling), trajectory.sampling
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise DataError(
                f"{where}: it was sampled with {key}={theirs.get(key)!r}, and not {ours.get(key)!r}; use another file"
            )
