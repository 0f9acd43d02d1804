"""Log-probabilities of the reference, computed once for a data set and kept beside it.

They are kept for every action token and not summed, because a log-ratio is exact only as a sum of differences. With
them in a file the reference needs no memory while the policy is trained, and a training that resumes does not compute
them again.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from mdpo.train.batches import length_groups
from mdpo.train.head import add_action_head
from mdpo.train.sequences import Sequences, pad_batch


@dataclass(frozen=True, slots=True)
class ReferenceLogps:
    """log π_ref of every action token of a data set.

    Attributes:
        values: All of them (float32, nats), sequence after sequence.
        starts: Where each sequence's begin, and the end of the last.
        sides: How many sequences a row has.
    """

    values: Tensor
    starts: list[int]
    sides: int

    def of(self, row: int, side: int, device: torch.device) -> Tensor:
        """(action tokens,) of one sequence."""
        number = row * self.sides + side
        return self.values[self.starts[number] : self.starts[number + 1]].to(device)


def reference_logps(
    sequences: Sequences,
    reference: Path | str,
    load: Callable[[], PreTrainedModel],
    file: Path,
    *,
    how: str,
    pad: int,
    budget: int,
    bf16: bool,
) -> ReferenceLogps:
    """The reference's log-probabilities, from the file if it holds those of these sequences and weights.

    Every process computes a share, with a whole reference on its device. The file is written beside and renamed, so
    that it is complete or missing.

    Args:
        sequences: What they are of.
        reference: The checkpoint of π_ref.
        load: Loads it, as the policy is loaded.
        file: Where they are kept, a safetensors file.
        how: Everything besides the weights that they depend on: types, quantisation.
        pad: The padding token.
        budget: Tokens of a call.
        bf16: Compute in bfloat16, as the training will.
    """
    key = fingerprint(sequences, reference, f"{how}, bf16={bf16}")
    counts = torch.tensor([count for row in sequences.actions for count in row])
    starts = [0, *counts.cumsum(0).tolist()]
    values = _read(file, key)
    if values is None:
        values = _compute(sequences, load(), starts, pad, budget, bf16)
        if PartialState().is_main_process:
            _write(file, key, values)
        PartialState().wait_for_everyone()
    return ReferenceLogps(values, starts, len(sequences.sides))


def fingerprint(sequences: Sequences, reference: Path | str, how: str) -> str:
    """Names what the log-probabilities depend on: ids, masks, the content of the reference's weights, and `how`."""
    digest = hashlib.sha256(how.encode())
    for part in sequences.bytes():
        digest.update(part)
    folder = Path(reference)
    if folder.is_dir():
        for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"]):
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    else:
        # A hub id: the commit stands for the content.
        config = AutoConfig.from_pretrained(reference)
        digest.update(f"{reference} {getattr(config, '_commit_hash', None)}".encode())
    return digest.hexdigest()


@torch.no_grad()
def _compute(
    sequences: Sequences, model: PreTrainedModel, starts: list[int], pad: int, budget: int, bf16: bool
) -> Tensor:
    state = PartialState()
    add_action_head(model)
    model.eval().to(state.device)
    values = torch.zeros(starts[-1], dtype=torch.float32, device=state.device)
    sides = len(sequences.sides)
    with torch.autocast(state.device.type, torch.bfloat16, enabled=bf16):
        for rows in _calls(sequences, state.process_index, state.num_processes, budget):
            tokens = sequences.of(rows)
            for group in length_groups([len(sequence.ids) for sequence in tokens]):
                flat = model(**pad_batch([tokens[number] for number in group], pad, state.device))
                numbers = [rows[number // sides] * sides + number % sides for number in group]
                places = torch.cat([torch.arange(starts[number], starts[number + 1]) for number in numbers])
                values[places.to(state.device)] = flat
    # Each process filled its own places of zeros.
    whole: Tensor = reduce(values, "sum")
    return whole.cpu()


def _calls(sequences: Sequences, process: int, processes: int, budget: int) -> list[list[int]]:
    """This process's rows, neighbours in length together, as many as fit the budget."""
    order = sorted(range(len(sequences)), key=lambda row: (-sum(sequences.lengths[row]), row))[process::processes]
    calls: list[list[int]] = []
    room = 0
    for row in order:
        size = sum(sequences.lengths[row])
        if room < size or not calls:
            calls.append([])
            room = max(budget, size)
        calls[-1].append(row)
        room -= size
    return calls


def _read(file: Path, key: str) -> Tensor | None:
    if not file.exists():
        return None
    with safe_open(file, framework="pt") as stored:
        if (stored.metadata() or {}).get("fingerprint") != key:
            return None
        values: Tensor = stored.get_tensor("logps")
        return values


def _write(file: Path, key: str, values: Tensor) -> None:
    beside = file.with_name(file.name + ".partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"logps": values}, beside, metadata={"fingerprint": key})
    beside.replace(file)
