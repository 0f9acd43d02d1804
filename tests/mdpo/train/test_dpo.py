"""M-DPO against the paper's equation (14), written out in float64 without any of the trainer's code."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig

from mdpo.data import PairCollator, pair_dataset
from mdpo.preference import Pair
from mdpo.train.dpo import MultiTurnDPOTrainer
from mdpo.train.stage import TrainStage, training_arguments
from tests.mdpo.conftest import tiny_llama

BETA = 0.1


def random_ids(generator: torch.Generator, count: int) -> list[int]:
    return torch.randint(0, 60, (count,), generator=generator).tolist()


def random_pairs(count: int = 4, seed: int = 0, observations: bool = True) -> list[Pair]:
    """Pairs of unequal multi-turn trajectories: actions of 2 to 9 tokens, observations of 1 to 6."""
    generator = torch.Generator().manual_seed(seed)

    def size(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    def side(turns: int) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        mask: list[int] = []
        for turn in range(turns):
            action = size(2, 10)
            ids += random_ids(generator, action)
            mask += [1] * action
            if observations and turn < turns - 1:
                seen = size(1, 7)
                ids += random_ids(generator, seen)
                mask += [0] * seen
        return ids, mask

    pairs = []
    for number in range(count):
        chosen, chosen_mask = side(size(1, 4))
        rejected, rejected_mask = side(size(1, 5))
        prompt = random_ids(generator, size(3, 9))
        pairs.append(Pair(f"p{number}", 0, 1, prompt, chosen, chosen_mask, rejected, rejected_mask))
    return pairs


def trainer_for(
    policy: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    pairs: list[Pair],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    **args: Any,
) -> MultiTurnDPOTrainer:
    stage = TrainStage(folder, {"beta": BETA, "precompute_ref_log_probs": False, **args}, 0, lambda *_: None)
    rows, _ = pair_dataset(pairs, max_length=128)
    return MultiTurnDPOTrainer(policy, reference, training_arguments(DPOConfig, stage, {}), rows, tokenizer)


def loss_and_gradient(trainer: MultiTurnDPOTrainer, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).double()


def log_probability(model: LlamaForCausalLM, prompt: list[int], ids: list[int], mask: list[int]) -> torch.Tensor:
    """Σ_h log π(a_h | s_h): one unpadded forward pass, the tokens of the actions picked one by one."""
    logits = model(input_ids=torch.tensor([prompt + ids])).logits[0]
    total = torch.zeros((), dtype=torch.float64)
    for position, (token, sampled) in enumerate(zip(ids, mask, strict=True)):
        if sampled:
            total = total + logits[len(prompt) + position - 1].log_softmax(-1)[token]
    return total


def equation_14(policy: LlamaForCausalLM, reference: LlamaForCausalLM, pairs: list[Pair]) -> tuple[float, torch.Tensor]:
    """Loss (mean over the pairs) and gradient in float64."""
    policy, reference = copy.deepcopy(policy).double(), copy.deepcopy(reference).double()
    policy.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for pair in pairs:
        ratios = []
        for ids, mask in ((pair.chosen_ids, pair.chosen_mask), (pair.rejected_ids, pair.rejected_mask)):
            with torch.no_grad():
                fixed = log_probability(reference, pair.prompt_ids, ids, mask)
            ratios.append(log_probability(policy, pair.prompt_ids, ids, mask) - fixed)
        total = total - torch.log(torch.sigmoid(BETA * (ratios[0] - ratios[1])))
    loss = total / len(pairs)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in policy.parameters()])


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_and_gradient_are_those_of_equation_14(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, seed: int
) -> None:
    policy, reference, pairs = tiny_llama(seed), tiny_llama(seed + 100), random_pairs(seed=seed)
    expected_loss, expected_gradient = equation_14(policy, reference, pairs)
    trainer = trainer_for(policy, reference, pairs, tokenizer, tmp_path)
    loss, gradient = loss_and_gradient(trainer, PairCollator(0)(list(trainer.train_dataset)))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative(gradient, expected_gradient) < 1e-5


def test_observations_are_inputs_but_never_labels(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = trainer_for(tiny_llama(0), tiny_llama(100), random_pairs(), tokenizer, tmp_path)
    batch = PairCollator(0)(list(trainer.train_dataset))
    forward, seen = trainer.model.forward, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append((kwargs["input_ids"], kwargs["labels"]))
        return forward(*args, **kwargs)

    trainer.model.forward = watched
    loss_and_gradient(trainer, batch)
    [(inputs, labels)] = seen
    assert torch.equal(inputs, batch["input_ids"])
    assert torch.equal(labels, torch.where(batch["completion_mask"] == 1, inputs, -100))


def test_training_on_observations_would_be_another_loss(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = trainer_for(tiny_llama(0), tiny_llama(100), random_pairs(), tokenizer, tmp_path)
    batch = PairCollator(0)(list(trainer.train_dataset))
    single_turn = {**batch, "completion_mask": batch["attention_mask"].clone()}
    assert loss_and_gradient(trainer, batch)[0] != pytest.approx(loss_and_gradient(trainer, single_turn)[0], rel=1e-3)


def test_padding_changes_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = trainer_for(tiny_llama(0), tiny_llama(100), random_pairs(), tokenizer, tmp_path)
    batch = PairCollator(0)(list(trainer.train_dataset))
    wider = {name: torch.nn.functional.pad(rows, [0, 17]) for name, rows in batch.items()}
    wider["input_ids"][:, -17:] = 7  # any token will do: it is masked
    loss, gradient = loss_and_gradient(trainer, batch)
    wide_loss, wide_gradient = loss_and_gradient(trainer, wider)
    assert wide_loss == pytest.approx(loss, rel=1e-5)
    assert relative(wide_gradient, gradient) < 1e-5


def test_the_composition_of_the_batch_changes_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = trainer_for(tiny_llama(0), tiny_llama(100), random_pairs(4), tokenizer, tmp_path)
    rows, collate = list(trainer.train_dataset), PairCollator(0)
    whole, gradient = loss_and_gradient(trainer, collate(rows))
    parts = [loss_and_gradient(trainer, collate([row])) for row in reversed(rows)]
    assert sum(loss for loss, _ in parts) / 4 == pytest.approx(whole, rel=1e-5)
    assert relative(sum(part for _, part in parts) / 4, gradient) < 1e-5


def test_the_loss_is_log_2_where_the_policy_is_the_reference(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = trainer_for(tiny_llama(0), tiny_llama(0), random_pairs(), tokenizer, tmp_path)
    loss, _ = loss_and_gradient(trainer, PairCollator(0)(list(trainer.train_dataset)))
    assert loss == pytest.approx(0.6931471805599453, rel=1e-6)


def test_a_step_prefers_the_chosen_trajectories(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy, pairs = tiny_llama(0), random_pairs()
    before = equation_14(policy, tiny_llama(0), pairs)[0]
    trainer = trainer_for(
        policy, tiny_llama(0), pairs, tokenizer, tmp_path, learning_rate=1e-3, max_steps=5, save_strategy="no"
    )
    trainer.train()
    trained = tiny_llama(1)
    trained.load_state_dict(policy.state_dict())
    assert equation_14(trained, tiny_llama(0), pairs)[0] < before - 0.01
