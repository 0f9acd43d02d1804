"""Demonstrations, trajectories and pairs as pre-tokenised data sets with masks, and the collator of pairs.

Nothing here tokenises a sampled text. A demonstration was never sampled, so its text is tokenised once, action by
action, with the chat format that the rollout uses: the policy is trained on exactly the ids that it will later see.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from mdpo.chat import ChatFormat
from mdpo.demonstration import Demonstration
from mdpo.errors import TrainingError
from mdpo.preference import Pair
from mdpo.render import observation_text
from mdpo.trajectory import Trajectory

IGNORE = -100  # the label that torch's cross entropy skips


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What a data set holds, in tokens, and how many examples were too long for it."""

    examples: int
    prompt: int
    action: int
    observation: int
    too_long: int

    def __str__(self) -> str:
        dropped = f", {self.too_long:,} dropped as too long" if self.too_long else ""
        parts = (self.prompt, self.action, self.observation)
        shares = ", ".join(f"{100 * part / max(1, sum(parts)):.0f} %" for part in parts)
        return (
            f"{self.examples:,} examples: {self.prompt:,} prompt, {self.action:,} action and "
            f"{self.observation:,} observation tokens ({shares}){dropped}"
        )


def demonstration_ids(demonstration: Demonstration, chat: ChatFormat) -> tuple[list[int], list[int]]:
    """The ids of a demonstration and its action mask, as a rollout of the same actions would have stored them."""
    ids = chat.prompt_ids(demonstration.question)
    mask = [0] * len(ids)
    # The last action has no observation.
    turns = zip(demonstration.actions, (*demonstration.observations, None), strict=True)
    for number, (action, observation) in enumerate(turns):
        action_ids = chat.action_ids(action, first=number == 0, last=observation is None)
        ids += action_ids
        mask += [1] * len(action_ids)
        if observation is not None:
            observed = chat.observation_ids(observation_text(observation), action_ids)
            ids += observed
            mask += [0] * len(observed)
    return ids, mask


def sft_dataset(
    demonstrations: Iterable[Demonstration], chat: ChatFormat, max_length: int
) -> tuple[Dataset, TokenCount]:
    """Rows of `input_ids` and `labels` (`IGNORE` outside the actions). Longer ones are dropped, never cut."""
    return _language_dataset((demonstration_ids(example, chat) for example in demonstrations), max_length)


def sequence_dataset(sequences: Iterable[tuple[list[int], list[int]]], max_length: int) -> tuple[Dataset, TokenCount]:
    """The same rows for any ids with their action masks."""
    return _language_dataset(sequences, max_length)


def trajectory_dataset(trajectories: Iterable[Trajectory], max_length: int) -> tuple[Dataset, TokenCount]:
    """The same rows for sampled trajectories (RAFT), straight from their ids."""
    sequences = ((t.prompt_ids + t.completion_ids, [0] * len(t.prompt_ids) + t.completion_mask) for t in trajectories)
    return _language_dataset(sequences, max_length)


def pair_dataset(pairs: Iterable[Pair], max_length: int) -> tuple[Dataset, TokenCount]:
    """Rows of `prompt_ids`, `chosen_ids`, `chosen_mask`, `rejected_ids`, `rejected_mask`.

    A pair with a side longer than `max_length` is dropped, never cut in the middle of an action.
    """
    rows: list[dict[str, list[int]]] = []
    prompt = action = observation = too_long = 0
    for pair in pairs:
        if len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) > max_length:
            too_long += 1
            continue
        for side, mask in (("chosen", pair.chosen_mask), ("rejected", pair.rejected_mask)):
            _check_mask(mask, f"the {side} trajectory of problem {pair.problem_id}")
            action += sum(mask)
            observation += len(mask) - sum(mask)
        prompt += 2 * len(pair.prompt_ids)
        rows.append(
            {
                "prompt_ids": pair.prompt_ids,
                "chosen_ids": pair.chosen_ids,
                "chosen_mask": pair.chosen_mask,
                "rejected_ids": pair.rejected_ids,
                "rejected_mask": pair.rejected_mask,
            }
        )
    return _dataset(rows, too_long, max_length), TokenCount(len(rows), prompt, action, observation, too_long)


@dataclass(frozen=True, slots=True)
class PairCollator:
    """Pads a batch of pairs on the right: first all chosen, then all rejected sequences, as TRL's DPO loss expects.

    Returns `input_ids`, `attention_mask` and `completion_mask`, each (2 · pairs, longest). The completion mask is the
    action mask, so observations condition the policy but are not in the loss; it is never inferred from ids, so the
    padding token may be the end-of-turn token.

    >>> collate = PairCollator(pad_token_id=0)
    >>> batch = collate([{"prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "chosen_mask": [1, 0, 1],
    ...                   "rejected_ids": [6], "rejected_mask": [1]}])
    >>> batch["input_ids"].tolist()
    [[1, 2, 3, 4, 5], [1, 2, 6, 0, 0]]
    >>> batch["completion_mask"].tolist()
    [[0, 0, 1, 0, 1], [0, 0, 1, 0, 0]]
    """

    pad_token_id: int

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows of `pair_dataset`; reference log-probabilities are passed on where a row has them."""
        sides = [(example, side) for side in ("chosen", "rejected") for example in examples]
        ids = [example["prompt_ids"] + example[f"{side}_ids"] for example, side in sides]
        mask = [[0] * len(example["prompt_ids"]) + example[f"{side}_mask"] for example, side in sides]
        batch = {
            "input_ids": _pad(ids, self.pad_token_id),
            "attention_mask": _pad([[1] * len(row) for row in ids], 0),
            "completion_mask": _pad(mask, 0),
        }
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples])
        return batch


def _language_dataset(sequences: Iterable[tuple[list[int], list[int]]], max_length: int) -> tuple[Dataset, TokenCount]:
    rows: list[dict[str, list[int]]] = []
    prompt = action = observation = too_long = 0
    for ids, mask in sequences:
        if len(ids) > max_length:
            too_long += 1
            continue
        _check_mask(mask, f"example {len(rows) + too_long}")
        first = mask.index(1)
        prompt += first
        action += sum(mask)
        observation += len(mask) - first - sum(mask)
        labels = [token if kept else IGNORE for token, kept in zip(ids, mask, strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return _dataset(rows, too_long, max_length), TokenCount(len(rows), prompt, action, observation, too_long)


def _dataset(rows: list[dict[str, list[int]]], too_long: int, max_length: int) -> Dataset:
    if not rows:
        cause = f"all {too_long} examples are longer than max_length={max_length}" if too_long else "no examples"
        raise TrainingError(f"nothing to train on: {cause}; raise `max_length` or collect more trajectories")
    return Dataset.from_list(rows)


def _check_mask(mask: list[int], what: str) -> None:
    if 1 not in mask:
        raise TrainingError(f"{what} has no action token; it cannot have come from a rollout, so check its file")


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
