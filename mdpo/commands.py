"""What the single-stage commands do, without the command line around it."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mdpo.checkpoint import resolve_checkpoint
from mdpo.config import EngineConfig, PolicyConfig, ProblemsConfig, parse_yaml
from mdpo.demonstration import read_demonstrations
from mdpo.display import Display
from mdpo.errors import ConfigError
from mdpo.preference import read_pairs
from mdpo.rollout import Sampling
from mdpo.sources import load_problems
from mdpo.stages import open_agent, sample_trajectories, show_steps, train_on_demonstrations, train_on_pairs
from mdpo.train.stage import TrainStage
from sandbox import Limits

_CONVERTED = Path("runs") / "converted"  # checkpoints made from GGUF files


@dataclass(frozen=True, slots=True)
class Talk:
    """A policy and how it is talked to."""

    model: str
    dtype: Literal["float32", "bfloat16", "float16"]
    role: Literal["user", "tool"]
    engine: Literal["transformers", "vllm"]
    threads: int | None

    def checkpoint(self) -> str | Path:
        """The policy as something that can be loaded."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return resolve_checkpoint(self.model, _CONVERTED)

    def policy(self) -> PolicyConfig:
        """The same as a section of the configuration."""
        return PolicyConfig(model=self.model, dtype=self.dtype, observation_role=self.role)


def sample(
    talk: Talk,
    sampling: Sampling,
    benchmark: str,
    split: Literal["train", "test"],
    data: Path | None,
    limit: int | None,
    out: Path,
    display: Display,
) -> dict[str, Any]:
    """Sample trajectories of a benchmark into a file; what they came to."""
    source = ProblemsConfig(benchmark=benchmark, split=split, file=str(data) if data else None, limit=limit)
    problems = load_problems(source, sampling.seed)

    async def work() -> dict[str, Any]:
        engine = EngineConfig(kind=talk.engine)
        async with open_agent(talk.checkpoint(), talk.policy(), engine, Limits(), sampling, display) as agent:
            title = f"{benchmark}: {len(problems)} problems"
            _, summary = await sample_trajectories(agent, problems, out, display, title, engine.max_rows)
        return {**summary, "problems": len(problems)}

    return asyncio.run(work())


def default_eval_file(model: str, benchmark: str, split: str, limit: int | None, seed: int) -> Path:
    """A trajectory file that only the same evaluation of the same model goes on with."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", str(Path(model).expanduser()).strip("/."))
    chosen = f"-{limit}-seed{seed}" if limit else ""
    return Path("runs") / "eval" / f"{name}-{Path(benchmark).stem}-{split}{chosen}.jsonl"


def train_policy(
    talk: Talk,
    method: Literal["sft", "mdpo"],
    data: Path,
    out: Path,
    args: Sequence[str],
    reference: str | None,
    max_length: int,
    seed: int,
    display: Display,
) -> Path:
    """Train a policy on a file of demonstrations or of pairs; the folder of the result."""
    policy = talk.checkpoint()
    out.mkdir(parents=True, exist_ok=True)
    if (out / "policy").exists():
        raise ConfigError(f"{out / 'policy'} exists already; choose another --out, or remove it to train again")
    with display.task(f"{method} on {data}") as task:
        stage = TrainStage(out, dict(_argument(text) for text in args), seed, show_steps(task))
        if method == "sft":
            demonstrations = list(read_demonstrations(data))
            return train_on_demonstrations(policy, talk.policy(), demonstrations, max_length, stage, display.say)
        resolved = policy if reference is None else resolve_checkpoint(reference, _CONVERTED)
        return train_on_pairs(policy, resolved, talk.dtype, list(read_pairs(data)), max_length, stage, display.say)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the argument {text!r}; write name=value")
    return name, parse_yaml(value)
