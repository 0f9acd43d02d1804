"""The stages of a run, one function each; every command of mdpo is one of them or all of them in turn."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.checkpoint import load_tokenizer
from mdpo.config import EngineConfig, EvalConfig, PolicyConfig, RolloutConfig, SandboxConfig
from mdpo.data import pair_dataset, sft_dataset
from mdpo.demonstration import Demonstration
from mdpo.display import Display, Task
from mdpo.dtypes import torch_dtype
from mdpo.engines.base import Engine
from mdpo.preference import Pair
from mdpo.rollout import Agent, Sampling, collect, count_missing
from mdpo.train.stage import TrainStage
from mdpo.trajectory import Trajectory
from sandbox import Limits, Sandbox


def sandbox_limits(config: SandboxConfig) -> Limits:
    """The sandbox's limits from the configuration."""
    return Limits(seconds=config.seconds, memory_mb=config.memory_mb, output_chars=config.output_chars)


def rollout_sampling(config: RolloutConfig, seed: int) -> Sampling:
    """How trajectories are sampled for training."""
    return Sampling(
        samples=config.samples,
        temperature=config.temperature,
        top_p=config.top_p,
        horizon=config.horizon,
        max_action_tokens=config.max_action_tokens,
        max_tokens=config.max_tokens,
        seed=seed,
    )


def evaluation_sampling(limits: RolloutConfig, config: EvalConfig, seed: int) -> Sampling:
    """How policies are evaluated: greedily unless several attempts are asked for, within the limits of the rollout."""
    return Sampling(
        samples=config.samples,
        temperature=config.temperature,
        horizon=limits.horizon,
        max_action_tokens=limits.max_action_tokens,
        max_tokens=limits.max_tokens,
        seed=seed,
        tool=config.tool,
    )


def open_engine(policy: str | Path, dtype: torch.dtype, config: EngineConfig, context_length: int) -> Engine:
    """Start an engine on a policy.

    Raises:
        MissingExtraError: The engine's package is not installed.
        CheckpointError, EngineError: It does not start on this policy.
    """
    if config.kind == "vllm":
        from mdpo.engines.vllm import VLLMEngine

        return VLLMEngine(
            policy,
            dtype=dtype,
            context_length=context_length,
            tensor_parallel_size=config.tensor_parallel_size,
            gpu_memory_utilization=config.memory_share,
            max_concurrency=config.max_rows,
        )
    from mdpo.engines.transformers import TransformersEngine

    return TransformersEngine(policy, dtype=dtype, context_length=context_length, max_rows=config.max_rows)


@asynccontextmanager
async def open_agent(
    policy: str | Path,
    talk: PolicyConfig,
    engine_config: EngineConfig,
    limits: Limits,
    sampling: Sampling,
    display: Display,
) -> AsyncIterator[Agent]:
    """A policy with its engine and, if it has the tool, its sandbox, closed when the block ends."""
    async with AsyncExitStack() as stack:
        with display.task(f"Starting the {engine_config.kind} engine on {policy}"):
            # The chat format first: a template that cannot be used should not cost an engine's start.
            chat = ChatFormat(load_tokenizer(policy), talk.observation_role, talk.system)
            engine = await asyncio.to_thread(
                open_engine, policy, torch_dtype(talk.dtype), engine_config, sampling.max_tokens
            )
            stack.push_async_callback(engine.close)
            sandbox = await stack.enter_async_context(Sandbox(limits)) if sampling.tool else None
        yield Agent(engine, chat, sandbox, sampling, str(policy))


async def sample_trajectories(
    agent: Agent, problems: Sequence[Problem], path: Path, display: Display, title: str, concurrency: int
) -> tuple[list[Trajectory], dict[str, Any]]:
    """Sample what a trajectory file still lacks, with progress.

    Returns:
        The trajectories, and how many of them were sampled now, in how many seconds.
    """
    missing = count_missing(path, problems, agent.sampling.samples)
    right = 0
    started = time.monotonic()
    with display.task(title, total=missing) as task:

        def show(trajectory: Trajectory) -> None:
            nonlocal right
            right += trajectory.reward > 0.5
            task.advance(note=f"{100 * right / (task.done + 1):.0f} % right")

        trajectories = await collect(agent, problems, path, concurrency=concurrency, on_trajectory=show)
    return trajectories, {"sampled": missing, "seconds": round(time.monotonic() - started, 1)}


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

    chat = ChatFormat(load_tokenizer(policy), talk.observation_role, talk.system)
    dataset, count = sft_dataset(demonstrations, chat, max_length)
    say(str(count))
    return train_sft(policy, dataset, stage, torch_dtype(talk.dtype))


def train_on_pairs(
    policy: str | Path,
    reference: str | Path,
    dtype: str,
    pairs: Iterable[Pair],
    max_length: int,
    stage: TrainStage,
    say: Callable[[str], None],
) -> Path:
    """M-DPO; says what it trains on before it starts."""
    from mdpo.train.dpo import train_mdpo

    dataset, count = pair_dataset(pairs, max_length)
    say(str(count))
    return train_mdpo(policy, reference, dataset, stage, torch_dtype(dtype))


def show_steps(task: Task) -> Callable[..., None]:
    """An `on_step` of a training that moves a task."""

    def on_step(step: int, steps: int, metrics: dict[str, float]) -> None:
        shown = {"loss": "loss", "rewards/accuracies": "chosen above rejected"}
        notes = [f"{label} {metrics[key]:.3f}" for key, label in shown.items() if key in metrics]
        task.set(step, steps, " · ".join(notes))

    return on_step
