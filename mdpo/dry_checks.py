"""Settings of a recipe that cannot work together, or hardly: errors and warnings that name the key."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mdpo.config import Config
from mdpo.errors import ConfigError
from mdpo.memory import Architecture
from mdpo.steps import Steps, trainer_arguments, training_defaults
from mdpo.train.arguments import training_arguments
from mdpo.train.stage import TrainStage

# So many times more than a trajectory may hold is no reserve for short actions any more.
_FAR = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know before the run.

    Attributes:
        kind: `error`, the recipe cannot work; `missing`, something that it needs is not there; `warning`.
        key: The setting.
        text: What is wrong, and what to do.
    """

    kind: Literal["error", "missing", "warning"]
    key: str
    text: str


def check_rollout(config: Config) -> Iterator[Finding]:
    """What the attempts of one problem and the bounds of one attempt allow."""
    rollout, learns = config.rollout, config.iterations > 0
    shares = rollout.shares or []
    samples = sum(share.samples for share in shares) or rollout.samples
    most = samples + (rollout.extra.most if rollout.extra else 0)
    if learns and most == 1:
        yield Finding(
            "error", "rollout.samples", "one attempt is never both right and wrong, so there is no pair; take more"
        )
    heats = [rollout.temperature if share.temperature is None else share.temperature for share in shares]
    if learns and most > 1 and not any(heats or [rollout.temperature]):
        yield Finding("error", "rollout.temperature", "attempts at temperature 0 are all the same; the paper's is 1.0")
    if rollout.max_action_tokens >= rollout.max_tokens:
        yield Finding(
            "warning", "rollout.max_action_tokens",
            f"one action may take all {rollout.max_tokens:,} tokens of a trajectory, so no other would follow",
        )  # fmt: skip
    elif rollout.horizon * rollout.max_action_tokens > _FAR * rollout.max_tokens:
        yield Finding(
            "warning", "rollout.max_tokens",
            f"{rollout.horizon} actions of {rollout.max_action_tokens:,} tokens are far over {rollout.max_tokens:,} "
            "for a trajectory; many would stop as `context_length`",
        )  # fmt: skip
    if learns and config.train.max_length < rollout.max_tokens:
        yield Finding(
            "warning", "train.max_length",
            f"trajectories have up to {rollout.max_tokens:,} tokens, and those over {config.train.max_length:,} "
            "are dropped",
        )  # fmt: skip
    if config.iterations < 2 and any(share.policy == "previous" for share in shares):
        yield Finding("warning", "rollout.shares", "there is no previous policy before the second iteration")


def check_training(config: Config, steps: Steps | None, examples: int) -> Iterator[Finding]:
    """What the trainer's arguments say about each other and about the data."""
    train = config.train
    yield from _arguments("train", train.method, train.args)
    yield from _arguments("sft", "sft", config.sft.args if config.sft else {})
    if config.iterations == 0 and "reference" in train.model_fields_set:
        yield Finding("warning", "train.reference", "there is no iteration to train in, so no reference")
    if steps is None:
        return
    if steps.warmup >= steps.total:
        yield Finding(
            "warning", "train.args.warmup_steps",
            f"{steps.warmup} steps of warm-up, and at most {steps.total} steps in all: the learning rate never gets to "
            "its peak",
        )  # fmt: skip
    if examples < steps.batch:
        yield Finding(
            "warning", "train.args.gradient_accumulation_steps",
            f"a step takes {steps.batch:,} examples and there are at most {examples:,}",
        )  # fmt: skip


def _arguments(section: str, method: str, args: dict[str, Any]) -> Iterator[Finding]:
    kind = trainer_arguments(method)
    valid = [field.name for field in fields(kind)]
    unknown = [name for name in args if name not in valid]
    for name in unknown:
        near = difflib.get_close_matches(name, valid, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        yield Finding("error", f"{section}.args.{name}", f"TRL's {kind.__name__} has no such argument{hint}")
    if not unknown:
        try:
            stage = TrainStage(Path(), args, 0, lambda step, steps, metrics: None)
            training_arguments(kind, stage, training_defaults(method))
        except ConfigError as error:
            yield Finding("error", f"{section}.args", str(error))


def check_model(config: Config, model: Architecture) -> Iterator[Finding]:
    """Whether the model can do what the recipe asks."""
    if model.context is not None and config.rollout.max_tokens > model.context:
        yield Finding(
            "error", "rollout.max_tokens",
            f"the model reads at most {model.context:,} tokens and a trajectory may have {config.rollout.max_tokens:,}",
        )  # fmt: skip
    if model.heads % config.engine.tensor_parallel_size:
        yield Finding(
            "error", "engine.tensor_parallel_size",
            f"{model.heads} attention heads cannot be shared out to {config.engine.tensor_parallel_size} GPUs",
        )  # fmt: skip


def check_evaluation(config: Config) -> Iterator[Finding]:
    """Whether each evaluation has a file of its own."""
    seen: set[str] = set()
    for number, source in enumerate(config.eval.problems):
        if source.benchmark in seen:
            yield Finding(
                "error",
                f"eval.problems.{number}",
                f"{source.benchmark} is evaluated already; each benchmark stands once",
            )
        seen.add(source.benchmark)
