"""Whole trainings: they learn, resume exactly, say what they measure, and refuse what would have no effect."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from mdpo.checkpoint import load_model
from mdpo.data import kto_dataset, pair_dataset
from mdpo.errors import ConfigError, MissingExtraError, TrainingError
from mdpo.train import trainer as trainer_module
from mdpo.train.adapters import load_for_training
from mdpo.train.dpo import train_mdpo
from mdpo.train.kto import train_mkto
from mdpo.train.sft import train_sft
from mdpo.train.stage import Adapter, TrainOptions, TrainStage, last_complete_checkpoint
from tests.mdpo.conftest import tiny_llama
from tests.mdpo.train.exact import Truth, random_pairs, save, stage, two_policies

Train = Callable[[Path, Path, TrainStage], Path]
PAIRS = random_pairs(10)
FAST = {"learning_rate": 1e-3, "save_steps": 1, "num_train_epochs": 2}


def demonstration_rows() -> Dataset:
    rows = [
        {"input_ids": p.prompt_ids + p.chosen_ids, "labels": [-100] * len(p.prompt_ids) + p.chosen_ids} for p in PAIRS
    ]
    return Dataset.from_list(rows)


KINDS: dict[str, Train] = {
    "sft": lambda policy, reference, stage: train_sft(policy, demonstration_rows(), stage),
    "mdpo": lambda policy, reference, stage: train_mdpo(policy, reference, pair_dataset(PAIRS, 128)[0], stage),
    "mkto": lambda policy, reference, stage: train_mkto(policy, reference, kto_dataset(PAIRS, 128, 0)[0], stage),
}


class Stop(Exception):
    pass


def stop_at(step: int) -> Callable[[int, int, Mapping[str, float]], None]:
    def on_step(now: int, steps: int, metrics: Mapping[str, float]) -> None:
        if now == step:
            raise Stop

    return on_step


@pytest.mark.parametrize(
    ("kind", "adapter", "stops"),
    [
        ("sft", None, (2, 5)),  # in the first and in the second epoch
        ("sft", Adapter(r=2, dropout=0.2), (2,)),
        ("mdpo", None, (5,)),
        ("mkto", None, (5,)),
    ],
)
def test_a_training_that_was_stopped_ends_with_the_same_weights_to_the_bit(
    kind: str, adapter: Adapter | None, stops: tuple[int, ...], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    options = TrainOptions(adapter=adapter)
    whole = KINDS[kind](policy, reference, stage(tmp_path / "whole", options, **FAST))
    stopped = stage(tmp_path / "stopped", options, **FAST)
    for step in stops:
        with pytest.raises(Stop):
            KINDS[kind](policy, reference, replace(stopped, on_step=stop_at(step)))
        assert last_complete_checkpoint(stopped.checkpoints) == str(stopped.checkpoints / f"checkpoint-{step - 1}")
        assert not stopped.policy.exists()
    resumed = KINDS[kind](policy, reference, stopped)
    expected, found = (load_file(path / "model.safetensors") for path in (whole, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert any(not torch.equal(weight, load_file(policy / "model.safetensors")[name]) for name, weight in found.items())


@pytest.mark.parametrize("kind", ["mdpo", "mkto"])
def test_chosen_trajectories_become_preferred(kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    trained = KINDS[kind](policy, policy, stage(tmp_path, **FAST))
    truth = Truth(trained, policy)
    margins = [
        truth.ratio(p.prompt_ids, p.chosen_ids, p.chosen_mask)
        - truth.ratio(p.prompt_ids, p.rejected_ids, p.rejected_mask)
        for p in PAIRS
    ]
    assert sum(margins) / len(margins) > 1


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("mdpo", {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "nll_loss"}),
        ("mkto", {"rewards/chosen", "rewards/rejected", "rewards/margins", "kl"}),
    ],
)
def test_every_step_is_logged_under_the_names_of_trl(
    kind: str, names: set[str], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    KINDS[kind](policy, reference, stage(tmp_path, per_device_train_batch_size=20))
    row, _ = json.loads((tmp_path / "out" / "training.json").read_text())
    names |= {"loss", "logps/chosen", "logps/rejected", "reference_kl", "tokens_per_second", "action_tokens", "padding"}
    assert names <= row.keys()
    assert row["action_tokens"] == sum(sum(p.chosen_mask) + sum(p.rejected_mask) for p in PAIRS)
    assert row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"], rel=1e-4)
    truth = Truth(policy, reference)
    chosen = [truth.ratio(p.prompt_ids, p.chosen_ids, p.chosen_mask).item() for p in PAIRS]
    assert row["rewards/chosen"] == pytest.approx(0.1 * sum(chosen) / len(chosen), rel=1e-4)


def test_adapters_are_merged_into_an_ordinary_checkpoint(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    trained = KINDS["mdpo"](policy, policy, stage(tmp_path, TrainOptions(adapter=Adapter(r=2)), **FAST))
    assert not list(trained.glob("adapter*"))
    separate = PeftModel.from_pretrained(load_model(policy, torch.float32), tmp_path / "out" / "adapter")
    ids = torch.arange(10)[None]
    merged = AutoModelForCausalLM.from_pretrained(trained)
    torch.testing.assert_close(merged(ids).logits, separate(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.equal(merged(ids).logits, load_model(policy, torch.float32)(ids).logits)


def test_a_small_learning_rate_moves_the_weights_of_a_policy_in_bfloat16(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy = save(tiny_llama(0, len(tokenizer)).bfloat16(), tokenizer, tmp_path / "p")
    args = stage(tmp_path, learning_rate=4e-7, lr_scheduler_type="constant")
    trained = train_mdpo(policy, policy, pair_dataset(PAIRS, 128)[0], args, torch.bfloat16)
    before, after = (load_file(path / "model.safetensors") for path in (policy, trained))
    moved = [(after[name] != weight).float().mean() for name, weight in before.items() if "proj" in name]
    assert min(moved) > 0.9


def test_four_bits_need_bitsandbytes_and_a_gpu(tmp_path: Path) -> None:
    with pytest.raises((MissingExtraError, TrainingError), match="QLoRA"):
        load_for_training(tmp_path, torch.bfloat16, Adapter(quantize=True))


def test_a_collapse_of_the_chosen_trajectories_is_said_once(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer_module, "COLLAPSE_STEPS", 2)
    monkeypatch.setattr(trainer_module, "COLLAPSE_NATS", 0.01)
    policies = two_policies(tokenizer, tmp_path)
    with caplog.at_level(logging.WARNING, "mdpo"):
        # What is less likely under one policy than under the other is more likely the other way round.
        for name, (policy, reference) in (("one", policies), ("other", policies[::-1])):
            KINDS["mdpo"](policy, reference, stage(tmp_path / name, num_train_epochs=2))
    assert sum("the policy collapses; lower `learning_rate`" in message for message in caplog.messages) == 1


def test_a_loss_that_is_no_number_ends_the_training(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    args = stage(tmp_path, learning_rate=1e30, max_grad_norm=0, num_train_epochs=5)
    with pytest.raises(TrainingError, match=r"loss of step \d+ is not a finite number"):
        KINDS["sft"](policy, policy, args)
    assert not args.policy.exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"learning_rat": 1}, "learning_rat"),
        ({"output_dir": "x"}, r"`args\.output_dir` is decided by mdpo"),
        ({"loss_type": "ipo"}, r"`args\.loss_type` has no effect here: the loss is the method's"),
        ({"padding_free": True}, r"set `train\.micro_batch_tokens`"),
    ],
)
def test_arguments_that_would_do_nothing_are_named(
    args: dict[str, Any], says: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    with pytest.raises(ConfigError, match=says):
        KINDS["mdpo"](policy, policy, stage(tmp_path, **args))
