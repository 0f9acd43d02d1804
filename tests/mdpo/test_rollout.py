"""Turn logic, with the real sandbox and a policy that says what the test wrote."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.engines.base import Completion, SamplingParams
from mdpo.errors import DataError, EngineError
from mdpo.render import answer_action, call_action
from mdpo.rollout import Agent, Sampling, attempt, collect
from mdpo.trajectory import Trajectory, read_trajectories
from sandbox import Limits, Sandbox, SandboxError

PROBLEM = Problem(id="p", question="What is 6 * 7?", answer="42", source="test")


class Script:
    """An engine that samples the given texts, one a call; `None` stands for text that hits the token limit."""

    def __init__(self, chat: ChatFormat, actions: Sequence[str], context_length: int = 1000) -> None:
        self.chat, self.actions, self.context_length = chat, list(actions), context_length
        self.prompts: list[list[int]] = []
        self.params: list[SamplingParams] = []

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        self.prompts.append(prompt_ids)
        self.params.append(params)
        ids = self.chat.action_ids(self.actions[len(self.prompts) - 1])
        finish = "stop" if len(ids) <= params.max_tokens else "length"
        ids = ids[: params.max_tokens]
        return Completion(ids, [-1.0] * len(ids), finish)  # type: ignore[arg-type]

    async def load(self, checkpoint: Path) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def chat(tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
    return ChatFormat(tokenizer)


def play(chat: ChatFormat, *actions: str, problem: Problem = PROBLEM, **sampling: Any) -> tuple[Trajectory, Script]:
    engine = Script(chat, actions)

    async def work() -> Trajectory:
        async with Sandbox(Limits(seconds=2)) as sandbox:
            return await attempt(Agent(engine, chat, sandbox, Sampling(**sampling), "script"), problem, 0)

    return asyncio.run(work()), engine


def test_a_program_is_run_and_its_output_is_shown(chat: ChatFormat) -> None:
    trajectory, engine = play(chat, call_action("Multiply.", "print(6 * 7)"), answer_action("42"))
    assert [turn.observation for turn in trajectory.turns] == ["```output\n42\n```", None]
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.reward) == ("answered", "42", 1.0)
    # The second prompt is the first one and what followed it, token by token.
    first = trajectory.turns[0]
    assert engine.prompts[1] == trajectory.prompt_ids + first.action_ids + first.observation_ids


def test_variables_live_from_turn_to_turn(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, call_action("", "x = 6"), call_action("", "x * 7"), answer_action("42"))
    assert trajectory.turns[1].observation == "```output\n42\n```"


def test_an_error_is_an_observation_and_the_policy_goes_on(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, call_action("", "1 / 0"), answer_action("1"))
    assert trajectory.turns[0].status == "error"
    assert "ZeroDivisionError" in str(trajectory.turns[0].observation)
    assert (trajectory.stop_reason, trajectory.reward) == ("answered", 0.0)


@pytest.mark.parametrize(
    "action",
    [
        "I do not know.",
        "```python\nprint(42)",  # never closed: nothing is run
    ],
)
def test_neither_program_nor_answer_ends_the_trajectory(chat: ChatFormat, action: str) -> None:
    trajectory, _ = play(chat, action)
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == ("no_code", None, 0)


def test_code_in_the_question_is_never_run(chat: ChatFormat) -> None:
    question = replace(PROBLEM, question="What does this print?\n```python\nprint(41 + 1)\n```")
    trajectory, _ = play(chat, "I will think.", problem=question)
    assert (trajectory.stop_reason, trajectory.calls) == ("no_code", 0)


def test_a_box_after_the_program_is_the_answer_and_the_program_is_not_run(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, call_action("", "print(6 * 7)") + "\nSo \\boxed{42}.")
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == ("answered", "42", 0)


@pytest.mark.parametrize(
    "action", ["Guess \\boxed{1}.\n```python\nprint(42)\n```", "```python\nprint('\\\\boxed{1}')\n```"]
)
def test_a_box_before_or_inside_the_program_waits_for_the_output(chat: ChatFormat, action: str) -> None:
    trajectory, _ = play(chat, action, answer_action("42"))
    assert (trajectory.calls, trajectory.prediction) == (1, "42")


@pytest.mark.parametrize(
    ("action", "stop", "prediction"),
    [
        (answer_action("42"), "answered", "42"),
        ("The answer is \\boxed{42}, since\n```python\nprint(6 * 7)\n```", "answered", "42"),
        (call_action("Multiply.", "print(6 * 7)"), "no_code", None),
    ],
)
def test_without_the_tool_an_attempt_is_one_action_and_nothing_runs(
    chat: ChatFormat, action: str, stop: str, prediction: str | None
) -> None:
    engine = Script(chat, [action, answer_action("42")])
    agent = Agent(engine, chat, None, Sampling(tool=False), "script")
    trajectory = asyncio.run(attempt(agent, PROBLEM, 0))
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == (stop, prediction, 0)
    assert len(engine.prompts) == 1


def test_without_the_tool_a_cut_action_is_not_judged_either(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, answer_action("42") + " words" * 30, max_action_tokens=20, tool=False)
    assert (trajectory.stop_reason, trajectory.reward) == ("turn_length", 0.0)


def test_an_agent_with_the_tool_needs_a_sandbox(chat: ChatFormat) -> None:
    with pytest.raises(ValueError, match="needs a sandbox"):
        Agent(Script(chat, []), chat, None, Sampling(), "script")


def test_the_horizon_counts_actions_and_the_last_program_is_not_run(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, *[call_action("", "print(1)")] * 3, horizon=2)
    assert (trajectory.stop_reason, len(trajectory.turns), trajectory.calls) == ("horizon", 2, 1)
    assert trajectory.turns[-1].observation is None


def test_an_action_that_hits_its_limit_is_neither_run_nor_judged(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, answer_action("42") + " words" * 30, max_action_tokens=20)
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.reward) == ("turn_length", None, 0.0)
    assert len(trajectory.turns[0].action_ids) == 20


def test_a_trajectory_never_grows_past_its_limit(chat: ChatFormat) -> None:
    trajectory, _ = play(chat, call_action("", "print('word ' * 300)"), max_tokens=120)
    assert trajectory.stop_reason == "context_length"
    assert trajectory.turns[-1].observation_ids == []
    assert len(trajectory.prompt_ids) + len(trajectory.completion_ids) <= 120


def test_a_prompt_without_room_is_a_trajectory_without_turns(chat: ChatFormat) -> None:
    trajectory, engine = play(chat, max_tokens=3)
    assert (trajectory.stop_reason, trajectory.turns, engine.prompts) == ("context_length", [], [])


def test_every_turn_of_every_sample_has_its_own_seed(chat: ChatFormat) -> None:
    actions = [call_action("", "print(1)"), answer_action("1")]
    seeds = [params.seed for sample_seed in (0, 1) for params in play(chat, *actions, seed=sample_seed)[1].params]
    assert len(set(seeds)) == 4
    assert seeds[:2] == [params.seed for params in play(chat, *actions)[1].params]


class Solver(Script):
    """Answers every problem at once."""

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        await asyncio.sleep(0)
        ids = self.chat.action_ids(answer_action("42"))
        self.prompts.append(prompt_ids)
        return Completion(ids, [-1.0] * len(ids), "stop")


def gather(chat: ChatFormat, path: Path, engine: Script, problems: Sequence[Problem], samples: int) -> list[Trajectory]:
    async def work() -> list[Trajectory]:
        async with Sandbox() as sandbox:
            agent = Agent(engine, chat, sandbox, Sampling(samples=samples), "script")
            return await collect(agent, problems, path, concurrency=4)

    return asyncio.run(work())


def many(count: int) -> list[Problem]:
    return [replace(PROBLEM, id=f"p{i}", question=f"{i}: what is 6 * 7?") for i in range(count)]


def test_only_what_a_file_lacks_is_sampled(chat: ChatFormat, tmp_path: Path) -> None:
    path, problems = tmp_path / "t.jsonl", many(6)
    gather(chat, path, Solver(chat, []), problems[:4], samples=2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:30])
    engine = Solver(chat, [])
    trajectories = gather(chat, path, engine, problems, samples=2)
    assert len(engine.prompts) == 12 - 5
    assert [t.key for t in trajectories] == [(p.id, s) for p in problems for s in range(2)]
    assert len(list(read_trajectories(path))) == 12


def test_a_file_of_other_problems_is_refused(chat: ChatFormat, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    gather(chat, path, Solver(chat, []), many(1), samples=1)
    with pytest.raises(DataError, match="another question for problem p0"):
        gather(chat, path, Solver(chat, []), [replace(PROBLEM, id="p0", question="Other?")], samples=1)


def test_an_engine_that_fails_stops_the_run_and_what_was_written_stays(chat: ChatFormat, tmp_path: Path) -> None:
    class Failing(Solver):
        async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
            if len(self.prompts) >= 5:
                raise EngineError("out of memory")
            return await super().generate(prompt_ids, params)

    path = tmp_path / "t.jsonl"
    with pytest.raises(EngineError, match="out of memory"):
        gather(chat, path, Failing(chat, []), many(20), samples=1)
    assert 1 <= len(list(read_trajectories(path))) < 20


def test_a_broken_sandbox_stops_the_run_and_is_never_an_observation(chat: ChatFormat) -> None:
    engine = Script(chat, [call_action("", "print(1)")] * 9)

    async def work() -> Trajectory:
        async with Sandbox() as sandbox:
            agent = Agent(engine, chat, sandbox, Sampling(), "script")
        return await attempt(agent, PROBLEM, 0)  # the sandbox is closed

    with pytest.raises(SandboxError):
        asyncio.run(work())
