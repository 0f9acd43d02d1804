"""The options that several commands share, as dataclasses, and how a command takes all of one at once."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mdpo.errors import ConfigError

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Talk:
    """A policy and how it is talked to."""

    model: Annotated[
        str,
        typer.Option(help="The policy: a folder, a hub id, a .gguf file, or package:NAME/PATH.", show_default=False),
    ]
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="The type of the weights.")] = (
        "bfloat16"
    )
    role: Annotated[
        Literal["user", "tool", "ipython", "inline"],
        typer.Option(
            help="How observations are shown: in a message of this role, or inline, within the policy's turn."
        ),
    ] = "user"
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None
    examples: Annotated[
        Path | None, typer.Option(help="A JSONL file of demonstrations to put in front of every question.")
    ] = None
    history: Annotated[
        Literal["append", "refuse"],
        typer.Option(help="A chat template that rewrites earlier turns: go on behind what was sampled, or refuse it."),
    ] = "append"
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None


@dataclass(frozen=True, slots=True)
class Sampler:
    """Who samples the actions."""

    engine: Annotated[
        Literal["transformers", "vllm", "server"],
        typer.Option(help="Who samples: vllm, servers that run already, or transformers for tiny models and no vLLM."),
    ] = "vllm"
    url: Annotated[
        list[str] | None,
        typer.Option(help="A server's address, such as http://localhost:8000/v1; repeat it for others (server)."),
    ] = None
    max_rows: Annotated[
        int, typer.Option(min=1, help="Largest number of requests sampled together, at each server.")
    ] = 256
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Largest number of trajectories in flight; default: half as many again as --max-rows, so that the "
            "engine stays full while programs run.",
            show_default=False,
        ),
    ] = None
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model (vLLM).")] = 1
    data_parallel: Annotated[int, typer.Option(min=1, help="Copies of the model, each on its own GPUs (vLLM).")] = 1
    memory_share: Annotated[
        float, typer.Option(min=0.05, max=1, help="Share of a GPU's memory that the engine takes (vLLM).")
    ] = 0.9


@dataclass(frozen=True, slots=True)
class Part:
    """Which problems of a benchmark."""

    split: Annotated[Split, typer.Option(help="Which part of the benchmark.")]
    data: Annotated[
        Path | None, typer.Option(help="A local JSONL file of the benchmark's problems, instead of the hub's copy.")
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(help="The file's name for a field, e.g. question=problem or answer=gold; repeat it for others."),
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Take this many problems, chosen by the seed.")] = None
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0

    def columns(self) -> dict[str, str]:
        """The file's columns that have other names: field → column.

        Raises:
            ConfigError: An option is not of the form field=column.
        """
        return dict(split_option(text, "column", "field=column") for text in self.column or ())


@dataclass(frozen=True, slots=True)
class Source(Part):
    """A benchmark, and which problems of it."""

    benchmark: Annotated[
        str, typer.Option(help="gsm8k, math, math500, gsm_hard, svamp, asdiv, quickstart, or a JSONL file.")
    ] = "gsm8k"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a trajectory and a program may go."""

    horizon: Annotated[int, typer.Option(min=1, help="Largest number of actions.")] = 6
    max_calls: Annotated[
        int | None, typer.Option(min=1, help="Largest number of programs; default: the horizon.", show_default=False)
    ] = None
    box_with_code: Annotated[
        Literal["final", "run", "answer"],
        typer.Option(
            help="An action with a program and a boxed answer: final, a box after the program is the answer; run, the "
            "program is always run; answer, a box outside the program is the answer."
        ),
    ] = "final"
    max_action_tokens: Annotated[int, typer.Option(min=1, help="Largest action, in tokens.")] = 512
    max_tokens: Annotated[int, typer.Option(min=1, help="Largest trajectory, the prompt included, in tokens.")] = 2048
    program_seconds: Annotated[float, typer.Option(min=0.1, help="Time of one program.")] = 5.0
    program_memory: Annotated[int, typer.Option(min=64, help="Memory of one trajectory's programs, in MB.")] = 512


def split_option(text: str, what: str, form: str) -> tuple[str, str]:
    """Both sides of an option such as `name=value`. Raises ConfigError if it has another form."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the {what} {text!r}; write {form}")
    return name, value


def spread(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command each field of its dataclass parameters as an option of its own.

    Typer reads a command's signature, so the signature is what changes: the command is still called with the
    dataclasses.

    Args:
        defaults: For fields whose default is another one in this command.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        groups: dict[str, Any] = {}
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
            group = parameter.annotation
            if not is_dataclass(group):
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            groups[name] = group
            for field in fields(group):
                known = inspect.Parameter.empty if field.default is MISSING else field.default
                default = defaults.get(field.name, known)
                parameters.append(
                    inspect.Parameter(
                        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type
                    )
                )

        @functools.wraps(command)
        def called(**values: Any) -> None:
            for name, group in groups.items():
                values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
            command(**values)

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return called

    return decorate
