"""What the ways of `rollout_peers.py` have in common: the tool with its latencies, and engines that note or replay."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Self

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.engines.base import Completion, Engine, SamplingParams
from mdpo.plan import Plan, Share
from mdpo.rollout import Agent, Sampling
from mdpo.trajectory import Trajectory
from sandbox import ExecutionResult, Sandbox

MEDIAN_SECONDS, P99_SECONDS = 0.020, 2.0
_SIGMA = math.log(P99_SECONDS / MEDIAN_SECONDS) / NormalDist().inv_cdf(0.99)

_RECORDERS = 4

# The seed of the turn that the running task plays: it tells the tool which turn it answers.
TURN: ContextVar[int] = ContextVar("TURN")


def latency(seed: int, longest: float = math.inf) -> float:
    """Seconds that the tool takes in the turn of this seed: lognormal, the same whoever plays the turn."""
    return min(MEDIAN_SECONDS * math.exp(_SIGMA * random.Random(seed).gauss(0, 1)), longest)


@dataclass
class Tool:
    """Stands where the sandbox stands: answers with recorded outputs, after a wait.

    Args:
        real: Runs what is not recorded.
        wait: Called with the seed of the turn before each answer; `None` answers at once.
        outputs: What came of a block, by it and the blocks before it in its session.
        live: How many blocks were not recorded.
        opened: When the last session was opened.
    """

    real: Sandbox
    wait: Callable[[int], Any] | None = None
    outputs: dict[tuple[str, ...], ExecutionResult] = field(default_factory=dict)
    live: int = 0
    opened: float = 0.0

    def session(self) -> "_Replay":
        self.opened = time.perf_counter()
        return _Replay(self)

    async def record(self, trajectories: Iterable[Trajectory]) -> None:
        """Run the programs of some trajectories, each list of programs once."""
        histories = iter({tuple(turn.code for turn in t.turns if turn.code is not None) for t in trajectories})

        async def work() -> None:
            for history in histories:
                async with self.real.session() as session:
                    for number, code in enumerate(history, start=1):
                        self.outputs[history[:number]] = await session.run(code)

        await asyncio.gather(*(work() for _ in range(_RECORDERS)))


class _Replay:
    """A session of the tool."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self._blocks: tuple[str, ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, code: str) -> ExecutionResult:
        self._blocks += (code,)
        result = self._tool.outputs.get(self._blocks) or await self._live()
        if self._tool.wait is not None:
            await self._tool.wait(TURN.get())
        return result

    async def _live(self) -> ExecutionResult:
        self._tool.live += 1
        async with self._tool.real.session() as session:
            for block in self._blocks:
                result = await session.run(block)
        self._tool.outputs[self._blocks] = result
        return result


@dataclass
class Request:
    """What was asked of the engine in one turn, what it sampled, and when it answered."""

    prompt_ids: list[int]
    params: SamplingParams
    completion: Completion | None = None
    answered: float = 0.0

    @property
    def tokens(self) -> int:
        return len(self.completion.token_ids) if self.completion else 0


class Noting:
    """An engine that notes every request of another in the order of asking, and tells the tool whose turn it is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.context_length = engine.context_length
        self.requests: list[Request] = []

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        assert params.seed is not None
        TURN.set(params.seed)
        # A copy: the caller goes on writing into its list.
        request = Request(list(prompt_ids), params)
        self.requests.append(request)
        request.completion = await self._engine.generate(prompt_ids, params)
        request.answered = time.perf_counter()
        return request.completion

    async def load(self, checkpoint: Path) -> None:
        await self._engine.load(checkpoint)

    async def close(self) -> None:
        await self._engine.close()


class Replaying:
    """An engine that answers at once with what another one sampled."""

    def __init__(self, requests: Iterable[Request], context_length: int) -> None:
        self.context_length = context_length
        self._completions = {(r.params.seed, len(r.prompt_ids)): r.completion for r in requests}

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        completion = self._completions[params.seed, len(prompt_ids)]
        assert completion is not None
        return completion

    async def load(self, checkpoint: Path) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Stand:
    """What every way of collecting is given.

    Args:
        tool: A `Tool`, or the sandbox itself.
        in_flight: Largest number of trajectories at once.
    """

    engine: Engine
    chat: ChatFormat
    tool: Any
    sampling: Sampling
    samples: int
    problems: Sequence[Problem]
    in_flight: int

    @property
    def attempts(self) -> list[tuple[Problem, int]]:
        return [(problem, sample) for problem in self.problems for sample in range(self.samples)]

    @property
    def plan(self) -> Plan:
        return Plan((Share(self.sampling, self.samples),))

    def agent(self, engine: Engine) -> Agent:
        return Agent(engine, self.chat, self.tool, "quickstart")
