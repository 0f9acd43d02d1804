"""`mdpo rollout`: sample trajectories; compare their log-probabilities with the training model's."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mdpo.display import Display
from mdpo.errors import ConfigError
from mdpo.options import Bounds, Sampler, Source, Talk, spread

app = typer.Typer(invoke_without_command=True)


@app.callback()
@spread(model="", split="train")
def rollout(
    context: typer.Context,
    talk: Talk,
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(help="The trajectory file; what it already holds is not sampled again.", show_default=False),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Attempts at each problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy decoding.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Nucleus mass.")] = 1.0,
    share: Annotated[
        list[str] | None,
        typer.Option(
            help="More attempts at each problem, by another policy or at another temperature, e.g. "
            "samples=10,policy=runs/x/sft/policy,temperature=0.7; as often as you like."
        ),
    ] = None,
    extra: Annotated[
        str | None,
        typer.Option(
            help="More attempts at problems without both a right and a wrong one, e.g. most=30,step=5,budget=2000: at "
            "most 30 for a problem, 5 at a time, 2,000 in all.",
            show_default=False,
        ),
    ] = None,
    *,
    bounds: Bounds,
    sampler: Sampler,
) -> None:
    """Sample trajectories: let a policy attempt problems with a Python interpreter.

    Beside FILE.jsonl lies FILE.progress.jsonl, the figures of the screen as JSON lines. The same command goes on where
    it was stopped.
    """
    if context.invoked_subcommand is not None:
        return
    if not talk.model or out is None:
        raise ConfigError("a rollout needs a policy and a file: --model MODEL --out FILE.jsonl; see its --help")
    if out.suffix != ".jsonl":
        raise ConfigError(f"{out} is no name for a trajectory file; let it end with .jsonl")
    display = Display()
    with display.task("Loading torch and transformers"):
        from mdpo import commands
        from mdpo.plan_options import read_plan
    sampling = commands.bounded(bounds, temperature, top_p, source.seed)
    plan = read_plan(sampling, samples, share or [], extra)
    result = commands.rollout(talk, sampler, bounds, plan, source, out, display)
    tally = result.tally
    display.say(
        f"{tally.trajectories:,} trajectories in {out}, {tally.right:,} right "
        f"({100 * (tally.reward or 0):.1f} %), {result.mixed:,} problems with right and wrong ones; look at one: "
        f"[bold]mdpo inspect {out}[/]"
    )


@app.command()
def check(
    trajectories: Annotated[Path, typer.Argument(help="A trajectory file.")],
    model: Annotated[
        str | None,
        typer.Option(help="The model that would train on them; default: the policy that the file names."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="The type of the weights in training.")
    ] = "bfloat16",
    count: Annotated[int, typer.Option(min=1, help="How many trajectories to compare, chosen by the seed.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
) -> None:
    """Compare the sampled log-probabilities with those of the training model: are these data on-policy?

    The exit status is 1 if they are not.
    """
    display = Display()
    with display.task("Loading torch and transformers"):
        from mdpo.commands import check_agreement
    if not check_agreement(trajectories, model, dtype, count, seed, threads, display):
        raise typer.Exit(1)
