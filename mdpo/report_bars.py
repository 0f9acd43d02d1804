"""Horizontal charts as inline SVG: stacked bars, distributions, and steps from before to after."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup

from mdpo.report_svg import CHAR, LOOKS, WIDTH, Say, join, percent, picture, plain, shorten, svg, ticks

_ROW, _BAR = 42, 14


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar of parts: (label, value) each."""

    label: str
    parts: Sequence[tuple[str, float]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """A distribution: 5 %, 25 %, 50 %, 75 % and 95 % of the values do not exceed these."""

    label: str
    quantiles: tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Step:
    """A value before and after."""

    label: str
    before: float
    after: float


def bar_chart(
    title: str, bars: Sequence[Bar], say: Say = plain, most: float | None = None, looks: Sequence[int] = range(LOOKS)
) -> Markup:
    """Horizontal bars whose parts are stacked; the legend names the parts.

    Args:
        title: What they show.
        bars: At least one.
        say: How a value is written.
        most: What a bar of the whole width is worth; default: the longest one.
        looks: The colours of the parts, in the order in which they first come.
    """
    most = most or max(sum(value for _, value in bar.parts) for bar in bars) or 1.0
    names = dict.fromkeys(name for bar in bars for name, _ in bar.parts)
    legend = dict(zip(names, cycle(looks), strict=False))
    rows = [_bar(bar, place, legend, most, say) for place, bar in enumerate(bars)]
    told = "; ".join(f"{bar.label}: {', '.join(f'{name} {say(value)}' for name, value in bar.parts)}" for bar in bars)
    return picture(title, told, len(bars) * _ROW + 8, rows, legend if len(legend) > 1 else {})


def range_chart(title: str, ranges: Sequence[Range], say: Say = plain) -> Markup:
    """Distributions: a thin line from the 5th to the 95th percentile, a thick one between the quartiles, the median."""
    most = ticks(0, max(each.quantiles[-1] for each in ranges) or 1.0)[-1]
    rows = [_range(each, place, most, say) for place, each in enumerate(ranges)]
    told = "; ".join(f"{each.label}: median {say(each.quantiles[2])}, 95th percentile {say(each.quantiles[4])}"
                     for each in ranges)  # fmt: skip
    return picture(title, told, len(ranges) * _ROW + 8, rows)


def step_chart(title: str, steps: Sequence[Step], say: Say = percent) -> Markup:
    """Values in [0, 1] before (hollow) and after (full)."""
    rows = [_step(each, place, say) for place, each in enumerate(steps)]
    told = "; ".join(f"{each.label}: {say(each.before)} before, {say(each.after)} after" for each in steps)
    return picture(title, told, len(steps) * _ROW + 8, rows)


def _row(place: int, label: str, note: str, parts: Iterable[Markup]) -> Markup:
    """A line of text above what is drawn: the label, and at the right end the numbers."""
    return svg(
        '<g transform="translate(0 {})"><text x="0" y="12"><title>{}</title>{}</text>'
        '<text class="value" x="{}" y="12" text-anchor="end">{}</text>{}</g>',
        place * _ROW + 4, label, shorten(label, round(WIDTH / CHAR) - len(note) - 2), WIDTH, note, join(parts),
    )  # fmt: skip


def _bar(bar: Bar, place: int, legend: Mapping[str, int], most: float, say: Say) -> Markup:
    parts, start = [], 0.0
    for name, value in bar.parts:
        width = round(WIDTH * value / most, 1)
        if width > 0:
            parts.append(
                svg('<rect class="s{}" x="{}" y="18" width="{}" height="{}"><title>{} {}</title></rect>',
                     legend[name], round(start, 1), max(width - 1, 0.5), _BAR, name, say(value))
            )  # fmt: skip
        start += width
    return _row(place, bar.label, bar.note, parts)


def _range(each: Range, place: int, most: float, say: Say) -> Markup:
    low, first, middle, third, high = (round(value / most * (WIDTH - 8) + 4, 1) for value in each.quantiles)
    line = '<line class="{}" x1="{}" x2="{}" y1="25" y2="25"/>'
    parts = [svg(line, "thin s0", low, high), svg(line, "thick s0", first, third),
             svg('<circle class="s0 ring" cx="{}" cy="25" r="5"/>', middle)]  # fmt: skip
    return _row(place, each.label, f"median {say(each.quantiles[2])}, 95 % below {say(each.quantiles[4])}", parts)


def _step(each: Step, place: int, say: Say) -> Markup:
    before, after = (round(4 + value * (WIDTH - 8), 1) for value in (each.before, each.after))
    look = "s0" if each.after >= each.before else "s1"
    parts = [
        svg('<line class="grid" x1="0" x2="{}" y1="25" y2="25"/>', WIDTH),
        svg('<line class="move {}" x1="{}" x2="{}" y1="25" y2="25"/>', look, before, after),
        svg('<circle class="hollow {}" cx="{}" cy="25" r="4.5"/>', look, before),
        svg('<circle class="{}" cx="{}" cy="25" r="5"/>', look, after),
    ]
    return _row(place, each.label, f"{say(each.before)} → {say(each.after)}", parts)
