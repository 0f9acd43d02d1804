from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from mdpo.chat import ChatFormat
from mdpo.checkpoint import load_model, load_tokenizer
from mdpo.data import sft_dataset
from mdpo.demonstration import Demonstration
from mdpo.train.sft import train_sft
from mdpo.train.stage import TrainStage

ARGS = {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "warmup_steps": 0}


def mean_loss(policy: Path, demonstrations: list[Demonstration]) -> float:
    """Cross entropy of the action tokens, one unpadded example at a time."""
    model = load_model(policy, torch.float32).requires_grad_(False)
    rows, _ = sft_dataset(demonstrations, ChatFormat(load_tokenizer(policy)), 512)
    total = count = 0.0
    for row in rows:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    return total / count


def test_the_actions_become_more_likely_and_the_policy_is_an_ordinary_checkpoint(
    checkpoint: Path, tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    rows, _ = sft_dataset(demonstrations, ChatFormat(tokenizer), 512)
    steps: list[int] = []
    stage = TrainStage(tmp_path, ARGS, 0, lambda step, *_: steps.append(step))
    policy = train_sft(checkpoint, rows, stage)
    assert mean_loss(policy, demonstrations) < mean_loss(checkpoint, demonstrations) - 1
    assert steps == list(range(1, 9))
    assert sorted(path.name for path in policy.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert not stage.checkpoints.exists()
