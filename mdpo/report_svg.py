"""What every picture of a report is made of: escaped SVG that can be read out, and how numbers are written.

Colours come from the page's style sheet through classes (`s0`, `s1`, …), so that they follow its light and dark mode.
"""

import math
from collections.abc import Callable, Iterable, Mapping

from markupsafe import Markup

WIDTH = 400
LOOKS = 8
CHAR = 6.6  # about the width of a character

Say = Callable[[float], str]


def percent(value: float) -> str:
    """`0.4863` → `48.6 %`."""
    return f"{100 * value:.1f} %"


def plain(value: float) -> str:
    """A number with the digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shorten(label: str, chars: int) -> str:
    """A label that is not longer than so many characters, at least four."""
    return label if len(label) <= max(chars, 4) else label[: max(chars, 4) - 1] + "…"


def svg(template: str, *values: object, **named: object) -> Markup:
    """A piece of SVG with values put in, escaped unless they are SVG themselves."""
    return Markup(template).format(*values, **named)


def join(parts: Iterable[Markup]) -> Markup:
    """Pieces one after the other."""
    return Markup("").join(parts)


def picture(
    title: str, told: str, height: float, parts: Iterable[Markup], legend: Mapping[str, int] | None = None
) -> Markup:
    """A figure with its title; `told` says in words what is drawn, for those who hear it."""
    keys = join(svg('<li><i class="s{}"></i>{}</li>', look, name) for name, look in (legend or {}).items())
    return svg(
        '<figure><figcaption>{title}</figcaption>{legend}<svg viewBox="0 0 {width} {height}" role="img" '
        'aria-label="{title}. {told}">{parts}</svg></figure>',
        title=title,
        told=told,
        legend=svg('<ul class="legend">{}</ul>', keys) if legend else "",
        width=WIDTH,
        height=height,
        parts=join(parts),
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers around two values."""
    span = high - low or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= span / count * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * i for i in range(first, max(last, first + 1) + 1)]
