"""Where a training reads and writes, and with which options; nothing heavy is imported to say so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Method = Literal["sft", "raft", "mdpo", "mkto", "dpo", "kto"]
TurnWeights = Literal["dmpo", "dmpo_discounted"]


class OnStep(Protocol):
    """Told after every optimizer step, to show progress."""

    def __call__(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """`step` of `steps` is done; `metrics` holds what the trainer logged last."""
        ...


@dataclass(frozen=True, slots=True)
class Adapter:
    """Low-rank adapters (Hu et al. 2021; Dettmers et al. 2023 for the quantised base).

    Attributes:
        r: Rank.
        alpha: Their output is scaled by alpha / r.
        dropout: On their input.
        target_modules: Which linear layers have one; `all-linear`: all but the output matrix.
        quantize: Keep the frozen weights in 4 bits (NF4) while training: QLoRA, on a CUDA GPU.
    """

    r: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: str | Sequence[str] = "all-linear"
    quantize: bool = False


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What TRL's arguments have no name for.

    Attributes:
        nll: Coefficient of the mean cross entropy of the chosen actions (M-DPO and DPO).
        turn_weights, gamma: DMPO's weights of the turns; `None`: all turns count alike, as in the paper.
        micro_batch_tokens: Largest number of tokens that one backward pass covers. Left out: as many as
            `per_device_train_batch_size` of the longest examples have. It changes memory and speed, never the result.
        adapter: Train adapters instead of all weights.
    """

    nll: float = 0.0
    turn_weights: TurnWeights | None = None
    gamma: float = 0.7
    micro_batch_tokens: int | None = None
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class TrainStage:
    """Where a training reads and writes.

    Attributes:
        folder: Checkpoints go to `folder/checkpoints`, the result to `folder/policy`.
        args: Arguments of TRL's configuration class, under TRL's own names.
        seed: Of the weights that are made up and of the order of the data.
        on_step: Told after every step.
        options: What TRL's arguments have no name for.
    """

    folder: Path
    args: Mapping[str, Any]
    seed: int
    on_step: OnStep
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def policy(self) -> Path:
        """The trained policy, an ordinary Hugging Face checkpoint. It exists only when it is complete."""
        return self.folder / "policy"

    @property
    def checkpoints(self) -> Path:
        """Where the trainer saves what it needs to resume."""
        return self.folder / "checkpoints"


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end, `None` if there is none.

    The trainer writes `trainer_state.json` last, so a checkpoint that a kill cut short lacks it or holds a torn one.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(path)
    return None
