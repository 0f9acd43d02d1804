"""The commands. Each one is a stage of `mdpo run`, usable alone; heavy libraries are imported where they are needed."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mdpo import cli_eval, cli_pairs, cli_rollout
from mdpo.display import Display
from mdpo.errors import ConfigError, MdpoError
from mdpo.options import Talk, spread
from mdpo.train.stage import Method

app = typer.Typer(
    name="mdpo",
    help="Teach language models to solve mathematics with a Python interpreter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_INTERRUPTED = 130

app.add_typer(cli_rollout.app, name="rollout")
app.add_typer(cli_eval.app, name="eval")


@app.command("run")
def run_command(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe (see `mdpo configs`).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, as often as you like.")] = None,
    dir: Annotated[Path | None, typer.Option(help="The run directory; default: runs/NAME.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Replaces the recipe's seed.")] = None,
) -> None:
    """Run a whole experiment: SFT, then iterations of rollout, pairs, training and evaluation.

    The same command on the same directory goes on where it was stopped.
    """
    from mdpo.config import load_config
    from mdpo.recipes import find_recipe

    display = Display()
    path = find_recipe(config)
    settings = load_config(path, overrides or [], seed)
    folder = dir or Path("runs") / path.stem
    display.say(f"[bold]mdpo run[/] {path.stem}, seed {settings.seed}, in {folder}")
    with display.task("Loading torch and transformers"):
        from mdpo.loop import run
        from mdpo.report import print_result, write_report
    run(settings, folder, display)
    write_report(folder)
    print_result(folder, display.console)


app.command("pairs")(cli_pairs.pairs)


@app.command()
@spread()
def train(
    talk: Talk,
    data: Annotated[Path, typer.Option(help="Pairs; trajectories (raft); or demonstrations (sft).")],
    out: Annotated[Path, typer.Option(help="A folder; the trained policy is its subfolder `policy`.")],
    args: Annotated[
        list[str] | None,
        typer.Argument(help="TRL's arguments and the options of `train`, e.g. learning_rate=4e-7 beta=0.1 nll=0.1"),
    ] = None,
    method: Annotated[Method, typer.Option(help="The loss.")] = "mdpo",
    reference: Annotated[str | None, typer.Option(help="π_ref; default: the model itself.")] = None,
    max_length: Annotated[int, typer.Option(min=1, help="Drop longer examples, in tokens.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
) -> None:
    """Train a policy by one of the methods; goes on where it was killed."""
    display = Display()
    with display.task("Loading torch and transformers"):
        from mdpo.commands import train_policy
    policy = train_policy(talk, method, data, out, args or [], reference, max_length, seed, display)
    display.say(f"the trained policy is {policy}; measure it: [bold]mdpo eval --model {policy}[/]")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="A run directory; several are compared with the first.")],
    trajectories: Annotated[
        int, typer.Option(min=1, help="Largest number of trajectories of each file that the page shows.")
    ] = 2000,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default: report.html in the run, or comparison.html here."),
    ] = None,
) -> None:
    """Write one HTML page of a run, or of several: curves, tables, and trajectories to look through."""
    from mdpo.report import print_result, write_comparison, write_report

    display = Display()
    several = len(folders) > 1
    page = out or (Path("comparison.html") if several else folders[0] / "report.html")
    with display.task("Writing the report"):
        if several:
            write_comparison(folders, page, trajectories)
        else:
            write_report(folders[0], trajectories, page)
    if several:
        display.say(f"{page} compares {len(folders)} runs")
    else:
        print_result(folders[0], display.console)


@app.command()
def inspect(
    trajectories: Annotated[Path, typer.Argument(help="A trajectory file.")],
    problem: Annotated[str | None, typer.Option(help="Only this problem's id.")] = None,
    sample: Annotated[int | None, typer.Option(min=0, help="Only this sample.")] = None,
    right: Annotated[bool | None, typer.Option("--right/--wrong", help="Only right or only wrong ones.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many to show.")] = 1,
    tokenizer: Annotated[
        str | None, typer.Option(help="Decode the stored ids with this checkpoint's tokenizer; default: the policy's.")
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Show every token with its action mask.")] = False,
) -> None:
    """Show trajectories turn by turn, or token by token with their mask; and whether their ids say what they say."""
    from mdpo.inspect import show

    show(trajectories, Display().console, problem, sample, right, count, tokenizer, mask=mask)


@app.command()
def configs() -> None:
    """List the recipes that come with the package."""
    from mdpo.recipes import recipes

    display = Display()
    for name, path, first in recipes():
        display.say(f"[bold]{name}[/]  {first}\n  [dim]{path}[/]")


@app.command()
def doctor() -> None:
    """Try what this machine can do: libraries, GPUs, the checker's grammar, and each protection of the sandbox."""
    display = Display()
    with display.task("Looking at this machine"):
        from mdpo.doctor import examine
    if not examine(display):
        raise typer.Exit(1)


def main() -> None:
    """Run a command; an expected error is one line on standard error and exit status 1."""
    # What a person sees is ours; the libraries' notices would hide it. A user's own setting wins.
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except _expected_errors() as error:
        Display(_stderr()).say(f"[red]mdpo:[/] {escape(str(error))}")
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except SystemExit as stop:
        # What typer makes of an interrupt.
        if stop.code == _INTERRUPTED:
            Display(_stderr()).say("[yellow]mdpo:[/] stopped; the same command goes on from here")
        raise


def _expected_errors() -> tuple[type[Exception], ...]:
    from eval import EvalError
    from sandbox import SandboxError

    return MdpoError, EvalError, SandboxError


def _stderr() -> Console:
    return Console(stderr=True, soft_wrap=True)


if __name__ == "__main__":
    main()
