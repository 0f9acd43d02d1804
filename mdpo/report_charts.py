"""Curves with interval bands, as inline SVG: axes, lines, and labels at their ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from markupsafe import Markup

from mdpo.report_svg import CHAR, LOOKS, WIDTH, Say, join, picture, plain, shorten, svg, ticks

_HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 16, 28
_LABEL_STEP = 14  # closest two labels may stand, in the units of the picture
_LABEL_CHARS = 16
_MARKS = 12  # up to so many points are drawn as dots
_VALUES = 6  # and up to so many with their values
_MOST_POINTS = 300

Point = tuple[float, float]


class _Names(Enum):
    """Where the names of the lines stand: nowhere (the title says it), at their ends, or above the picture."""

    NONE, ENDS, LEGEND = range(3)


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
        lines: At least one of them with a point.
        x_ticks: Places on the x axis and their labels.
        say: How a value is written.
        limits: Of the y axis; default: those of the data, rounded.
        dividers: Places where a vertical line parts what is left of it from what is right of it.
    """
    # A line keeps the look of its place, also where others have no points.
    looks = [(look % LOOKS, Line(e.label, thin(e.points), e.band)) for look, e in enumerate(lines) if e.points]
    drawn = [line for _, line in looks]
    names = _Names.NONE if len(lines) == 1 else _Names.LEGEND if _long(drawn) else _Names.ENDS
    y_ticks = ticks(*(limits or _extent(drawn)))
    place = _place(drawn, [x for x, _ in x_ticks], y_ticks, _room(drawn, names, say))
    parts = [_grid(place, y_ticks, say), _below(place, x_ticks), *(_divider(place, x) for x in dividers)]
    parts += [_curve(place, line, look, say) for look, line in looks]
    if names is _Names.ENDS:
        parts.append(_end_labels(place, looks))
    if names is _Names.NONE:
        parts.append(_values(place, drawn[0], say))
    legend = {line.label: look for look, line in looks} if names is _Names.LEGEND else None
    told = "; ".join(f"{line.label}: {_told(line, x_ticks, say)}" for line in drawn)
    return picture(title, told, _HEIGHT, parts, legend)


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


def _long(lines: Sequence[Line]) -> bool:
    """Whether names have no room at the ends of their lines."""
    return len(lines) > LOOKS or any(len(line.label) > _LABEL_CHARS for line in lines)


def _room(lines: Sequence[Line], names: _Names, say: Say) -> float:
    """The width that the right end of the picture keeps for names, or for the last value."""
    if names is _Names.ENDS:
        return CHAR * max(len(line.label) for line in lines) + 8
    if names is _Names.LEGEND or len(lines[0].points) <= _VALUES:
        return 16
    return CHAR * len(say(lines[0].points[-1][1]))


def _place(lines: Sequence[Line], xs: Sequence[float], y_ticks: Sequence[float], room: float) -> _Place:
    """The scales: those of the data and of the labels of the axes."""
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
    room = CHAR * max((len(shorten(label, _LABEL_CHARS)) for _, label in ticks), default=1) + 10
    fitting = max(1, int((place.right - _LEFT) / room))
    every = math.ceil(len(ticks) / fitting)
    return join(
        svg(
            '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>',
            place.x(x),
            _HEIGHT - 9,
            shorten(label, _LABEL_CHARS),
        )
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
    """The values of a curve of few points; of a longer one the last value."""
    if len(line.points) > _VALUES:
        x, y = line.points[-1]
        return svg('<text class="value" x="{}" y="{}" dy="4">{}</text>', place.x(x) + 7, place.y(y), say(y))
    return join(
        svg('<text class="value" x="{}" y="{}" text-anchor="middle">{}</text>',
             place.x(x), place.y(y) + (20 if _below_it(place, line.points, number) else -10), say(y))
        for number, (x, y) in enumerate(line.points)
    )  # fmt: skip


def _below_it(place: _Place, points: Sequence[Point], number: int) -> bool:
    """Whether a value stands below its point: at the top of the picture, and where the curve starts to rise."""
    y = points[number][1]
    return place.y(y) < _TOP + 20 or (number == 0 and len(points) > 1 and points[1][1] > y)


def _extent(lines: Sequence[Line]) -> Point:
    """The smallest and the largest value, the intervals included."""
    values = [y for line in lines for _, y in line.points]
    values += [end for line in lines for interval in line.band or () for end in interval]
    return min(values), max(values)


def _end_labels(place: _Place, looks: Sequence[tuple[int, Line]]) -> Markup:
    """The name of each curve at its end, moved apart where ends are close."""
    ends = sorted((place.y(line.points[-1][1]), look, line.label) for look, line in looks)
    labels, below = [], -math.inf
    for y, look, label in ends:
        below = max(y, below + _LABEL_STEP)
        labels.append((below, look, label))
    over = max(0.0, below - (_HEIGHT - _BOTTOM))
    return join(
        svg('<text class="name s{}" x="{}" y="{}" dy="4">{}</text>', look, place.right + 4, y - over,
             shorten(label, _LABEL_CHARS))
        for y, look, label in labels
    )  # fmt: skip


def _told(line: Line, ticks: Sequence[tuple[float, str]], say: Say) -> str:
    names = dict(ticks)
    if len(line.points) > _MARKS:
        return f"from {say(line.points[0][1])} to {say(line.points[-1][1])}"
    return ", ".join(f"{names.get(x, plain(x))} {say(y)}" for x, y in line.points)
