"""The trainings that a command or a stage asks for: from what a policy learns from to TRL's trainers on it.

Each says what it trains on, in tokens and steps, before it starts.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from mdpo.config import PolicyConfig, SFTConfig, TrainConfig
from mdpo.data import (
    Single,
    TokenCount,
    kto_dataset,
    pair_dataset,
    right_trajectories,
    sequence_dataset,
    sft_dataset,
    single_dataset,
    trajectory_dataset,
)
from mdpo.demonstration import Demonstration
from mdpo.display import Task
from mdpo.dtypes import torch_dtype
from mdpo.lessons import Lesson
from mdpo.model_config import vocabulary_size
from mdpo.options import Lessons
from mdpo.preference import Pair
from mdpo.stages import chat_format
from mdpo.steps import count_steps, training_defaults
from mdpo.train.stage import Adapter, TrainOptions, TrainStage
from mdpo.trajectory import Trajectory

# Options of a training that TRL's arguments have no name for.
TRAIN_OPTIONS = tuple(field.name for field in fields(TrainOptions))


def train_on_demonstrations(
    policy: str | Path,
    talk: PolicyConfig,
    demonstrations: Iterable[Demonstration],
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
) -> Path:
    """SFT; says what it trains on before it starts."""
    from mdpo.train.sft import train_sft

    chat = chat_format(policy, talk)
    dataset, count = sft_dataset(demonstrations, chat, max_length)
    _say_counts("sft", count, stage, say)
    return train_sft(policy, dataset, stage, torch_dtype(talk.dtype))


def train_options(config: TrainConfig | SFTConfig) -> TrainOptions:
    """The options of a training from the configuration."""
    adapter = None if config.adapter is None else Adapter(**config.adapter.model_dump())
    if isinstance(config, SFTConfig):
        return TrainOptions(micro_batch_tokens=config.micro_batch_tokens, adapter=adapter)
    return TrainOptions(config.nll, config.turn_weights, config.gamma, config.micro_batch_tokens, adapter)


def train_on_pairs(
    policy: str | Path,
    reference: str | Path,
    dtype: str,
    pairs: Iterable[Pair],
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
    method: str = "mdpo",
) -> Path:
    """M-DPO, M-KTO or their single-turn baselines DPO and KTO; says what it trains on before it starts."""
    single_turn = method in ("dpo", "kto")
    if method in ("mkto", "kto"):
        from mdpo.train.kto import train_mkto as train

        dataset, count = kto_dataset(pairs, max_length, stage.seed, single_turn=single_turn)
    else:
        from mdpo.train.dpo import train_mdpo as train

        dataset, count = pair_dataset(pairs, max_length, single_turn=single_turn)
    _say_counts(method, count, stage, say)
    return train(policy, reference, dataset, stage, torch_dtype(dtype))


def train_on_singles(
    policy: str | Path,
    reference: str | Path,
    dtype: str,
    singles: Iterable[Single],
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
    method: str,
) -> Path:
    """M-KTO or KTO on trajectories that are labelled one by one; says what it trains on before it starts."""
    from mdpo.train.kto import train_mkto

    dataset, count = single_dataset(singles, max_length, stage.seed, single_turn=method == "kto")
    _say_counts(method, count, stage, say)
    return train_mkto(policy, reference, dataset, stage, torch_dtype(dtype))


def train_on_trajectories(
    policy: str | Path,
    dtype: str,
    trajectories: Iterable[Trajectory],
    per_problem: int,
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
) -> Path:
    """RAFT: SFT on right trajectories, so many of a problem; says what it trains on before it starts."""
    from mdpo.train.sft import RAFT_DEFAULTS, train_sft

    dataset, count = trajectory_dataset(right_trajectories(trajectories, per_problem, stage.seed), max_length)
    _say_counts("raft", count, stage, say)
    return train_sft(policy, dataset, stage, torch_dtype(dtype), RAFT_DEFAULTS)


def train_on_messages(
    policy: str | Path,
    talk: PolicyConfig,
    source: str,
    count: int,
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
) -> Path:
    """SFT on the first `count` conversations of a data set."""
    lessons = Lessons(data=source, max_length=max_length, limit=count)
    lesson = Lesson(lessons, "sft", chat_format(policy, talk), str(policy), vocabulary_size(policy), stage.seed, say)
    return train_on_sequences(policy, talk.dtype, lesson.sequences(), max_length, stage, say)


def train_on_sequences(
    policy: str | Path,
    dtype: str,
    sequences: Iterable[tuple[list[int], list[int]]],
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
) -> Path:
    """SFT on ids and their action masks; says what it trains on before it starts."""
    from mdpo.train.sft import train_sft

    dataset, count = sequence_dataset(sequences, max_length)
    _say_counts("sft", count, stage, say)
    return train_sft(policy, dataset, stage, torch_dtype(dtype))


def _say_counts(method: str, count: TokenCount, stage: TrainStage, say: Callable[[str], None]) -> None:
    say(str(count))
    say(str(count_steps(count.examples, {**training_defaults(method), **stage.args})))


def show_steps(task: Task) -> Callable[..., None]:
    """An `on_step` of a training that moves a task."""

    def on_step(step: int, steps: int, metrics: dict[str, float]) -> None:
        shown = {"loss": "loss", "rewards/accuracies": "chosen above rejected"}
        notes = [f"{label} {metrics[key]:.3f}" for key, label in shown.items() if key in metrics]
        task.set(step, steps, " · ".join(notes))

    return on_step
