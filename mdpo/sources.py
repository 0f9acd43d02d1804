"""Where a run's problems, demonstrations and first policy come from."""

import random
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from eval import Problem, load_benchmark
from mdpo import gsm8k
from mdpo.checkpoint import load_model, load_tokenizer, resolve_checkpoint
from mdpo.config import Config, ProblemsConfig, SFTConfig
from mdpo.demonstration import Demonstration, read_demonstrations
from mdpo.dtypes import torch_dtype
from mdpo.errors import DataError
from mdpo.quickstart.policy import save_fresh_policy
from mdpo.quickstart.problems import generate_demonstrations, generate_problems
from mdpo.tables import open_table
from sandbox import Limits, Sandbox

QUICKSTART = "quickstart"
_QUICKSTART_PROBLEMS = 1000
# The quickstart's tokenizer is trained on the texts of this many demonstrations.
_TOKENIZER_DEMONSTRATIONS = 4000
# How many solutions are looked at for each demonstration wanted: some do not reproduce their gold answer.
_SPARE = 2


def load_problems(source: ProblemsConfig, seed: int) -> list[Problem]:
    """The problems of a source, in an order that the seed decides.

    Raises:
        eval.EvalError: The benchmark is unknown, its file is missing, or the hub does not answer.
        DataError: One file is named for several benchmarks.
    """
    if source.benchmark == QUICKSTART:
        return generate_problems(source.split, source.limit or _QUICKSTART_PROBLEMS, seed)
    # A file may have any name.
    names = [source.benchmark] if source.benchmark.endswith(".jsonl") else source.benchmark.split("+")
    if source.file and len(names) > 1:
        raise DataError(f"one file cannot hold {' and '.join(names)}; name one benchmark, or leave `file` out")
    problems = [
        problem
        for name in names
        for problem in load_benchmark(
            name,
            split=source.split,
            path=Path(source.file).expanduser() if source.file else None,
            columns=source.columns,
        )
    ]
    return random.Random(seed).sample(problems, min(source.limit or len(problems), len(problems)))


def train_problems(config: Config) -> ProblemsConfig:
    """The problems to learn from; the quickstart makes as many as the iterations need."""
    if config.problems.limit is not None or config.problems.benchmark != QUICKSTART:
        return config.problems
    return config.problems.model_copy(update={"limit": max(1, config.iterations) * config.rollout.problems})


def load_demonstrations(
    sft: SFTConfig, problems: ProblemsConfig, limits: Limits, seed: int, on_one: Callable[[], None]
) -> list[Demonstration]:
    """The demonstrations of the SFT stage; programs in them are really run.

    Args:
        sft: What to demonstrate and how many.
        problems: Where the training problems come from; their file also holds the solutions.
        limits: Of the sandbox that runs the programs.
        seed: Of the choice.
        on_one: Told of each demonstration.

    Raises:
        DataError: There is none.
    """
    if sft.demonstrations.endswith(".jsonl"):
        found = list(islice(read_demonstrations(Path(sft.demonstrations).expanduser()), sft.count))
    else:
        found = []
        with Sandbox(limits) as sandbox, sandbox.session() as session:
            if sft.demonstrations == QUICKSTART:
                source = generate_demonstrations(sft.count, session.run_sync, seed)
            elif sft.demonstrations == "gsm8k":
                wanted = problems.model_copy(update={"limit": _SPARE * sft.count})
                source = gsm8k.demonstrations(load_problems(wanted, seed), session.run_sync, seed)
            else:
                raise DataError(
                    f"unknown demonstrations {sft.demonstrations!r}; take quickstart, gsm8k, or a .jsonl file"
                )
            for demonstration in islice(source, sft.count):
                found.append(demonstration)
                on_one()
    if not found:
        raise DataError(f"there are no demonstrations in {sft.demonstrations}; `sft.demonstrations` names the source")
    return found


def holds_messages(demonstrations: str) -> bool:
    """Whether `sft.demonstrations` names a data set of conversations, and not demonstrations of our own form.

    Raises:
        DataError: It is a file without a row.
    """
    if demonstrations in (QUICKSTART, "gsm8k"):
        return False
    path = Path(demonstrations).expanduser()
    return path.suffix != ".jsonl" or (path.is_file() and "actions" not in open_table(demonstrations).columns)


def place_policy(model: str, folder: Path, cache: Path, dtype: str) -> None:
    """Put a policy that is taken as it is under `folder`, as an ordinary checkpoint.

    One from the hub or from a GGUF file is saved with weights of `dtype`; a folder is copied.

    Raises:
        CheckpointError: There is no such policy, or it is broken.
    """
    found = resolve_checkpoint(model, cache, torch_dtype(dtype))
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if isinstance(found, Path):
        # Loading it once tells a broken checkpoint now, and not in the middle of the run.
        load_tokenizer(found)
        shutil.copytree(found, partial)
    else:
        load_model(found, torch_dtype(dtype)).save_pretrained(partial)
        load_tokenizer(found).save_pretrained(partial)
    partial.replace(folder)


def start_policy(model: str, folder: Path, demonstrations: list[Demonstration], seed: int) -> str | Path:
    """The policy that SFT starts from."""
    if model != QUICKSTART:
        return resolve_checkpoint(model, folder / "converted")
    fresh = folder / "start"
    if not fresh.exists():
        partial = folder / "start.partial"
        save_fresh_policy(partial, demonstrations[:_TOKENIZER_DEMONSTRATIONS], seed)
        partial.replace(fresh)
    return fresh
