"""`mdpo eval`: evaluate a policy; compare two evaluations; look for test problems in training data; audit grading."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mdpo.display import Display
from mdpo.errors import ConfigError
from mdpo.options import Bounds, Part, Sampler, Source, Talk, spread

app = typer.Typer(invoke_without_command=True)

Json = Annotated[Path | None, typer.Option("--json", help="Write everything found into this file too.")]


@app.callback()
@spread(model="", split="test")
def evaluate(
    context: typer.Context,
    talk: Talk,
    source: Source,
    samples: Annotated[
        int, typer.Option("--samples", "-n", min=1, help="Attempts at each problem: several give pass@k and maj@k.")
    ] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0, help="0 is greedy decoding; default: 0 for one sample, 0.7 for several.", show_default=False
        ),
    ] = None,
    top_p: Annotated[float, typer.Option(help="Nucleus mass.")] = 1.0,
    tool: Annotated[bool, typer.Option(help="Run programs, or one action without them (chain of thought).")] = True,
    out: Annotated[
        Path | None, typer.Option(help="The trajectory file; default: one for the model in runs/eval.")
    ] = None,
    *,
    bounds: Bounds,
    sampler: Sampler,
) -> None:
    """Measure a policy's accuracy on a benchmark, greedily and with a Python interpreter unless told otherwise.

    The trajectories go into a file, and every number into a JSON file beside it. The same command goes on where it was
    stopped.
    """
    if context.invoked_subcommand is not None:
        return
    if not talk.model:
        raise ConfigError("an evaluation needs a policy; name it with --model, or see `mdpo eval --help`")
    display = Display()
    with display.task("Loading torch and transformers"):
        from mdpo.evaluation_commands import evaluate_policy, evaluation_share
        from mdpo.evaluation_table import print_evaluation
    share = evaluation_share(bounds, samples, temperature, top_p, tool, source.seed)
    done = evaluate_policy(talk, sampler, bounds, share, source, out, display)
    print_evaluation(done.settings, done.result, done.trajectories, done.record, display.console)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="An evaluation: its trajectory file, or the JSON file beside it.")],
    second: Annotated[Path, typer.Argument(help="Another one, of the same problems.")],
    json: Json = None,
) -> None:
    """Compare two policies on the same problems: the difference, its 95 % interval, and a p-value."""
    from mdpo.evaluation_checks import compare_files
    from mdpo.evaluation_table import print_comparison

    print_comparison(compare_files(first, second, json), first, second, Display().console)


@app.command()
@spread(split="test")
def contamination(
    training: Annotated[Path, typer.Argument(help="A JSONL file of any form; all texts in it are looked at.")],
    source: Source,
    json: Json = None,
) -> None:
    """Look for test problems in a training file; the exit status is 1 if there are any.

    A problem is found if its question is a whole text of a row, or shares 13 words in a row with it, after case,
    punctuation and white space are taken away.
    """
    display = Display()
    with display.task(f"Reading {training}"):
        from mdpo.evaluation_checks import contamination as search
        from mdpo.evaluation_table import print_contamination

        overlaps, problems = search(training, source, json)
    print_contamination(overlaps, len(problems), training, display.console)
    if overlaps:
        raise typer.Exit(1)


@app.command()
@spread(split="test")
def audit(
    part: Part,
    file: Annotated[
        Path | None, typer.Argument(help="Graded answers: trajectories, or rows with prediction and answer.")
    ] = None,
    golds: Annotated[str | None, typer.Option(help="Look at this benchmark's gold answers instead.")] = None,
    json: Json = None,
) -> None:
    """Show answers of a file on which graders differ, or gold answers of a benchmark that deserve a look."""
    if (file is None) == (golds is None):
        raise ConfigError("an audit looks at a file of graded answers or at --golds BENCHMARK; give one of them")
    display = Display()
    with display.task(f"Auditing {file or golds}"):
        from mdpo.evaluation_checks import audit_benchmark, audit_file
        from mdpo.evaluation_table import print_findings

        findings, checked = audit_file(file) if file else audit_benchmark(Source(**asdict(part), benchmark=str(golds)))
    if json is not None:
        from mdpo.folder import write_json

        write_json(json, findings)
    print_findings(findings, checked, display.console)
