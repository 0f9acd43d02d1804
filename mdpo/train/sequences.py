"""The sequences of a data set's rows: their ids, their action masks and how long they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from mdpo.data import IGNORE


@dataclass(frozen=True, slots=True)
class Side:
    """The columns that hold one of a row's sequences.

    Attributes:
        ids: Its ids, without the prompt if that has a column of its own.
        mask: 1 on action tokens; or labels, which are `IGNORE` elsewhere.
        prompt: The ids before it.
    """

    ids: str
    mask: str
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence: its ids and its action mask, equally long."""

    ids: list[int]
    mask: list[int]

    @property
    def turns(self) -> list[int]:
        """The number, from 0, of the turn that each action token belongs to: a run of the mask is a turn."""
        starts = [now > before for before, now in zip([0, *self.mask], self.mask, strict=False)]
        numbers = np.cumsum(starts)[np.array(self.mask, dtype=bool)] - 1
        return [int(number) for number in numbers]


class Sequences:
    """The sequences of a data set, read when they are needed.

    Attributes:
        lengths: For every row, the tokens of each of its sequences.
        actions: For every row, the action tokens of each of its sequences.
    """

    def __init__(self, dataset: Dataset, sides: Sequence[Side]) -> None:
        self._dataset, self.sides = dataset, tuple(sides)
        self._table = dataset.with_format("arrow")[:]
        self.lengths = _rows(self._length(side) for side in self.sides)
        self.actions = _rows(self._action_count(side) for side in self.sides)

    def __len__(self) -> int:
        return len(self._dataset)

    def of(self, rows: Sequence[int]) -> list[Tokens]:
        """The sequences of some rows, row after row, each row's in the order of the sides."""
        columns = self._dataset[list(rows)]
        return [_tokens(columns, side, number) for number in range(len(rows)) for side in self.sides]

    def bytes(self) -> list[bytes]:
        """All that a model's log-probabilities of the sequences depend on, for a fingerprint."""
        names = [name for side in self.sides for name in (side.prompt, side.ids, side.mask) if name is not None]
        return [part.tobytes() for name in names for part in self._values(name)]

    def _values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column's numbers, one row behind the other, and how many each row has."""
        column = self._table.column(name).combine_chunks()
        return column.flatten().to_numpy(zero_copy_only=False), column.value_lengths().to_numpy(zero_copy_only=False)

    def _length(self, side: Side) -> np.ndarray:
        lengths = self._values(side.ids)[1]
        return lengths if side.prompt is None else lengths + self._values(side.prompt)[1]

    def _action_count(self, side: Side) -> np.ndarray:
        values, lengths = self._values(side.mask)
        kept = values != (IGNORE if side.mask == "labels" else 0)
        ends = np.cumsum(lengths)
        totals = np.concatenate([[0], np.cumsum(kept)])
        counts: np.ndarray = totals[ends] - totals[ends - lengths]
        return counts


def pad_batch(sequences: Sequence[Tokens], pad: int, device: torch.device) -> dict[str, Tensor]:
    """The arguments of a model with an action head: `input_ids` and `action_mask`, (sequences, longest)."""
    longest = max(len(tokens.ids) for tokens in sequences)
    ids = [tokens.ids + [pad] * (longest - len(tokens.ids)) for tokens in sequences]
    mask = [tokens.mask + [0] * (longest - len(tokens.mask)) for tokens in sequences]
    return {"input_ids": torch.tensor(ids, device=device), "action_mask": torch.tensor(mask, device=device)}


def _tokens(columns: dict[str, list[list[int]]], side: Side, number: int) -> Tokens:
    ids, mask = columns[side.ids][number], columns[side.mask][number]
    if side.mask == "labels":
        mask = [int(label != IGNORE) for label in mask]
    if side.prompt is not None:
        prompt = columns[side.prompt][number]
        ids, mask = prompt + ids, [0] * len(prompt) + mask
    # The first token of all is predicted from nothing.
    return Tokens(ids, [0, *mask[1:]])


def _rows(columns: Iterable[np.ndarray]) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.stack(list(columns), axis=1).tolist()]
