"""What is known to go wrong in published code for tool-integrated rollouts, shown to be impossible here.

Each test is named by what holds instead. The mistakes are those of the code published with the paper.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mdpo.chat import ChatFormat
from mdpo.collect import collect
from mdpo.config import RolloutConfig
from mdpo.data import pair_dataset
from mdpo.options import Bounds
from mdpo.plan import Plan, Share
from mdpo.preference import make_pairs
from mdpo.render import answer_action, call_action
from mdpo.rollout import Agent, Sampling, attempt
from mdpo.trajectory import Trajectory, read_trajectories
from sandbox import Sandbox, SandboxError
from tests.mdpo.scripted import PROBLEM, Play, Script, Solver

Played = Callable[..., Trajectory]


@pytest.fixture
def play(play: Play) -> Played:
    """One attempt; only the trajectory matters here."""
    return lambda *actions, **settings: play(*actions, **settings)[0]


def observation(trajectory: Trajectory, turn: int = 0) -> str:
    return str(trajectory.turns[turn].observation)


# Prompts


def test_every_prompt_holds_the_question(chat: ChatFormat, play: Played) -> None:
    assert PROBLEM.question in chat.tokenizer.decode(play("I give up.").prompt_ids)


def test_an_engine_gets_ids_and_so_nothing_tokenises_a_prompt_again(chat: ChatFormat) -> None:
    engine = Script(chat, [call_action("", "print(1)"), answer_action("1")])

    async def work() -> Trajectory:
        async with Sandbox() as sandbox:
            return await attempt(Agent(engine, chat, sandbox, "script"), PROBLEM, 0, Sampling())

    trajectory = asyncio.run(work())
    assert engine.prompts[0] == trajectory.prompt_ids
    assert engine.prompts[1][: len(trajectory.prompt_ids)] == trajectory.prompt_ids


# Sampling


def test_limits_and_nucleus_reach_the_engine(chat: ChatFormat) -> None:
    engine = Script(chat, ["I give up."])
    sampling = Sampling(max_action_tokens=77, top_p=0.9, temperature=0.3, tool=False)
    asyncio.run(attempt(Agent(engine, chat, None, "script"), PROBLEM, 0, sampling))
    params = engine.params[0]
    assert (params.max_tokens, params.top_p, params.temperature) == (77, 0.9, 0.3)


def test_collecting_and_evaluating_have_the_same_horizon_and_limits() -> None:
    config, options, plain = RolloutConfig(), Bounds(), Sampling()
    for name in ("horizon", "max_action_tokens", "max_tokens", "max_calls", "box_with_code"):
        assert getattr(config, name) == getattr(options, name) == getattr(plain, name)


def test_no_two_samples_of_a_problem_share_a_seed(chat: ChatFormat, tmp_path: Path) -> None:
    engine = Solver(chat)
    plan = Plan((Share(Sampling(tool=False), 30),))
    asyncio.run(collect(Agent(engine, chat, None, "script"), [PROBLEM], plan, tmp_path / "t.jsonl"))
    assert len({params.seed for params in engine.params}) == 30


def test_rollouts_are_sampled_and_not_greedy_by_default() -> None:
    assert RolloutConfig().temperature == Sampling().temperature == 1.0


# Programs


def test_a_program_in_the_question_is_not_run(play: Played) -> None:
    trajectory = play("Hm.", problem=replace(PROBLEM, question="What does this print?\n```python\nprint(1)\n```"))
    assert (trajectory.stop_reason, trajectory.calls) == ("no_code", 0)


def test_a_program_in_an_observation_is_not_run(play: Played) -> None:
    trajectory = play(call_action("", r"print('```python\nprint(666)\n```')"), "Hm.")
    assert (trajectory.stop_reason, trajectory.calls) == ("no_code", 1)


def test_a_cut_program_is_not_run_and_no_earlier_output_is_shown_for_it(play: Played) -> None:
    trajectory = play(call_action("", "x = 1"), "```python\nprint(x" + " + x" * 200, max_action_tokens=60)
    assert (trajectory.stop_reason, trajectory.calls) == ("turn_length", 1)
    assert trajectory.turns[1].observation is None


def test_fences_of_other_languages_run_nothing(play: Played) -> None:
    trajectory = play("```text\nprint(1)\n```\n```python\nprint(2)\n```\n```json\n{}\n```", "Hm.")
    assert observation(trajectory) == "```output\n2\n```"


def test_a_program_beside_a_box_is_run(play: Played) -> None:
    trajectory = play("Perhaps \\boxed{41}.\n```python\nprint(6 * 7)\n```", answer_action("42"))
    assert (trajectory.calls, trajectory.prediction) == (1, "42")


@pytest.mark.parametrize(
    ("code", "output"), [('print("a\\nb")', "a\nb"), ("print('\\\\frac')", "\\frac"), ("print(r'\\d')", "\\d")]
)
def test_backslashes_of_a_program_are_left_as_they_are(play: Played, code: str, output: str) -> None:
    assert observation(play(call_action("", code), "Hm.")) == f"```output\n{output}\n```"


def test_a_turn_is_not_run_again_in_the_next_one(play: Played) -> None:
    actions = [call_action("", "print('once')"), call_action("", "print('twice')"), "Hm."]
    assert observation(play(*actions), 1) == "```output\ntwice\n```"


# Observations


def test_long_output_is_cut_in_the_middle(play: Played) -> None:
    shown = observation(play(call_action("", "print('a' * 5000 + 'z')"), "Hm.", max_tokens=4000))
    assert len(shown) < 2400
    assert shown.endswith("z\n```")


def test_a_broken_sandbox_ends_the_run_with_an_error_and_not_the_process(chat: ChatFormat, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    plan = Plan((Share(Sampling(), 1),))

    async def work() -> None:
        async with Sandbox() as sandbox:
            agent = Agent(Script(chat, [call_action("", "print(1)")] * 9), chat, sandbox, "script")
        await collect(agent, [PROBLEM], plan, path)  # the sandbox is closed

    with pytest.raises(SandboxError):
        asyncio.run(work())
    assert list(read_trajectories(path)) == []


# What is stored, and what is judged


def test_the_end_of_the_horizon_writes_nothing_into_the_policys_mouth(chat: ChatFormat, play: Played) -> None:
    actions = [call_action("", "print(42)")] * 2
    trajectory = play(*actions, horizon=2)
    assert [turn.action for turn in trajectory.turns] == actions
    assert [turn.action_ids for turn in trajectory.turns] == [chat.action_ids(action) for action in actions]
    assert trajectory.turns[-1].observation_ids == []


def test_an_output_is_never_judged_as_the_answer(play: Played) -> None:
    for actions in ([call_action("", "print(42)")] * 2, [call_action("", r"print('\\boxed{42}')"), "Hm."]):
        trajectory = play(*actions, horizon=2)
        assert (trajectory.prediction, trajectory.reward) == (None, 0.0)


def test_a_rule_in_an_action_cuts_nothing_off(play: Played) -> None:
    action = "First.\n\n---\n\nThen.\n\n---\n" + answer_action("42")
    trajectory = play(action)
    assert trajectory.turns[0].action == action
    assert trajectory.prediction == "42"


def test_an_action_that_repeats_the_question_is_kept_whole(play: Played) -> None:
    action = f"{PROBLEM.question} {PROBLEM.question} {answer_action('42')}"
    assert play(action).turns[0].action == action


# Labels and masks


def test_every_sample_can_become_part_of_a_pair(play: Played) -> None:
    call = call_action("", "print(6 * 7)")
    wrong = [replace(play(call, answer_action(str(n))), sample=n) for n in (1, 2)]
    right = replace(play(call_action("So", "print(42)"), answer_action("42")), sample=3)
    pairs, _ = make_pairs([wrong[0], right])
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(3, 1)]


def test_a_failed_program_drops_a_right_trajectory_and_not_a_wrong_one(play: Played) -> None:
    failed = call_action("", "1 / 0")
    lucky = replace(play(failed, answer_action("42")), sample=1)
    unlucky = replace(play(failed, answer_action("41")), sample=2)
    right = replace(play(call_action("", "print(42)"), answer_action("42")), sample=3)
    pairs, count = make_pairs([lucky, unlucky, right])
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(3, 2)]
    assert count.dropped == {"right_after_a_failed_call": 1}


def test_the_mask_keeps_what_was_sampled_and_nothing_of_the_template(chat: ChatFormat, play: Played) -> None:
    call, wrong, right = call_action("", "print(42)"), answer_action("41"), answer_action("42")
    chosen = replace(play(call, right), sample=1)
    rejected = replace(play(call_action("So", "print(42)"), wrong), sample=2)
    rows, _ = pair_dataset(make_pairs([chosen, rejected])[0], max_length=4000)
    kept = [token for token, mask in zip(rows[0]["chosen_ids"], rows[0]["chosen_mask"], strict=True) if mask]
    assert kept == chat.action_ids(call) + chat.action_ids(right)
    assert rows[0]["chosen_ids"] == chosen.completion_ids  # the mask is beside the ids and never written into them
