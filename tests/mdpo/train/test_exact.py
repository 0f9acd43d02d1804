"""Loss and gradient of every method against the formulas, written out in float64 without any of the trainers' code."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mdpo.data import kto_dataset, pair_dataset, trajectory_dataset
from mdpo.preference import Pair
from mdpo.train.dpo import mdpo_trainer
from mdpo.train.kto import mkto_trainer
from mdpo.train.sft import sft_trainer
from mdpo.train.stage import TrainOptions
from mdpo.trajectory import Trajectory, Turn
from tests.mdpo.train.exact import BETA, Truth, first_step, random_pairs, relative, stage, token_logps, two_policies

Masks = Callable[[list[int]], list[int]]


def own(mask: list[int]) -> list[int]:
    return mask


def everything(mask: list[int]) -> list[int]:
    return [1] * len(mask)


def equation_14(pairs: list[Pair], masks: Masks = own, **terms: Any) -> Callable[[Truth], Tensor]:
    """Mean over the pairs of M-DPO's loss, with what may be added to it."""
    smoothing, margins, nll = terms.get("smoothing", 0.0), terms.get("margins", [0.0] * len(pairs)), terms.get("nll", 0)

    def loss(truth: Truth) -> Tensor:
        total, cross_entropy = 0.0, []
        for pair, margin in zip(pairs, margins, strict=True):
            chosen = truth.ratio(pair.prompt_ids, pair.chosen_ids, masks(pair.chosen_mask))
            rejected = truth.ratio(pair.prompt_ids, pair.rejected_ids, masks(pair.rejected_mask))
            u = BETA * (chosen - rejected) + margin
            total = total - (1 - smoothing) * torch.log(torch.sigmoid(u)) - smoothing * torch.log(1 - torch.sigmoid(u))
            cross_entropy.append(-token_logps(truth.policy, pair.prompt_ids, pair.chosen_ids, masks(pair.chosen_mask)))
        return total / len(pairs) + nll * torch.cat(cross_entropy).mean()

    return loss


