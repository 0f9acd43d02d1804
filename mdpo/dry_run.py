"""A recipe looked through before it runs: what each stage does and needs, without loading a model.

    mdpo run gemma-1.1-7b-it --dry-run

What is here is looked at (files, folders, columns, a local tokenizer's chat template); of what is on the hub only a
model's `config.json` is read, if the hub answers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from transformers import AutoConfig, PretrainedConfig

from eval import EvalError
from eval.benchmarks import benchmark_origin
from mdpo.checkpoint import local_path, resolve_checkpoint
from mdpo.config import Config, ProblemsConfig
from mdpo.display import Display
from mdpo.dry_checks import (
    Finding,
    check_evaluation,
    check_model,
    check_rollout,
    check_training,
)
from mdpo.errors import ConfigError, MdpoError
from mdpo.folder import RunFolder
from mdpo.memory import Architecture, Part, Sharding, architecture, generation_memory, size, total, training_memory
from mdpo.model_config import load_config_file
from mdpo.recipes import find_accelerate_file
from mdpo.sources import QUICKSTART, holds_messages, load_problems, train_problems
from mdpo.stages import chat_format
from mdpo.steps import Steps, count_steps, training_defaults
from mdpo.tables import open_table
from mdpo.training_data import find_form

_PAIRED, _SINGLE = ("mdpo", "dpo"), ("mkto", "kto")


@dataclass(frozen=True, slots=True)
class Launch:
    """In how many processes a training runs, and what they share out."""

    processes: int = 1
    sharding: Sharding = "none"
    words: str = "one process"


def dry_run(config: Config, folder: Path, display: Display) -> int:
    """Print what a run would do, and what is wrong with it.

    Returns:
        The exit status: 0 if it can start, 1 if something that it needs is missing, 2 if its settings exclude each
        other.
    """
    findings: list[Finding] = []
    with display.task("Looking through the recipe"):
        lines = list(_lines(config, folder, findings))
    for title, text in lines:
        display.say(f"[bold]{title:<12}[/] {escape(text)}")
    for finding in findings:
        colour = "yellow" if finding.kind == "warning" else "red"
        display.say(f"[{colour}]{finding.kind}:[/] `{escape(finding.key)}`: {escape(finding.text)}")
    kinds = {finding.kind for finding in findings}
    status = 2 if "error" in kinds else 1 if "missing" in kinds else 0
    display.say("[green]this run can start[/]" if status == 0 else "[red]this run cannot start as it is[/]")
    return status


def _lines(config: Config, folder: Path, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    model, lines = _policy(config, findings)
    yield from lines
    found = list(_problems("problems", train_problems(config), "problems", config.seed, findings))
    yield from ((title, text) for title, text, _ in found)
    # A data set that is not here may be smaller than what is asked for.
    asked = min([config.rollout.problems, *[count for _, _, count in found if count is not None]])
    yield from _sft(config, findings)
    launch = _launch(config, findings)
    examples, steps = _steps(config, asked, launch)
    if config.iterations:
        yield from _iterations(config, asked, examples, steps, launch)
    for number, source in enumerate(config.eval.problems):
        for title, text, _ in _problems("evaluation", source, f"eval.problems.{number}", config.seed, findings):
            yield title, text
    if model is not None:
        yield from _memory(config, model, launch)
        findings.extend(check_model(config, model))
    yield from _written(config, folder, model)
    findings.extend([
        *check_rollout(config), *check_training(config, steps, examples), *check_evaluation(config),
    ])  # fmt: skip


def _try(look: Callable[[], str], key: str, findings: list[Finding]) -> str | None:
    """What a look found; what it raises becomes a finding."""
    try:
        return look()
    except ConfigError as error:
        findings.append(Finding("error", key, str(error)))
    except (MdpoError, EvalError) as error:
        findings.append(Finding("missing", key, str(error)))
    return None


def _policy(config: Config, findings: list[Finding]) -> tuple[Architecture | None, list[tuple[str, str]]]:
    ready = config.sft.ready if config.sft is not None else None
    name, key = (ready, "sft.ready") if ready is not None else (config.policy.model, "policy.model")
    if name == QUICKSTART:
        return None, [("policy", "the quickstart's tiny Llama with random weights")]
    described: list[PretrainedConfig] = []
    where = _try(lambda: _find_policy(name, described), key, findings)
    lines = [] if where is None else [("policy", where)]
    model = architecture(described[0], config.train.adapter.r if config.train.adapter else None) if described else None
    if model is not None:
        lines.append(("", str(model)))
    if described and local_path(name).is_dir():
        spoken = _try(lambda: _template(local_path(name), config), "policy.observation_role", findings)
        lines += [] if spoken is None else [("", spoken)]
    return model, lines


def _find_policy(name: str, described: list[PretrainedConfig]) -> str:
    """Where a policy is, in words; its configuration is added where it can be read."""
    path = local_path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            resolve_checkpoint(name, path.parent)  # says what is missing
        return f"{name}, a GGUF file that is converted when the run starts"
    found = resolve_checkpoint(name, Path())
    if isinstance(found, Path):
        described.append(AutoConfig.from_pretrained(found))
        return f"{name}, a folder that is here"
    file = load_config_file(found)
    if file is None:
        return f"{name}, a hub id; the hub does not answer here, so nothing of it could be looked at"
    described.append(AutoConfig.from_pretrained(file.parent))
    return f"{name}, on the hub"


def _template(path: Path, config: Config) -> str:
    chat = chat_format(path, config.policy)
    changes = (
        f"; {len(chat.rewrites)} kinds of earlier turns would be rewritten, see docs/chat.md" if chat.rewrites else ""
    )
    return f"its chat template is cut for observations as `{config.policy.observation_role}`{changes}"


def _problems(
    title: str, source: ProblemsConfig, key: str, seed: int, findings: list[Finding]
) -> Iterator[tuple[str, str, int | None]]:
    """What is known of some problems, and how many they are where they are here."""
    count: list[int] = []

    def look() -> str:
        if source.benchmark != QUICKSTART:
            names = [source.benchmark] if source.benchmark.endswith(".jsonl") else source.benchmark.split("+")
            origins = [benchmark_origin(name, split=source.split, path=source.file) for name in names]
            if any(" on the hub, " in origin for origin in origins):
                return f"{source.benchmark} {source.split}, from {' and '.join(origins)}; read when the run starts"
        count.append(len(load_problems(source, seed)))
        return f"{source.benchmark} {source.split}: {count[0]:,} problems"

    found = _try(look, key, findings)
    if found is not None:
        yield title, found, next(iter(count), None)


def _sft(config: Config, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    sft = config.sft
    if sft is None or sft.ready is not None:
        yield "sft", "none; the policy is taken as it is"
        return

    def look() -> str:
        if not holds_messages(sft.demonstrations):
            if sft.demonstrations.endswith(".jsonl"):
                open_table(sft.demonstrations)
            return f"at most {sft.count:,} demonstrations: {sft.demonstrations}"
        if not local_path(sft.demonstrations).exists():
            return f"at most {sft.count:,} conversations of {sft.demonstrations} on the hub; read when the run starts"
        table = open_table(sft.demonstrations)
        size = "" if table.size is None else f" {table.size:,}"
        return f"at most {sft.count:,} of{size} {find_form(table, 'sft').name} in {sft.demonstrations}"

    found = _try(look, "sft.demonstrations", findings)
    if found is not None:
        yield "sft", found
        yield "", str(count_steps(sft.count, {**training_defaults("sft"), **sft.args}, _launch(config, []).processes))


def _launch(config: Config, findings: list[Finding]) -> Launch:
    name = config.train.launch
    found: list[Launch] = []
    if name is not None:
        _try(lambda: _read_launch(find_accelerate_file(name), found), "train.launch", findings)
    return found[0] if found else Launch()


def _read_launch(file: Path, found: list[Launch]) -> str:
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        read = load_config_from_file(str(file))
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{file} is no accelerate file: {error}; `accelerate config --config_file FILE` writes one"
        ) from error
    sharding: Sharding = "none"
    if read.fsdp_config:
        sharding = "full"
    elif read.deepspeed_config:
        sharding = "full" if read.deepspeed_config.get("zero_stage") == 3 else "zero2"
    found.append(Launch(int(read.num_processes), sharding, f"{read.num_processes} processes by {file.name}"))
    return found[0].words


def _steps(config: Config, problems: int, launch: Launch) -> tuple[int, Steps | None]:
    """The largest number of examples of an iteration, and the steps that it takes."""
    train = config.train
    examples = problems * config.pairs.per_problem * (2 if train.method in _SINGLE else 1)
    if not config.iterations:
        return examples, None
    return examples, count_steps(examples, {**training_defaults(train.method), **train.args}, launch.processes)


def _iterations(
    config: Config, problems: int, examples: int, steps: Steps | None, launch: Launch
) -> Iterator[tuple[str, str]]:
    rollout = config.rollout
    shares = rollout.shares or []
    samples = sum(share.samples for share in shares) or rollout.samples
    mixed = f" ({', '.join(f'{share.samples} {share.policy}' for share in shares)})" if shares else ""
    count = problems * samples
    tokens = count * min(rollout.horizon * rollout.max_action_tokens, rollout.max_tokens)
    attempts = f"{problems:,} problems × {samples} attempts{mixed} = {count:,} trajectories"
    yield f"{config.iterations} × rollout", f"{attempts}, at most {tokens / 1e6:,.1f} million sampled tokens"
    if rollout.extra is not None:
        bound = problems * rollout.extra.most
        extra = bound if rollout.extra.budget is None else min(bound, rollout.extra.budget)
        yield "", f"and at most {extra:,} more attempts where all are right or all wrong"
    kind = "pairs" if config.train.method in _PAIRED else "trajectories"
    yield f"{config.iterations} × {config.train.method}", f"at most {examples:,} {kind}; {steps}; {launch.words}"
    references = {"previous": "the policy that the iteration started from", "initial": "the policy after SFT"}
    if config.train.method != "raft":
        yield "reference", references.get(config.train.reference, config.train.reference)


def _memory(config: Config, model: Architecture, launch: Launch) -> Iterator[tuple[str, str]]:
    train, rollout, engine = config.train, config.rollout, config.engine
    if config.iterations:
        args = {**training_defaults(train.method), **train.args}
        rows = int(args["per_device_train_batch_size"]) * (2 if train.method in _PAIRED else 1)
        tokens = max(train.max_length, train.micro_batch_tokens or rows * train.max_length)
        frozen = "4 bits" if train.adapter is not None and train.adapter.quantize else config.policy.dtype
        parts = training_memory(model, frozen, tokens, args, launch.sharding, launch.processes)
        yield from _parts("training", parts)
    if engine.kind == "server":
        # The servers have machines of their own.
        return
    parts = generation_memory(
        model, config.policy.dtype, engine.max_rows, rollout.max_tokens, engine.tensor_parallel_size
    )
    yield from _parts("generation", parts)


def _parts(title: str, parts: Iterable[Part]) -> Iterator[tuple[str, str]]:
    listed = list(parts)
    yield title, f"{size(total(listed))} on each GPU:"
    for part in listed:
        yield "", f"{size(part.bytes):>11} {part.name}: {part.arithmetic}"


def _written(config: Config, folder: Path, model: Architecture | None) -> Iterator[tuple[str, str]]:
    run = RunFolder(folder)
    policies = config.iterations + 1
    width = 4 if config.policy.dtype == "float32" else 2
    each = "" if model is None else f", about {size(model.parameters * width)} each"
    state = "goes on with" if run.config.exists() else "writes"
    yield "files", f"{state} {folder}: config.yaml, state.json, metrics.json, report.html"
    yield "", f"{policies} policies in {run.policy(0)}, {run.policy(1)}, …{each}"
    yield "", f"trajectories.jsonl and preferences.jsonl of each iteration; evaluations in {folder / 'eval'}"
