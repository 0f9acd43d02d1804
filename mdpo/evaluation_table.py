"""Evaluations, comparisons and contamination as a person reads them: sentences, tables, and a Markdown row."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.contamination import GRAM, Overlap
from mdpo.evaluation import Comparison, Evaluation, Lengths, Score, ToolUse

_SHOWN_OVERLAPS = 20
_SHOWN_CHARS = 60


def print_evaluation(
    made_with: Mapping[str, Any], result: Evaluation, trajectories: Path, record: Path, console: Console
) -> None:
    """Print the result of one evaluation: the sentence to quote, the details, and the row to paste.

    Args:
        made_with: The settings, as `mdpo.evaluation_file.settings` gives them.
        result: What it came to.
        trajectories, record: The files.
        console: Where to.
    """
    say = _sayer(console)
    say(headline(made_with, result))
    subset = f", a subset chosen by seed {made_with['seed']}" if made_with["limit"] else ""
    say(f"problems from {made_with['origin']}{subset}; {conditions(made_with)}")
    if result.samples > 1:
        console.print(_attempts_table(result))
    several = {field: values for field, values in result.by.items() if len(values) > 1}
    if several:
        console.print(_groups_table(several))
    say(tool_sentence(result.tool) if made_with["tool"] else "without the tool: one action, no program was run")
    say(f"sampled tokens: {_lengths(result.sampled)}; whole trajectory: {_lengths(result.tokens)}")
    say(f"stopped: {', '.join(f'{count} {reason}' for reason, count in result.stop_reasons.items())}")
    say(f"trajectories in {trajectories}, every number in {record}")
    console.print(f"\n{markdown(made_with, result)}", highlight=False, soft_wrap=True, markup=False)


def headline(made_with: Mapping[str, Any], result: Evaluation) -> str:
    """The accuracy with its interval and what it was measured on, in one sentence."""
    whole = f"{result.trajectories:,} attempts at {result.problems:,}" if result.samples > 1 else f"{result.problems:,}"
    return (
        f"{made_with['benchmark']}{_split(made_with)}: [bold]{_percent(result.accuracy)}[/] right, 95 % interval "
        f"{_interval(result.ci95)}, {result.right:,} of {whole} problems, "
        f"{result.calls:.2f} calls a problem"
    )


def conditions(made_with: Mapping[str, Any]) -> str:
    """How it was measured, in a few words."""
    tool = f"horizon {made_with['sampling']['horizon']}" if made_with["tool"] else "no tool"
    limit = f"{made_with['sampling']['max_tokens']} tokens at most"
    return f"{decoding(made_with)}, {tool}, {limit}, {made_with['engine']['kind']} in {made_with['dtype']}"


def decoding(made_with: Mapping[str, Any]) -> str:
    """How actions were decoded: greedily, or so many samples at a temperature."""
    temperature, samples = made_with["sampling"]["temperature"], made_with["samples"]
    if temperature == 0:
        return "greedy"
    return f"{samples} {'sample' if samples == 1 else 'samples'} at temperature {temperature:g}"


def markdown(made_with: Mapping[str, Any], result: Evaluation) -> str:
    """A Markdown table of one row, to paste; later rows go below without the two lines above it."""
    best = [f"pass@{result.samples} {_percent(result.pass_at[result.samples].accuracy)}"] if result.samples > 1 else []
    best += [f"maj@{k} {_percent(score.accuracy)}" for k, score in result.maj_at.items() if k == result.samples > 1]
    cells = {
        "model": str(made_with["model"]).replace("|", "\\|"),
        "benchmark": f"{made_with['benchmark']}{_split(made_with)}",
        "problems": f"{result.problems:,}" + (f" (subset, seed {made_with['seed']})" if made_with["limit"] else ""),
        "tool": "Python" if made_with["tool"] else "none",
        "decoding": decoding(made_with),
        "right": "; ".join([_percent(result.accuracy), *best]),
        "95 % interval": _interval(result.ci95),
        "calls a problem": f"{result.calls:.2f}",
    }
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells, ["---"] * len(cells), cells.values()))


def tool_sentence(tool: ToolUse) -> str:
    """How programs were used."""
    if not tool.calls:
        return "no program was run"
    after = f"; {_percent(tool.answers_after_error)} of the answers came after a failed program"
    right = f", {_percent(tool.right_after_error)} of these right" if tool.right_after_error is not None else ""
    return (
        f"programs: in {_percent(tool.used)} of the trajectories; {_percent(tool.errors)} ended in an error, "
        f"{_percent(tool.timeouts)} in a timeout, {_percent(tool.other_failures)} otherwise"
        f"{after if tool.answers_after_error is not None else ''}{right}"
    )


def print_comparison(compared: Comparison, first: Path, second: Path, console: Console) -> None:
    """Print two policies on the same problems, and their difference with its interval."""
    table = Table(title=f"{compared.difference.problems:,} problems", title_justify="left")
    for heading in ("", "right", "95 % interval", "alone better on"):
        table.add_column(heading, justify="left" if not heading else "right")
    only = (compared.difference.only_first, compared.difference.only_second)
    for path, score, alone in zip((first, second), (compared.first, compared.second), only, strict=True):
        table.add_row(escape(str(path)), _percent(score.accuracy), _interval(score.ci95), f"{alone:,}")
    console.print(table)
    difference = compared.difference
    _sayer(console)(
        f"second − first: [bold]{100 * difference.difference:+.1f} points[/], 95 % interval "
        f"{100 * difference.low:+.1f} – {100 * difference.high:+.1f}, p = {difference.p_value:.2g} ({compared.method})"
    )


def print_contamination(overlaps: Sequence[Overlap], problems: int, training: Path, console: Console) -> None:
    """Print which test problems a training file contains."""
    say = _sayer(console)
    if not overlaps:
        say(f"none of {problems:,} test problems is in {training}: no exact match, no shared run of {GRAM} words")
        return
    exact = {overlap.problem_id for overlap in overlaps if overlap.kind == "exact"}
    shared = {overlap.problem_id for overlap in overlaps} - exact
    say(
        f"[red]contamination:[/] {len(exact):,} of {problems:,} test problems are in {training}, and {len(shared):,} "
        f"more share a run of {GRAM} words with it"
    )
    table = Table()
    for heading in ("test problem", "line", "match", "coverage", "shared words"):
        table.add_column(heading, justify="right" if heading in ("line", "coverage") else "left")
    worst = sorted(overlaps, key=lambda overlap: (-overlap.coverage, overlap.line))
    for overlap in worst[:_SHOWN_OVERLAPS]:
        words = _shorten(overlap.shared)
        table.add_row(overlap.problem_id, f"{overlap.line:,}", overlap.kind, _percent(overlap.coverage), escape(words))
    console.print(table)
    if len(overlaps) > _SHOWN_OVERLAPS:
        say(f"{len(overlaps) - _SHOWN_OVERLAPS:,} more matches; --json FILE writes all of them")


def print_findings(findings: Iterable[Mapping[str, Any]], checked: str, console: Console) -> None:
    """Print what an audit found, one row each, and how much it looked at."""
    rows = list(findings)
    if rows:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*(escape(_shorten(str(value))) for value in row.values()))
        console.print(table)
    _sayer(console)(f"{len(rows):,} to look at in {checked}")


def _attempts_table(result: Evaluation) -> Table:
    table = Table("k", "pass@k", "95 % interval", "maj@k", "95 % interval")
    for k, found in result.pass_at.items():
        vote = result.maj_at.get(k)
        votes = (_percent(vote.accuracy), _interval(vote.ci95)) if vote else ("", "")
        table.add_row(str(k), _percent(found.accuracy), _interval(found.ci95), *votes)
    return table


def _groups_table(by: Mapping[str, Mapping[str, Score]]) -> Table:
    table = Table("", "", "problems", "right", "95 % interval")
    for field, values in by.items():
        for number, (value, score) in enumerate(values.items()):
            table.add_row(
                "" if number else field,
                escape(value),
                f"{score.problems:,}",
                _percent(score.accuracy),
                _interval(score.ci95),
            )
    return table


def _sayer(console: Console) -> Any:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    return say


def _split(made_with: Mapping[str, Any]) -> str:
    return f" {made_with['split']}" if made_with["split"] else ""


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _interval(ci95: tuple[float, float]) -> str:
    return f"{100 * ci95[0]:.1f} – {100 * ci95[1]:.1f}"


def _lengths(found: Lengths) -> str:
    return f"mean {found.mean:.0f}, median {found.median:g}, 95th percentile {found.p95}, longest {found.max}"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"
