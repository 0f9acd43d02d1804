"""The engine of a run: one for each iteration, or one that is kept and given the next weights."""

import asyncio
from pathlib import Path

import pytest

from mdpo.checkpoint import load_tokenizer
from mdpo.config import Config
from mdpo.display import Display
from mdpo.engines.base import Engine, SamplingParams
from mdpo.engines.transformers import TransformersEngine
from mdpo.errors import EngineError
from mdpo.loop import Agents
from mdpo.quickstart.policy import fresh_policy

GREEDY = SamplingParams(temperature=0, max_tokens=12)


@pytest.fixture
def policies(checkpoint: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two policies of one architecture with different weights."""
    tokenizer = load_tokenizer(checkpoint)
    fresh_policy(tokenizer, seed=1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return checkpoint, tmp_path


def agents(keep: bool) -> Agents:
    settings = {
        "policy": {"model": "unused", "dtype": "float32"},
        "problems": {"benchmark": "quickstart", "split": "train"},
        "engine": {"kind": "transformers", "keep": keep},
        "eval": {"problems": [{"benchmark": "quickstart", "split": "test"}]},
    }
    return Agents(Config.model_validate(settings), Display())


async def greedy(made: Agents, policy: Path) -> tuple[Engine, str, list[int]]:
    async with made.on(policy) as agent:
        return agent.engine, agent.policy, (await agent.engine.generate([5, 6, 7], GREEDY)).token_ids


async def alone(policy: Path) -> list[int]:
    engine = TransformersEngine(policy)
    ids = (await engine.generate([5, 6, 7], GREEDY)).token_ids
    await engine.close()
    return ids


@pytest.mark.parametrize("keep", [False, True])
def test_each_policy_of_a_run_samples_with_its_own_weights(policies: tuple[Path, Path], keep: bool) -> None:
    made = agents(keep)
    with asyncio.Runner() as loop:
        (first, _, _), (second, label, ids) = (loop.run(greedy(made, policy)) for policy in policies)
        loop.run(made.close())
        assert (first is second) == keep
        assert label == str(policies[1])
        assert ids == loop.run(alone(policies[1])) != loop.run(alone(policies[0]))


def test_no_engine_is_left_when_a_run_ends(policies: tuple[Path, Path]) -> None:
    made = agents(keep=True)
    with asyncio.Runner() as loop:
        engine, _, _ = loop.run(greedy(made, policies[0]))
        loop.run(made.close())
        with pytest.raises(EngineError):
            loop.run(engine.generate([5], GREEDY))
