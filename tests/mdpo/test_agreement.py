"""Engine and trainer are compared token by token, over what was sampled and nothing else."""

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from mdpo.agreement import EXACT, Agreement, choose, logprobs, measure
from mdpo.agreement_check import check
from mdpo.checkpoint import resolve_checkpoint
from mdpo.collect import collect
from mdpo.config import EngineConfig, PolicyConfig
from mdpo.display import Display
from mdpo.errors import CheckpointError, DataError
from mdpo.plan import Plan, Share
from mdpo.quickstart.problems import generate_problems
from mdpo.rollout import Sampling
from mdpo.stages import open_agent
from mdpo.trajectory import Trajectory, TrajectoryWriter, Turn, read_trajectories
from sandbox import Limits
from tests.mdpo.adapters import random_adapter

POLICY = resolve_checkpoint("package:mdpo/quickstart/checkpoint", Path("unused"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the transformers engine sampled in float32."""
    path = tmp_path_factory.mktemp("rollout") / "trajectories.jsonl"
    plan = Plan((Share(Sampling(max_action_tokens=96, max_tokens=448)),))
    talk = PolicyConfig(model=str(POLICY), dtype="float32")

    async def work() -> None:
        async with open_agent(POLICY, talk, EngineConfig(kind="transformers"), Limits(), 448, Display()) as agent:
            await collect(agent, generate_problems("test", 30), plan, path)

    asyncio.run(work())
    return path


@pytest.fixture
def trajectories(file: Path) -> list[Trajectory]:
    return list(read_trajectories(file))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy after a step in a random direction, about as long as an iteration of training."""
    folder = tmp_path_factory.mktemp("another")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * weight.std() * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def in_float32(trajectories: list[Trajectory], policy: str | Path = POLICY, max_tokens: int = 4096) -> Agreement:
    return measure(trajectories, policy, torch.float32, device="cpu", max_tokens=max_tokens)


def with_turn(trajectory: Trajectory, number: int, change: Callable[[Turn], Turn]) -> Trajectory:
    turns = [change(turn) if i == number else turn for i, turn in enumerate(trajectory.turns)]
    return replace(trajectory, turns=turns)


def written(path: Path, trajectories: list[Trajectory]) -> Path:
    with TrajectoryWriter(path) as writer:
        for trajectory in trajectories:
            writer.append(trajectory)
    return path


def checked(path: Path, model: str | None = None, count: int = 100) -> tuple[dict[str, Agreement], str]:
    console = Console(file=io.StringIO(), width=200)
    result = check(path, model, "float32", count, 0, Display(console), path.parent / "converted")
    return result, console.file.getvalue()  # type: ignore[attr-defined]


def test_the_policy_that_sampled_agrees_to_the_last_digits(trajectories: list[Trajectory]) -> None:
    found = in_float32(trajectories)
    assert found.largest < 1e-4
    assert (found.on_policy, found.as_is, found.share_off) == (True, True, 0.0)
    assert found.relative < EXACT
    assert found.mean_weight == pytest.approx(1, abs=1e-4)
    assert found.effective_share == pytest.approx(1, abs=1e-4)


def test_another_type_differs_by_rounding(trajectories: list[Trajectory]) -> None:
    found = measure(trajectories, POLICY, torch.bfloat16, device="cpu")
    assert found.on_policy
    assert found.relative > EXACT


def test_another_policy_is_told_apart(trajectories: list[Trajectory], another: Path) -> None:
    found = in_float32(trajectories, another)
    assert not found.on_policy
    # KL(engine ‖ trainer)
    assert found.mean > 1e-3
    assert found.effective_share < 0.999


def test_an_adapters_folder_is_a_policy(trajectories: list[Trajectory], tmp_path: Path) -> None:
    random_adapter(Path(POLICY), tmp_path, seed=0)
    assert not in_float32(trajectories, tmp_path).on_policy


def test_a_corrupted_logprob_is_found_and_named(trajectories: list[Trajectory]) -> None:
    index = next(i for i, trajectory in enumerate(trajectories) if len(trajectory.turns) > 1)
    changed = with_turn(
        trajectories[index],
        1,
        lambda turn: replace(
            turn, action_logprobs=[value - 2 * (i == 3) for i, value in enumerate(turn.action_logprobs)]
        ),
    )
    found = in_float32([*trajectories[:index], changed, *trajectories[index + 1 :]])
    worst = found.worst
    assert found.largest == pytest.approx(2, abs=1e-4)
    assert (worst.problem_id, worst.sample, worst.turn, worst.position) == (changed.problem_id, changed.sample, 1, 3)
    assert worst.token_id == changed.turns[1].action_ids[3]
    history = changed.prompt_ids + changed.turns[0].action_ids + changed.turns[0].observation_ids
    assert worst.before == (history + changed.turns[1].action_ids[:3])[-len(worst.before) :]
    assert worst.trainer - worst.engine == pytest.approx(2, abs=1e-4)


def test_a_number_that_is_none_is_never_on_policy(trajectories: list[Trajectory]) -> None:
    changed = with_turn(
        trajectories[0], 0, lambda turn: replace(turn, action_logprobs=[float("nan")] * len(turn.action_ids))
    )
    assert not in_float32([changed, *trajectories[1:]]).on_policy


def test_only_sampled_tokens_count(trajectories: list[Trajectory]) -> None:
    """By hand: one forward pass over the whole trajectory, and the tokens of its actions."""
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    trajectory = next(t for t in trajectories if len(t.turns) > 1)
    ids = list(trajectory.prompt_ids)
    expected: list[float] = []
    for turn in trajectory.turns:
        for token in turn.action_ids:
            with torch.inference_mode():
                expected.append(float(model(torch.tensor([ids])).logits[0, -1].log_softmax(dim=0)[token]))
            ids.append(token)
        ids += turn.observation_ids
    torch.testing.assert_close(logprobs(model, [trajectory])[0], torch.tensor(expected), atol=1e-5, rtol=0)
    assert in_float32(trajectories).tokens == sum(len(turn.action_ids) for t in trajectories for turn in t.turns)


def test_batches_do_not_change_the_numbers(trajectories: list[Trajectory]) -> None:
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    together = torch.cat(logprobs(model, trajectories))
    alone = torch.cat([logprobs(model, [trajectory])[0] for trajectory in trajectories])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert in_float32(trajectories, max_tokens=1).tokens == in_float32(trajectories, max_tokens=10**6).tokens


def test_the_choice_follows_the_seed_and_not_the_order(trajectories: list[Trajectory]) -> None:
    chosen = choose(trajectories, 5, seed=0)
    assert choose(reversed(trajectories), 5, seed=0) == chosen
    assert choose(trajectories, 5, seed=1) != chosen
    assert len(choose(trajectories, 1000, seed=0)) == len(trajectories)


def test_ids_beyond_the_vocabulary_are_refused(trajectories: list[Trajectory]) -> None:
    changed = with_turn(trajectories[0], 0, lambda turn: replace(turn, action_ids=[787, *turn.action_ids[1:]]))
    with pytest.raises(DataError, match=f"problem {changed.problem_id}.* id 787, .* knows only 787 tokens"):
        in_float32([changed])


def test_a_trajectory_without_room_for_an_action_plays_no_part(trajectories: list[Trajectory]) -> None:
    empty = replace(trajectories[0], turns=[], stop_reason="context_length")
    assert in_float32([empty, *trajectories[1:]], max_tokens=1).trajectories == len(trajectories) - 1


def test_without_a_sampled_token_there_is_nothing_to_compare(trajectories: list[Trajectory]) -> None:
    with pytest.raises(DataError, match="no sampled token"):
        in_float32([replace(trajectories[0], turns=[])])


def test_check_compares_with_the_policy_that_the_file_names(file: Path) -> None:
    result, printed = checked(file)
    assert list(result) == [str(POLICY)]
    assert result[str(POLICY)].trajectories == 30
    assert "on-policy for this model, to the last digits" in printed
    assert "worst token   problem " in printed


def test_check_tells_another_policy_apart_without_its_tokenizer(file: Path, another: Path) -> None:
    result, printed = checked(file, str(another), count=10)
    assert result[str(another)].trajectories == 10
    assert "off: " in printed
    assert "another checkpoint" in printed


def test_check_compares_each_policy_of_a_file_with_its_own(
    trajectories: list[Trajectory], another: Path, tmp_path: Path
) -> None:
    labelled = [replace(t, policy=str(another)) if i % 2 else t for i, t in enumerate(trajectories)]
    result, _ = checked(written(tmp_path / "two.jsonl", labelled))
    assert {policy: found.on_policy for policy, found in result.items()} == {str(POLICY): True, str(another): False}


def test_a_policy_that_is_gone_is_named_with_the_way_out(trajectories: list[Trajectory], tmp_path: Path) -> None:
    path = written(tmp_path / "gone.jsonl", [replace(t, policy="/nowhere/iteration-1/policy") for t in trajectories])
    with pytest.raises(CheckpointError, match=r"/nowhere/iteration-1/policy.*--model"):
        checked(path)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    with pytest.raises(DataError, match="no trajectory"):
        checked(path)


def test_sampling_at_another_temperature_is_no_estimate_of_kl(trajectories: list[Trajectory]) -> None:
    cold = [replace(t, sampling={**t.sampling, "temperature": 0.7}) for t in trajectories]
    assert not in_float32(cold).as_is
