"""Which examples an optimizer step takes, and how they are cut into calls of the model that fit in memory.

A step is a fixed number of examples, chosen by the seed. Everything else here changes speed and memory only, never the
result: each example adds its part of the mean over the whole step, wherever it is computed.

    step  →  one list of micro-batches for each process  →  calls of the model, of sequences that are about equally long

A micro-batch is what one backward pass covers: whole examples (both sides of a pair), so many that their tokens fit a
budget. Its sequences go through the model in groups of similar length, so that little is padding. All processes make
the same number of backward passes and of calls in each, because sharded models exchange weights in every one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

Lengths = Sequence[int]

# Share of a micro-batch's tokens that may be padding before another call of the model is made instead.
PADDING = 0.03


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one backward pass covers.

    Attributes:
        examples: Which rows of the data set; empty for a process that has none left.
        calls: For each call of the model, the sequences it takes, as numbers into the sequences of `examples`, one
            example after another. An empty call is one that other processes make, too.
    """

    examples: list[int]
    calls: list[list[int]]


def plan_step(
    examples: Sequence[int], lengths: Sequence[Lengths], processes: int, budget: int
) -> list[list[MicroBatch]]:
    """Share the examples of a step between processes and cut each share into micro-batches.

    Args:
        examples: Rows of the data set.
        lengths: For every row of the data set, the tokens of each of its sequences.
        processes: How many.
        budget: Tokens of a micro-batch; an example that has more is a micro-batch of its own.

    Returns:
        For each process its micro-batches: the same number for all, with the same numbers of calls.
    """
    shares = _share(sorted(examples, key=lambda row: (-sum(lengths[row]), row)), lengths, processes)
    cut = [_cut(share, lengths, budget) for share in shares]
    count = max(map(len, cut))
    plans: list[list[MicroBatch]] = [[] for _ in shares]
    for number in range(count):
        rows = [parts[number] if number < len(parts) else [] for parts in cut]
        groups = [length_groups([size for row in part for size in lengths[row]]) for part in rows]
        calls = max(map(len, groups))
        for plan, part, group in zip(plans, rows, groups, strict=True):
            plan.append(MicroBatch(part, split_groups(group, calls)))
    return plans


def length_groups(lengths: Lengths) -> list[list[int]]:
    """Cut sequences into few groups of similar length, so that at most `PADDING` of all tokens is padding."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    groups: list[list[int]] = []
    tokens = 0
    for number in order:
        longest = lengths[groups[-1][0]] if groups else 0
        tokens += lengths[number]
        padded = sum(lengths[group[0]] * len(group) for group in groups) + longest
        if groups and padded * (1 - PADDING) <= tokens:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def split_groups(groups: list[list[int]], count: int) -> list[list[int]]:
    """As many calls as the other processes make: the largest groups are halved, then empty ones are added."""
    groups = [list(group) for group in groups]
    while len(groups) < count:
        largest = max(groups, key=len, default=[])
        if len(largest) < 2:
            return groups + [[] for _ in range(count - len(groups))]
        half = len(largest) // 2
        groups[groups.index(largest) : groups.index(largest) + 1] = [largest[:half], largest[half:]]
    return groups


class Steps(Dataset[tuple[list[MicroBatch], list[int]]]):
    """The optimizer steps of a training, as a data set: item n is this process's part of step n, a pure function of n.

    Args:
        lengths: For every row, the tokens of each of its sequences.
        size: Examples of a step, over all processes; the last step of an epoch has what is left.
        budget: Tokens of a micro-batch.
        seed: Of the order, which differs from epoch to epoch; `None` keeps the rows in theirs.
        process, processes: Which one this is, of how many.
        drop_last: Leave out an epoch's last step if it is smaller than the others.
    """

    def __init__(
        self,
        lengths: Sequence[Lengths],
        size: int,
        budget: int,
        seed: int | None,
        process: int = 0,
        processes: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.lengths, self.size, self.budget, self.seed = lengths, size, budget, seed
        self.process, self.processes = process, processes
        rounded = math.floor if drop_last and len(lengths) >= size else math.ceil
        self.per_epoch = rounded(len(lengths) / size)
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.per_epoch

    def __getitem__(self, step: int) -> tuple[list[MicroBatch], list[int]]:
        """This process's micro-batches, and the rows of the whole step."""
        epoch, number = divmod(step, self.per_epoch)
        rows = self._epoch(epoch)[number * self.size : (number + 1) * self.size]
        return plan_step(rows, self.lengths, self.processes, self.budget)[self.process], rows

    def _epoch(self, epoch: int) -> list[int]:
        if self._order[0] != epoch:
            self._order = (epoch, self._shuffled(epoch))
        return self._order[1]

    def _shuffled(self, epoch: int) -> list[int]:
        if self.seed is None:
            return list(range(len(self.lengths)))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.lengths), generator=generator).tolist()


class StepSampler(BatchSampler):
    """The numbers of an epoch's steps, one at a time; what accelerate skips when a training resumes."""

    def __init__(self, per_epoch: int) -> None:
        self.per_epoch, self.epoch = per_epoch, 0
        self.batch_size, self.drop_last = 1, False

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        first = self.epoch * self.per_epoch
        return ([step] for step in range(first, first + self.per_epoch))


class StepLoader(DataLoader[tuple[list[MicroBatch], list[int]]]):
    """Hands the trainer one optimizer step at a time."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(steps, batch_sampler=StepSampler(len(steps)), collate_fn=_only)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def _only(items: list[tuple[list[MicroBatch], list[int]]]) -> dict[str, object]:
    [(micro_batches, rows)] = items
    return {"micro_batches": micro_batches, "rows": rows}


def _share(rows: Sequence[int], lengths: Sequence[Lengths], processes: int) -> list[list[int]]:
    """Each row, from the longest on, to the process that has the fewest tokens so far."""
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for row in rows:
        least = loads.index(min(loads))
        shares[least].append(row)
        loads[least] += sum(lengths[row])
    return shares


def _cut(rows: Sequence[int], lengths: Sequence[Lengths], budget: int) -> list[list[int]]:
    """Neighbours in the order of length, as many as fit the budget."""
    parts: list[list[int]] = []
    tokens = budget + 1
    for row in rows:
        size = sum(lengths[row])
        if tokens + size > budget:
            parts.append([])
            tokens = 0
        parts[-1].append(row)
        tokens += size
    return parts
