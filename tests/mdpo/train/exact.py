"""The losses once more, in float64, token by token, without any of the package's code; and random data for them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mdpo.preference import Pair
from mdpo.train.stage import TrainOptions, TrainStage
from tests.mdpo.conftest import tiny_llama

BETA = 0.1


def random_pairs(count: int = 4, seed: int = 0, observations: bool = True, scale: int = 1) -> list[Pair]:
    """Pairs of unequal multi-turn trajectories: actions of 2 to 9 tokens, observations of 1 to 6."""
    generator = torch.Generator().manual_seed(seed)

    def size(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    def ids(length: int) -> list[int]:
        return torch.randint(0, 60, (length,), generator=generator).tolist()

    def side(turns: int) -> tuple[list[int], list[int]]:
        tokens: list[int] = []
        mask: list[int] = []
        for turn in range(turns):
            action = scale * size(2, 10)
            tokens += ids(action)
            mask += [1] * action
            if observations and turn < turns - 1:
                seen = size(1, 7)
                tokens += ids(seen)
                mask += [0] * seen
        return tokens, mask

    return [Pair(f"p{n}", 0, 1, ids(size(3, 9)), *side(size(1, 4)), *side(size(1, 5))) for n in range(count)]


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def two_policies(tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """A random policy and another random one for the reference, as checkpoints."""
    models = (tiny_llama(seed, len(tokenizer)), tiny_llama(seed + 100, len(tokenizer)))
    policy, reference = (save(model, tokenizer, folder / name) for model, name in zip(models, "pr", strict=True))
    return policy, reference


def stage(folder: Path, options: TrainOptions | None = None, **args: Any) -> TrainStage:
    """All pairs in one step, unless `args` say otherwise."""
    return TrainStage(
        folder / "out",
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "warmup_steps": 0, **args},
        0,
        lambda *_: None,
        options or TrainOptions(),
    )


def first_step(trainer: Any) -> tuple[float, Tensor]:
    """Loss and gradient of a trainer's first optimizer step."""
    trainer.model.zero_grad()
    [inputs] = [item for item, _ in zip(trainer.get_train_dataloader(), range(1), strict=False)]
    loss = trainer.training_step(trainer.model, inputs)
    return loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).double()


def token_logps(model: LlamaForCausalLM, prompt: list[int], ids: list[int], mask: list[int]) -> Tensor:
    """log π(a_h | s_h) of the tokens of the actions, from one unpadded forward pass."""
    logits = model(input_ids=torch.tensor([prompt + ids])).logits[0]
    places = [len(prompt) + place for place, sampled in enumerate(mask) if sampled]
    return torch.stack([logits[place - 1].log_softmax(-1)[(prompt + ids)[place]] for place in places])


class Truth:
    """A policy and a reference in float64."""

    def __init__(self, policy: Path, reference: Path) -> None:
        self.policy = LlamaForCausalLM.from_pretrained(policy, dtype=torch.float64)
        self.reference = LlamaForCausalLM.from_pretrained(reference, dtype=torch.float64)

    def ratio(
        self, prompt: list[int], ids: list[int], mask: list[int], weights: Sequence[float] | None = None
    ) -> Tensor:
        with torch.no_grad():
            fixed = token_logps(self.reference, prompt, ids, mask)
        difference = token_logps(self.policy, prompt, ids, mask) - fixed
        return sum(d * w for d, w in zip(difference, weights or [1.0] * len(difference), strict=True))  # type: ignore[return-value]

    def gradient(self, loss: Callable[["Truth"], Tensor]) -> tuple[float, Tensor]:
        self.policy.zero_grad()
        value = loss(self)
        value.backward()
        return value.item(), torch.cat([p.grad.flatten() for p in self.policy.parameters() if p.grad is not None])


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())
