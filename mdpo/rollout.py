"""Rollout: one trajectory as a coroutine, many of them at once, and what a kill interrupted is sampled later.

A trajectory reads like the paper's loop: act, run the program, observe, until it stops. None waits for another's turn:
the engine batches what is ready, and the sandbox works while the engine samples.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from eval import Problem, check, extract_answer
from mdpo.chat import ChatFormat
from mdpo.engines.base import Engine, SamplingParams
from mdpo.errors import DataError
from mdpo.render import after_programs, last_program, observation_text, outside_programs
from mdpo.trajectory import StopReason, Trajectory, TrajectoryWriter, Turn, read_trajectories
from sandbox import Sandbox, Session


@dataclass(frozen=True, slots=True)
class Sampling:
    """How trajectories are sampled.

    Attributes:
        samples: Attempts at each problem.
        temperature: 0 is greedy decoding.
        top_p: Nucleus mass; 1 keeps the whole vocabulary.
        horizon: H, the largest number of actions.
        max_action_tokens: Largest action, its end-of-turn token included.
        max_tokens: Largest trajectory in tokens, the prompt included.
        seed: Every turn of every attempt has its own seed, made from this one.
        tool: Whether programs are run. Without the tool an attempt is one action (chain of thought): a program in it
            is text, and `horizon` plays no part.
    """

    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    horizon: int = 6
    max_action_tokens: int = 512
    max_tokens: int = 2048
    seed: int = 0
    tool: bool = True


@dataclass(frozen=True, slots=True)
class Agent:
    """A policy with its tools: everything that an attempt needs but the problem.

    Attributes:
        sandbox: `None` only where the sampling is without the tool.
        policy: A label that is stored with each trajectory, usually the checkpoint's path.
    """

    engine: Engine
    chat: ChatFormat
    sandbox: Sandbox | None
    sampling: Sampling
    policy: str

    def __post_init__(self) -> None:
        if self.sampling.tool and self.sandbox is None:
            raise ValueError("an agent with the tool needs a sandbox; give it one, or sample with tool=False")

    def session(self) -> AbstractAsyncContextManager[Session | None]:
        """A session of the sandbox for one attempt; `None` without the tool."""
        if self.sandbox is None or not self.sampling.tool:
            return nullcontext()
        return self.sandbox.session()


async def attempt(agent: Agent, problem: Problem, sample: int) -> Trajectory:
    """Let the policy attempt a problem once, and judge its answer.

    Raises:
        sandbox.SandboxError: The sandbox itself is broken; what it does is never shown to the policy.
        EngineError: The engine stopped.
    """
    prompt_ids = agent.chat.prompt_ids(problem.question)
    turns: list[Turn] = []
    async with agent.session() as session:
        stop = await _converse(agent, session, prompt_ids, turns, f"{agent.sampling.seed} {problem.id} {sample}")
    prediction = _answer(turns[-1].action, agent.sampling) if stop == "answered" else None
    # Judging may take up to the checker's time limit, in a process of its own.
    right = prediction is not None and await asyncio.to_thread(check, prediction, problem.answer)
    return Trajectory(
        problem_id=problem.id,
        sample=sample,
        question=problem.question,
        answer=problem.answer,
        source=problem.source,
        prompt_ids=prompt_ids,
        turns=turns,
        stop_reason=stop,
        prediction=prediction,
        reward=1.0 if right else 0.0,
        policy=agent.policy,
        sampling=asdict(agent.sampling),
    )


async def collect(
    agent: Agent,
    problems: Iterable[Problem],
    path: Path,
    *,
    concurrency: int = 256,
    on_trajectory: Callable[[Trajectory], None] = lambda _: None,
) -> list[Trajectory]:
    """Attempt every problem `sampling.samples` times and append the trajectories to a file.

    What the file already holds is not sampled again, so calling it once more after a kill completes it.

    Args:
        agent: The policy with its tools.
        problems: With distinct ids.
        path: The trajectory file; made if it does not exist.
        concurrency: Largest number of attempts in flight.
        on_trajectory: Told of each new trajectory after it was written.

    Returns:
        All trajectories of these problems, sorted by problem (in the order given) and sample.
    """
    wanted = {(problem.id, sample): problem for problem in problems for sample in range(agent.sampling.samples)}
    done = {t.key: t for t in _already(path, wanted)}
    missing = iter([(problem, key[1]) for key, problem in wanted.items() if key not in done])

    async def work(writer: TrajectoryWriter) -> None:
        for problem, sample in missing:
            trajectory = await attempt(agent, problem, sample)
            writer.append(trajectory)
            done[trajectory.key] = trajectory
            on_trajectory(trajectory)

    with TrajectoryWriter(path) as writer:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(wanted) - len(done))):
                    group.create_task(work(writer))
        except ExceptionGroup as errors:
            # The first failure cancelled the rest; it is the one that says what happened.
            raise errors.exceptions[0] from errors
    return [done[key] for key in wanted]


def count_missing(path: Path, problems: Iterable[Problem], samples: int) -> int:
    """How many trajectories `collect` would still have to sample."""
    wanted = {(problem.id, sample): problem for problem in problems for sample in range(samples)}
    return len(wanted) - len({t.key for t in _already(path, wanted)})


def _already(path: Path, wanted: dict[tuple[str, int], Problem]) -> Iterator[Trajectory]:
    """The trajectories of a file that are wanted; one whose question differs shows that the file is another run's."""
    if not path.exists():
        return
    for trajectory in read_trajectories(path):
        problem = wanted.get(trajectory.key)
        if problem is None:
            continue
        if problem.question != trajectory.question:
            raise DataError(f"{path} holds another question for problem {problem.id}; use another file")
        yield trajectory


