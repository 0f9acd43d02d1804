"""Turn logic, with the real sandbox and a policy that says what the test wrote."""

import asyncio
from dataclasses import replace

import pytest

from mdpo.chat import ChatFormat
from mdpo.render import answer_action, call_action
from mdpo.rollout import Agent, Sampling, attempt
from mdpo.trajectory import Trajectory
from sandbox import Sandbox, SandboxError
from tests.mdpo.scripted import PROBLEM, Play, Script


def test_a_program_is_run_and_its_output_is_shown(play: Play) -> None:
    trajectory, engine = play(call_action("Multiply.", "print(6 * 7)"), answer_action("42"))
    assert [turn.observation for turn in trajectory.turns] == ["```output\n42\n```", None]
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.reward) == ("answered", "42", 1.0)
    # The second prompt is the first one and what followed it, token by token.
    first = trajectory.turns[0]
    assert engine.prompts[1] == trajectory.prompt_ids + first.action_ids + first.observation_ids


def test_variables_live_from_turn_to_turn(play: Play) -> None:
    trajectory, _ = play(call_action("", "x = 6"), call_action("", "x * 7"), answer_action("42"))
    assert trajectory.turns[1].observation == "```output\n42\n```"


def test_an_error_is_an_observation_and_the_policy_goes_on(play: Play) -> None:
    trajectory, _ = play(call_action("", "1 / 0"), answer_action("1"))
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
def test_neither_program_nor_answer_ends_the_trajectory(play: Play, action: str) -> None:
    trajectory, _ = play(action)
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == ("no_code", None, 0)


def test_code_in_the_question_is_never_run(play: Play) -> None:
    question = replace(PROBLEM, question="What does this print?\n```python\nprint(41 + 1)\n```")
    trajectory, _ = play("I will think.", problem=question)
    assert (trajectory.stop_reason, trajectory.calls) == ("no_code", 0)


def test_a_box_after_the_program_is_the_answer_and_the_program_is_not_run(play: Play) -> None:
    trajectory, _ = play(call_action("", "print(6 * 7)") + "\nSo \\boxed{42}.")
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == ("answered", "42", 0)


@pytest.mark.parametrize(
    "action", ["Guess \\boxed{1}.\n```python\nprint(42)\n```", "```python\nprint('\\\\boxed{1}')\n```"]
)
def test_a_box_before_or_inside_the_program_waits_for_the_output(play: Play, action: str) -> None:
    trajectory, _ = play(action, answer_action("42"))
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
    agent = Agent(engine, chat, None, "script")
    trajectory = asyncio.run(attempt(agent, PROBLEM, 0, Sampling(tool=False)))
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == (stop, prediction, 0)
    assert len(engine.prompts) == 1


def test_without_the_tool_a_cut_action_is_not_judged_either(play: Play) -> None:
    trajectory, _ = play(answer_action("42") + " words" * 30, max_action_tokens=20, tool=False)
    assert (trajectory.stop_reason, trajectory.reward) == ("turn_length", 0.0)


def test_an_agent_with_the_tool_needs_a_sandbox(chat: ChatFormat) -> None:
    with pytest.raises(ValueError, match="needs a sandbox"):
        asyncio.run(attempt(Agent(Script(chat, []), chat, None, "script"), PROBLEM, 0, Sampling()))


def test_the_horizon_counts_actions_and_the_last_program_is_not_run(play: Play) -> None:
    trajectory, _ = play(*[call_action("", "print(1)")] * 3, horizon=2)
    assert (trajectory.stop_reason, len(trajectory.turns), trajectory.calls) == ("horizon", 2, 1)
    assert trajectory.turns[-1].observation is None


def test_the_number_of_calls_has_a_limit_of_its_own(play: Play) -> None:
    actions = [call_action("", f"print({i})") for i in range(4)]
    trajectory, _ = play(*actions, max_calls=2)
    assert (trajectory.stop_reason, trajectory.calls, len(trajectory.turns)) == ("call_limit", 2, 3)
    assert trajectory.prediction is None


BESIDE = "So \\boxed{42}.\n```python\nprint(6 * 7)\n```"
AFTER = "```python\nprint(6 * 7)\n```\nSo \\boxed{42}."
INSIDE = "```python\nprint('\\\\boxed{42}')\n```"


@pytest.mark.parametrize(
    ("setting", "action", "calls"),
    [
        ("final", BESIDE, 1), ("final", AFTER, 0), ("final", INSIDE, 1),
        ("run", BESIDE, 1), ("run", AFTER, 1), ("run", INSIDE, 1),
        ("answer", BESIDE, 0), ("answer", AFTER, 0), ("answer", INSIDE, 1),
    ],
)  # fmt: skip
def test_what_a_program_and_a_box_in_one_action_mean_is_a_setting(
    play: Play, setting: str, action: str, calls: int
) -> None:
    trajectory, _ = play(action, answer_action("42"), box_with_code=setting)
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.calls) == ("answered", "42", calls)


def test_an_action_that_hits_its_limit_is_neither_run_nor_judged(play: Play) -> None:
    trajectory, _ = play(answer_action("42") + " words" * 30, max_action_tokens=20)
    assert (trajectory.stop_reason, trajectory.prediction, trajectory.reward) == ("turn_length", None, 0.0)
    assert len(trajectory.turns[0].action_ids) == 20


def test_a_trajectory_never_grows_past_its_limit(play: Play) -> None:
    trajectory, _ = play(call_action("", "print('word ' * 300)"), max_tokens=120)
    assert trajectory.stop_reason == "context_length"
    assert trajectory.turns[-1].observation_ids == []
    assert len(trajectory.prompt_ids) + len(trajectory.completion_ids) <= 120


def test_a_prompt_without_room_is_a_trajectory_without_turns(play: Play) -> None:
    trajectory, engine = play(max_tokens=3)
    assert (trajectory.stop_reason, trajectory.turns, engine.prompts) == ("context_length", [], [])


def test_every_turn_of_every_sample_has_its_own_seed(play: Play) -> None:
    actions = [call_action("", "print(1)"), answer_action("1")]
    seeds = [params.seed for sample_seed in (0, 1) for params in play(*actions, seed=sample_seed)[1].params]
    assert len(set(seeds)) == 4
    assert seeds[:2] == [params.seed for params in play(*actions)[1].params]


def test_a_broken_sandbox_stops_the_run_and_is_never_an_observation(chat: ChatFormat) -> None:
    engine = Script(chat, [call_action("", "print(1)")] * 9)

    async def work() -> Trajectory:
        async with Sandbox() as sandbox:
            agent = Agent(engine, chat, sandbox, "script")
        return await attempt(agent, PROBLEM, 0, Sampling())  # the sandbox is closed

    with pytest.raises(SandboxError):
        asyncio.run(work())


def test_the_opening_of_an_output_ends_an_action_where_there_is_a_tool(chat: ChatFormat, play: Play) -> None:
    _, engine = play("I give up.")
    assert engine.params[0].stop_strings == chat.stop_strings == ("```output",)
    _, engine = play("I give up.", tool=False)
    assert engine.params[0].stop_strings == ()
