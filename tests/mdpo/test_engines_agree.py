"""Both engines give trajectories that pass the same checks, and decode greedily to the same actions."""

import asyncio
from pathlib import Path

import pytest

from eval import check
from mdpo.chat import ChatFormat
from mdpo.checkpoint import load_tokenizer, resolve_checkpoint
from mdpo.collect import collect, read_asked
from mdpo.config import EngineConfig, PolicyConfig
from mdpo.display import Display
from mdpo.plan import Plan, Share
from mdpo.quickstart.problems import generate_problems
from mdpo.rollout import Sampling
from mdpo.stages import open_agent
from mdpo.trajectory import STOP_REASONS, Trajectory
from sandbox import Limits

POLICY = resolve_checkpoint("package:mdpo/quickstart/checkpoint", Path("unused"))
TALK = PolicyConfig(model=str(POLICY), dtype="float32")


def sample(kind: str, path: Path, count: int, temperature: float) -> list[Trajectory]:
    plan = Plan((Share(Sampling(temperature=temperature, horizon=4, max_action_tokens=96, max_tokens=448)),))
    problems = generate_problems("test", count)

    async def work() -> None:
        engine = EngineConfig(kind=kind)  # type: ignore[arg-type]
        async with open_agent(POLICY, TALK, engine, Limits(), 448, Display()) as agent:
            await collect(agent, problems, plan, path)

    asyncio.run(work())
    return sorted(read_asked(path, problems, plan), key=lambda t: [p.id for p in problems].index(t.problem_id))


def assert_token_exact(trajectory: Trajectory, chat: ChatFormat) -> None:
    """What the design promises of every trajectory."""
    assert trajectory.prompt_ids == chat.prompt_ids(trajectory.question)
    assert trajectory.stop_reason in STOP_REASONS
    for turn in trajectory.turns:
        finished = turn.action_ids[-1] in chat.stop_ids
        assert finished or trajectory.stop_reason in ("turn_length", "context_length")
        ended = chat.tokenizer.decode(turn.action_ids[-1:]) if finished else ""
        assert chat.tokenizer.decode(turn.action_ids) == turn.action + ended
        assert not any(token in chat.stop_ids for token in turn.action_ids[:-1])
        assert all(logprob <= 0 for logprob in turn.action_logprobs)
        if turn.observation is not None:
            assert turn.observation_ids == chat.observation_ids(turn.observation, turn.action_ids)
            assert f"```python\n{turn.code}```" in turn.action
    assert trajectory.turns[-1].observation_ids == []
    answered = trajectory.prediction is not None
    assert answered == (trajectory.stop_reason == "answered")
    assert (trajectory.reward == 1.0) == (answered and check(str(trajectory.prediction), trajectory.answer))


@pytest.mark.parametrize("kind", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_every_trajectory_is_token_exact(kind: str, tmp_path: Path) -> None:
    chat = ChatFormat(load_tokenizer(POLICY))
    trajectories = sample(kind, tmp_path / "t.jsonl", count=40, temperature=1.0)
    assert len(trajectories) == 40
    for trajectory in trajectories:
        assert_token_exact(trajectory, chat)


@pytest.mark.vllm
def test_both_engines_decode_greedily_to_the_same_actions(tmp_path: Path) -> None:
    ours, theirs = (sample(kind, tmp_path / f"{kind}.jsonl", 200, 0.0) for kind in ("transformers", "vllm"))
    same = sum(
        [turn.action_ids for turn in one.turns] == [turn.action_ids for turn in other.turns]
        for one, other in zip(ours, theirs, strict=True)
    )
    # Floating-point ties may differ.
    assert same >= 190
