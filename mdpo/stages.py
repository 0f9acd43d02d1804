"""The stages of a run, one function each; every command of mdpo is one of them or all of them in turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.checkpoint import load_tokenizer
from mdpo.collect import collect
from mdpo.config import (
    EngineConfig,
    EvalConfig,
    PolicyConfig,
    RolloutConfig,
    SandboxConfig,
    UncertaintyConfig,
)
from mdpo.demonstration import read_demonstrations
from mdpo.display import Display, Task
from mdpo.dtypes import torch_dtype
from mdpo.engines.base import Engine
from mdpo.exploration import Exploration, Raw
from mdpo.plan import Extra, Ledger, Plan, Share
from mdpo.progress import Meter, MeterLog
from mdpo.rollout import Agent, Sampling
from mdpo.trajectory import Trajectory
from mdpo.uncertain import Uncertain
from sandbox import Limits, Sandbox

_LOG_SECONDS = 10.0


def sandbox_limits(config: SandboxConfig) -> Limits:
    """The sandbox's limits from the configuration."""
    return Limits(seconds=config.seconds, memory_mb=config.memory_mb, output_chars=config.output_chars)


def rollout_plan(config: RolloutConfig, seed: int, previous: str | None = None) -> Plan:
    """The attempts that are sampled for training.

    Args:
        config: What the recipe says.
        seed: Of the iteration.
        previous: The policy of the iteration before; where there is none, the current one takes its share.
    """
    plain = _bounded(config, seed, config.temperature, config.top_p)
    extra = Extra(**config.extra.model_dump()) if config.extra else None
    if config.shares is None:
        return Plan((Share(plain, config.samples),), extra)
    shares = (
        Share(
            replace(
                plain,
                temperature=config.temperature if share.temperature is None else share.temperature,
                top_p=config.top_p if share.top_p is None else share.top_p,
            ),
            share.samples,
            previous if share.policy == "previous" else None,
        )
        for share in config.shares
    )
    return Plan(tuple(shares), extra)


def evaluation_share(limits: RolloutConfig, config: EvalConfig, seed: int) -> Share:
    """How policies are evaluated: greedily unless several attempts are asked for, within the limits of the rollout."""
    return Share(replace(_bounded(limits, seed, config.temperature, 1.0), tool=config.tool), config.samples)


def in_flight(asked: int | None, engine: EngineConfig) -> int:
    """Largest number of attempts in flight: more than the engine samples together, since some wait for programs."""
    rows = engine.max_rows * max(engine.data_parallel_size, len(engine.urls))
    return asked or rows + (rows + 1) // 2


def _bounded(config: RolloutConfig, seed: int, temperature: float, top_p: float) -> Sampling:
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        horizon=config.horizon,
        max_calls=config.max_calls,
        max_action_tokens=config.max_action_tokens,
        max_tokens=config.max_tokens,
        seed=seed,
        box_with_code=config.box_with_code,
    )


def chat_format(policy: str | Path, talk: PolicyConfig) -> ChatFormat:
    """How a policy is talked to."""
    examples = () if talk.examples is None else tuple(read_demonstrations(Path(talk.examples), "policy.examples"))
    return ChatFormat(
        load_tokenizer(policy),
        talk.observation_role,
        talk.system,
        examples=examples,
        history=talk.history,
        template_args=talk.template_args,
    )


async def open_engine(policy: str | Path, dtype: torch.dtype, config: EngineConfig, context_length: int) -> Engine:
    """Start an engine on a policy, or connect to servers that sample from it.

    Raises:
        MissingExtraError: The engine's package is not installed.
        CheckpointError, EngineError: It does not start on this policy.
    """
    if config.kind == "server":
        return await _connect(policy, config, context_length)
    return await asyncio.to_thread(_start_engine, policy, dtype, config, context_length)


