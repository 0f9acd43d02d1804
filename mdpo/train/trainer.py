"""What the three trainers share: a step of exact size, computed in as little memory and time as it needs.

`StepTrainer` stands in front of a TRL trainer. TRL's brings the model, adapters, the optimizer, checkpoints, logging
and everything distributed; this class replaces how a step is made of examples and how log-probabilities are computed.
A subclass says what the loss of some examples is.
"""

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn

from mdpo.train.batches import MicroBatch, StepLoader, Steps
from mdpo.train.head import add_action_head, check_action_head
from mdpo.train.losses import turn_weights
from mdpo.train.sequences import Sequences, Tokens, pad_batch
from mdpo.train.stage import TurnWeights

_LOG = logging.getLogger(__name__)

# Warn when chosen trajectories have lost this much log-probability, in nats an action token, over so many steps.
COLLAPSE_NATS, COLLAPSE_STEPS = 0.5, 10

Measures = dict[str, tuple[Tensor | float, float]]


@dataclass(frozen=True, slots=True)
class Work:
    """What a trainer works on, and how it is cut.

    Attributes:
        sequences: Of the rows that are trained on.
        budget: Tokens of a micro-batch.
        turn_weights, gamma: DMPO's weights of the turns; `None`: all turns count alike.
    """

    sequences: Sequences
    budget: int
    turn_weights: TurnWeights | None = None
    gamma: float = 0.7


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the loss of a whole optimizer step, over all processes, is a mean over."""

    examples: int
    actions: tuple[int, ...]
    """Action tokens of each side."""


class StepTrainer:
    """In front of a TRL trainer; see the module.

    Args:
        work: The sequences and how they are cut.
        kwargs: What TRL's trainer takes.
    """

    # The names that a step of this trainer measures, in an order that all processes share.
    measured: tuple[str, ...] = ()

    def __init__(self, *, work: Work, **kwargs: Any) -> None:
        self.work = work
        self._checked = False
        self._recent: list[float] = []
        self._warned = False
        self._tokens = self._seconds = 0.0
        self._total_train_tokens = 0
        super().__init__(**kwargs)
        model: Any = self.model  # type: ignore[attr-defined]
        add_action_head(model.get_base_model() if isinstance(model, PeftModel) else model)

    def micro_loss(self, model: nn.Module, micro: MicroBatch, totals: StepTotals) -> tuple[Tensor, Measures]:
        """This micro-batch's part of the step's loss, and its parts of what is measured, as (sum, count)."""
        raise NotImplementedError

    def begin_step(self, model: nn.Module, rows: Sequence[int]) -> None:
        """Called once a step, by all processes, with the rows of the whole step."""

    # -- what the loss is made of

    def logps(self, model: nn.Module, tokens: Sequence[Tokens], calls: Sequence[Sequence[int]]) -> list[Tensor]:
        """(action tokens,) log-probabilities of each sequence. An empty call adds nothing to any of them."""
        found: dict[int, Tensor] = {}
        idle: Tensor | float = 0.0
        for call in calls:
            group = [tokens[number] for number in call] or [Tokens([0, 0], [0, 1])]
            flat = model(**pad_batch(group, self._pad, self.accelerator.device))  # type: ignore[attr-defined]
            if not call:
                idle = idle + 0.0 * flat.sum()
                continue
            parts = flat.split([sum(sequence.mask) for sequence in group])
            found.update(zip(call, parts, strict=True))
        if not tokens:
            return [torch.as_tensor(idle)]
        return [found[number] + idle for number in range(len(tokens))]

    def weights(self, tokens: Tokens, device: torch.device) -> Tensor | None:
        """(action tokens,) weight of each token's turn, `None` if all count alike."""
        if self.work.turn_weights is None:
            return None
        values = turn_weights(tokens.turns, self.work.gamma, self.work.turn_weights)
        return torch.tensor(values, dtype=torch.float64, device=device)

    # -- what the trainer calls

    def get_train_dataloader(self) -> StepLoader:
        """One item is one optimizer step; see `mdpo.train.batches`."""
        args = self.args  # type: ignore[attr-defined]
        state = self.accelerator.state  # type: ignore[attr-defined]
        size = args.per_device_train_batch_size * state.num_processes
        seed = args.seed if args.data_seed is None else args.data_seed
        steps = Steps(
            self.work.sequences.lengths,
            size,
            self.work.budget,
            seed,
            state.process_index,
            state.num_processes,
            args.dataloader_drop_last,
        )
        return StepLoader(steps)

    def num_examples(self, dataloader: Any) -> int:
        """Examples, not steps."""
        return len(self.work.sequences)

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        """6 · parameters · tokens of this process's part of a step."""
        rows = [row for micro in inputs["micro_batches"] for row in micro.examples]
        tokens = sum(sum(self.work.sequences.lengths[row]) for row in rows)
        parameters: int = self.model.num_parameters(exclude_embeddings=True)  # type: ignore[attr-defined]
        return 6.0 * parameters * tokens

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a whole optimizer step; gradients are exchanged with its last micro-batch.

        Returns:
            The step's loss times the number of processes, in this process's part: their mean is the loss.
        """
        started = time.monotonic()
        model.train()
        accelerator = self.accelerator  # type: ignore[attr-defined]
        processes = accelerator.num_processes
        micro_batches, rows = inputs["micro_batches"], inputs["rows"]
        self._check_head(model, rows)
        totals = self.totals(rows)
        self.begin_step(model, rows)
        loss = torch.zeros((), device=accelerator.device)
        sums: defaultdict[str, list[Any]] = defaultdict(lambda: [0.0, 0.0])
        for number, micro in enumerate(micro_batches):
            with self._exchange(model, last=number == len(micro_batches) - 1):
                part, measures = self.micro_loss(model, micro, totals)
                # Data parallelism takes the mean over the processes, and the parts are to be added.
                accelerator.backward(part.float() * processes, **self._backward_args())
            loss += part.detach().float() * processes
            for name, (value, count) in measures.items():
                sums[name][0] += value
                sums[name][1] += count
        self._record(sums, totals, micro_batches, time.monotonic() - started)
        return loss

    def totals(self, rows: Sequence[int]) -> StepTotals:
        """What the mean over these rows is taken over."""
        sides = zip(*(self.work.sequences.actions[row] for row in rows), strict=True)
        return StepTotals(len(rows), tuple(sum(side) for side in sides))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last log; TRL's trainers add `self._metrics` themselves."""
        if self._seconds and "loss" in logs:
            logs["tokens_per_second"] = self._tokens / self._seconds
            self._tokens = self._seconds = 0.0
        self._total_train_tokens = 0
        super().log(logs, start_time)  # type: ignore[misc]

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        # TRL would tokenise text here. Ours are ids already, and stay the ids that were sampled.
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any) -> Dataset:
        # Computed before, token by token; see `mdpo.train.reference`.
        return dataset

    # -- the parts of a step

    @property
    def _pad(self) -> int:
        pad: int | None = self.processing_class.pad_token_id  # type: ignore[attr-defined]
        return 0 if pad is None else pad

    @contextlib.contextmanager
    def _exchange(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Exchange gradients between processes in this backward pass, or only add them up."""
        accelerator = self.accelerator  # type: ignore[attr-defined]
        # DeepSpeed asks this when it decides whether a backward pass ends the step.
        accelerator.gradient_state._set_sync_gradients(last)
        outer = contextlib.nullcontext() if last else accelerator.no_sync(model)
        with outer, self.maybe_activation_offload_context:  # type: ignore[attr-defined]
            yield

    def _backward_args(self) -> dict[str, Any]:
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED  # type: ignore[attr-defined]
        return {"scale_wrt_gas": False} if deepspeed else {}

    def _check_head(self, model: nn.Module, rows: Sequence[int]) -> None:
        if self._checked:
            return
        ids = self.work.sequences.of(rows[:1])[0].ids[:16]
        check_action_head(model, torch.tensor([ids], device=self.accelerator.device))  # type: ignore[attr-defined]
        self._checked = True

    def _record(
        self, sums: dict[str, list[Any]], totals: StepTotals, micro_batches: Sequence[MicroBatch], seconds: float
    ) -> None:
        """Reduce what this process measured, and keep the means for the next log."""
        accelerator = self.accelerator  # type: ignore[attr-defined]
        local = [[float(value) for value in sums[name]] for name in self.measured]
        real, padded = self._token_counts(micro_batches)
        local.append([padded - real, padded])
        reduced = accelerator.reduce(torch.tensor(local, device=accelerator.device), "sum").tolist()
        metrics = self._metrics["train"]  # type: ignore[attr-defined]
        for name, (value, count) in zip((*self.measured, "padding"), reduced, strict=True):
            if count:
                metrics[name].append(value / count)
        metrics["action_tokens"].append(float(sum(totals.actions)))
        self._total_train_tokens += reduced[-1][1] - reduced[-1][0]
        metrics["num_tokens"] = [self._total_train_tokens]
        self._tokens += reduced[-1][1] - reduced[-1][0]
        self._seconds += seconds
        self._warn_of_collapse()

    def _token_counts(self, micro_batches: Sequence[MicroBatch]) -> tuple[int, int]:
        """Tokens of a step in this process, without and with padding."""
        real = padded = 0
        for micro in micro_batches:
            lengths = [size for row in micro.examples for size in self.work.sequences.lengths[row]]
            real += sum(lengths)
            padded += sum(max(lengths[number] for number in call) * len(call) for call in micro.calls if call)
        return real, padded

    def _warn_of_collapse(self) -> None:
        """Once, when the chosen trajectories became much less likely than they are under the reference."""
        drift = self._metrics["train"].get("chosen_drift")  # type: ignore[attr-defined]
        if self._warned or not drift:
            return
        self._recent = [*self._recent, drift[-1]][-COLLAPSE_STEPS:]
        mean = sum(self._recent) / len(self._recent)
        if len(self._recent) == COLLAPSE_STEPS and mean < -COLLAPSE_NATS:
            _LOG.warning(
                "the chosen trajectories lost %.2f nats an action token against the reference (mean of %d steps): the "
                "policy collapses; lower `learning_rate`, raise `beta`, or set `train.nll`",
                -mean,
                COLLAPSE_STEPS,
            )
            self._warned = True


def drift_measure(ratios: Tensor, actions: int) -> tuple[Tensor, float]:
    """Σ ρ and its number of action tokens: the mean log-ratio of a token."""
    return ratios.detach().sum(), actions


def squared_drift(policy: Sequence[Tensor], reference: Sequence[Tensor]) -> tuple[Tensor, float]:
    """Σ ½ (log π_θ − log π_ref)², and the number of tokens: the k2 estimate of the KL divergence (Schulman 2020)."""
    parts = [(one.detach() - other).square().sum() / 2 for one, other in zip(policy, reference, strict=True)]
    return torch.stack(parts).sum(), sum(one.numel() for one in policy)
