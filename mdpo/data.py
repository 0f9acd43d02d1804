"""Demonstrations, trajectories and pairs as pre-tokenised data sets with masks.

Nothing here tokenises a sampled text. A demonstration was never sampled, so its text is tokenised once, action by
action, with the chat format that the rollout uses: the policy is trained on exactly the ids that it will later see.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

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


def right_trajectories(trajectories: Iterable[Trajectory], per_problem: int, seed: int) -> list[Trajectory]:
    """RAFT's choice: right trajectories only, at most `per_problem` of a problem, at random (paper §3.1).

    The order of `trajectories` does not change the result; each problem has its own generator.
    """
    right: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in sorted(trajectories, key=lambda t: t.key):
        if trajectory.reward > 0.5 and trajectory.turns:
            right[trajectory.problem_id].append(trajectory)
    return [
        trajectory
        for problem_id, attempts in right.items()
        for trajectory in random.Random(f"{seed} {problem_id}").sample(attempts, min(per_problem, len(attempts)))
    ]


@dataclass(frozen=True, slots=True)
class Single:
    """One trajectory with its label, as KTO learns from it.

    Attributes:
        problem_id: Which problem it attempts.
        label: Whether it is a right (desirable) one.
        prompt_ids: The prompt.
        ids: All ids after it.
        mask: 1 where the policy sampled the id, 0 on observations.
    """

    problem_id: str
    label: bool
    prompt_ids: list[int]
    ids: list[int]
    mask: list[int]


def pair_dataset(pairs: Iterable[Pair], max_length: int, *, single_turn: bool = False) -> tuple[Dataset, TokenCount]:
    """Rows of `prompt_ids`, `chosen_ids`, `chosen_mask`, `rejected_ids`, `rejected_mask`, `margin` (M-DPO, DPO).

    A pair with a side longer than `max_length` is dropped, never cut in the middle of an action.

    Args:
        pairs: The pairs.
        max_length: In tokens, the prompt included.
        single_turn: Everything behind the first prompt counts as action, observations too (the DPO baseline).
    """
    rows: list[dict[str, Any]] = []
    counter = _Counter()
    for pair in pairs:
        if len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) > max_length:
            counter.too_long += 1
            continue
        row: dict[str, Any] = {"prompt_ids": pair.prompt_ids, "margin": pair.margin}
        for side, single in zip(("chosen", "rejected"), _singles(pair, single_turn), strict=True):
            _check_mask(single.mask, f"the {side} trajectory of problem {pair.problem_id}")
            counter.add(len(pair.prompt_ids), single.mask)
            row |= {f"{side}_ids": single.ids, f"{side}_mask": single.mask}
        rows.append(row)
    return _dataset(rows, counter.too_long, max_length), counter.total(len(rows))


def kto_dataset(
    pairs: Iterable[Pair], max_length: int, seed: int, *, single_turn: bool = False
) -> tuple[Dataset, TokenCount]:
    """Rows of `single_dataset` (M-KTO, KTO): both sides of each pair, which is how the paper's M-KTO gets its data."""
    sides = (single for pair in pairs for single in _singles(pair, single_turn))
    return single_dataset(sides, max_length, seed)


def single_dataset(
    given: Iterable[Single], max_length: int, seed: int, *, single_turn: bool = False
) -> tuple[Dataset, TokenCount]:
    """Rows of single trajectories (M-KTO, KTO), shuffled by the seed.

    Columns: `prompt_ids`, `completion_ids`, `completion_mask`, `label` (whether it is a right one), and
    `mismatched_ids`, `mismatched_mask`: the next row's trajectory that is of another problem and fits behind this
    prompt, for the estimate of the KL divergence.

    Raises:
        TrainingError: A row has no such other one.
    """
    singles: list[Single] = []
    counter = _Counter()
    for single in given:
        if len(single.prompt_ids) + len(single.ids) > max_length:
            counter.too_long += 1
            continue
        _check_mask(single.mask, f"a trajectory (right: {single.label}) of problem {single.problem_id}")
        kept = replace(single, mask=[1] * len(single.ids)) if single_turn else single
        counter.add(len(kept.prompt_ids), kept.mask)
        singles.append(kept)
    random.Random(seed).shuffle(singles)
    rows = [
        {
            "prompt_ids": single.prompt_ids,
            "completion_ids": single.ids,
            "completion_mask": single.mask,
            "label": single.label,
            "mismatched_ids": (other := _other_problem(singles, number, max_length)).ids,
            "mismatched_mask": other.mask,
        }
        for number, single in enumerate(singles)
    ]
    return _dataset(rows, counter.too_long, max_length), counter.total(len(rows))


def _singles(pair: Pair, single_turn: bool) -> tuple[Single, Single]:
    """The chosen and the rejected side."""
    chosen = [1] * len(pair.chosen_ids) if single_turn else pair.chosen_mask
    rejected = [1] * len(pair.rejected_ids) if single_turn else pair.rejected_mask
    return (
        Single(pair.problem_id, True, pair.prompt_ids, pair.chosen_ids, chosen),
        Single(pair.problem_id, False, pair.prompt_ids, pair.rejected_ids, rejected),
    )


def _other_problem(singles: Sequence[Single], number: int, max_length: int) -> Single:
    this = singles[number]
    for step in range(1, len(singles)):
        other = singles[(number + step) % len(singles)]
        if other.problem_id != this.problem_id and len(this.prompt_ids) + len(other.ids) <= max_length:
            return other
    raise TrainingError(
        f"KTO compares problem {this.problem_id} with a trajectory of another problem, and none fits behind its prompt "
        f"within max_length={max_length}; use trajectories of more problems, or raise `max_length`"
    )


@dataclass(slots=True)
class _Counter:
    """Tokens so far."""

    prompt: int = 0
    action: int = 0
    observation: int = 0
    too_long: int = 0

    def add(self, prompt: int, mask: Sequence[int]) -> None:
        self.prompt += prompt
        self.action += sum(mask)
        self.observation += len(mask) - sum(mask)

    def total(self, examples: int) -> TokenCount:
        return TokenCount(examples, self.prompt, self.action, self.observation, self.too_long)


def _language_dataset(sequences: Iterable[tuple[list[int], list[int]]], max_length: int) -> tuple[Dataset, TokenCount]:
    rows: list[dict[str, Any]] = []
    counter = _Counter()
    for ids, mask in sequences:
        if len(ids) > max_length:
            counter.too_long += 1
            continue
        _check_mask(mask, f"example {len(rows) + counter.too_long}")
        first = mask.index(1)
        counter.add(first, mask[first:])
        labels = [token if kept else IGNORE for token, kept in zip(ids, mask, strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return _dataset(rows, counter.too_long, max_length), counter.total(len(rows))


def _dataset(rows: list[dict[str, Any]], too_long: int, max_length: int) -> Dataset:
    if not rows:
        cause = f"all {too_long} examples are longer than max_length={max_length}" if too_long else "no examples"
        raise TrainingError(f"nothing to train on: {cause}; raise `max_length` or collect more trajectories")
    return Dataset.from_list(rows)


def _check_mask(mask: list[int], what: str) -> None:
    if 1 not in mask:
        raise TrainingError(f"{what} has no action token; it cannot have come from a rollout, so check its file")