def check(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert relative(found[1], expected[1]) < 1e-5


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("masks", [own, everything], ids=["mdpo", "dpo"])
def test_loss_and_gradient_of_mdpo_and_dpo(
    masks: Masks, seed: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path, seed)
    pairs = random_pairs(seed=seed)
    rows, _ = pair_dataset(pairs, 128, single_turn=masks is everything)
    trainer, _ = mdpo_trainer(policy, reference, rows, stage(tmp_path, beta=BETA))
    check(first_step(trainer), Truth(policy, reference).gradient(equation_14(pairs, masks)))


def test_loss_and_gradient_with_label_smoothing_margins_and_cross_entropy(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    pairs, margins = random_pairs(), [0.3, -0.2, 0.0, 1.0]
    rows, _ = pair_dataset([replace(pair, margin=margin) for pair, margin in zip(pairs, margins, strict=True)], 128)
    args = stage(tmp_path, TrainOptions(nll=0.7), label_smoothing=0.1)
    trainer, _ = mdpo_trainer(policy, reference, rows, args)
    expected = equation_14(pairs, smoothing=0.1, margins=margins, nll=0.7)
    check(first_step(trainer), Truth(policy, reference).gradient(expected))


@pytest.mark.parametrize("gamma", [0.7, 1.0])
@pytest.mark.parametrize("form", ["dmpo", "dmpo_discounted"])
def test_turns_are_weighted_as_in_dmpo(
    form: Any, gamma: float, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    pairs = random_pairs()

    def weights(mask: list[int]) -> list[float]:
        turns = "".join(map(str, mask)).replace("01", "0|1").split("|")  # each piece is one action and its observation
        count = len(turns)
        phi = [(1 - gamma ** (count - t)) / (1 - gamma**count) if gamma < 1 else (count - t) / count
               for t in range(count)]  # fmt: skip
        if form == "dmpo_discounted":
            phi = [value * gamma**t for t, value in enumerate(phi)]
        return [phi[t] for t, turn in enumerate(turns) for _ in range(turn.count("1"))]

    def loss(truth: Truth) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for p in pairs:
            chosen = truth.ratio(p.prompt_ids, p.chosen_ids, p.chosen_mask, weights(p.chosen_mask))
            rejected = truth.ratio(p.prompt_ids, p.rejected_ids, p.rejected_mask, weights(p.rejected_mask))
            total = total - torch.log(torch.sigmoid(BETA * (chosen - rejected)))
        return total / len(pairs)

    options = TrainOptions(turn_weights=form, gamma=gamma)
    trainer, _ = mdpo_trainer(policy, reference, pair_dataset(pairs, 128)[0], stage(tmp_path, options))
    check(first_step(trainer), Truth(policy, reference).gradient(loss))


@pytest.mark.parametrize("swap", [False, True], ids=["z0 clamped", "z0 above 0"])
@pytest.mark.parametrize("masks", [own, everything], ids=["mkto", "kto"])
def test_loss_and_gradient_of_mkto_and_kto(
    masks: Masks, swap: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path, seed=int(swap) * 7)
    pairs = random_pairs()
    rows, _ = kto_dataset(pairs, 128, seed=0, single_turn=masks is everything)
    mask_of = {tuple(ids): mask for p in pairs
               for ids, mask in ((p.chosen_ids, p.chosen_mask), (p.rejected_ids, p.rejected_mask))}  # fmt: skip
    right = {tuple(p.chosen_ids) for p in pairs}
    problem_of = {tuple(ids): p.problem_id for p in pairs for ids in (p.chosen_ids, p.rejected_ids)}
    seen = []

    def loss(truth: Truth) -> Tensor:
        mismatched = []
        for row in rows:
            ids = row["mismatched_ids"]
            assert problem_of[tuple(ids)] != problem_of[tuple(row["completion_ids"])]
            mismatched.append(truth.ratio(row["prompt_ids"], ids, masks(mask_of[tuple(ids)])).item())
        z0 = max(0.0, sum(mismatched) / len(mismatched))
        seen.append(z0)
        total = torch.zeros((), dtype=torch.float64)
        for row in rows:
            ids = row["completion_ids"]
            ratio = truth.ratio(row["prompt_ids"], ids, masks(mask_of[tuple(ids)]))
            if tuple(ids) in right:
                total = total + 1.5 * (1 - torch.sigmoid(BETA * (ratio - z0)))
            else:
                total = total + 0.8 * (1 - torch.sigmoid(BETA * (z0 - ratio)))
        return total / len(rows)

    args = stage(tmp_path, per_device_train_batch_size=8, desirable_weight=1.5, undesirable_weight=0.8)
    first, second = (reference, policy) if swap else (policy, reference)
    truth = Truth(first, second)
    expected = truth.gradient(loss)
    trainer, _ = mkto_trainer(first, second, rows, args)
    check(first_step(trainer), expected)
    assert (seen[0] > 0) is swap


def test_loss_and_gradient_of_sft_and_raft(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    turns = [Turn("a", [5, 6], [-1.0, -1.0], "x", "o", [7, 8], "ok"), Turn("b", [9], [-1.0])]
    attempts = [
        Trajectory("p", n, "q", "1", "t", [1, 2, n], turns[n % 2 :], "answered", "1", 1.0, "p", {}) for n in range(3)
    ]

    def loss(truth: Truth) -> Tensor:
        return -torch.cat(
            [token_logps(truth.policy, t.prompt_ids, t.completion_ids, t.completion_mask) for t in attempts]
        ).mean()

    trainer, _ = sft_trainer(policy, trajectory_dataset(attempts, 128)[0], stage(tmp_path))
    check(first_step(trainer), Truth(policy, reference).gradient(loss))


def test_without_tool_calls_mdpo_is_dpo(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    pairs = random_pairs(observations=False)
    steps = []
    for single_turn in (False, True):
        rows, _ = pair_dataset(pairs, 128, single_turn=single_turn)
        steps.append(first_step(mdpo_trainer(policy, reference, rows, stage(tmp_path / str(single_turn)))[0]))
    assert steps[0][0] == steps[1][0]
    assert torch.equal(steps[0][1], steps[1][1])


def test_training_on_observations_is_another_loss(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    losses = []
    for single_turn in (False, True):
        rows, _ = pair_dataset(random_pairs(), 128, single_turn=single_turn)
        losses.append(first_step(mdpo_trainer(policy, reference, rows, stage(tmp_path / str(single_turn)))[0])[0])
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_where_the_policy_is_the_reference_the_loss_is_log_2_and_a_half(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, _ = two_policies(tokenizer, tmp_path)
    pairs = random_pairs()
    trainer, _ = mdpo_trainer(policy, policy, pair_dataset(pairs, 128)[0], stage(tmp_path))
    assert first_step(trainer)[0] == pytest.approx(math.log(2), rel=1e-6)
    rows, _ = kto_dataset(pairs, 128, seed=0)
    trainer, _ = mkto_trainer(policy, policy, rows, stage(tmp_path, per_device_train_batch_size=8))
    assert first_step(trainer)[0] == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
@pytest.mark.parametrize(("examples", "accumulated"), [(4, 1), (2, 2), (1, 4)])
def test_how_a_step_is_cut_changes_nothing(
    budget: int, examples: int, accumulated: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    args = {"per_device_train_batch_size": examples, "gradient_accumulation_steps": accumulated}
    pairs = random_pairs()
    options = TrainOptions(micro_batch_tokens=budget, nll=0.3)
    trainer, _ = mdpo_trainer(policy, reference, pair_dataset(pairs, 128)[0], stage(tmp_path, options, **args))
    check(first_step(trainer), Truth(policy, reference).gradient(equation_14(pairs, nll=0.3)))


def test_the_order_of_the_rows_changes_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    pairs = random_pairs()
    rows, _ = pair_dataset(pairs[::-1], 128)
    trainer, _ = mdpo_trainer(policy, reference, rows, stage(tmp_path))
    check(first_step(trainer), Truth(policy, reference).gradient(equation_14(pairs)))


def test_the_padding_token_may_be_the_end_of_turn(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    pad = tokenizer.convert_tokens_to_ids("<|end|>")
    pairs = [Pair(p.problem_id, 0, 1, p.prompt_ids, [*p.chosen_ids, pad], [*p.chosen_mask, 1],
                  [*p.rejected_ids, pad], [*p.rejected_mask, 1]) for p in random_pairs()]  # fmt: skip
    trainer, job = mdpo_trainer(policy, reference, pair_dataset(pairs, 128)[0], stage(tmp_path))
    job.tokenizer.pad_token = "<|end|>"
    assert trainer._pad == pad
    check(first_step(trainer), Truth(policy, reference).gradient(equation_14(pairs)))


def test_gradient_checkpointing_changes_nothing_and_bfloat16_little(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy, reference = two_policies(tokenizer, tmp_path)
    pairs = random_pairs()
    rows, _ = pair_dataset(pairs, 128)
    expected = Truth(policy, reference).gradient(equation_14(pairs))
    trainer, _ = mdpo_trainer(policy, reference, rows, stage(tmp_path / "one", gradient_checkpointing=True))
    trainer.model.gradient_checkpointing_enable()  # as `train` does
    check(first_step(trainer), expected)
    trainer, _ = mdpo_trainer(policy, reference, rows, stage(tmp_path / "two", bf16=True))
    with torch.autocast("cpu", torch.bfloat16):  # as accelerate wraps the model
        loss, gradient = first_step(trainer)
    assert loss == pytest.approx(expected[0], rel=0.1)
    assert relative(gradient, expected[1]) < 0.2
