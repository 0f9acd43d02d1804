"""The words of the configuration reach the right loss."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig

from mdpo.commands import split_options
from mdpo.config import AdapterConfig, SFTConfig, TrainConfig
from mdpo.errors import ConfigError
from mdpo.train.arguments import training_arguments
from mdpo.train.stage import Adapter, TrainOptions
from mdpo.training import train_on_pairs, train_on_trajectories, train_options
from mdpo.trajectory import Trajectory, Turn
from tests.mdpo.train.exact import random_pairs, stage, two_policies


@pytest.mark.parametrize("method", ["mdpo", "dpo", "mkto", "kto"])
def test_observations_are_actions_in_the_single_turn_methods_only(
    method: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    said: list[str] = []
    where = stage(tmp_path, per_device_train_batch_size=8)
    pairs = random_pairs()
    assert train_on_pairs(policy, policy, "float32", pairs, 128, where, said.append, method) == where.policy
    observations = sum(p.chosen_mask.count(0) + p.rejected_mask.count(0) for p in pairs)
    assert f" and {observations if method.startswith('m') else 0} observation tokens" in said[0]
    assert said[0].startswith("8 examples" if method.endswith("kto") else "4 examples")


def test_raft_trains_on_right_trajectories(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    attempts = [
        Trajectory("p", n, "q", "1", "t", [1, 2], [Turn("a", [5, n], [-1.0, -1.0])], "answered", "1", n % 2, "p", {})
        for n in range(6)
    ]
    said: list[str] = []
    where = stage(tmp_path)
    assert train_on_trajectories(policy, "float32", attempts, 2, 128, where, said.append) == where.policy
    assert said[0].startswith("2 examples: 4 prompt, 4 action")


def test_the_options_of_a_recipe_are_those_of_the_training() -> None:
    config = TrainConfig(nll=0.2, turn_weights="dmpo", gamma=0.9, micro_batch_tokens=5000, adapter=AdapterConfig(r=4))
    assert train_options(config) == TrainOptions(0.2, "dmpo", 0.9, 5000, Adapter(r=4))
    assert train_options(SFTConfig(adapter=AdapterConfig())) == TrainOptions(adapter=Adapter())
    assert train_options(TrainConfig()) == TrainOptions()


def test_a_cross_entropy_belongs_to_methods_with_a_chosen_side() -> None:
    with pytest.raises(ValidationError, match="`nll` belongs to mdpo and dpo; mkto has no such term"):
        TrainConfig(method="mkto", nll=0.1)


def test_the_commands_arguments_are_options_of_the_training_or_trls() -> None:
    options, args = split_options("mdpo", {"nll": 0.1, "adapter": {"r": 4}, "beta": 0.2})
    assert (options, args) == (TrainOptions(nll=0.1, adapter=Adapter(r=4)), {"beta": 0.2})
    with pytest.raises(ConfigError, match="gamma"):
        split_options("mdpo", {"gamma": 2.0})


def test_arguments_reach_trl_and_a_step_keeps_its_number_of_examples(tmp_path: Path) -> None:
    defaults: dict[str, Any] = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 32}
    where = stage(tmp_path, report_to=["tensorboard"], per_device_train_batch_size=2, gradient_accumulation_steps=8)
    args = training_arguments(DPOConfig, where, defaults)
    assert args.report_to == ["tensorboard"]
    # TRL sees a whole step as one batch.
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (16, 1)
    assert training_arguments(DPOConfig, stage(tmp_path), defaults).report_to == []
