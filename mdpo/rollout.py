"""Rollout: one trajectory as a coroutine that reads like the paper's loop.

Act, run the program, observe, until it stops. None waits for another's turn: the engine batches what is ready, and the
sandbox works while the engine samples. `mdpo/collect.py` runs many of them at once.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from eval import Problem, check, extract_answer
from mdpo.chat import ChatFormat
from mdpo.engines.base import Completion, Engine, SamplingParams
from mdpo.render import after_programs, last_program, observation_text, outside_programs
from mdpo.trajectory import StopReason, Trajectory, Turn
from sandbox import Sandbox, Session

BoxWithCode = Literal["final", "run", "answer"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an attempt is sampled.

    Attributes:
        temperature: 0 is greedy decoding.
        top_p: Nucleus mass; 1 keeps the whole vocabulary.
        horizon: H, the largest number of actions.
        max_calls: Largest number of programs that are run; `None` leaves it to the horizon.
        max_action_tokens: Largest action, its end-of-turn token included.
        max_tokens: Largest trajectory in tokens, the prompt included.
        seed: Every turn of every attempt has its own seed, made from this one.
        tool: Whether programs are run. Without the tool an attempt is one action (chain of thought): a program in it
            is text, and `horizon` plays no part.
        box_with_code: What an action with a program and a boxed answer means. `final`: a box after the program is the
            answer, any other waits for the output; `run`: the program is always run first; `answer`: a box outside the
            program is the answer, wherever it stands, and the program is not run (the paper's code).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    horizon: int = 6
    max_calls: int | None = None
    max_action_tokens: int = 512
    max_tokens: int = 2048
    seed: int = 0
    tool: bool = True
    box_with_code: BoxWithCode = "final"


@dataclass(frozen=True, slots=True)
class Agent:
    """A policy with its tools: everything that an attempt needs but the problem and the way of sampling.

    Attributes:
        sandbox: `None` only where all sampling is without the tool.
        policy: A label that is stored with each trajectory, usually the checkpoint's path.
    """

    engine: Engine
    chat: ChatFormat
    sandbox: Sandbox | None
    policy: str

    def session(self, sampling: Sampling) -> AbstractAsyncContextManager[Session | None]:
        """A session of the sandbox for one attempt; `None` without the tool.

        Raises:
            ValueError: The tool is asked for and there is no sandbox.
        """
        if not sampling.tool:
            return nullcontext()
        if self.sandbox is None:
            raise ValueError("an agent with the tool needs a sandbox; give it one, or sample with tool=False")
        return self.sandbox.session()


async def attempt(agent: Agent, problem: Problem, sample: int, sampling: Sampling) -> Trajectory:
    """Let the policy attempt a problem once, and judge its answer.

    Raises:
        sandbox.SandboxError: The sandbox itself is broken; what it does is never shown to the policy.
        EngineError: The engine stopped.
    """
    prompt_ids = agent.chat.prompt_ids(problem.question)
    turns: list[Turn] = []
    async with agent.session(sampling) as session:
        conversation = _Conversation(agent, sampling, session, partial(turn_seed, sampling.seed, problem.id, sample))
        stop = await conversation.run(prompt_ids, turns)
    prediction = _answer(turns[-1].action, sampling) if stop == "answered" else None
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
        reward=await _reward(prediction, problem.answer),
        policy=agent.policy,
        sampling=asdict(sampling),
    )


def turn_seed(seed: int, problem_id: str, sample: int, turn: int) -> int:
    """The seed of one action: every turn of every attempt has another one, and always the same."""
    digest = hashlib.blake2b(f"{seed} {problem_id} {sample} {turn}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


async def _reward(prediction: str | None, answer: str) -> float:
    """1 for a right answer, else 0."""
    if prediction is None:
        return 0.0
    if prediction == answer.strip() != "":
        return 1.0  # most right answers, at no cost
    # It may take up to the checker's time limit, in a process of its own.
    return float(await asyncio.to_thread(check, prediction, answer))


@dataclass(frozen=True, slots=True)
class _Conversation:
    """One attempt at work. Without a session no program is run.

    Attributes:
        seed: The seed of a turn, from its number.
    """

    agent: Agent
    sampling: Sampling
    session: Session | None
    seed: Callable[[int], int]

    async def run(self, prompt_ids: list[int], turns: list[Turn]) -> StopReason:
        """Act, run and observe until the trajectory stops; each turn is added to `turns`."""
        limit = min(self.sampling.max_tokens, self.agent.engine.context_length)
        history = prompt_ids
        while True:
            room = limit - len(history)
            if room < 1:
                return "context_length"
            completion = await self.agent.engine.generate(history, self._params(room, len(turns)))
            action = self.agent.chat.action_text(completion.token_ids)
            code = None if self.session is None else last_program(action)
            stop = self._stop_reason(action, completion, code, room, len(turns))
            if stop is not None or self.session is None or code is None:
                turns.append(Turn(action, completion.token_ids, completion.logprobs))
                return stop or "no_code"
            turn = await self._observe(self.session, action, completion, code, room)
            turns.append(turn)
            if turn.observation is None:
                return "context_length"
            # A new list: the engine may still hold the one that it was given.
            history = history + turn.action_ids + turn.observation_ids

    async def _observe(self, session: Session, action: str, completion: Completion, code: str, room: int) -> Turn:
        """Run an action's program; the turn has an observation only if it fits into what room there is."""
        result = await session.run(code)
        observation = observation_text(result.text)
        observation_ids = self.agent.chat.observation_ids(observation, completion.token_ids)
        fits = len(completion.token_ids) + len(observation_ids) < room
        return Turn(
            action=action,
            action_ids=completion.token_ids,
            action_logprobs=completion.logprobs,
            code=code,
            observation=observation if fits else None,
            observation_ids=observation_ids if fits else [],
            status=result.status,
            seconds=round(result.seconds, 4),
        )

    def _stop_reason(
        self, action: str, completion: Completion, code: str | None, room: int, before: int
    ) -> StopReason | None:
        """Why this action ends the trajectory, `None` if its program is to be run."""
        sampling = self.sampling
        if completion.finish_reason == "length":
            # A cut action is not what the policy meant to say: nothing of it is run or judged.
            return "turn_length" if room > sampling.max_action_tokens else "context_length"
        if _answer(action, sampling) is not None:
            return "answered"
        if code is None:
            return "no_code"
        if before + 1 >= sampling.horizon:
            return "horizon"
        # Every turn before this one ran a program.
        return "call_limit" if sampling.max_calls is not None and before >= sampling.max_calls else None

    def _params(self, room: int, turn: int) -> SamplingParams:
        return SamplingParams(
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=min(room, self.sampling.max_action_tokens),
            stop_token_ids=self.agent.chat.stop_ids,
            stop_strings=self.agent.chat.stop_strings if self.sampling.tool else (),
            seed=self.seed(turn),
        )


def _answer(action: str, sampling: Sampling) -> str | None:
    """The final answer that an action gives, `None` if it gives none or waits for its program's output.

    Without the tool there is no output to wait for.
    """
    if not sampling.tool or last_program(action) is None:
        return extract_answer(outside_programs(action))
    if sampling.box_with_code == "run":
        return None
    beside = after_programs(action) if sampling.box_with_code == "final" else outside_programs(action)
    return extract_answer(beside) if "\\boxed" in beside else None
