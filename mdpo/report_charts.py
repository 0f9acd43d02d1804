"""Curves with interval bands, as inline SVG: axes, lines, and labels at their ends."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mdpo.report_svg import LOOKS, WIDTH, Say, join, picture, plain, svg, ticks

_HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 16, 28
_LABEL_STEP = 14  # closest two labels may stand, in the units of the picture
_LABEL_CHARS = 16
_CHAR = 6.6  # the width of a character of a label
_MARKS = 12  # up to so many points are drawn as dots
_MOST_POINTS = 300

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its points, and for each of them the interval if there is one."""

    label: str
    points: Sequence[Point]
    band: Sequence[Point] | None = None


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_ticks: Sequence[tuple[float, str]],
    say: Say = plain,
    limits: Point | None = None,
    dividers: Sequence[float] = (),
) -> Markup:
    """Curves over one axis.

    Args:
        title: What they show.
        lines: At most eight, at least one of them with a point.
        x_ticks: Places on the x axis and their labels.
        say: How a value is written.
        limits: Of the y axis; default: those of the data, rounded.
        dividers: Places where a vertical line parts what is left of it from what is right of it.
    """
    # A line keeps the look of its place, also where others have no points.
    looks = {look % LOOKS: Line(e.label, thin(e.points), e.band) for look, e in enumerate(lines) if e.points}
    drawn = list(looks.values())
    y_ticks = ticks(*(limits or _extent(drawn)))
    place = _place(drawn, [x for x, _ in x_ticks], y_ticks, labelled=len(lines) > 1)
    parts = [_grid(place, y_ticks, say), _below(place, x_ticks), *(_divider(place, x) for x in dividers)]
    parts += [_curve(place, line, look, say) for look, line in looks.items()]
    parts.append(_end_labels(place, looks) if len(lines) > 1 else _values(place, drawn[0], say))
    told = "; ".join(f"{line.label}: {_told(line, x_ticks, say)}" for line in drawn)
    return picture(title, told, _HEIGHT, parts)


def thin(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most so many points: means of neighbours."""
    size = math.ceil(len(points) / most) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(math.fsum(x for x, _ in g) / len(g), math.fsum(y for _, y in g) / len(g)) for g in groups]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where values stand in the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    right: float

    def x(self, value: float) -> float:
        # One point alone stands in the middle.
        share = (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        return round(_LEFT + 10 + share * (self.right - _LEFT - 20), 1)

    def y(self, value: float) -> float:
        share = (min(max(value, self.y_low), self.y_high) - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)


def _place(lines: Sequence[Line], xs: Sequence[float], y_ticks: Sequence[float], *, labelled: bool) -> _Place:
    """The scales; at the right there is room for the labels of the lines."""
    room = _CHAR * max(len(_cut(line.label)) for line in lines) + 8 if labelled else 16
    every = [*xs, *(x for line in lines for x, _ in line.points)]
    return _Place(min(every), max(every), y_ticks[0], y_ticks[-1], WIDTH - _RIGHT - room)


def _divider(place: _Place, x: float) -> Markup:
    return svg('<line class="divider" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>', place.x(x), _TOP, _HEIGHT - _BOTTOM)


def _grid(place: _Place, ticks: Sequence[float], say: Say) -> Markup:
    return join(
        svg(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
            '<text class="tick" x="{text}" y="{y}" dy="4" text-anchor="end">{label}</text>',
            left=_LEFT, right=place.right, y=place.y(tick), text=_LEFT - 6, label=say(tick).replace(".0 %", "%"),
        )
        for tick in ticks
    )  # fmt: skip


def _below(place: _Place, ticks: Sequence[tuple[float, str]]) -> Markup:
    """Labels of the x axis, as many as fit."""
    room = _CHAR * max((len(_cut(label)) for _, label in ticks), default=1) + 10
    fitting = max(1, int((place.right - _LEFT) / room))
    every = math.ceil(len(ticks) / fitting)
    return join(
        svg('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>', place.x(x), _HEIGHT - 9, _cut(label))
        for x, label in list(ticks)[::every]
    )


def _curve(place: _Place, line: Line, look: int, say: Say) -> Markup:
    path = " ".join(f"{place.x(x)},{place.y(y)}" for x, y in line.points)
    dots = join(
        svg('<circle class="s{}" cx="{}" cy="{}" r="3.5"><title>{} {}</title></circle>',
             look, place.x(x), place.y(y), line.label, say(y))
        for x, y in (line.points if len(line.points) <= _MARKS else ())
    )  # fmt: skip
    return join([_band(place, line, look), svg('<polyline class="s{}" points="{}"/>', look, path), dots])


def _band(place: _Place, line: Line, look: int) -> Markup:
    """The interval around a curve; around one point alone, a bar."""
    # A thinned curve has fewer points than intervals.
    if not line.band or len(line.band) != len(line.points):
        return Markup("")
    xs = [place.x(x) for x, _ in line.points]
    if len(xs) == 1:
        xs, band = [xs[0] - 4, xs[0] + 4], [*line.band, *line.band]
    else:
        band = list(line.band)
    edge = [(x, place.y(low)) for x, (low, _) in zip(xs, band, strict=True)]
    edge += [(x, place.y(high)) for x, (_, high) in zip(reversed(xs), reversed(band), strict=True)]
    return svg('<polygon class="s{}" points="{}"/>', look, " ".join(f"{x},{y}" for x, y in edge))


def _values(place: _Place, line: Line, say: Say) -> Markup:
    """The values of a curve of few points, above them or, near the top, below."""
    shown = line.points if len(line.points) <= _MARKS // 2 else line.points[-1:]
    return join(
        svg('<text class="value" x="{}" y="{}" text-anchor="middle">{}</text>',
             place.x(x), place.y(y) + (20 if place.y(y) < _TOP + 20 else -10), say(y))
        for x, y in shown
    )  # fmt: skip


def _extent(lines: Sequence[Line]) -> Point:
    """The smallest and the largest value, the intervals included."""
    values = [y for line in lines for _, y in line.points]
    values += [end for line in lines for interval in line.band or () for end in interval]
    return min(values), max(values)


def _end_labels(place: _Place, looks: Mapping[int, Line]) -> Markup:
    """The name of each curve at its end, moved apart where ends are close."""
    ends = sorted((place.y(line.points[-1][1]), look, line.label) for look, line in looks.items())
    labels, below = [], -math.inf
    for y, look, label in ends:
        below = max(y, below + _LABEL_STEP)
        labels.append((below, look, label))
    over = max(0.0, below - (_HEIGHT - _BOTTOM))
    return join(
        svg('<text class="name s{}" x="{}" y="{}" dy="4">{}</text>', look, place.right + 4, y - over,
             _cut(label))
        for y, look, label in labels
    )  # fmt: skip


def _told(line: Line, ticks: Sequence[tuple[float, str]], say: Say) -> str:
    names = dict(ticks)
    if len(line.points) > _MARKS:
        return f"from {say(line.points[0][1])} to {say(line.points[-1][1])}"
    return ", ".join(f"{names.get(x, plain(x))} {say(y)}" for x, y in line.points)


def _cut(label: str) -> str:
    return label if len(label) <= _LABEL_CHARS else label[: _LABEL_CHARS - 1] + "…"
