"""What the single-stage commands do, without the command line around it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from eval import Problem
from mdpo.agreement_check import check
from mdpo.checkpoint import resolve_checkpoint
from mdpo.collect import read_ledger
from mdpo.config import (
    EngineConfig,
    PolicyConfig,
    ProblemsConfig,
    SandboxConfig,
    SFTConfig,
    TrainConfig,
    parse_yaml,
)
from mdpo.demonstration import read_demonstrations
from mdpo.display import Display
from mdpo.errors import ConfigError
from mdpo.options import Bounds, Sampler, Source, Talk, split_option
from mdpo.plan import Ledger, Plan
from mdpo.preference import read_pairs
from mdpo.rollout import Sampling
from mdpo.sources import load_problems
from mdpo.stages import (
    chat_format,
    in_flight,
    open_agent,
    sample_trajectories,
    sandbox_limits,
    show_steps,
    train_on_demonstrations,
    train_on_pairs,
    train_on_trajectories,
    train_options,
)
from mdpo.train.stage import Method, TrainOptions, TrainStage
from mdpo.trajectory import read_trajectories

# Options of a training that TRL's arguments have no name for.
_OPTIONS = ("nll", "turn_weights", "gamma", "micro_batch_tokens", "adapter")
_CONVERTED = Path("runs") / "converted"  # checkpoints made from GGUF files


def checkpoint_of(talk: Talk) -> str | Path:
    """The policy as something that can be loaded."""
    if talk.threads is not None:
        torch.set_num_threads(talk.threads)
    return resolve_checkpoint(talk.model, _CONVERTED)


def policy_config(talk: Talk) -> PolicyConfig:
    """The options as a section of the configuration."""
    return PolicyConfig(
        model=talk.model,
        dtype=talk.dtype,
        observation_role=talk.role,
        system=talk.system,
        examples=str(talk.examples) if talk.examples else None,
        history=talk.history,
    )


def engine_config(sampler: Sampler) -> EngineConfig:
    """The options as a section of the configuration.

    Raises:
        ConfigError: Servers without an address, or addresses for another engine.
    """
    if (sampler.engine == "server") != bool(sampler.url):
        raise ConfigError("--engine server and --url go together, as in --engine server --url http://localhost:8000/v1")
    return EngineConfig(
        kind=sampler.engine,
        urls=sampler.url or [],
        max_rows=sampler.max_rows,
        tensor_parallel_size=sampler.tensor_parallel,
        data_parallel_size=sampler.data_parallel,
        memory_share=sampler.memory_share,
    )


def sandbox_config(bounds: Bounds) -> SandboxConfig:
    """The options as a section of the configuration."""
    return SandboxConfig(seconds=bounds.program_seconds, memory_mb=bounds.program_memory)


def bounded(bounds: Bounds, temperature: float, top_p: float, seed: int) -> Sampling:
    """How an attempt is sampled within the options' bounds."""
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        horizon=bounds.horizon,
        max_calls=bounds.max_calls,
        max_action_tokens=bounds.max_action_tokens,
        max_tokens=bounds.max_tokens,
        seed=seed,
        box_with_code=bounds.box_with_code,
    )


def problems_config(source: Source) -> ProblemsConfig:
    """The options as a section of the configuration."""
    return ProblemsConfig(
        benchmark=source.benchmark,
        split=source.split,
        file=str(source.data) if source.data else None,
        columns=source.columns(),
        limit=source.limit,
    )


def sample(
    talk: Talk,
    sampler: Sampler,
    bounds: Bounds,
    plan: Plan,
    problems: Sequence[Problem],
    title: str,
    out: Path,
    display: Display,
) -> Ledger:
    """Sample into a file what it still lacks of a plan; what it holds then. No engine starts if it lacks nothing."""
    policy, spoken, engine = checkpoint_of(talk), policy_config(talk), engine_config(sampler)
    held = read_ledger(out, problems, plan, str(policy), chat_format(policy, spoken))
    if held.complete:
        return held

    async def work() -> Ledger:
        tool = any(share.sampling.tool for share in plan.shares)
        limits = sandbox_limits(sandbox_config(bounds)) if tool else None
        async with open_agent(policy, spoken, engine, limits, bounds.max_tokens, display) as agent:
            most = in_flight(sampler.in_flight, engine)
            ledger, _ = await sample_trajectories(agent, problems, plan, out, display, title, most)
        return ledger

    return asyncio.run(work())


def rollout(
    talk: Talk, sampler: Sampler, bounds: Bounds, plan: Plan, source: Source, out: Path, display: Display
) -> Ledger:
    """Sample trajectories of a benchmark into a file; what it holds then."""
    problems = load_problems(problems_config(source), source.seed)
    title = f"{source.benchmark}: {len(problems)} problems"
    return sample(talk, sampler, bounds, plan, problems, title, out, display)


def check_agreement(
    trajectories: Path, model: str | None, dtype: str, count: int, seed: int, threads: int | None, display: Display
) -> bool:
    """Whether trajectories are on-policy for the policies that sampled them, or for one model."""
    if threads is not None:
        torch.set_num_threads(threads)
    found = check(trajectories, model, dtype, count, seed, display, _CONVERTED)
    return all(agreement.on_policy for agreement in found.values())


def train_policy(
    talk: Talk,
    method: Method,
    data: Path,
    out: Path,
    args: Sequence[str],
    reference: str | None,
    max_length: int,
    seed: int,
    display: Display,
) -> Path:
    """Train a policy on a file of demonstrations, of trajectories (RAFT) or of pairs; the folder of the result."""
    policy = checkpoint_of(talk)
    out.mkdir(parents=True, exist_ok=True)
    if (out / "policy").exists():
        raise ConfigError(f"{out / 'policy'} exists already; choose another --out, or remove it to train again")
    options, arguments = _split_options(method, dict(_argument(text) for text in args))
    with display.task(f"{method} on {data}") as task:
        stage = TrainStage(out, arguments, seed, show_steps(task), options)
        if method == "sft":
            demonstrations = list(read_demonstrations(data))
            return train_on_demonstrations(policy, policy_config(talk), demonstrations, max_length, stage, display.say)
        if method == "raft":
            trajectories = read_trajectories(data)
            return train_on_trajectories(policy, talk.dtype, trajectories, 1, max_length, stage, display.say)
        resolved = policy if reference is None else resolve_checkpoint(reference, _CONVERTED)
        pairs = list(read_pairs(data))
        return train_on_pairs(policy, resolved, talk.dtype, pairs, max_length, stage, display.say, method)


def _split_options(method: Method, values: dict[str, Any]) -> tuple[TrainOptions, dict[str, Any]]:
    """What the section `train` (or `sft`) of a recipe has a key for, and TRL's own arguments."""
    section = SFTConfig if method == "sft" else TrainConfig
    known = {name: values.pop(name) for name in sorted({*section.model_fields} & {*_OPTIONS} & {*values})}
    try:
        config = SFTConfig(**known) if method == "sft" else TrainConfig(method=method, **known)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"the argument {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    return train_options(config), values


def _argument(text: str) -> tuple[str, Any]:
    name, value = split_option(text, "argument", "name=value")
    return name, parse_yaml(value)
