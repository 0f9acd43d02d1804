"""The curves of the trainings, from what TRL logged under its own names."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mdpo.report_charts import Line, Point, line_chart
from mdpo.report_data import RunData, TrainingLog, series
from mdpo.report_layout import Section
from mdpo.report_svg import Say, percent, plain

_BETWEEN = 0.5  # steps: a divider stands between the last point of an iteration and the first one of the next


@dataclass(frozen=True, slots=True)
class _Chart:
    """A picture: its title, what it draws (label → logged name), and how values are written."""

    title: str
    keys: dict[str, str]
    say: Say = plain
    limits: Point | None = None


_CHARTS = (
    _Chart("Loss", {"loss": "loss"}),
    _Chart("Chosen above rejected", {"accuracy": "rewards/accuracies"}, percent, (0, 1)),
    _Chart("Reward margin", {"margin": "rewards/margins"}),
    _Chart("Rewards", {"chosen": "rewards/chosen", "rejected": "rewards/rejected"}),
    _Chart("Log-probability of the actions", {"chosen": "logps/chosen", "rejected": "logps/rejected"}),
    _Chart("KL from the reference", {"kl": "kl"}),
    _Chart("Entropy of the policy", {"entropy": "entropy"}),
)


def training(runs: Sequence[RunData]) -> Section:
    """Loss, rewards, log-probabilities and KL over the steps of all iterations."""
    section = Section("training", "Training", "What the trainer logged at each step; dotted lines part iterations.")
    for chart in _CHARTS:
        section.figures += _figures(runs, chart)
    sft = [Line(run.name, series(log, "loss")) for run in runs for log in run.logs if log.stage == "sft"]
    if any(line.points for line in sft):
        section.figures.append(line_chart("Loss of SFT", sft, _step_ticks(sft)))
    logged = any(log.stage != "sft" for run in runs for log in run.logs)
    if not logged:
        section.notes.append("No training of these iterations was logged, so there are no curves.")
    elif not any(series(log, "kl") for run in runs for log in run.logs):
        section.notes.append("KL was not logged; the margins show how far chosen and rejected have moved apart.")
    return section


def _figures(runs: Sequence[RunData], chart: _Chart) -> list[Markup]:
    """One picture of all keys of one run, or one for each key with all runs in it; none if nothing was logged."""
    if len(runs) == 1:
        groups = [(chart.title, [(label, runs[0], key) for label, key in chart.keys.items()])]
    else:
        several = len(chart.keys) > 1
        groups = [
            (f"{chart.title}: {label}" if several else chart.title, [(run.name, run, key) for run in runs])
            for label, key in chart.keys.items()
        ]
    return [picture for title, wanted in groups if (picture := _figure(title, wanted, chart)) is not None]


def _figure(title: str, wanted: Sequence[tuple[str, RunData, str]], chart: _Chart) -> Markup | None:
    lines = [Line(label, _points(run, key)) for label, run, key in wanted]
    if not any(line.points for line in lines):
        return None
    # The run with most steps names the places; others that differ in length have ends of their own.
    longest = max((run for _, run, _ in wanted), key=lambda run: sum(_steps(log) for log in _iterations(run)))
    spans = _spans(longest)
    ticks = [((start + end) / 2, stage) for stage, start, end in spans]
    dividers = [start + _BETWEEN for _, start, _ in spans[1:]]
    return line_chart(title, lines, ticks, chart.say, chart.limits, dividers)


def _points(run: RunData, key: str) -> list[Point]:
    """A logged value over the steps of all iterations, one after the other."""
    points: list[Point] = []
    for log, (_, start, _) in zip(_iterations(run), _spans(run), strict=True):
        points += [(start + step, value) for step, value in series(log, key)]
    return points


def _spans(run: RunData) -> list[tuple[str, float, float]]:
    """Each iteration with the steps before it and the steps up to its end."""
    spans, start = [], 0.0
    for log in _iterations(run):
        end = start + _steps(log)
        spans.append((log.stage, start, end))
        start = end
    return spans


def _steps(log: TrainingLog) -> float:
    return max((step for step, _ in series(log, "step")), default=0.0)


def _iterations(run: RunData) -> list[TrainingLog]:
    return [log for log in run.logs if log.stage != "sft"]


def _step_ticks(lines: Sequence[Line]) -> list[tuple[float, str]]:
    last = max(x for line in lines for x, _ in line.points)
    return [(1.0, "step 1"), (last, f"step {last:,.0f}")]
