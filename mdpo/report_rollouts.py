"""What policies do: which problems give something to learn from, and how programs, lengths and stops change."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mdpo.evaluation import Score, lengths
from mdpo.report_bars import Bar, Range, bar_chart, range_chart
from mdpo.report_charts import Line, line_chart
from mdpo.report_data import Attempts, Kind, RunData
from mdpo.report_layout import Section, every, table
from mdpo.report_svg import percent, plain
from mdpo.trajectory import STOP_REASONS

_OUTCOMES = (0, 5, 1)  # looks: all right and all wrong as everywhere, both between them
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def rollouts(runs: Sequence[RunData]) -> Section:
    """Coverage and pass@k."""
    section = Section(
        "rollouts",
        "Rollouts",
        "A problem with a right and a wrong attempt gives a pair. Each rollout is of the policy before its iteration.",
    )
    sampled = every(runs, "rollout")
    if sampled:
        section.figures.append(_coverage(sampled))
    else:
        section.notes.append("There are no trajectories of rollouts.")
    held_out, on_rollouts = (_several_attempts(runs, kind) for kind in ("evaluation", "rollout"))
    if held_out:
        section.figures.append(_pass_at("pass@k on held-out problems, before and after", held_out))
    if on_rollouts:
        section.figures.append(_pass_at("pass@k on the problems of the first and the last rollout", on_rollouts))
    if not held_out and sampled:
        section.notes.append(
            "The evaluations have one attempt a problem, so their pass@k is not known; eval.samples=8 and "
            "eval.temperature=1 measure it."
        )
    return section


def behaviour(runs: Sequence[RunData]) -> Section:
    """Programs and their errors, lengths, and why attempts stopped."""
    section = Section("behaviour", "Behaviour", "Over all trajectories of each file, not only those shown below.")
    found = every(runs)
    if not found:
        section.notes.append("There are no trajectories.")
        return section
    # Many bars say nothing: of several runs, only the evaluations are drawn.
    drawn = (len(runs) > 1 and every(runs, "evaluation")) or found
    section.figures = [_programs(drawn), _stops(drawn), _lengths(drawn)]
    headings = [
        "trajectories of",
        "# how many",
        "# right",
        "# programs each",
        "# failed",
        "# tokens, mean",
        "# 95 %",
        "# longest",
    ]
    section.tables.append(
        table("In numbers", headings, [(run, _cells(each)) for _, run, each in found], named=len(runs) > 1)
    )
    return section


def _coverage(found: Sequence[tuple[str, RunData, Attempts]]) -> Markup:
    bars = []
    for label, _, each in found:
        counts = each.coverage()
        problems = sum(counts.values())
        note = f"{percent(counts['both outcomes'] / problems)} of {problems:,} give pairs"
        bars.append(Bar(label, [(name, count / problems) for name, count in counts.items()], note))
    return bar_chart("Coverage: problems by the outcomes of their attempts", bars, percent, 1, _OUTCOMES)


def _several_attempts(runs: Sequence[RunData], kind: Kind) -> dict[str, dict[int, Score]]:
    """pass@k of the first and of the last file of each run and benchmark, where problems have several attempts."""
    groups: dict[tuple[str, str], list[tuple[str, dict[int, Score]]]] = defaultdict(list)
    for label, run, each in every(runs, kind):
        if len(found := each.pass_at()) > 1:
            groups[run.name, each.benchmark].append((label, found))
    return dict(each for group in groups.values() for each in (group[0], group[-1]))


def _pass_at(title: str, found: Mapping[str, Mapping[int, Score]]) -> Markup:
    """pass@k over k, on a scale where each doubling is one step."""
    ks = sorted({k for scores in found.values() for k in scores})
    lines = [
        Line(
            label.removesuffix(" rollout"),
            [(float(ks.index(k)), score.accuracy) for k, score in scores.items()],
            [score.ci95 for score in scores.values()],
        )
        for label, scores in found.items()
    ]
    return line_chart(title, lines, [(float(place), f"k = {k}") for place, k in enumerate(ks)], percent, limits=(0, 1))


def _programs(found: Sequence[tuple[str, RunData, Attempts]]) -> Markup:
    bars = []
    for label, _, each in found:
        tally = each.tally
        failed = tally.failures.total()
        parts = [
            ("ended well", (tally.calls - failed) / tally.trajectories),
            ("failed", failed / tally.trajectories),
        ]
        kinds = ", ".join(f"{percent(count / tally.calls)} {status}" for status, count in tally.failures.most_common())
        bars.append(Bar(label, parts, f"{plain(tally.calls / tally.trajectories)}" + (f" · {kinds}" if kinds else "")))
    return bar_chart("Programs in a trajectory", bars)


def _stops(found: Sequence[tuple[str, RunData, Attempts]]) -> Markup:
    # In one order in every bar, so that a reason has the same colour and side everywhere.
    there = [reason for reason in STOP_REASONS if any(each.tally.stop_reasons[reason] for _, _, each in found)]
    there += sorted({reason for _, _, each in found for reason in each.tally.stop_reasons} - set(there))
    bars = []
    for label, _, each in found:
        shares = [(reason, each.tally.stop_reasons[reason] / each.tally.trajectories) for reason in there]
        most = max(shares, key=lambda part: part[1])
        bars.append(Bar(label, shares, f"{percent(most[1])} {most[0]}"))
    return bar_chart("Why attempts stopped", bars, percent, most=1)


def _lengths(found: Sequence[tuple[str, RunData, Attempts]]) -> Markup:
    return range_chart(
        "Sampled tokens of a trajectory: median, quartiles, 5 % and 95 %",
        [Range(label, _quantiles(each.sampled)) for label, _, each in found],
    )


def _quantiles(values: Sequence[int]) -> tuple[float, float, float, float, float]:
    """The values at 5, 25, 50, 75 and 95 % of the way through the sorted ones."""
    ordered = sorted(values)
    low, first, middle, third, high = (float(ordered[round(q * (len(ordered) - 1))]) for q in _QUANTILES)
    return low, first, middle, third, high


def _cells(each: Attempts) -> list[str]:
    tally, sampled = each.tally, lengths(each.sampled)
    return [
        each.name,
        f"{tally.trajectories:,}",
        percent(tally.reward or 0.0),
        f"{tally.calls / tally.trajectories:.2f}",
        percent(tally.failures.total() / tally.calls) if tally.calls else "–",
        f"{sampled.mean:,.0f}",
        f"{sampled.p95:,}",
        f"{sampled.max:,}",
    ]
