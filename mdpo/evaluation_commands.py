"""What `mdpo eval` does, without the command line around it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mdpo.collect import read_asked
from mdpo.commands import (
    bounded,
    checkpoint_of,
    engine_config,
    policy_config,
    problems_config,
    sample,
    sandbox_config,
)
from mdpo.display import Display
from mdpo.errors import ConfigError
from mdpo.evaluation import Evaluation, evaluate
from mdpo.evaluation_file import claim, settings, short_digest, write_record
from mdpo.options import Bounds, Sampler, Source, Talk
from mdpo.plan import Plan, Share
from mdpo.sources import load_problems

_SEVERAL_TEMPERATURE = 0.7  # of the paper's pass@n


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation: with what it was made, what it came to, and where it is."""

    settings: dict[str, Any]
    result: Evaluation
    trajectories: Path
    record: Path


def evaluation_share(
    bounds: Bounds, samples: int, temperature: float | None, top_p: float, tool: bool, seed: int
) -> Share:
    """How a policy is evaluated; greedy decoding for one attempt, the paper's temperature of 0.7 for several.

    Raises:
        ConfigError: Several greedy attempts are asked for: they would all be the same.
    """
    if temperature is None:
        temperature = 0.0 if samples == 1 else _SEVERAL_TEMPERATURE
    if samples > 1 and temperature == 0:
        raise ConfigError(f"{samples} greedy attempts are {samples} times the same; give a --temperature above 0")
    return Share(replace(bounded(bounds, temperature, top_p, seed), tool=tool), samples)


def evaluate_policy(
    talk: Talk, sampler: Sampler, bounds: Bounds, share: Share, source: Source, out: Path | None, display: Display
) -> Measured:
    """Evaluate a policy on a benchmark and write the result beside the trajectories; goes on where it was stopped."""
    chosen = problems_config(source)
    problems = load_problems(chosen, source.seed)
    made_with = settings(
        checkpoint_of(talk),
        policy_config(talk),
        engine_config(sampler),
        sandbox_config(bounds),
        share,
        chosen,
        len(problems),
        source.seed,
    )
    path = out or default_file(made_with)
    claim(path, made_with)
    title = f"{made_with['benchmark']}: {len(problems):,} problems"
    plan = Plan((share,))
    sample(talk, sampler, bounds, plan, problems, title, path, display)
    result = evaluate(read_asked(path, problems, plan), problems)
    return Measured(made_with, result, path, write_record(path, made_with, result))


def default_file(made_with: Mapping[str, Any]) -> Path:
    """A trajectory file that only the same evaluation of the same policy goes on with."""
    model = re.sub(r"[^A-Za-z0-9.-]+", "_", str(Path(made_with["model"]).expanduser()).strip("/."))
    parts = [model, made_with["benchmark"], made_with["split"]]
    parts += [f"{made_with['limit']}-seed{made_with['seed']}"] if made_with["limit"] else []
    parts += [f"n{made_with['samples']}"] if made_with["samples"] > 1 else []
    parts += [] if made_with["tool"] else ["no-tool"]
    name = "-".join(part for part in (*parts, short_digest(made_with)) if part)
    return Path("runs") / "eval" / f"{name}.jsonl"