async def _converse(
    agent: Agent, session: Session | None, prompt_ids: list[int], turns: list[Turn], seed: str
) -> StopReason:
    """Act, run and observe until the trajectory stops; each turn is added to `turns`. No session: no program."""
    sampling = agent.sampling
    limit = min(sampling.max_tokens, agent.engine.context_length)
    history = list(prompt_ids)
    while True:
        room = limit - len(history)
        if room < 1:
            return "context_length"
        completion = await agent.engine.generate(history, _params(agent, room, f"{seed} {len(turns)}"))
        action = agent.chat.action_text(completion.token_ids)
        acted = Turn(action, completion.token_ids, completion.logprobs)
        code = None if session is None else last_program(action)
        stop = _stop_reason(acted, completion.finish_reason, code, room, len(turns) + 1, sampling)
        if stop is not None or session is None or code is None:
            turns.append(acted)
            return stop or "no_code"
        result = await session.run(code)
        observation = observation_text(result.text)
        observation_ids = agent.chat.observation_ids(observation, completion.token_ids)
        fits = len(completion.token_ids) + len(observation_ids) < room
        turns.append(
            Turn(
                action=action,
                action_ids=completion.token_ids,
                action_logprobs=completion.logprobs,
                code=code,
                observation=observation if fits else None,
                observation_ids=observation_ids if fits else [],
                status=result.status,
                seconds=round(result.seconds, 4),
            )
        )
        if not fits:
            return "context_length"
        history += completion.token_ids + observation_ids


def _stop_reason(
    turn: Turn, finish_reason: str, code: str | None, room: int, number: int, sampling: Sampling
) -> StopReason | None:
    """Why this action ends the trajectory, `None` if its program is to be run."""
    if finish_reason == "length":
        # A cut action is not what the policy meant to say: nothing of it is run or judged.
        return "turn_length" if room > sampling.max_action_tokens else "context_length"
    if _answer(turn.action, sampling) is not None:
        return "answered"
    if code is None:
        return "no_code"
    return "horizon" if number >= sampling.horizon else None


def _answer(action: str, sampling: Sampling) -> str | None:
    """The final answer that an action gives.

    An action with a program is answered by the program's output, unless a box stands after it: then the policy did not
    wait for the output. Without the tool there is no output to wait for.
    """
    if not sampling.tool or last_program(action) is None:
        return extract_answer(outside_programs(action))
    tail = after_programs(action)
    return extract_answer(tail) if "\\boxed" in tail else None


def _params(agent: Agent, room: int, seed: str) -> SamplingParams:
    sampling = agent.sampling
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=min(room, sampling.max_action_tokens),
        stop_token_ids=agent.chat.stop_ids,
        seed=int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest(), "big"),
    )
