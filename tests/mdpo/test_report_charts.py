import math
from xml.etree import ElementTree

import pytest

from mdpo.report_bars import Bar, Range, Step, bar_chart, range_chart, step_chart
from mdpo.report_charts import Line, line_chart, thin
from mdpo.report_svg import percent, plain, ticks

TICKS = [(0.0, "sft"), (1.0, "iteration-1")]


def test_a_chart_can_be_read_out() -> None:
    chart = line_chart("Accuracy", [Line("run", [(0, 0.25), (1, 0.5)])], TICKS, percent)
    assert 'role="img" aria-label="Accuracy. run: sft 25.0 %, iteration-1 50.0 %"' in chart


def test_labels_are_escaped_and_the_picture_is_well_formed() -> None:
    bad = '"><script>&'
    for chart in (
        line_chart(bad, [Line(bad, [(0, 1)], [(0, 2)]), Line("b", [(0, 1), (1, 3)])], [(0, bad)]),
        bar_chart(bad, [Bar(bad, [(bad, 1), ("b", 0)], bad)]),
        range_chart(bad, [Range(bad, (0, 0, 0, 0, 0))]),
        step_chart(bad, [Step(bad, 0.5, 0.1)]),
    ):
        assert "<script" not in chart
        assert ElementTree.fromstring(chart).tag == "figure"


def test_every_line_carries_its_name_at_its_end_or_in_a_legend() -> None:
    points = [(0.0, 0.5), (1.0, 0.5)]
    ends = line_chart("t", [Line("one", points), Line("two", points)], TICKS)
    above = line_chart("t", [Line("one", points), Line("a name too long for the end", points)], TICKS)
    assert ends.count('class="name') == 2
    assert 'class="legend"' in above
    assert "a name too long for the end</li>" in above


def test_a_line_keeps_its_colour_where_another_has_no_points() -> None:
    chart = line_chart("t", [Line("none", []), Line("some", [(0, 1), (1, 2)])], TICKS)
    assert '<polyline class="s1"' in chart
    assert '<polyline class="s0"' not in chart


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0.62, 0.69, [0.62, 0.64, 0.66, 0.68, 0.7]), (5, 5, [4, 6]), (0, 0, [0, 0.25])],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, expected: list[float]) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert found == pytest.approx(expected) or low == high


def test_a_long_curve_is_thinned_to_means_of_neighbours() -> None:
    found = thin([(float(i), float(i)) for i in range(1000)], most=10)
    assert found[0] == (49.5, 49.5)
    assert len(found) == 10
    assert math.fsum(y for _, y in found) / 10 == 499.5


def test_numbers_have_the_digits_that_matter() -> None:
    assert [plain(1234.5), plain(0.01234), percent(0.4863)] == ["1,234", "0.0123", "48.6 %"]