async def _connect(policy: str | Path, config: EngineConfig, context_length: int) -> Engine:
    from mdpo.engines.server import ServerEngine

    engine = await ServerEngine.connect(config.urls, context_length=context_length, max_concurrency=config.max_rows)
    try:
        await engine.serve(policy)
    except BaseException:
        await engine.close()
        raise
    return engine


def _start_engine(policy: str | Path, dtype: torch.dtype, config: EngineConfig, context_length: int) -> Engine:
    if config.kind == "vllm":
        from mdpo.engines.vllm import VLLMEngine

        return VLLMEngine(
            policy,
            dtype=dtype,
            context_length=context_length,
            tensor_parallel_size=config.tensor_parallel_size,
            data_parallel_size=config.data_parallel_size,
            max_lora_rank=config.max_lora_rank,
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
    limits: Limits | None,
    max_tokens: int,
    display: Display,
) -> AsyncIterator[Agent]:
    """A policy with its engine and its sandbox, closed when the block ends.

    Args:
        policy: The checkpoint.
        talk: How it is talked to.
        engine_config: Who samples.
        limits: Of the sandbox; `None` where no program is run.
        max_tokens: Largest trajectory, the prompt included.
        display: Where the start is shown.
    """
    async with AsyncExitStack() as stack:
        with display.task(f"Starting the {engine_config.kind} engine on {policy}"):
            # The chat format first: a template that cannot be used should not cost an engine's start.
            chat = chat_format(policy, talk)
            for difference in chat.rewrites:
                display.say(f"[yellow]note:[/] {escape(str(difference))}")
            engine = await open_engine(policy, torch_dtype(talk.dtype), engine_config, max_tokens)
            stack.push_async_callback(engine.close)
            sandbox = None if limits is None else await stack.enter_async_context(Sandbox(limits))
        yield Agent(engine, chat, sandbox, str(policy))


async def sample_trajectories(
    agent: Agent, problems: Sequence[Problem], plan: Plan, path: Path, display: Display, title: str, concurrency: int
) -> tuple[Ledger, dict[str, Any]]:
    """Sample what a trajectory file still lacks of a plan, with progress on the screen and in a log beside the file.

    Returns:
        What the file holds of the plan, and how many trajectories were sampled now, in how many seconds.
    """
    meter = Meter(0)
    with display.task(title) as task:

        def owe(count: int) -> None:
            meter.owed += count
            task.set(task.done, meter.owed)

        def show(trajectory: Trajectory) -> None:
            meter.tally.add(trajectory)
            task.advance(note=meter.line())

        log = MeterLog(path.with_suffix(".progress.jsonl"), meter)
        async with _logging(log):
            ledger = await collect(
                agent, problems, plan, path, concurrency=concurrency, on_trajectory=show, on_owed=owe
            )
    return ledger, {"sampled_now": meter.tally.trajectories, "seconds": round(meter.seconds, 1)}


@asynccontextmanager
async def _logging(log: MeterLog) -> AsyncIterator[None]:
    """Write the log at equal intervals while the block runs, and once at its end."""

    async def write() -> None:
        while True:
            await asyncio.sleep(_LOG_SECONDS)
            log.write()

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        log.write()


def uncertain_strategy(
    policy: str | Path, dtype: str, config: UncertaintyConfig, before: Path | None, task: Task
) -> Uncertain:
    """The strategy `uncertain` with the features of a policy.

    Args:
        policy: Whose hidden states are compared.
        dtype: The type of its weights, by name.
        config: How Γ is measured.
        before: The covariance file of the round before; `None` begins anew.
        task: Shows how many trajectories have their features.
    """
    from mdpo.features import embed

    def features(trajectories: Sequence[Trajectory]) -> Raw:
        task.set(0, len(trajectories))
        return embed(
            trajectories,
            policy,
            torch_dtype(dtype),
            dimension=config.dimension,
            max_tokens=config.batch_tokens,
            on_trajectories=task.advance,
        )

    return Uncertain(features, config.ridge, None if before is None else Exploration.load(before))
